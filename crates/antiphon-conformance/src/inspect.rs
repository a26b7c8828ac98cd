//! Capability: questions to the broker. A broker without look-up has no answers, and no rule here applies to it.

use crate::Harness;
use crate::inbox::settled;
use crate::scene::{Scene, call_id};
use antiphon_broker::{Attach, Event, Inspect, Questions};
use antiphon_protocol::{
    Answer, CallFilter, CallId, CallStatus, Cause, Code, Failure, Knowledge, Outcome, Payload, Query, Settlement,
    Standing, State,
};

async fn ask(inspect: &dyn Inspect, query: Query) -> Answer {
    inspect.ask(query).await.unwrap_or_else(|failure| panic!("asking: {failure}"))
}

async fn status(inspect: &dyn Inspect, id: CallId) -> CallStatus {
    match ask(inspect, Query::Status(id)).await {
        Answer::Status(Knowledge::Known(status)) => status,
        other => panic!("the call is known, not: {other:?}"),
    }
}

/// `status` tells where a call stands, from submission to the outcome.
pub async fn the_status_of_a_call_follows_it(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let Some(inspect) = scene.broker.inspect() else { return };
    if scene.capabilities().questions != Questions::All {
        return;
    }
    let caller = scene.caller().await;
    let call = scene.call("flaky", |route| route.attempts = 4);
    caller.accepted(&call, 1).await;
    let now = status(inspect, call.id).await;
    assert_eq!((now.id, now.state, now.attempts, now.attempts_max), (call.id, State::Ready, 0, 4));
    assert_eq!(now.procedure, scene.name("flaky"));

    let worker = scene.worker(&["flaky"], 1).await;
    let lease = worker.lease_of(&call).await;
    let now = status(inspect, call.id).await;
    assert_eq!((now.state, now.attempts, now.worker), (State::Leased, 1, Some(scene.name("worker"))));

    let failure = Failure::new(Code::Unavailable, "the database is away").retry_after_ms(3_600_000);
    worker.settle(&lease, Settlement::Retry(failure)).await;
    let now = status(inspect, call.id).await;
    assert_eq!((now.state, now.worker), (State::Scheduled, None));
    let [attempt] = &now.history[..] else { panic!("one attempt has ended: {:?}", now.history) };
    assert_eq!((attempt.attempt, attempt.code, attempt.lost), (1, Code::Unavailable, false));
    assert_eq!(attempt.message, "the database is away");

    caller.cancel(call.id).await;
    caller.outcome(1).await;
    assert_eq!(status(inspect, call.id).await.state, State::Cancelled);
}

/// An id that was never submitted is told apart from one that is known.
pub async fn an_id_that_was_never_submitted_is_never_seen(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let Some(inspect) = scene.broker.inspect() else { return };
    if scene.capabilities().questions != Questions::All {
        return;
    }
    assert_eq!(ask(inspect, Query::Status(call_id())).await, Answer::Status(Knowledge::NeverSeen));
}

/// `explain` gives one answer, which follows the call: why it waits, where it runs, how it ended.
pub async fn explain_names_the_one_thing_that_is_true(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let Some(inspect) = scene.broker.inspect() else { return };
    if scene.capabilities().questions != Questions::All {
        return;
    }
    let explain = async |id: CallId| match ask(inspect, Query::Explain(id)).await {
        Answer::Explained(explanation) => explanation.standing,
        other => panic!("a question about why is answered, not: {other:?}"),
    };
    assert_eq!(explain(call_id()).await, Standing::NeverSeen);
    let caller = scene.caller().await;
    let call = scene.call("echo", |_| {});
    caller.accepted(&call, 1).await;
    let standing = explain(call.id).await;
    assert!(matches!(standing, Standing::Waiting { cause: Cause::NoWorker, .. }), "{standing:?}");
    let worker = scene.worker(&["echo"], 1).await;
    let lease = worker.lease_of(&call).await;
    let standing = explain(call.id).await;
    let Standing::Running { attempt: 1, worker: holder, .. } = standing else { panic!("it runs: {standing:?}") };
    assert_eq!(holder, scene.name("worker"));
    let behind = scene.call("echo", |_| {});
    caller.accepted(&behind, 2).await;
    let standing = explain(behind.id).await;
    let busy = matches!(standing, Standing::Waiting { cause: Cause::SlotsBusy { ahead: 0, .. }, .. });
    assert!(busy, "the only slot is taken: {standing:?}");
    worker.settle(&lease, Settlement::Succeed(Payload::raw(Vec::new()))).await;
    let standing = explain(call.id).await;
    assert!(matches!(standing, Standing::Settled { state: State::Succeeded, .. }), "{standing:?}");
}

/// Lists hold what matches, newest first, at most as many as asked for.
pub async fn lists_hold_what_matches(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let Some(inspect) = scene.broker.inspect() else { return };
    if scene.capabilities().questions != Questions::All {
        return;
    }
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 1).await);
    let done = settled(&scene, &caller, &worker, 1).await;
    drop(worker);
    let (older, newer) = (scene.call("echo", |_| {}), scene.call("echo", |_| {}));
    caller.accepted(&older, 2).await;
    caller.accepted(&newer, 3).await;
    let other = scene.call("other", |_| {});
    caller.accepted(&other, 4).await;

    let list = async |filter: CallFilter| match ask(inspect, Query::Calls(filter)).await {
        Answer::Calls(calls) => calls.into_iter().map(|call| call.id).collect::<Vec<_>>(),
        answer => panic!("a list of calls, not: {answer:?}"),
    };
    let echo = CallFilter { procedure: Some(scene.name("echo")), ..CallFilter::default() };
    assert_eq!(list(echo.clone()).await, [newer.id, older.id, done.id]);
    assert_eq!(list(CallFilter { limit: 1, ..echo.clone() }).await, [newer.id]);
    assert_eq!(list(CallFilter { state: Some(State::Succeeded), ..echo.clone() }).await, [done.id]);
    assert_eq!(list(CallFilter { state: Some(State::Dead), ..echo }).await, []);
}

