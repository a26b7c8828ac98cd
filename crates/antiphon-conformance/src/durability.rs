//! Capability: what an acceptance means, and what is there after a restart.

use crate::Harness;
use crate::inbox::settled;
use crate::scene::{Scene, held};
use antiphon_broker::{AcceptedMeans, Attach, Idempotency, Inbox, Support};
use antiphon_protocol::{Code, Durability, Failure, Key, Keys, Outcome, Settlement, State};

/// Durable is refused where it cannot be had; volatile is taken everywhere.
pub async fn durable_is_refused_where_it_cannot_be_had(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let caller = scene.caller().await;
    let durable = scene.call("echo", |route| route.durability = Some(Durability::Durable));
    if scene.capabilities().accepted == AcceptedMeans::Memory {
        assert!(!scene.capabilities().durable_by_default);
        assert_eq!(caller.refused(&durable, 1).await.code, Code::FailedPrecondition);
    } else {
        caller.accepted(&durable, 1).await;
    }
    let (caller, worker) = (scene.caller().await, scene.worker(&["volatile"], 1).await);
    let volatile = scene.call("volatile", |route| route.durability = Some(Durability::Volatile));
    caller.accepted(&volatile, 2).await;
    worker.echo(&worker.lease_of(&volatile).await).await;
    assert_eq!(caller.outcome(2).await.state, State::Succeeded);
}

/// Accepted durable calls are there after a restart, and run.
pub async fn accepted_durable_calls_survive_a_restart(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    if scene.capabilities().accepted == AcceptedMeans::Memory {
        return;
    }
    let caller = scene.caller().await;
    let mut calls = Vec::new();
    for tag in 0..10 {
        let call = scene.call("echo", |route| route.durability = Some(Durability::Durable));
        caller.accepted(&call, tag).await;
        calls.push(call);
    }
    let inbox = caller.inbox.clone();
    drop(caller);
    let Some(scene) = scene.restart(harness).await else { return };

    let worker = scene.worker(&["echo"], 10).await;
    let mut leased = Vec::new();
    for _ in &calls {
        let lease = worker.lease().await;
        worker.echo(&lease).await;
        leased.push(lease.call);
    }
    leased.sort_unstable();
    let mut ids: Vec<_> = calls.iter().map(|call| call.id).collect();
    ids.sort_unstable();
    assert_eq!(leased, ids);
    if scene.capabilities().attach == Attach::ById {
        let late = scene.caller_with(inbox).await;
        for (tag, call) in (100..).zip(&calls) {
            late.caller.attach(&[(call.id, tag)]);
            assert_eq!(late.outcome(tag).await.state, State::Succeeded);
        }
    }
}

/// A recorded outcome is the same after a restart.
pub async fn a_recorded_outcome_survives_a_restart(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    if scene.capabilities().accepted == AcceptedMeans::Memory || scene.capabilities().attach != Attach::ById {
        return;
    }
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 1).await);
    let call = scene.call("echo", |route| route.durability = Some(Durability::Durable));
    caller.accepted(&call, 1).await;
    let failure = Failure::new(Code::OutOfRange, "too large").may_have_run();
    worker.settle(&worker.lease_of(&call).await, Settlement::Fail(failure.clone())).await;
    caller.outcome(1).await;
    drop((caller, worker));
    let Some(scene) = scene.restart(harness).await else { return };

    let late = scene.caller().await;
    late.caller.attach(&[(call.id, 2)]);
    let delivered = late.outcome(2).await;
    assert_eq!((delivered.state, delivered.attempts), (State::Failed, 1));
    assert_eq!(delivered.outcome, Outcome::Failure(failure));
    let worker = scene.worker(&["echo"], 1).await;
    worker.round_trip().await;
    assert!(worker.has_lease().is_none(), "a settled call was started again");
}

/// Attempts are counted on, and tokens increase, over a restart.
pub async fn attempts_and_tokens_go_on_after_a_restart(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    if scene.capabilities().accepted == AcceptedMeans::Memory {
        return;
    }
    let (caller, worker) = (scene.caller().await, scene.worker(&["flaky"], 1).await);
    let call = scene.call("flaky", |route| {
        route.durability = Some(Durability::Durable);
        route.attempts = 2;
    });
    caller.accepted(&call, 1).await;
    let first = worker.lease_of(&call).await;
    worker.worker.credit(-1);
    let passing = Failure::new(Code::Unavailable, "away").retry_after_ms(1);
    worker.settle(&first, Settlement::Retry(passing.clone())).await;
    drop((caller, worker));
    let Some(scene) = scene.restart(harness).await else { return };

    let worker = scene.worker(&["flaky"], 1).await;
    let second = worker.lease_of(&call).await;
    assert_eq!(second.attempt, 2);
    assert!(second.lease.token > first.lease.token, "tokens of a call strictly increase");
    worker.settle(&second, Settlement::Retry(passing)).await;
    worker.round_trip().await;
    assert!(worker.has_lease().is_none(), "the attempts of before the restart were forgotten");
}

