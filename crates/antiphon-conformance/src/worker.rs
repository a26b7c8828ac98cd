//! Required: who gets leases. Slots, offers, drains, workers that go and come back.

use crate::Harness;
use crate::scene::{Scene, held};
use antiphon_broker::LeasesOf;
use antiphon_protocol::{Code, Settlement, State};
use std::collections::BTreeSet;

/// However many calls wait, a worker never holds more than its slots.
pub async fn never_more_leases_than_slots(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 2).await);
    for tag in 0..5 {
        caller.accepted(&scene.call("echo", |_| {}), tag).await;
    }
    let mut seen = BTreeSet::new();
    let mut holds = vec![worker.lease().await, worker.lease().await];
    while let Some(lease) = holds.pop() {
        caller.round_trip().await;
        worker.round_trip().await;
        assert!(worker.has_lease().is_none(), "a third lease for two slots");
        seen.insert(lease.call);
        worker.echo(&lease).await;
        // Each report gives one slot back, and while calls wait it is filled at once.
        if seen.len() + holds.len() < 5 {
            holds.push(worker.lease().await);
        }
    }
    assert_eq!(seen.len(), 5, "every call ran, once");
}

/// Credit adds slots to those offered.
pub async fn credit_adds_slots(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 0).await);
    caller.accepted(&scene.call("echo", |_| {}), 1).await;
    caller.round_trip().await;
    worker.round_trip().await;
    assert!(worker.has_lease().is_none(), "a worker without slots gets nothing");
    worker.worker.credit(1);
    worker.echo(&worker.lease().await).await;
    assert_eq!(caller.outcome(1).await.state, State::Succeeded);
}

/// Credit below zero takes slots away.
pub async fn negative_credit_takes_slots_away(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 2).await);
    worker.worker.credit(-1);
    worker.round_trip().await;
    caller.accepted(&scene.call("echo", |_| {}), 1).await;
    caller.accepted(&scene.call("echo", |_| {}), 2).await;
    let first = worker.lease().await;
    caller.round_trip().await;
    worker.round_trip().await;
    assert!(worker.has_lease().is_none(), "a second lease for the one slot that is left");
    worker.echo(&first).await;
    worker.echo(&worker.lease().await).await;
}

/// Calls wait until somebody offers their procedure, and go to nobody else.
pub async fn a_worker_gets_only_what_it_offers(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, other) = (scene.caller().await, scene.worker(&["other"], 4).await);
    let call = scene.call("echo", |_| {});
    caller.accepted(&call, 1).await;
    caller.round_trip().await;
    other.round_trip().await;
    assert!(other.has_lease().is_none(), "a lease for a procedure that was not offered");
    let worker = scene.worker(&["echo"], 1).await;
    worker.echo(&worker.lease_of(&call).await).await;
    assert_eq!(caller.outcome(1).await.state, State::Succeeded);
}

/// A draining worker settles what it holds and gets nothing new.
pub async fn a_drained_worker_gets_no_more(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, draining) = (scene.caller().await, scene.worker(&["echo"], 4).await);
    let first = scene.call("echo", |_| {});
    caller.accepted(&first, 1).await;
    let lease = draining.lease_of(&first).await;

    draining.worker.drain();
    draining.round_trip().await;
    let second = scene.call("echo", |_| {});
    caller.accepted(&second, 2).await;
    draining.echo(&lease).await;
    assert_eq!(caller.outcome(1).await.state, State::Succeeded, "what it held is settled");

    let worker = scene.worker(&["echo"], 1).await;
    worker.echo(&worker.lease_of(&second).await).await;
    caller.outcome(2).await;
    draining.round_trip().await;
    assert!(draining.has_lease().is_none(), "a draining worker got a lease");
}

