//! Capability: classes of priority.

use crate::Harness;
use crate::scene::{CallerSide, Scene};
use antiphon_broker::Support;
use antiphon_protocol::{Code, Priority};

fn class(class: u8) -> Priority {
    Priority::new(class).expect("the class is 0 to 9")
}

/// Without the capability a class is refused rather than ignored; `true` when the rule ends here.
async fn is_refused(scene: &Scene, caller: &CallerSide) -> bool {
    if scene.capabilities().priorities != Support::Refused {
        return false;
    }
    let call = scene.call("echo", |route| route.priority = class(9));
    assert_eq!(caller.refused(&call, 99).await.code, Code::Unimplemented);
    true
}

/// Of two waiting calls the one of the higher class goes first, though it came last.
pub async fn the_higher_class_goes_first(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let caller = scene.caller().await;
    if is_refused(&scene, &caller).await {
        return;
    }
    let low = scene.call("echo", |route| route.priority = class(0));
    let high = scene.call("echo", |route| route.priority = class(9));
    caller.accepted(&low, 1).await;
    caller.accepted(&high, 2).await;
    let worker = scene.worker(&["echo"], 1).await;
    worker.echo(&worker.lease_of(&high).await).await;
    worker.echo(&worker.lease_of(&low).await).await;
}

/// No class starves: while many calls of the highest wait, one of the lowest still starts.
pub async fn the_lowest_class_does_not_starve(harness: &impl Harness) {
    const HIGH: u64 = 300;
    let scene = Scene::open(harness).await;
    let caller = scene.caller().await;
    if is_refused(&scene, &caller).await {
        return;
    }
    for tag in 0..HIGH {
        caller.submit(&scene.call("echo", |route| route.priority = class(9)), tag).await;
    }
    let low = scene.call("echo", |route| route.priority = class(0));
    caller.accepted(&low, HIGH).await;
    let worker = scene.worker(&["echo"], 1).await;
    let mut started_before = 0;
    loop {
        let lease = worker.lease().await;
        worker.echo(&lease).await;
        if lease.call == low.id {
            break;
        }
        started_before += 1;
    }
    assert!(started_before < HIGH, "the lowest class had to wait for all {HIGH} calls of the highest");
}
