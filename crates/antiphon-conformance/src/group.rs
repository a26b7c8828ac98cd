//! Capability: calls that settle together.

use crate::Harness;
use crate::scene::{CallerSide, Scene};
use antiphon_broker::Support;
use antiphon_protocol::{
    Answer, Call, CallId, Code, Failure, Group, GroupKind, Keys, Outcome, Payload, Query, Settlement, State,
};

fn group(scene: &Scene, kind: GroupKind) -> Call {
    scene.call("group", |route| route.group = Some(Group::new(kind)))
}

fn child(scene: &Scene, group: CallId) -> Call {
    let mut call = scene.call("work", |_| {});
    call.keys = Some(Box::new(Keys { group: Some(group), ..Keys::default() }));
    call
}

/// Without the capability groups and children are refused rather than ignored; `true` when the rule ends here.
async fn is_refused(scene: &Scene, caller: &CallerSide) -> bool {
    if scene.capabilities().groups != Support::Refused {
        return false;
    }
    let group = group(scene, GroupKind::All);
    assert_eq!(caller.refused(&group, 98).await.code, Code::Unimplemented);
    assert_eq!(caller.refused(&child(scene, group.id), 99).await.code, Code::Unimplemented);
    true
}

async fn seal(scene: &Scene, id: CallId) {
    let inspect = scene.broker.inspect().expect("who has groups can seal them");
    assert_eq!(inspect.ask(Query::Seal(id)).await, Ok(Answer::Sealed));
}

/// A group of all settles when it is sealed and its children have, with what they ended with, in their order.
pub async fn a_group_of_all_waits_for_its_seal_and_its_children(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["work"], 4).await);
    if is_refused(&scene, &caller).await {
        return;
    }
    let group = group(&scene, GroupKind::All);
    caller.accepted(&group, 1).await;
    let children = [child(&scene, group.id), child(&scene, group.id)];
    for (tag, child) in (2..).zip(&children) {
        caller.accepted(child, tag).await;
    }
    let leases = [worker.lease_of(&children[0]).await, worker.lease_of(&children[1]).await];
    for lease in leases.iter().rev() {
        worker.settle(lease, Settlement::Succeed(Payload::json("1"))).await;
    }
    caller.round_trip().await;
    assert!(!caller.has_outcome(group.id), "a group that is not sealed may get more children");
    seal(&scene, group.id).await;
    let settled = caller.outcome(1).await;
    let told = |child: &Call| {
        let (id, name) = (child.id, scene.name("work"));
        format!(r#"{{"id":"{id}","procedure":"{name}","state":"succeeded","attempts":1,"value":1}}"#)
    };
    let list = Payload::json(format!("[{},{}]", told(&children[0]), told(&children[1])));
    assert_eq!((settled.state, settled.outcome), (State::Succeeded, Outcome::Reply(list)));
    caller.submit(&child(&scene, group.id), 9).await;
    assert_eq!(caller.refusal(9).await.code, Code::FailedPrecondition);
}

/// A group of all fails with the first child that does not succeed; one of any succeeds with the first that does.
pub async fn a_group_is_decided_by_as_few_children_as_it_takes(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["work"], 4).await);
    if is_refused(&scene, &caller).await {
        return;
    }
    let failed = Settlement::Fail(Failure::new(Code::OutOfRange, "no"));
    let cases = [
        (GroupKind::All, failed, State::Failed),
        (GroupKind::First(1), Settlement::Succeed(Payload::json("1")), State::Succeeded),
    ];
    for (tag, (kind, settlement, state)) in (1..).zip(cases) {
        let group = group(&scene, kind);
        caller.accepted(&group, tag * 10).await;
        let children = [child(&scene, group.id), child(&scene, group.id)];
        caller.accepted(&children[0], tag * 10 + 1).await;
        caller.accepted(&children[1], tag * 10 + 2).await;
        let (first, second) = (worker.lease_of(&children[0]).await, worker.lease_of(&children[1]).await);
        worker.settle(&first, settlement).await;
        assert_eq!(caller.outcome(tag * 10).await.state, state);
        worker.echo(&second).await;
    }
}
