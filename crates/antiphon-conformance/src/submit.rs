//! Required: handing calls over. Acceptance, refusal, ids and tags, payloads, batches.

use crate::Harness;
use crate::scene::{Scene, call_id};
use antiphon_broker::{Submission, Wants};
use antiphon_protocol::{Call, Code, ContentType, Outcome, Payload, Settlement, State};
use std::sync::Arc;

/// Submit, lease, settle, outcome: everything arrives as it was sent.
pub async fn a_call_goes_to_a_worker_and_its_reply_comes_back(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["other", "add"], 1).await);

    let mut call = scene.call("add", |route| route.attempts = 5);
    call.payload = Payload::json(r#"{"a":1,"b":2}"#);
    caller.accepted(&call, 7).await;

    let lease = worker.lease_of(&call).await;
    assert_eq!(lease.payload, call.payload);
    assert_eq!(lease.procedure, 1, "the place of the procedure in the offer");
    assert_eq!((lease.attempt, lease.attempts_max), (1, 5));
    assert!(lease.lease_ms > 0, "a lease ends some time");

    worker.settle(&lease, Settlement::Succeed(Payload::json("3"))).await;
    let delivered = caller.outcome(7).await;
    assert_eq!((delivered.id, delivered.state, delivered.attempts), (call.id, State::Succeeded, 1));
    assert_eq!(delivered.outcome, Outcome::Reply(Payload::json("3")));
}

/// Tags are the caller's: any number is echoed, also one that another caller uses.
pub async fn ids_and_tags_are_echoed(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 8).await);
    for tag in [0, 1, u64::from(u32::MAX) + 1, u64::MAX] {
        let call = scene.call("echo", |_| {});
        caller.accepted(&call, tag).await;
        worker.echo(&worker.lease_of(&call).await).await;
        assert_eq!(caller.outcome(tag).await.id, call.id);
    }
}

/// What does not fit is left, and `Writable` follows: every call of a large batch is answered once.
pub async fn every_call_of_a_large_batch_is_answered(harness: &impl Harness) {
    const CALLS: u64 = 1_000;
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 100).await);
    let first = scene.call("echo", |_| {});
    let submission = |tag: u64| Submission {
        call: Call::new(call_id(), Arc::clone(&first.route), Payload::json(tag.to_string())),
        tag,
        wants: Wants::Outcome,
        resent: false,
    };
    caller.submit_all((0..CALLS).map(submission).collect()).await;
    for _ in 0..CALLS {
        worker.echo(&worker.lease().await).await;
    }
    for tag in 0..CALLS {
        let delivered = caller.outcome(tag).await;
        assert_eq!(delivered.outcome, Outcome::Reply(Payload::json(tag.to_string())), "the reply to call {tag}");
    }
}

/// An awaited call needs no acceptance of its own; its outcome says everything.
pub async fn an_awaited_call_is_answered_by_its_outcome(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 1).await);
    let call = scene.call("echo", |route| route.idempotent = true);
    caller.submit_wanting(&call, 1, Wants::Outcome).await;
    worker.echo(&worker.lease_of(&call).await).await;
    assert_eq!(caller.outcome(1).await.state, State::Succeeded);
}

/// Who wants the acceptance alone gets no outcome.
pub async fn a_detached_call_sends_no_outcome(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 1).await);
    let call = scene.call("echo", |_| {});
    caller.submit_wanting(&call, 1, Wants::Acceptance).await;
    assert_eq!(caller.acceptance(1).await, (call.id, false));
    worker.echo(&worker.lease_of(&call).await).await;
    caller.round_trip().await;
    assert!(!caller.has_outcome(call.id), "nobody asked for this outcome");
}

/// A refusal comes instead of an acceptance, and the call never runs.
pub async fn a_refused_call_is_neither_accepted_nor_run(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 2).await);
    let mut call = scene.call("echo", |_| {});
    call.payload = Payload::raw(vec![7; scene.capabilities().payload_bytes_max as usize + 1]);
    let failure = caller.refused(&call, 1).await;
    assert!(!failure.may_have_run, "a refused call never ran");

    // The caller goes on, and the worker's first lease is the next call's.
    let next = scene.call("echo", |_| {});
    caller.accepted(&next, 2).await;
    worker.echo(&worker.lease_of(&next).await).await;
    caller.outcome(2).await;
    caller.round_trip().await;
    worker.round_trip().await;
    assert!(!caller.has_acceptance(1) && !caller.has_outcome(call.id), "a refused call is not answered again");
    assert!(worker.has_lease().is_none(), "a refused call is not leased");
}

