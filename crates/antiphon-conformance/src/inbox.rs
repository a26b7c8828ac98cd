//! Required: where outcomes go. Each to its caller, again until acknowledged.

use crate::Harness;
use crate::scene::{CallerSide, Scene, WorkerSide};
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

/// A caller that comes back gets what it has not acknowledged, and not what it has.
pub async fn an_outcome_comes_again_until_it_is_acknowledged(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let worker = scene.worker(&["echo"], 1).await;
    let caller = scene.caller().await;
    let call = settled(&scene, &caller, &worker, 5).await;
    let delivered = caller.outcome(5).await;

    let inbox = caller.inbox.clone();
    drop(caller);
    let again = scene.caller_with(inbox.clone()).await;
    assert_eq!(again.outcome(5).await, delivered, "the same outcome under the same tag");

    again.caller.acknowledge(&[call.id]);
    again.round_trip().await;
    drop(again);
    let after = scene.caller_with(inbox).await;
    after.round_trip().await;
    assert!(!after.has_outcome(call.id), "an acknowledged outcome came again");
}

/// A caller's calls go on while it is away.
pub async fn a_call_settles_while_its_caller_is_away(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let worker = scene.worker(&["echo"], 1).await;
    let caller = scene.caller().await;
    let call = scene.call("echo", |_| {});
    caller.accepted(&call, 3).await;
    let inbox = caller.inbox.clone();
    drop(caller);

    worker.echo(&worker.lease_of(&call).await).await;
    let delivered = scene.caller_with(inbox).await.outcome(3).await;
    assert_eq!((delivered.id, delivered.state), (call.id, State::Succeeded));
}

/// Submits a call and lets the worker answer it.
pub(crate) async fn settled(scene: &Scene, caller: &CallerSide, worker: &WorkerSide, tag: u64) -> Call {
    let call = scene.call("echo", |_| {});
    caller.accepted(&call, tag).await;
    worker.echo(&worker.lease_of(&call).await).await;
    call
}
