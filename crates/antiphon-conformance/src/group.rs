//! Capability: calls that settle together.

use crate::Harness;
use crate::scene::{CallerSide, Scene, WorkerSide};
use antiphon_broker::Support;
use antiphon_protocol::{
    Answer, Call, CallId, CancelAnswer, Code, Failure, GROUP_WAIT_MS_MAX, Group, GroupKind, Keys, Outcome, Payload,
    Query, Settlement, State,
};
use std::time::{Duration, Instant};

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

/// A caller, and a worker with so many slots for children; `None` when the rule ends here.
async fn stage(harness: &impl Harness, slots: u32) -> Option<(Scene, CallerSide, WorkerSide)> {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["work"], slots).await);
    (!is_refused(&scene, &caller).await).then_some((scene, caller, worker))
}

async fn seal(scene: &Scene, id: CallId) {
    let inspect = scene.broker.inspect().expect("who has groups can seal them");
    assert_eq!(inspect.ask(Query::Seal(id)).await, Ok(Answer::Sealed));
}

/// A group of all settles when it is sealed and its children have, with what they ended with, in their order.
pub async fn a_group_of_all_waits_for_its_seal_and_its_children(harness: &impl Harness) {
    let Some((scene, caller, worker)) = stage(harness, 4).await else { return };
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
    let Some((scene, caller, worker)) = stage(harness, 4).await else { return };
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

/// A group without children settles when it is sealed: of all, with an empty list; of the first, it has failed.
pub async fn an_empty_group_settles_when_it_is_sealed(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let caller = scene.caller().await;
    if is_refused(&scene, &caller).await {
        return;
    }
    let (all, any) = (group(&scene, GroupKind::All), group(&scene, GroupKind::First(1)));
    caller.accepted(&all, 1).await;
    caller.accepted(&any, 2).await;
    seal(&scene, all.id).await;
    seal(&scene, any.id).await;
    let settled = caller.outcome(1).await;
    assert_eq!((settled.state, settled.outcome), (State::Succeeded, Outcome::Reply(Payload::json("[]"))));
    assert_eq!(caller.outcome(2).await.state, State::Failed);
}

/// A group that is not sealed in time expires, and takes no further children.
pub async fn a_group_that_is_not_sealed_in_time_expires(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let caller = scene.caller().await;
    if is_refused(&scene, &caller).await {
        return;
    }
    let hasty = Group { unsealed_ms: 20, ..Group::new(GroupKind::All) };
    let group = scene.call("group", |route| route.group = Some(hasty));
    caller.accepted(&group, 1).await;
    let expired = caller.outcome(1).await;
    assert_eq!((expired.state, expired.failure().code), (State::Expired, Code::DeadlineExceeded));
    assert_eq!(caller.refused(&child(&scene, group.id), 2).await.code, Code::FailedPrecondition);
}

/// However children end, the list says how.
pub async fn each_way_to_end_is_told_of_a_child(harness: &impl Harness) {
    let Some((scene, caller, worker)) = stage(harness, 1).await else { return };
    let group = group(&scene, GroupKind::Settled);
    caller.accepted(&group, 1).await;
    let ends = [
        (Settlement::Succeed(Payload::json("1")), State::Succeeded),
        (Settlement::Fail(Failure::new(Code::OutOfRange, "no")), State::Failed),
        (Settlement::Bury(Failure::new(Code::Internal, "broken")), State::Dead),
    ];
    let mut expected = Vec::new();
    for (tag, (settlement, state)) in (2..).zip(ends) {
        let child = child(&scene, group.id);
        caller.accepted(&child, tag).await;
        worker.settle(&worker.lease_of(&child).await, settlement).await;
        expected.push((child.id, state));
    }
    worker.worker.credit(-1);
    worker.round_trip().await;
    let (cancelled, mut expired) = (child(&scene, group.id), child(&scene, group.id));
    expired.deadline_ms = 20;
    caller.accepted(&cancelled, 8).await;
    caller.accepted(&expired, 9).await;
    assert_eq!(caller.cancel(cancelled.id).await, CancelAnswer::NeverRan);
    assert_eq!(caller.outcome(9).await.state, State::Expired);
    expected.extend([(cancelled.id, State::Cancelled), (expired.id, State::Expired)]);
    seal(&scene, group.id).await;
    let Outcome::Reply(list) = caller.outcome(1).await.outcome else { panic!("a group of settled children succeeds") };
    let text = std::str::from_utf8(&list.bytes).expect("a list is JSON");
    let told = |(id, state): &(CallId, State)| {
        text.find(&format!(r#""id":"{id}","procedure":"{}","state":"{}""#, scene.name("work"), state.name()))
    };
    let places: Option<Vec<usize>> = expected.iter().map(told).collect();
    assert!(places.is_some_and(|places| places.is_sorted()), "{expected:?} in {text}");
}

/// When a group is decided its other children are cancelled, if it was asked for; else they go on.
pub async fn the_rest_of_a_decided_group_is_cancelled_if_asked_for(harness: &impl Harness) {
    let Some((scene, caller, worker)) = stage(harness, 4).await else { return };
    for (tag, cancel_rest) in [(10, true), (20, false)] {
        let first = Group { cancel_rest, ..Group::new(GroupKind::First(1)) };
        let group = scene.call("group", |route| route.group = Some(first));
        caller.accepted(&group, tag).await;
        let children = [child(&scene, group.id), child(&scene, group.id)];
        caller.accepted(&children[0], tag + 1).await;
        caller.accepted(&children[1], tag + 2).await;
        let (first, second) = (worker.lease_of(&children[0]).await, worker.lease_of(&children[1]).await);
        worker.echo(&first).await;
        assert_eq!(caller.outcome(tag).await.state, State::Succeeded);
        if cancel_rest {
            worker.asked_to_stop(second.lease).await;
            assert_eq!(caller.outcome(tag + 2).await.state, State::Cancelled);
            worker.settle(&second, Settlement::Stop).await;
        } else {
            worker.echo(&second).await;
            assert_eq!(caller.outcome(tag + 2).await.state, State::Succeeded);
        }
    }
}

/// A call that is there already becomes a child, once, also when it has settled.
pub async fn a_call_that_is_there_joins_a_group(harness: &impl Harness) {
    let Some((scene, caller, worker)) = stage(harness, 1).await else { return };
    let (group, call) = (group(&scene, GroupKind::All), scene.call("work", |_| {}));
    caller.accepted(&call, 1).await;
    worker.echo(&worker.lease_of(&call).await).await;
    caller.outcome(1).await;
    caller.accepted(&group, 2).await;
    let inspect = scene.broker.inspect().expect("who has groups can be asked of them");
    for _ in 0..2 {
        assert_eq!(inspect.ask(Query::Join { group: group.id, call: call.id }).await, Ok(Answer::Joined));
    }
    seal(&scene, group.id).await;
    let Outcome::Reply(list) = caller.outcome(2).await.outcome else { panic!("all children have succeeded") };
    let text = std::str::from_utf8(&list.bytes).expect("a list is JSON");
    assert_eq!(text.matches("\"id\":").count(), 1, "{text}");
}

/// Who asks for children that are not there yet waits for them, and is answered when there are or can be none.
pub async fn a_question_for_children_waits_for_them(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let caller = scene.caller().await;
    if is_refused(&scene, &caller).await {
        return;
    }
    let group = group(&scene, GroupKind::All);
    caller.accepted(&group, 1).await;
    let child = child(&scene, group.id);
    let inspect = scene.broker.inspect().expect("who has groups can be asked of them");
    let ask = |from| inspect.ask(Query::Group { id: group.id, from, limit: 0, wait_ms: GROUP_WAIT_MS_MAX });
    let began = Instant::now();
    let (answer, ()) = tokio::join!(ask(0), caller.accepted(&child, 2));
    let Ok(Answer::Group(status)) = answer else { panic!("{answer:?}") };
    assert_eq!(status.children.iter().map(|child| child.id).collect::<Vec<_>>(), [child.id]);
    let (answer, ()) = tokio::join!(ask(1), seal(&scene, group.id));
    let Ok(Answer::Group(status)) = answer else { panic!("{answer:?}") };
    assert!(status.sealed && status.children.is_empty(), "{status:?}");
    let waited = began.elapsed();
    assert!(
        waited < Duration::from_millis(GROUP_WAIT_MS_MAX.into()),
        "answered only when the time was over: {waited:?}"
    );
}