/// A payload over the cap is refused with `RESOURCE_EXHAUSTED`; one of exactly the cap is taken.
pub async fn a_payload_over_the_cap_is_refused(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let caller = scene.caller().await;
    let cap = scene.capabilities().payload_bytes_max as usize;
    let mut call = scene.call("store", |_| {});
    call.payload = Payload::raw(vec![1; cap]);
    caller.accepted(&call, 1).await;

    let mut call = scene.call("store", |_| {});
    call.payload = Payload::raw(vec![1; cap + 1]);
    assert_eq!(caller.refused(&call, 2).await.code, Code::ResourceExhausted);
}

/// A call that may never be tried is a mistake, and said so at the door.
pub async fn a_route_without_attempts_is_refused(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let caller = scene.caller().await;
    let call = scene.call("echo", |route| route.attempts = 0);
    assert_eq!(caller.refused(&call, 1).await.code, Code::InvalidArgument);
    caller.accepted(&scene.call("echo", |_| {}), 2).await;
}

/// Bytes are opaque, and their content type goes with them, both ways.
pub async fn every_content_type_arrives_as_it_was_sent(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 1).await);
    // Every byte there is; valid as none of the three.
    let bytes: Vec<u8> = (0..=255).collect();
    for (tag, content_type) in [(1, ContentType::MessagePack), (2, ContentType::Json), (3, ContentType::Raw)] {
        let mut call = scene.call("echo", |_| {});
        call.payload = Payload::new(content_type, bytes.clone());
        caller.accepted(&call, tag).await;
        let lease = worker.lease_of(&call).await;
        assert_eq!(lease.payload, call.payload);
        worker.echo(&lease).await;
        assert_eq!(caller.outcome(tag).await.outcome, Outcome::Reply(call.payload));
    }
}

/// No bytes at all are a payload, too.
pub async fn an_empty_payload_arrives_empty(harness: &impl Harness) {
    a_payload_arrives_whole(harness, Vec::new()).await;
}

/// Large payloads arrive whole, both ways; where the cap is lower, the largest there are.
pub async fn a_payload_of_10_mb_arrives_whole(harness: &impl Harness) {
    let cap = harness.broker().await.capabilities().payload_bytes_max as usize;
    let bytes = (0..10_000_000_u32.min(u32::try_from(cap).unwrap_or(u32::MAX)))
        .map(|place| place.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    a_payload_arrives_whole(harness, bytes).await;
}

async fn a_payload_arrives_whole(harness: &impl Harness, bytes: Vec<u8>) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 1).await);
    let mut call = scene.call("echo", |_| {});
    call.payload = Payload::raw(bytes);
    caller.accepted(&call, 1).await;
    let lease = worker.lease_of(&call).await;
    assert!(lease.payload == call.payload, "the arguments arrive whole");
    worker.echo(&lease).await;
    assert!(caller.outcome(1).await.outcome == Outcome::Reply(call.payload), "the reply arrives whole");
}

/// An id is a call: sent twice, it is accepted as a duplicate and runs once.
pub async fn one_id_submitted_twice_is_one_call(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 2).await);
    let call = scene.call("echo", |_| {});
    caller.accepted(&call, 1).await;
    caller.submit(&call, 2).await;
    assert_eq!(caller.acceptance(2).await, (call.id, true), "the second is a duplicate of the first");

    worker.echo(&worker.lease_of(&call).await).await;
    assert_eq!(caller.outcome(2).await.id, call.id, "the tag given last is echoed");
    caller.round_trip().await;
    worker.round_trip().await;
    assert!(worker.has_lease().is_none(), "one call runs once");

    // Also after it has settled.
    caller.submit(&call, 3).await;
    assert_eq!(caller.acceptance(3).await, (call.id, true));
    assert_eq!(caller.outcome(3).await.state, State::Succeeded);
    worker.round_trip().await;
    assert!(worker.has_lease().is_none(), "a settled call does not run again");
}
