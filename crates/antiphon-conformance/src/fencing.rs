//! Capability: a late settlement of a lost lease is rejected where the broker says.

use crate::Harness;
use crate::scene::Scene;
use antiphon_broker::Fencing;
use antiphon_protocol::{Outcome, Payload, Settlement};

/// A report with another token than the current is stale, and nothing is recorded.
pub async fn a_stale_token_records_nothing(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    if scene.capabilities().fencing != Fencing::AtSettle {
        return;
    }
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 1).await);
    let call = scene.call("echo", |_| {});
    caller.accepted(&call, 1).await;
    let lease = worker.lease_of(&call).await;
    for token in [0, lease.lease.token - 1, lease.lease.token + 1, u64::MAX] {
        let mut forged = lease.clone();
        forged.lease.token = token;
        worker.report(&forged, Settlement::Succeed(Payload::json("666"))).await;
        assert!(!worker.answer(forged.lease).await, "a report with token {token} was recorded");
    }
    worker.settle(&lease, Settlement::Succeed(Payload::json("1"))).await;
    assert_eq!(caller.outcome(1).await.outcome, Outcome::Reply(Payload::json("1")));
}

/// A lease that has ended cannot be used again, and a call that has settled gets no second outcome.
pub async fn a_second_report_for_a_lease_is_stale(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 1).await);
    let call = scene.call("echo", |_| {});
    caller.accepted(&call, 1).await;
    let lease = worker.lease_of(&call).await;
    worker.settle(&lease, Settlement::Succeed(Payload::json("1"))).await;
    if scene.capabilities().fencing == Fencing::AtSettle {
        worker.report(&lease, Settlement::Succeed(Payload::json("2"))).await;
        assert!(!worker.answer(lease.lease).await, "a lease that had ended was used again");
    }
    assert_eq!(caller.outcome(1).await.outcome, Outcome::Reply(Payload::json("1")));
    caller.round_trip().await;
    if scene.capabilities().fencing != Fencing::None {
        assert!(!caller.has_outcome(call.id), "a second outcome was delivered");
    }
}

/// A worker that lost its lease cannot settle any more; whoever has the lease now can.
pub async fn who_lost_the_lease_cannot_settle(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    if scene.capabilities().fencing != Fencing::AtSettle {
        return;
    }
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 1).await);
    let call = scene.call("echo", |_| {});
    caller.accepted(&call, 1).await;
    let lost = worker.lease_of(&call).await;
    worker.settle(&lost, Settlement::Release).await;
    let current = worker.lease_of(&call).await;
    worker.report(&lost, Settlement::Succeed(Payload::json("1"))).await;
    assert!(!worker.answer(lost.lease).await, "a lost lease settled a call");
    worker.settle(&current, Settlement::Succeed(Payload::json("2"))).await;
    assert_eq!(caller.outcome(1).await.outcome, Outcome::Reply(Payload::json("2")));
}

/// Extending a lease that has ended says so.
pub async fn a_lease_that_has_ended_cannot_be_extended(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 1).await);
    let call = scene.call("echo", |_| {});
    caller.accepted(&call, 1).await;
    let lease = worker.lease_of(&call).await;
    // While it lasts it is prolonged in silence.
    worker.worker.extend(&[lease.lease]);
    worker.echo(&lease).await;
    worker.worker.extend(&[lease.lease]);
    assert!(!worker.answer(lease.lease).await);
}