/// Procedures and workers are counted.
pub async fn procedures_and_workers_are_counted(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let Some(inspect) = scene.broker.inspect() else { return };
    if scene.capabilities().questions != Questions::All {
        return;
    }
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 3).await);
    let call = scene.call("echo", |_| {});
    caller.accepted(&call, 1).await;
    let lease = worker.lease_of(&call).await;

    let Answer::Procedures(procedures) = ask(inspect, Query::Procedures).await else { panic!("procedures") };
    let echo = procedures.iter().find(|found| found.procedure == scene.name("echo")).expect("it has a call");
    assert_eq!((echo.workers, echo.slots), (1, 3));
    assert_eq!(echo.calls.get(State::Leased as usize), Some(&1));

    let Answer::Workers(workers) = ask(inspect, Query::Workers).await else { panic!("workers") };
    let found = workers.iter().find(|found| found.name == scene.name("worker")).expect("it is connected");
    assert_eq!((found.slots, found.leased, found.connected, found.draining), (3, 1, true, false));
    assert_eq!(found.procedures, [scene.name("echo")]);

    let Answer::Broker(broker) = ask(inspect, Query::Broker).await else { panic!("the broker") };
    assert_eq!(broker.durable, scene.capabilities().durable_by_default);
    assert!(broker.accepted >= 1 && broker.leased >= 1 && !broker.version.is_empty());
    worker.echo(&lease).await;
}

/// An operator asks a worker to drain, by its name; the worker is told.
pub async fn a_worker_is_asked_to_drain(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let Some(inspect) = scene.broker.inspect() else { return };
    if scene.capabilities().questions != Questions::All {
        return;
    }
    let (worker, other) = (
        scene.worker(&["echo"], 1).await,
        scene
            .worker_with(&["echo"], 1, |offer| {
                offer.name = scene.name("other");
            })
            .await,
    );
    assert_eq!(ask(inspect, Query::Drain(scene.name("worker"))).await, Answer::Asked(1));
    let asked = |event: &Event| matches!(event, Event::DrainAsked).then_some(());
    worker.recorder.next("DrainAsked", asked).await;
    other.round_trip().await;
    assert!(other.recorder.take(asked).is_none(), "another worker was asked, too");
}

/// A dead letter is submitted anew under a new id; the old one stays dead.
pub async fn a_dead_letter_is_revived_as_a_new_call(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let Some(inspect) = scene.broker.inspect() else { return };
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 1).await);
    let dead = scene.call("echo", |_| {});
    caller.accepted(&dead, 1).await;
    let bug = Failure::new(Code::Internal, "it panicked");
    worker.settle(&worker.lease_of(&dead).await, Settlement::Bury(bug)).await;
    assert_eq!(caller.outcome(1).await.state, State::Dead);

    let id = call_id();
    assert_eq!(ask(inspect, Query::Revive { dead: dead.id, id }).await, Answer::Revived(id));
    let lease = worker.lease().await;
    assert_eq!((lease.call, lease.attempt, &lease.payload), (id, 1, &dead.payload));
    if scene.capabilities().attach == Attach::InboxOnly {
        return worker.echo(&lease).await;
    }
    caller.caller.attach(&[(id, 2)]);
    worker.echo(&lease).await;
    assert_eq!(caller.outcome(2).await.outcome, Outcome::Reply(dead.payload.clone()));
    assert_eq!(status(inspect, dead.id).await.state, State::Dead, "a terminal state never changes");
}

/// Only what is dead can be revived or purged; a purged dead letter is gone.
pub async fn only_dead_letters_are_revived_or_purged(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let Some(inspect) = scene.broker.inspect() else { return };
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 1).await);
    let done = settled(&scene, &caller, &worker, 1).await;
    for query in [Query::Revive { dead: done.id, id: call_id() }, Query::Purge(done.id)] {
        match ask(inspect, query).await {
            Answer::Refused { code, .. } => assert_eq!(code, Code::FailedPrecondition),
            other => panic!("it did not die, so it is refused, not: {other:?}"),
        }
    }
    let dead = scene.call("echo", |_| {});
    caller.accepted(&dead, 2).await;
    worker.settle(&worker.lease_of(&dead).await, Settlement::Bury(Failure::new(Code::Internal, "it panicked"))).await;
    caller.outcome(2).await;
    assert_eq!(ask(inspect, Query::Purge(dead.id)).await, Answer::Purged);
    let left = match ask(inspect, Query::Status(dead.id)).await {
        Answer::Status(knowledge) => knowledge,
        other => panic!("a status, not: {other:?}"),
    };
    assert!(!matches!(left, Knowledge::Known(_)), "a purged dead letter is gone: {left:?}");
}

/// A question that the broker does not answer is refused, rather than answered with nothing.
pub async fn questions_that_are_not_answered_are_refused(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let Some(inspect) = scene.broker.inspect() else {
        assert_eq!(scene.capabilities().questions, Questions::None);
        return;
    };
    let ready = CallFilter { state: Some(State::Ready), ..CallFilter::default() };
    let all =
        [Query::Procedures, Query::Workers, Query::Broker, Query::Drain(scene.name("worker")), Query::Calls(ready)];
    for query in all {
        let answer = ask(inspect, query.clone()).await;
        let refused = matches!(answer, Answer::Refused { code: Code::Unimplemented, .. });
        assert_eq!(refused, scene.capabilities().questions != Questions::All, "{query:?}: {answer:?}");
    }
}
