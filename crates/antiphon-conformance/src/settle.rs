//! Required: ending leases. Failures, retries, the limit of attempts, dead letters, releases.

use crate::Harness;
use crate::scene::Scene;
use antiphon_protocol::{Code, Failure, Outcome, Payload, Settlement, State};

fn passing() -> Settlement {
    Settlement::Retry(Failure::new(Code::Unavailable, "the database is away").retry_after_ms(1))
}

/// The procedure's own error arrives with its code, text and details.
pub async fn a_failure_arrives_whole(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["fib"], 1).await);
    let call = scene.call("fib", |_| {});
    caller.accepted(&call, 1).await;
    let failure =
        Failure::new(Code::OutOfRange, "300 is above 93").details(Payload::json(r#"{"TooLarge":300}"#)).may_have_run();
    worker.settle(&worker.lease_of(&call).await, Settlement::Fail(failure.clone())).await;
    let delivered = caller.outcome(1).await;
    assert_eq!((delivered.state, delivered.attempts), (State::Failed, 1));
    assert_eq!(delivered.outcome, Outcome::Failure(failure));
}

/// A retry starts the next attempt, with a token that is greater.
pub async fn a_retry_starts_the_next_attempt(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["flaky"], 1).await);
    let call = scene.call("flaky", |route| route.attempts = 3);
    caller.accepted(&call, 1).await;
    let mut last_token = 0;
    for attempt in 1..=2 {
        let lease = worker.lease_of(&call).await;
        assert_eq!(lease.attempt, attempt);
        assert!(lease.lease.token > last_token, "tokens of a call strictly increase");
        last_token = lease.lease.token;
        worker.settle(&lease, passing()).await;
    }
    let lease = worker.lease_of(&call).await;
    assert!(lease.lease.token > last_token, "tokens of a call strictly increase");
    worker.echo(&lease).await;
    let delivered = caller.outcome(1).await;
    assert_eq!((delivered.state, delivered.attempts), (State::Succeeded, 3));
}

/// The last allowed attempt that fails makes the call dead, with what it failed of.
pub async fn used_up_attempts_make_a_call_dead(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["broken"], 1).await);
    let call = scene.call("broken", |route| route.attempts = 2);
    caller.accepted(&call, 1).await;
    worker.settle(&worker.lease_of(&call).await, passing()).await;
    worker.settle(&worker.lease_of(&call).await, passing()).await;
    let delivered = caller.outcome(1).await;
    assert_eq!((delivered.state, delivered.attempts), (State::Dead, 2));
    assert_eq!(delivered.failure().code, Code::Unavailable);
    assert!(delivered.failure().may_have_run, "it was tried");
    worker.round_trip().await;
    assert!(worker.has_lease().is_none(), "a dead call is not tried again");
}

/// What trying again cannot cure makes a call dead at once.
pub async fn a_buried_call_is_dead_at_once(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["panicking"], 1).await);
    let call = scene.call("panicking", |route| route.attempts = 3);
    caller.accepted(&call, 1).await;
    let panic = Failure::new(Code::Internal, "the procedure panicked: index out of bounds").may_have_run();
    worker.settle(&worker.lease_of(&call).await, Settlement::Bury(panic.clone())).await;
    let delivered = caller.outcome(1).await;
    assert_eq!((delivered.state, delivered.attempts), (State::Dead, 1));
    assert_eq!(delivered.outcome, Outcome::Failure(panic));
}

/// A worker that gives a call back costs it no attempt.
pub async fn a_release_counts_no_attempt(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 1).await);
    let call = scene.call("echo", |route| route.attempts = 1);
    caller.accepted(&call, 1).await;
    let first = worker.lease_of(&call).await;
    worker.settle(&first, Settlement::Release).await;
    let second = worker.lease_of(&call).await;
    assert!(second.lease.token > first.lease.token, "tokens of a call strictly increase");
    // Its only attempt is still to be had: a failure now is the first.
    worker.settle(&second, passing()).await;
    let delivered = caller.outcome(1).await;
    assert_eq!(delivered.state, State::Dead);
    worker.round_trip().await;
    assert!(worker.has_lease().is_none());
}

/// A report gives its slot back: more calls than slots all run.
pub async fn a_report_gives_the_slot_back(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 1).await);
    let endings = [
        Settlement::Succeed(Payload::json("1")),
        Settlement::Fail(Failure::new(Code::NotFound, "no such row")),
        Settlement::Bury(Failure::new(Code::Internal, "it panicked")),
        Settlement::Succeed(Payload::json("2")),
    ];
    for (tag, settlement) in (1..).zip(endings) {
        let call = scene.call("echo", |_| {});
        caller.accepted(&call, tag).await;
        worker.settle(&worker.lease_of(&call).await, settlement).await;
        assert_eq!(caller.outcome(tag).await.id, call.id);
    }
}
