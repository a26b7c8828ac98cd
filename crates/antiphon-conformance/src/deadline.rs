//! Required: the bound on a whole call.

use crate::Harness;
use crate::scene::Scene;
use antiphon_broker::Fencing;
use antiphon_protocol::{Code, State};

/// Expired work never starts.
pub async fn a_call_that_expires_while_waiting_never_runs(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let caller = scene.caller().await;
    let mut call = scene.call("echo", |_| {});
    call.deadline_ms = 50;
    caller.submit(&call, 1).await;
    let delivered = caller.outcome(1).await;
    assert_eq!((delivered.state, delivered.attempts), (State::Expired, 0));
    assert_eq!(delivered.failure().code, Code::DeadlineExceeded);
    // A broker that does not see its workers cannot tell, and must not say that it can.
    let sees = scene.capabilities().fencing == Fencing::AtSettle;
    assert_eq!(delivered.failure().may_have_run, !sees, "it had not started");

    let worker = scene.worker(&["echo"], 1).await;
    caller.round_trip().await;
    worker.round_trip().await;
    assert!(worker.has_lease().is_none(), "expired work was started");
}

/// A running call that expires is over for its caller at once, and its worker is asked to stop.
pub async fn a_call_that_expires_while_running_is_over_at_once(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["slow"], 1).await);
    let mut call = scene.call("slow", |_| {});
    call.deadline_ms = 500;
    caller.submit(&call, 1).await;
    let lease = worker.lease_of(&call).await;
    assert!((1..=500).contains(&lease.deadline_ms), "the worker is told what remains: {} ms", lease.deadline_ms);

    let delivered = caller.outcome(1).await;
    assert_eq!((delivered.state, delivered.failure().code), (State::Expired, Code::DeadlineExceeded));
    assert!(delivered.failure().may_have_run, "an attempt was running");
    worker.asked_to_stop(lease.lease).await;
}

/// A deadline that is met changes nothing.
pub async fn a_call_within_its_deadline_succeeds(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 1).await);
    let mut call = scene.call("echo", |_| {});
    call.deadline_ms = 3_600_000;
    caller.accepted(&call, 1).await;
    worker.echo(&worker.lease_of(&call).await).await;
    assert_eq!(caller.outcome(1).await.state, State::Succeeded);
}
