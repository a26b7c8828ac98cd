//! Capability: inboxes with names, which keep what is not acknowledged.

use crate::Harness;
use crate::inbox::settled;
use crate::scene::{CallerSide, Scene};
use antiphon_broker::{Event, Inbox, OpenError, Support};
use antiphon_protocol::{Code, State};

/// Opens this rule's named inbox; `None`, and shown to be refused, where there are none.
async fn open(scene: &Scene) -> Option<CallerSide> {
    let opened = scene.try_caller(Inbox::Named(scene.name("inbox"))).await;
    if scene.capabilities().named_inboxes == Support::Refused {
        match opened {
            Err(OpenError::Refused(failure)) => assert_eq!(failure.code, Code::Unimplemented),
            Err(error) => panic!("a named inbox is refused, not: {error}"),
            Ok(_) => panic!("a named inbox was opened though there are none"),
        }
        return None;
    }
    Some(opened.unwrap_or_else(|error| panic!("opening a named inbox: {error}")))
}

/// What settled while nobody had the inbox open is delivered when somebody opens it, with tag 0.
pub async fn a_named_inbox_keeps_what_settled_while_it_was_closed(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let Some(first) = open(&scene).await else { return };
    let call = scene.call("echo", |_| {});
    first.accepted(&call, 5).await;
    drop(first);
    let worker = scene.worker(&["echo"], 1).await;
    worker.echo(&worker.lease_of(&call).await).await;

    let again = open(&scene).await.expect("it was opened before");
    let delivered = again.outcome(0).await;
    assert_eq!((delivered.id, delivered.state), (call.id, State::Succeeded));
}

/// What was delivered and not acknowledged comes again, the same, each time the inbox is opened.
pub async fn a_named_inbox_delivers_again_until_it_is_acknowledged(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let Some(first) = open(&scene).await else { return };
    let worker = scene.worker(&["echo"], 1).await;
    let call = settled(&scene, &first, &worker, 1).await;
    let delivered = first.delivery(call.id).await;
    drop(first);
    for _ in 0..2 {
        let again = open(&scene).await.expect("it was opened before");
        let found = again.delivery(call.id).await;
        assert_eq!((found.state, &found.outcome), (delivered.state, &delivered.outcome));
    }
}

/// An acknowledged outcome is gone from a named inbox, and only that.
pub async fn a_named_inbox_forgets_what_is_acknowledged(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let Some(first) = open(&scene).await else { return };
    let worker = scene.worker(&["echo"], 1).await;
    let done = settled(&scene, &first, &worker, 1).await;
    let kept = settled(&scene, &first, &worker, 2).await;
    first.caller.acknowledge(&[done.id]);
    first.round_trip().await;
    drop(first);

    let again = open(&scene).await.expect("it was opened before");
    assert_eq!(again.outcome(0).await.id, kept.id);
    again.round_trip().await;
    assert!(!again.has_outcome(done.id), "an acknowledged outcome came again");
}

/// One consumer at a time: who opens the inbox last has it, and the one before is told so.
pub async fn the_last_to_open_a_named_inbox_has_it(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let Some(first) = open(&scene).await else { return };
    let second = open(&scene).await.expect("it was opened before");
    let fenced = |event: &Event| matches!(event, Event::Down { last: true, .. }).then_some(());
    first.recorder.next("Down, given up", fenced).await;
    let worker = scene.worker(&["echo"], 1).await;
    let call = settled(&scene, &second, &worker, 1).await;
    assert_eq!(second.delivery(call.id).await.state, State::Succeeded);
}
