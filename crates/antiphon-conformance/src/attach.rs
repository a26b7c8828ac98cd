//! Capability: finding an outcome by its call's id.

use crate::Harness;
use crate::inbox::settled;
use crate::scene::{Scene, call_id};
use antiphon_broker::Attach;
use antiphon_protocol::{Code, Outcome, Payload, Settlement};

/// Whoever knows the id of a settled call gets its outcome, as often as asked: attaching consumes nothing.
pub async fn the_outcome_of_a_settled_call_is_found_by_its_id(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (first, worker) = (scene.caller().await, scene.worker(&["echo"], 1).await);
    let call = settled(&scene, &first, &worker, 1).await;
    let delivered = first.outcome(1).await;
    first.caller.acknowledge(&[call.id]);
    first.round_trip().await;

    for tag in [11, 12] {
        let late = scene.caller().await;
        late.caller.attach(&[(call.id, tag)]);
        if scene.capabilities().attach == Attach::InboxOnly {
            assert_eq!(late.refusal(tag).await.code, Code::Unimplemented);
            continue;
        }
        let found = late.outcome(tag).await;
        assert_eq!((found.id, found.state, found.outcome), (call.id, delivered.state, delivered.outcome.clone()));
    }
}

/// Attached before it settles, the outcome comes when it does, to its submitter as well.
pub async fn the_outcome_of_a_running_call_comes_to_whoever_attached(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    if scene.capabilities().attach == Attach::InboxOnly {
        return;
    }
    let (submitter, worker) = (scene.caller().await, scene.worker(&["echo"], 1).await);
    let call = scene.call("echo", |_| {});
    submitter.accepted(&call, 1).await;
    let lease = worker.lease_of(&call).await;
    let attached = scene.caller().await;
    attached.caller.attach(&[(call.id, 9)]);
    attached.round_trip().await;
    assert!(!attached.has_outcome(call.id), "there is no outcome yet");

    worker.settle(&lease, Settlement::Succeed(Payload::json("42"))).await;
    assert_eq!(attached.outcome(9).await.outcome, Outcome::Reply(Payload::json("42")));
    assert_eq!(submitter.outcome(1).await.outcome, Outcome::Reply(Payload::json("42")));
}

/// An id that was never submitted is not found.
pub async fn an_unknown_id_is_not_found(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let caller = scene.caller().await;
    caller.caller.attach(&[(call_id(), 1)]);
    let expected = match scene.capabilities().attach {
        Attach::ById => Code::NotFound,
        Attach::InboxOnly => Code::Unimplemented,
    };
    assert_eq!(caller.refusal(1).await.code, expected);
}
