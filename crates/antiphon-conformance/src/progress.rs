//! Capability: what running calls tell of themselves reaches whoever follows them.

use crate::Harness;
use crate::scene::{CallerSide, Scene, WorkerSide};
use antiphon_broker::{Event, Lease, Progress, ProgressReport, Support};
use antiphon_protocol::{Call, Code, Failure, Payload, Settlement, Tag, defaults};

impl WorkerSide {
    async fn tell(&self, lease: &Lease, numbers: impl IntoIterator<Item = u32>) {
        let told = |number: u32| ProgressReport {
            lease: lease.lease,
            call: lease.call,
            payload: Payload::json(number.to_string()),
        };
        self.worker.progress(&mut numbers.into_iter().map(told).collect());
        self.round_trip().await;
    }
}

impl CallerSide {
    fn told(&self, tag: Tag) -> Option<(Progress, u32)> {
        self.recorder.take(|event| number(event, tag))
    }

    async fn next_told(&self, tag: Tag) -> (Progress, u32) {
        self.recorder.next("Progress", |event| number(event, tag)).await
    }
}

fn number(event: &Event, wanted: Tag) -> Option<(Progress, u32)> {
    match event {
        Event::Progress { tag, progress, .. } if *tag == wanted => {
            let text = std::str::from_utf8(&progress.payload.bytes).expect("the rule tells text");
            Some((progress.clone(), text.parse().expect("the rule tells numbers")))
        }
        _ => None,
    }
}

/// Without the capability nothing is told, whoever asks; `true` when the rule ends here.
async fn is_refused(scene: &Scene) -> bool {
    if scene.capabilities().progress != Support::Refused {
        return false;
    }
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 1).await);
    let call = scene.call("echo", |_| {});
    caller.accepted(&call, 1).await;
    caller.caller.follow(&[(call.id, 1, 0)]);
    let lease = worker.lease_of(&call).await;
    worker.tell(&lease, 0..3).await;
    worker.echo(&lease).await;
    caller.outcome(1).await;
    assert!(caller.told(1).is_none(), "progress came from a broker that says it has none");
    true
}

/// A caller that follows nothing yet, a worker, and a call that is accepted; `None` when the rule ends here.
async fn stage(harness: &impl Harness) -> Option<(Scene, CallerSide, WorkerSide, Call)> {
    let scene = Scene::open(harness).await;
    if is_refused(&scene).await {
        return None;
    }
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 1).await);
    let call = scene.call("echo", |_| {});
    caller.accepted(&call, 1).await;
    Some((scene, caller, worker, call))
}

/// What a running call tells comes in order, before its outcome, to those who follow it and to nobody else.
pub async fn progress_comes_in_order_to_who_follows(harness: &impl Harness) {
    let Some((scene, caller, worker, call)) = stage(harness).await else { return };
    let other = scene.caller().await;
    caller.caller.follow(&[(call.id, 1, 0)]);
    caller.round_trip().await;
    let lease = worker.lease_of(&call).await;
    worker.tell(&lease, 0..20).await;
    worker.echo(&lease).await;
    let mut newest = 0;
    for number in 0..20 {
        let (progress, told) = caller.next_told(1).await;
        assert_eq!((told, progress.attempt), (number, 1), "progress comes in order, with its attempt");
        assert!(progress.sequence > newest, "sequences strictly increase");
        newest = progress.sequence;
    }
    caller.outcome(1).await;
    other.round_trip().await;
    assert!(other.told(1).is_none(), "progress came to a caller that does not follow the call");
}

/// Who follows from a sequence on gets what came after it, and nothing twice.
pub async fn following_goes_on_after_what_was_seen(harness: &impl Harness) {
    let Some((scene, caller, worker, call)) = stage(harness).await else { return };
    let lease = worker.lease_of(&call).await;
    worker.tell(&lease, 0..5).await;
    caller.caller.follow(&[(call.id, 1, 0)]);
    let mut seen = 0;
    for number in 0..5 {
        let (progress, told) = caller.next_told(1).await;
        assert_eq!(told, number);
        seen = if number == 2 { progress.sequence } else { seen };
    }
    let again = scene.caller().await;
    again.caller.follow(&[(call.id, 9, seen)]);
    again.round_trip().await;
    worker.tell(&lease, 5..6).await;
    for number in 3..6 {
        assert_eq!(again.next_told(9).await.1, number);
    }
    worker.echo(&lease).await;
}

