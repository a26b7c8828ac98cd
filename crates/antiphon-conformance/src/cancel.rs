//! Capability: cancelling calls that wait, and calls that run.

use crate::Harness;
use crate::inbox::settled;
use crate::scene::Scene;
use antiphon_broker::CancelReach;
use antiphon_protocol::{CancelAnswer, Code, Settlement, State};

/// A call that waits is cancelled, says that it never ran, and never runs. Where nothing can be cancelled, it runs.
pub async fn a_waiting_call_that_is_cancelled_never_runs(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let caller = scene.caller().await;
    let call = scene.call("echo", |_| {});
    caller.accepted(&call, 1).await;
    let answer = caller.cancel(call.id).await;
    if matches!(scene.capabilities().cancel, CancelReach::None | CancelReach::Started) {
        assert!(matches!(answer, CancelAnswer::NotFound | CancelAnswer::NotReached), "not claimed, but: {answer:?}");
        let worker = scene.worker(&["echo"], 1).await;
        worker.echo(&worker.lease_of(&call).await).await;
        assert_eq!(caller.outcome(1).await.state, State::Succeeded);
        return;
    }
    assert_eq!(answer, CancelAnswer::NeverRan);
    let delivered = caller.outcome(1).await;
    assert_eq!((delivered.state, delivered.attempts), (State::Cancelled, 0));
    assert_eq!(delivered.failure().code, Code::Cancelled);
    assert!(!delivered.failure().may_have_run);

    let worker = scene.worker(&["echo"], 1).await;
    caller.round_trip().await;
    worker.round_trip().await;
    assert!(worker.has_lease().is_none(), "a cancelled call was started");
}

/// A running call is cancelled for its caller at once; its slot is free only when the worker has stopped.
pub async fn a_running_call_that_is_cancelled_holds_its_slot_until_it_stops(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["slow"], 1).await);
    let call = scene.call("slow", |_| {});
    caller.accepted(&call, 1).await;
    let lease = worker.lease_of(&call).await;
    let answer = caller.cancel(call.id).await;
    if !matches!(scene.capabilities().cancel, CancelReach::Running | CancelReach::Started) {
        assert!(!matches!(answer, CancelAnswer::Stopping { .. }), "stopping running calls is not claimed");
        worker.echo(&lease).await;
        assert_eq!(caller.outcome(1).await.state, State::Succeeded, "what cannot be stopped goes on");
        return;
    }
    assert_eq!(answer, CancelAnswer::Stopping { worker: scene.name("worker") });
    let delivered = caller.outcome(1).await;
    assert_eq!((delivered.state, delivered.failure().code), (State::Cancelled, Code::Cancelled));
    assert!(delivered.failure().may_have_run);
    worker.asked_to_stop(lease.lease).await;

    let next = scene.call("slow", |_| {});
    caller.accepted(&next, 2).await;
    worker.round_trip().await;
    assert!(worker.has_lease().is_none(), "the slot was given away before the attempt had stopped");
    worker.report(&lease, Settlement::Stop).await;
    worker.echo(&worker.lease_of(&next).await).await;
    assert_eq!(caller.outcome(2).await.state, State::Succeeded);
}

/// An attempt that ends well after all does not undo the cancellation.
pub async fn a_cancelled_call_stays_cancelled_whatever_its_attempt_ends_with(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    if !matches!(scene.capabilities().cancel, CancelReach::Running | CancelReach::Started) {
        return;
    }
    let (caller, worker) = (scene.caller().await, scene.worker(&["slow"], 1).await);
    let call = scene.call("slow", |_| {});
    caller.accepted(&call, 1).await;
    let lease = worker.lease_of(&call).await;
    caller.cancel(call.id).await;
    assert_eq!(caller.outcome(1).await.state, State::Cancelled);
    worker.asked_to_stop(lease.lease).await;
    worker.report(&lease, Settlement::Succeed(lease.payload.clone())).await;
    worker.answer(lease.lease).await;
    caller.round_trip().await;
    assert!(!caller.has_outcome(call.id), "a second outcome was delivered");
    assert_eq!(caller.cancel(call.id).await, CancelAnswer::AlreadySettled(State::Cancelled));
}

/// Cancelling what has settled changes nothing.
pub async fn a_settled_call_cannot_be_cancelled(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 1).await);
    let call = settled(&scene, &caller, &worker, 1).await;
    caller.outcome(1).await;
    let answer = caller.cancel(call.id).await;
    if scene.capabilities().cancel == CancelReach::None {
        assert!(!matches!(answer, CancelAnswer::NeverRan | CancelAnswer::Stopping { .. }));
    } else {
        assert_eq!(answer, CancelAnswer::AlreadySettled(State::Succeeded));
    }
}
