//! Required: where outcomes go. Each to its caller, whether that is there or not.

use crate::Harness;
use crate::scene::{CallerSide, Scene, WorkerSide};
use antiphon_broker::Attach;
use antiphon_protocol::{Call, Outcome, Payload, State};

/// Two callers, the same tags: each gets its own replies and no others.
pub async fn an_outcome_reaches_only_its_caller(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let worker = scene.worker(&["echo"], 2).await;
    let (one, other) = (scene.caller().await, scene.caller().await);
    let submit = async |caller: &CallerSide, text: &'static str| {
        let mut call = scene.call("echo", |_| {});
        call.payload = Payload::json(text);
        caller.accepted(&call, 1).await;
        call
    };
    let (ones, others) = (submit(&one, "1").await, submit(&other, "2").await);
    worker.echo(&worker.lease().await).await;
    worker.echo(&worker.lease().await).await;
    assert_eq!(one.outcome(1).await.outcome, Outcome::Reply(ones.payload));
    assert_eq!(other.outcome(1).await.outcome, Outcome::Reply(others.payload));
    one.round_trip().await;
    other.round_trip().await;
    assert!(!one.has_outcome(others.id) && !other.has_outcome(ones.id), "an outcome reached another caller");
}

/// A caller that goes takes nothing along: its calls run, settle, and are there for whoever attaches.
pub async fn a_call_settles_while_its_caller_is_away(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let worker = scene.worker(&["echo"], 1).await;
    let caller = scene.caller().await;
    let (waiting, running) = (scene.call("echo", |_| {}), scene.call("echo", |_| {}));
    caller.accepted(&running, 1).await;
    let lease = worker.lease_of(&running).await;
    caller.accepted(&waiting, 2).await;
    drop(caller);

    worker.echo(&lease).await;
    worker.echo(&worker.lease_of(&waiting).await).await;
    if scene.capabilities().attach == Attach::ById {
        let late = scene.caller().await;
        late.caller.attach(&[(running.id, 3), (waiting.id, 4)]);
        assert_eq!(late.outcome(3).await.state, State::Succeeded);
        assert_eq!(late.outcome(4).await.state, State::Succeeded);
    }
}

/// Submits a call and lets the worker answer it.
pub(crate) async fn settled(scene: &Scene, caller: &CallerSide, worker: &WorkerSide, tag: u64) -> Call {
    let call = scene.call("echo", |_| {});
    caller.accepted(&call, tag).await;
    worker.echo(&worker.lease_of(&call).await).await;
    call
}
