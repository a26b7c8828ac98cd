//! Capability: calls that start later.

use crate::Harness;
use crate::scene::{CallerSide, Scene, wall_ms};
use antiphon_broker::{CancelReach, Delay};
use antiphon_protocol::{CancelAnswer, Code, Start, State};
use std::time::{Duration, Instant};

/// Long enough to be told apart from "at once", short enough to be waited for.
const WAIT_MS: u64 = 300;

/// Without the capability a later start is refused rather than ignored; `true` when the rule ends here.
async fn is_refused(scene: &Scene, caller: &CallerSide) -> bool {
    if scene.capabilities().delay != Delay::None {
        return false;
    }
    let mut call = scene.call("echo", |_| {});
    call.start = Start::In(60_000);
    assert_eq!(caller.refused(&call, 99).await.code, Code::Unimplemented);
    true
}

/// A call with a delay does not start before it is over, and starts after it.
pub async fn a_delayed_call_starts_after_its_delay(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 1).await);
    if is_refused(&scene, &caller).await {
        return;
    }
    let mut call = scene.call("echo", |_| {});
    call.start = Start::In(WAIT_MS);
    let submitted = Instant::now();
    caller.accepted(&call, 1).await;
    let lease = worker.lease_of(&call).await;
    assert!(submitted.elapsed() >= Duration::from_millis(WAIT_MS), "started after {:?}", submitted.elapsed());
    worker.echo(&lease).await;
    assert_eq!(caller.outcome(1).await.state, State::Succeeded);
}

/// A call with a wall-clock start does not start before that.
pub async fn a_call_for_a_time_starts_at_that_time(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 1).await);
    if is_refused(&scene, &caller).await {
        return;
    }
    let due_ms = wall_ms() + WAIT_MS;
    let mut call = scene.call("echo", |_| {});
    call.start = Start::At(due_ms);
    caller.accepted(&call, 1).await;
    let lease = worker.lease_of(&call).await;
    // One that delays in steps may go by another machine's clock.
    let early_ms = if scene.capabilities().delay == Delay::Exact { 0 } else { 2 };
    let started_ms = wall_ms();
    assert!(started_ms + early_ms >= due_ms, "started {} ms early", due_ms - started_ms);
    worker.echo(&lease).await;
}

/// A start in the past is at once.
pub async fn a_start_in_the_past_is_at_once(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 1).await);
    if is_refused(&scene, &caller).await {
        return;
    }
    let mut call = scene.call("echo", |_| {});
    call.start = Start::At(1);
    caller.accepted(&call, 1).await;
    worker.echo(&worker.lease_of(&call).await).await;
}

/// Delayed calls hold no slot and no place in the queue: one that is submitted later overtakes them.
pub async fn a_delayed_call_holds_nothing_up(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 1).await);
    if is_refused(&scene, &caller).await {
        return;
    }
    let mut late = scene.call("echo", |_| {});
    late.start = Start::In(3_600_000);
    caller.accepted(&late, 1).await;
    let now = scene.call("echo", |_| {});
    caller.accepted(&now, 2).await;
    worker.echo(&worker.lease_of(&now).await).await;
    if matches!(scene.capabilities().cancel, CancelReach::Running | CancelReach::Queued) {
        assert_eq!(caller.cancel(late.id).await, CancelAnswer::NeverRan);
        assert_eq!(caller.outcome(1).await.state, State::Cancelled);
    }
}
