//! Capability: procedures that are called with an outcome.

use crate::Harness;
use crate::scene::{CallerSide, Scene, WorkerSide};
use antiphon_broker::{AcceptedMeans, Callbacks};
use antiphon_protocol::{Answer, Call, Callback, CallbackOn, Code, Failure, Payload, Query, Route, Settlement, State};

fn called_back(scene: &Scene, on: CallbackOn) -> Call {
    let after = Route::new(scene.name("after"));
    scene.call("work", |route| route.callbacks = vec![Callback { on, route: after }])
}

/// Without the capability a callback is refused rather than ignored; `true` when the rule ends here.
async fn is_refused(scene: &Scene, caller: &CallerSide) -> bool {
    if scene.capabilities().callbacks != Callbacks::None {
        return false;
    }
    assert_eq!(caller.refused(&called_back(scene, CallbackOn::Outcome), 99).await.code, Code::Unimplemented);
    true
}

/// A caller, and a worker that serves the procedure and its callback; `None` when the rule ends here.
async fn stage(harness: &impl Harness) -> Option<(Scene, CallerSide, WorkerSide)> {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["work", "after"], 4).await);
    (!is_refused(&scene, &caller).await).then_some((scene, caller, worker))
}

/// A callback runs after the outcome, under the id that follows from its cause, and is told how that ended.
pub async fn a_callback_is_called_with_the_outcome(harness: &impl Harness) {
    let Some((scene, caller, worker)) = stage(harness).await else { return };
    let call = called_back(&scene, CallbackOn::Outcome);
    caller.accepted(&call, 1).await;
    worker.settle(&worker.lease_of(&call).await, Settlement::Succeed(Payload::json("7"))).await;
    assert_eq!(caller.outcome(1).await.state, State::Succeeded);
    let after = worker.lease().await;
    assert_eq!(after.call, Callback::id(CallbackOn::Outcome, &scene.name("after"), call.id));
    let expected = format!(
        r#"{{"id":"{}","procedure":"{}","state":"succeeded","attempts":1,"value":7}}"#,
        call.id,
        scene.name("work")
    );
    assert_eq!(after.payload, Payload::json(expected));
    worker.echo(&after).await;
}

/// A callback for success follows no failure, and one for failure does.
pub async fn a_callback_follows_the_outcomes_it_is_for(harness: &impl Harness) {
    let Some((scene, caller, worker)) = stage(harness).await else { return };
    let failed = || Settlement::Fail(Failure::new(Code::OutOfRange, "no"));
    for (tag, on) in [(1, CallbackOn::Success), (2, CallbackOn::Value), (3, CallbackOn::Failure)] {
        let call = called_back(&scene, on);
        caller.accepted(&call, tag).await;
        worker.settle(&worker.lease_of(&call).await, failed()).await;
        assert_eq!(caller.outcome(tag).await.state, State::Failed);
    }
    let after = worker.lease().await;
    assert!(after.payload.bytes.starts_with(b"{\"id\":"), "{:?}", after.payload);
    worker.echo(&after).await;
    worker.round_trip().await;
    assert!(worker.has_lease().is_none(), "one callback follows the three failures");
}

/// A chained procedure gets the value itself, as it was sent.
pub async fn a_chained_procedure_is_called_with_the_value(harness: &impl Harness) {
    let Some((scene, caller, worker)) = stage(harness).await else { return };
    let call = called_back(&scene, CallbackOn::Value);
    caller.accepted(&call, 1).await;
    let value = Payload::raw(vec![0, 159]);
    worker.settle(&worker.lease_of(&call).await, Settlement::Succeed(value.clone())).await;
    let after = worker.lease().await;
    assert_eq!(after.payload, value);
    worker.echo(&after).await;
}

/// A callback outlives the caller.
pub async fn a_callback_happens_when_its_caller_is_gone(harness: &impl Harness) {
    let Some((scene, caller, worker)) = stage(harness).await else { return };
    let call = called_back(&scene, CallbackOn::Outcome);
    caller.accepted(&call, 1).await;
    drop(caller);
    worker.echo(&worker.lease_of(&call).await).await;
    let after = worker.lease().await;
    assert_eq!(after.call, Callback::id(CallbackOn::Outcome, &scene.name("after"), call.id));
    worker.echo(&after).await;
}

/// A callback is a call: it is tried again, and its cause is known.
pub async fn a_callback_is_tried_again(harness: &impl Harness) {
    let Some((scene, caller, worker)) = stage(harness).await else { return };
    let call = called_back(&scene, CallbackOn::Outcome);
    caller.accepted(&call, 1).await;
    worker.echo(&worker.lease_of(&call).await).await;
    let first = worker.lease().await;
    let passing = Failure::new(Code::Unavailable, "again").retry_after_ms(1);
    worker.settle(&first, Settlement::Retry(passing)).await;
    let second = worker.lease().await;
    assert_eq!((second.call, second.attempt), (first.call, 2));
    assert_eq!(second.payload, first.payload);
    worker.echo(&second).await;
}

/// A callback is added to a call that has settled, and is made at once; the same one again is the same call.
pub async fn a_callback_is_added_to_a_settled_call(harness: &impl Harness) {
    let Some((scene, caller, worker)) = stage(harness).await else { return };
    if scene.capabilities().callbacks != Callbacks::Atomic {
        return;
    }
    let call = scene.call("work", |_| {});
    caller.accepted(&call, 1).await;
    worker.echo(&worker.lease_of(&call).await).await;
    caller.outcome(1).await;
    let inspect = scene.broker.inspect().expect("who keeps callbacks with their calls can be asked of them");
    let callback = Callback { on: CallbackOn::Success, route: Route::new(scene.name("after")) };
    let expected = Callback::id(CallbackOn::Success, &scene.name("after"), call.id);
    for _ in 0..2 {
        let add = Query::AddCallback { call: call.id, callback: Box::new(callback.clone()) };
        assert_eq!(inspect.ask(add).await, Ok(Answer::CallbackAdded(expected)));
    }
    let after = worker.lease().await;
    assert_eq!(after.call, expected);
    worker.echo(&after).await;
    worker.round_trip().await;
    assert!(worker.has_lease().is_none(), "one callback was added");
}

/// A callback that is promised with a durable call is kept over restarts, and happens once.
pub async fn a_callback_survives_a_restart(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["work"], 1).await);
    if is_refused(&scene, &caller).await || scene.capabilities().accepted == AcceptedMeans::Memory {
        return;
    }
    let call = called_back(&scene, CallbackOn::Outcome);
    caller.accepted(&call, 1).await;
    worker.echo(&worker.lease_of(&call).await).await;
    caller.outcome(1).await;
    drop((caller, worker));
    let Some(scene) = scene.restart(harness).await else { return };
    let worker = scene.worker(&["work", "after"], 4).await;
    let after = worker.lease().await;
    assert_eq!(after.call, Callback::id(CallbackOn::Outcome, &scene.name("after"), call.id));
    worker.echo(&after).await;
    worker.round_trip().await;
    assert!(worker.has_lease().is_none(), "it was called once");
}