/// A lease survives the broker: the worker that holds it brings it along and settles.
pub async fn a_lease_survives_a_restart_for_its_worker(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    if scene.capabilities().accepted == AcceptedMeans::Memory || scene.capabilities().attach != Attach::ById {
        return;
    }
    let (caller, worker) = (scene.caller().await, scene.worker(&["charge"], 1).await);
    let call = scene.call("charge", |route| route.durability = Some(Durability::Durable));
    caller.accepted(&call, 1).await;
    let lease = worker.lease_of(&call).await;
    let (incarnation, epoch_before) = (worker.incarnation, worker.epoch);
    let Some(scene) = scene.restart(harness).await else { return };
    drop((caller, worker));

    let edit = |offer: &mut antiphon_protocol::Offer| {
        offer.incarnation = incarnation;
        offer.held = vec![held(&lease)];
    };
    let worker = scene.worker_with(&["charge"], 1, edit).await;
    assert!(worker.epoch > epoch_before, "the epoch grows with every start");
    assert_eq!(worker.kept, [lease.lease]);
    worker.echo(&lease).await;
    let late = scene.caller().await;
    late.caller.attach(&[(call.id, 2)]);
    let delivered = late.outcome(2).await;
    assert_eq!((delivered.state, delivered.attempts), (State::Succeeded, 1));
}

/// Volatile calls die with the broker, and say so.
pub async fn volatile_calls_die_with_the_broker(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    if scene.capabilities().attach != Attach::ById {
        return;
    }
    let caller = scene.caller().await;
    let call = scene.call("echo", |route| route.durability = Some(Durability::Volatile));
    caller.accepted(&call, 1).await;
    drop(caller);
    let Some(scene) = scene.restart(harness).await else { return };

    let caller = scene.caller().await;
    caller.caller.attach(&[(call.id, 2)]);
    assert_eq!(caller.refusal(2).await.code, Code::NotFound);
}

/// An idempotency key still stands for its call after a restart.
pub async fn a_key_survives_a_restart(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let capabilities = scene.capabilities();
    if capabilities.accepted == AcceptedMeans::Memory || capabilities.idempotency != Idempotency::ByKey {
        return;
    }
    let keyed = |scene: &Scene| {
        let mut call = scene.call("echo", |route| route.durability = Some(Durability::Durable));
        let key = Key::new("invoice-7").expect("a short text is a key");
        call.keys = Some(Box::new(Keys { idempotency: Some(key), ..Keys::default() }));
        call
    };
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 1).await);
    let first = keyed(&scene);
    caller.accepted(&first, 1).await;
    worker.echo(&worker.lease_of(&first).await).await;
    let delivered = caller.outcome(1).await;
    drop((caller, worker));
    let Some(scene) = scene.restart(harness).await else { return };

    let caller = scene.caller().await;
    caller.submit(&keyed(&scene), 2).await;
    assert_eq!(caller.acceptance(2).await, (first.id, true));
    assert_eq!(caller.outcome(2).await.outcome, delivered.outcome);
    let mut other = keyed(&scene);
    other.payload = antiphon_protocol::Payload::json("[2]");
    assert_eq!(caller.refused(&other, 3).await.code, Code::AlreadyExists);
}

/// What a named inbox has not acknowledged is there after a restart.
pub async fn a_named_inbox_survives_a_restart(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let capabilities = scene.capabilities();
    if capabilities.accepted == AcceptedMeans::Memory || capabilities.named_inboxes == Support::Refused {
        return;
    }
    let inbox = Inbox::Named(scene.name("inbox"));
    let (caller, worker) = (scene.caller_with(inbox.clone()).await, scene.worker(&["echo"], 1).await);
    let call = settled(&scene, &caller, &worker, 1).await;
    drop((caller, worker));
    let Some(scene) = scene.restart(harness).await else { return };
    let delivered = scene.caller_with(inbox).await.outcome(0).await;
    assert_eq!((delivered.id, delivered.state), (call.id, State::Succeeded));
}