/// What a worker held when it went is leased again: at once if running it twice does no harm.
pub async fn an_idempotent_call_of_a_worker_that_went_is_leased_again(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, gone) = (scene.caller().await, scene.worker(&["echo"], 1).await);
    let call = scene.call("echo", |route| route.idempotent = true);
    caller.accepted(&call, 1).await;
    let first = gone.lease_of(&call).await;
    drop(gone);

    let worker = scene.worker(&["echo"], 1).await;
    let second = worker.lease_of(&call).await;
    assert!(second.lease.token > first.lease.token, "tokens of a call strictly increase");
    worker.echo(&second).await;
    assert_eq!(caller.outcome(1).await.state, State::Succeeded);
}

/// Other calls wait until the lease has ended, then go to somebody else.
pub async fn any_call_of_a_worker_that_went_is_leased_again(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, gone) = (scene.caller().await, scene.worker(&["charge"], 1).await);
    let call = scene.call("charge", |_| {});
    caller.accepted(&call, 1).await;
    let first = gone.lease_of(&call).await;
    drop(gone);

    let worker = scene.worker(&["charge"], 1).await;
    let second = worker.lease_after_a_lease().await;
    assert_eq!(second.call, call.id);
    assert!(second.lease.token > first.lease.token, "tokens of a call strictly increase");
    worker.echo(&second).await;
    assert_eq!(caller.outcome(1).await.state, State::Succeeded);
}

/// An at-most-once call is leased once: when that lease is lost it is dead, and nobody knows whether it ran.
pub async fn an_at_most_once_call_whose_lease_is_lost_is_dead(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, gone) = (scene.caller().await, scene.worker(&["charge"], 1).await);
    let call = scene.call("charge", |route| route.at_most_once = true);
    caller.accepted(&call, 1).await;
    gone.lease_of(&call).await;
    drop(gone);

    let worker = scene.worker(&["charge"], 1).await;
    let delivered = caller.outcome_after_a_lease(1).await;
    assert_eq!((delivered.state, delivered.failure().code), (State::Dead, Code::Unknown));
    assert!(delivered.failure().may_have_run);
    worker.round_trip().await;
    assert!(worker.has_lease().is_none(), "an at-most-once call was leased twice");
}

/// Leases belong to the incarnation, not to the connection: a worker that comes back keeps those that are current.
pub async fn a_worker_that_comes_back_keeps_its_leases(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, before) = (scene.caller().await, scene.worker(&["charge"], 2).await);
    let call = scene.call("charge", |_| {});
    caller.accepted(&call, 1).await;
    let lease = before.lease_of(&call).await;
    let incarnation = before.incarnation;
    drop(before);

    let mut stale = held(&lease);
    stale.lease.token -= 1;
    let worker = scene
        .worker_with(&["charge"], 2, |offer| {
            offer.incarnation = incarnation;
            offer.held = vec![held(&lease), stale];
        })
        .await;
    if scene.capabilities().leases == LeasesOf::Connection {
        assert_eq!(worker.kept, [], "leases end with their connection");
        worker.report(&lease, Settlement::Succeed(lease.payload.clone())).await;
        assert!(!worker.answer(lease.lease).await, "a report for a lease of an earlier connection was recorded");
        worker.echo(&worker.lease_of(&call).await).await;
        assert_eq!(caller.outcome(1).await.state, State::Succeeded);
        return;
    }
    assert_eq!(worker.kept, [lease.lease], "the current lease is kept, the other is not");
    worker.echo(&lease).await;
    assert_eq!(caller.outcome(1).await.state, State::Succeeded);
}

/// Another incarnation cannot speak for a worker's leases.
pub async fn a_lease_of_another_incarnation_is_not_kept(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, owner) = (scene.caller().await, scene.worker(&["charge"], 1).await);
    let call = scene.call("charge", |_| {});
    caller.accepted(&call, 1).await;
    let lease = owner.lease_of(&call).await;

    let thief = scene.worker_with(&["charge"], 1, |offer| offer.held = vec![held(&lease)]).await;
    assert_eq!(thief.kept, [], "a lease of another incarnation was kept");
    thief.report(&lease, Settlement::Succeed(lease.payload.clone())).await;
    assert!(!thief.answer(lease.lease).await, "a report for another worker's lease was recorded");
    owner.echo(&lease).await;
    assert_eq!(caller.outcome(1).await.state, State::Succeeded);
}