/// Following a call that has settled gives what is kept, and says that there will be no more.
pub async fn following_a_settled_call_ends(harness: &impl Harness) {
    let Some((_scene, caller, worker, call)) = stage(harness).await else { return };
    let lease = worker.lease_of(&call).await;
    worker.tell(&lease, 0..2).await;
    worker.echo(&lease).await;
    caller.outcome(1).await;
    caller.caller.follow(&[(call.id, 1, 0)]);
    let ended = |event: &Event| matches!(event, Event::ProgressEnded { tag: 1 }).then_some(());
    caller.recorder.next("ProgressEnded", ended).await;
    assert_eq!((caller.told(1).map(|told| told.1), caller.told(1).map(|told| told.1)), (Some(0), Some(1)));
}

/// Of what nobody has read, the newest is kept.
pub async fn the_newest_progress_is_kept(harness: &impl Harness) {
    let Some((_scene, caller, worker, call)) = stage(harness).await else { return };
    let lease = worker.lease_of(&call).await;
    let kept = u32::try_from(defaults::PROGRESS_ITEMS_MAX).expect("a small number");
    worker.tell(&lease, 0..kept + 10).await;
    caller.caller.follow(&[(call.id, 1, 0)]);
    caller.round_trip().await;
    let told: Vec<u32> = std::iter::from_fn(|| Some(caller.told(1)?.1)).collect();
    assert_eq!(told, (10..kept + 10).collect::<Vec<_>>());
    worker.echo(&lease).await;
}

/// However large what is told, only so many bytes of it are kept: the newest.
pub async fn the_bytes_of_progress_are_bounded(harness: &impl Harness) {
    let Some((_scene, caller, worker, call)) = stage(harness).await else { return };
    let lease = worker.lease_of(&call).await;
    let size = defaults::PROGRESS_BYTES_MAX * 2 / 5;
    let told =
        |number: u8| ProgressReport { lease: lease.lease, call: lease.call, payload: Payload::raw(vec![number; size]) };
    worker.worker.progress(&mut (0..5).map(told).collect());
    worker.round_trip().await;
    caller.caller.follow(&[(call.id, 1, 0)]);
    caller.round_trip().await;
    let first = |event: &Event| match event {
        Event::Progress { tag: 1, progress, .. } => progress.payload.bytes.first().copied(),
        _ => None,
    };
    let kept: Vec<u8> = std::iter::from_fn(|| caller.recorder.take(first)).collect();
    assert_eq!(kept, [3, 4]);
    worker.echo(&lease).await;
}

/// What a further attempt tells follows, under its own number.
pub async fn a_further_attempt_tells_under_its_number(harness: &impl Harness) {
    let Some((_scene, caller, worker, call)) = stage(harness).await else { return };
    caller.caller.follow(&[(call.id, 1, 0)]);
    caller.round_trip().await;
    let mut newest = 0;
    for attempt in 1..=2 {
        let lease = worker.lease_of(&call).await;
        worker.tell(&lease, 7..8).await;
        let (progress, _) = caller.next_told(1).await;
        assert_eq!(progress.attempt, attempt);
        assert!(progress.sequence > newest, "sequences strictly increase over attempts");
        newest = progress.sequence;
        if attempt == 1 {
            worker.settle(&lease, Settlement::Retry(Failure::new(Code::Unavailable, "again"))).await;
        } else {
            worker.echo(&lease).await;
        }
    }
}

/// Who has lost the lease tells nothing any more, and learns that it has.
pub async fn who_lost_the_lease_tells_nothing(harness: &impl Harness) {
    let Some((_scene, caller, worker, call)) = stage(harness).await else { return };
    caller.caller.follow(&[(call.id, 1, 0)]);
    caller.round_trip().await;
    let lost = worker.lease_of(&call).await;
    worker.settle(&lost, Settlement::Release).await;
    let current = worker.lease_of(&call).await;
    worker.tell(&lost, 1..2).await;
    worker.tell(&current, 2..3).await;
    assert_eq!(caller.next_told(1).await.1, 2, "a lost lease told something");
    worker.echo(&current).await;
}
