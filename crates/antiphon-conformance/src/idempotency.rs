//! Capability: submissions with one idempotency key are one call.

use crate::Harness;
use crate::scene::{CallerSide, Scene};
use antiphon_broker::{Idempotency, Wants};
use antiphon_protocol::{Call, Code, Failure, Key, Keys, Outcome, Payload, Settlement, State};

fn keyed(scene: &Scene, procedure: &str, key: &str) -> Call {
    let mut call = scene.call(procedure, |_| {});
    let key = Key::new(key).expect("a short text is a key");
    call.keys = Some(Box::new(Keys { idempotency: Some(key), ..Keys::default() }));
    call
}

/// Without the capability a key is refused rather than ignored; `true` when the rule ends here.
async fn is_refused(scene: &Scene, caller: &CallerSide) -> bool {
    if scene.capabilities().idempotency == Idempotency::ByKey {
        return false;
    }
    assert_eq!(caller.refused(&keyed(scene, "charge", "k"), 99).await.code, Code::Unimplemented);
    true
}

/// Two submissions with one key and the same arguments run once, and both get the outcome of that one call.
pub async fn one_key_is_one_call(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["charge"], 4).await);
    if is_refused(&scene, &caller).await {
        return;
    }
    let other = scene.caller().await;
    let first = keyed(&scene, "charge", "invoice-7");
    caller.accepted(&first, 1).await;
    other.submit(&keyed(&scene, "charge", "invoice-7"), 2).await;
    assert_eq!(other.acceptance(2).await, (first.id, true), "the second is the first");

    worker.settle(&worker.lease_of(&first).await, Settlement::Succeed(Payload::json("1"))).await;
    for delivered in [caller.outcome(1).await, other.outcome(2).await] {
        assert_eq!((delivered.id, delivered.outcome), (first.id, Outcome::Reply(Payload::json("1"))));
    }
    worker.round_trip().await;
    assert!(worker.has_lease().is_none(), "one key ran twice");
}

/// After it has settled, the key returns the stored outcome, a failure like a reply.
pub async fn a_settled_key_returns_the_stored_outcome(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["charge"], 4).await);
    if is_refused(&scene, &caller).await {
        return;
    }
    let declined = Failure::new(Code::FailedPrecondition, "the card is declined").may_have_run();
    let endings = [
        ("paid", Settlement::Succeed(Payload::json("1")), Outcome::Reply(Payload::json("1"))),
        ("declined", Settlement::Fail(declined.clone()), Outcome::Failure(declined)),
    ];
    for (tag, (key, settlement, outcome)) in (1..).zip(endings) {
        let first = keyed(&scene, "charge", key);
        caller.accepted(&first, tag).await;
        worker.settle(&worker.lease_of(&first).await, settlement).await;
        assert_eq!(caller.outcome(tag).await.outcome, outcome);

        let again = keyed(&scene, "charge", key);
        caller.submit_wanting(&again, tag + 100, Wants::Outcome).await;
        let delivered = caller.outcome(tag + 100).await;
        assert_eq!((delivered.id, delivered.outcome), (first.id, outcome));
    }
    worker.round_trip().await;
    assert!(worker.has_lease().is_none(), "a settled key ran again");
}

/// The same key with other arguments is a conflict, not the same call.
pub async fn one_key_with_other_arguments_is_a_conflict(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let caller = scene.caller().await;
    if is_refused(&scene, &caller).await {
        return;
    }
    caller.accepted(&keyed(&scene, "charge", "invoice-7"), 1).await;
    let mut other = keyed(&scene, "charge", "invoice-7");
    other.payload = Payload::json("[2]");
    assert_eq!(caller.refused(&other, 2).await.code, Code::AlreadyExists);
}

/// Keys belong to a procedure.
pub async fn one_key_of_two_procedures_is_two_calls(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let caller = scene.caller().await;
    if is_refused(&scene, &caller).await {
        return;
    }
    caller.accepted(&keyed(&scene, "charge", "invoice-7"), 1).await;
    caller.accepted(&keyed(&scene, "refund", "invoice-7"), 2).await;
}

/// A call that ended before its first lease frees its key: nothing was done under it.
pub async fn a_call_that_never_ran_frees_its_key(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let caller = scene.caller().await;
    if is_refused(&scene, &caller).await {
        return;
    }
    let mut expiring = keyed(&scene, "charge", "invoice-7");
    expiring.deadline_ms = 50;
    caller.submit(&expiring, 1).await;
    assert_eq!(caller.outcome(1).await.state, State::Expired);
    caller.accepted(&keyed(&scene, "charge", "invoice-7"), 2).await;
}
