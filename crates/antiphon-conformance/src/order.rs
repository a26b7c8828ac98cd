//! Capabilities: ordering keys, concurrency keys, what calls need of their workers, and slots that are given back.

use crate::Harness;
use crate::scene::{Scene, WorkerSide};
use antiphon_broker::{Event, Ordering, Support};
use antiphon_protocol::{Call, Code, Key, Keys};

fn key(text: &str) -> Option<Key> {
    Some(Key::new(text).expect("the text is a key"))
}

/// A call with these keys.
fn keyed(scene: &Scene, keys: Keys) -> Call {
    let mut call = scene.call("echo", |_| {});
    call.keys = Some(Box::new(keys));
    call
}

/// Nothing but this call is leased, though another waits and slots are free.
async fn leases_only(worker: &WorkerSide, call: &Call) -> antiphon_broker::Lease {
    let lease = worker.lease_of(call).await;
    worker.round_trip().await;
    assert!(worker.has_lease().is_none(), "a second call was leased beside {}", call.id);
    lease
}

/// Two calls with the same keys: the second waits for the first though slots are free, or the first is refused.
async fn wait_for_each_other(scene: &Scene, keys: Keys, refused: bool) {
    let caller = scene.caller().await;
    let (first, second) = (keyed(scene, keys.clone()), keyed(scene, keys));
    if refused {
        assert_eq!(caller.refused(&first, 1).await.code, Code::Unimplemented);
        return;
    }
    caller.accepted(&first, 1).await;
    caller.accepted(&second, 2).await;
    let worker = scene.worker(&["echo"], 4).await;
    let lease = leases_only(&worker, &first).await;
    worker.echo(&lease).await;
    worker.echo(&worker.lease_of(&second).await).await;
}

/// Calls with one ordering key run one after the other, in the order of their submission.
pub async fn calls_of_one_ordering_key_do_not_overlap(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let refused = scene.capabilities().ordering == Ordering::None;
    wait_for_each_other(&scene, Keys { ordering: key("alice"), ..Keys::default() }, refused).await;
}

/// Of the calls with one concurrency key one runs at a time, where nothing else is said.
pub async fn calls_of_one_concurrency_key_wait_for_each_other(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let refused = scene.capabilities().concurrency_keys == Support::Refused;
    wait_for_each_other(&scene, Keys { concurrency: key("bank"), ..Keys::default() }, refused).await;
}

/// A call that requires a label goes to a worker that has it, and to no other.
pub async fn a_label_is_heeded(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let caller = scene.caller().await;
    let call = scene.call("echo", |route| route.labels = vec![scene.name("gpu")]);
    if scene.capabilities().needs == Support::Refused {
        assert_eq!(caller.refused(&call, 1).await.code, Code::Unimplemented);
        return;
    }
    let without = scene.worker(&["echo"], 4).await;
    caller.accepted(&call, 1).await;
    without.round_trip().await;
    assert!(without.has_lease().is_none(), "a worker without the label got the call");
    let with = scene.worker_with(&["echo"], 1, |offer| offer.labels = vec![scene.name("gpu")]).await;
    with.echo(&with.lease_of(&call).await).await;
}

/// A call that takes two slots leaves none of two.
pub async fn a_call_takes_the_slots_it_asks_for(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let caller = scene.caller().await;
    let heavy = scene.call("echo", |route| route.slots = 2);
    if scene.capabilities().needs == Support::Refused {
        assert_eq!(caller.refused(&heavy, 1).await.code, Code::Unimplemented);
        return;
    }
    let light = scene.call("echo", |_| {});
    caller.accepted(&heavy, 1).await;
    let worker = scene.worker(&["echo"], 2).await;
    let lease = worker.lease_of(&heavy).await;
    caller.accepted(&light, 2).await;
    worker.round_trip().await;
    assert!(worker.has_lease().is_none(), "the slots of the heavy call were given away");
    worker.echo(&lease).await;
    worker.echo(&worker.lease_of(&light).await).await;
}

/// A lease whose procedure waits gives its slot to another call, and gets one back when it wants to go on.
pub async fn a_waiting_procedure_gives_its_slot_back(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    if scene.capabilities().parking == Support::Refused {
        return;
    }
    let caller = scene.caller().await;
    let (outer, inner) = (scene.call("echo", |_| {}), scene.call("echo", |_| {}));
    let worker = scene.worker(&["echo"], 1).await;
    caller.accepted(&outer, 1).await;
    let waiting = worker.lease_of(&outer).await;
    caller.accepted(&inner, 2).await;
    worker.worker.park(waiting.lease, Some(inner.id));
    let lease = worker.lease_of(&inner).await;
    worker.worker.resume(waiting.lease);
    worker.echo(&lease).await;
    let resumed = |event: &Event| match event {
        Event::Resumed { lease } => Some(*lease),
        _ => None,
    };
    assert_eq!(worker.recorder.next("Resumed", resumed).await, waiting.lease);
    worker.echo(&waiting).await;
}
