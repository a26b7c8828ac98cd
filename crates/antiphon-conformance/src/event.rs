//! Capability: events, the subscriptions that call procedures for them, and those who watch them.

use crate::Harness;
use crate::scene::{CallerSide, Scene, call_id};
use antiphon_broker::{Emission, Event, Support, Watch};
use antiphon_protocol::{Answer, Call, Change, Code, Name, Pattern, Payload, Query, Route, State, Subscription, Tag};
use std::sync::Arc;

/// An event about a topic that only this rule uses.
fn event(scene: &Scene, topic: &str, value: &str) -> Call {
    let mut route = Route::new(scene.name(topic));
    route.event = true;
    Call::new(call_id(), Arc::new(route), Payload::json(value.to_owned()))
}

fn pattern(scene: &Scene, text: &str) -> Pattern {
    Pattern::new(&format!("{}.{text}", scene.name("e"))).expect("the rule's pattern is one")
}

impl CallerSide {
    /// Emits, and answers whether the broker had the event before.
    async fn emitted(&self, call: &Call, tag: Tag) -> bool {
        self.submit_wanting(call, tag, antiphon_broker::Wants::Acceptance).await;
        self.acceptance(tag).await.1
    }

    async fn next_emission(&self, wanted: Tag) -> (Emission, bool) {
        let pick = |event: &Event| match event {
            Event::Emitted { tag, emission, last } if *tag == wanted => Some((emission.clone(), *last)),
            _ => None,
        };
        self.recorder.next("an event", pick).await
    }

    /// After which number events are new.
    async fn watched(&self, wanted: Tag) -> u64 {
        let pick = |event: &Event| match event {
            Event::Watched { tag, through, failure: None } if *tag == wanted => Some(*through),
            _ => None,
        };
        self.recorder.next("the end of a watch", pick).await
    }

    fn has_emission(&self) -> bool {
        self.recorder.take(|event| matches!(event, Event::Emitted { .. }).then_some(())).is_some()
    }
}

/// Asks for a change, which a broker without the capability refuses.
async fn changed(scene: &Scene, query: Query) -> Change {
    let inspect = scene.broker.inspect().expect("who has events answers questions");
    match inspect.ask(query).await {
        Ok(Answer::Changed(change)) => change,
        other => panic!("a change, not {other:?}"),
    }
}

async fn subscribe(scene: &Scene, name: &str, wanted: &str, procedure: &str) -> Name {
    let (name, route) = (scene.name(name), Route::new(scene.name(procedure)));
    let subscription = Subscription { name: name.clone(), pattern: pattern(scene, wanted), route };
    assert_eq!(changed(scene, Query::Subscribe(Box::new(subscription))).await, Change::Added);
    name
}

/// Without the capability events and subscriptions are refused rather than ignored, and who watches is told nothing;
/// `true` when the rule ends here.
async fn is_refused(scene: &Scene, caller: &CallerSide) -> bool {
    if scene.capabilities().events != Support::Refused {
        return false;
    }
    caller.caller.watch(&[Watch { tag: 98, pattern: pattern(scene, ">"), after: 0 }]);
    assert_eq!(caller.refused(&event(scene, "e.a", "1"), 99).await.code, Code::Unimplemented);
    if let Some(inspect) = scene.broker.inspect() {
        let (name, route) = (scene.name("sub"), Route::new(scene.name("work")));
        let subscription = Subscription { name: name.clone(), pattern: pattern(scene, ">"), route };
        let queries = [
            Query::Subscribe(Box::new(subscription)),
            Query::Unsubscribe(name),
            Query::Subscriptions { topic: None, after: None },
        ];
        for query in queries {
            let answer = inspect.ask(query).await;
            let refused = matches!(answer, Ok(Answer::Refused { code: Code::Unimplemented, .. }));
            assert!(refused, "a broker without events has no subscriptions: {answer:?}");
        }
    }
    caller.round_trip().await;
    assert!(!caller.has_emission(), "an event came from a broker that says it has none");
    true
}

/// An event makes one call of each subscription that matches, with what it tells, under ids that follow from it.
pub async fn an_event_calls_each_subscription_that_matches(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let caller = scene.caller().await;
    if is_refused(&scene, &caller).await {
        return;
    }
    for (name, wanted, procedure) in [("s1", "*", "one"), ("s2", ">", "rest"), ("s3", "b", "other")] {
        subscribe(&scene, name, wanted, procedure).await;
    }
    let worker = scene.worker(&["one", "rest", "other"], 8).await;
    let told = event(&scene, "e.a", "7");
    assert!(!caller.emitted(&told, 1).await);
    let mut procedures = Vec::new();
    for _ in 0..2 {
        let lease = worker.lease().await;
        assert_eq!(lease.payload, told.payload);
        procedures.push(lease.procedure);
        worker.echo(&lease).await;
    }
    procedures.sort_unstable();
    assert_eq!(procedures, [0, 1], "one call of each subscription that matches");
    // The same event again is the same event; what it called is not called again.
    assert!(caller.emitted(&told, 2).await);
    worker.round_trip().await;
    assert!(worker.has_lease().is_none(), "an event emitted again calls nobody again");
}

/// A subscription gets what was accepted after it, until it is removed.
pub async fn a_subscription_gets_what_came_while_it_was_there(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["work"], 8).await);
    if is_refused(&scene, &caller).await {
        return;
    }
    caller.emitted(&event(&scene, "e.a", "1"), 1).await;
    let name = subscribe(&scene, "s1", "*", "work").await;
    caller.emitted(&event(&scene, "e.a", "2"), 2).await;
    assert_eq!(changed(&scene, Query::Unsubscribe(name)).await, Change::Removed);
    caller.emitted(&event(&scene, "e.a", "3"), 3).await;
    let lease = worker.lease().await;
    assert_eq!(lease.payload, Payload::json("2"));
    worker.echo(&lease).await;
    worker.round_trip().await;
    assert!(worker.has_lease().is_none(), "it was not there before, and is not any more");
}

/// The calls of an event are ordinary calls: one that fails is tried again.
pub async fn a_call_of_an_event_is_tried_again(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["work"], 8).await);
    if is_refused(&scene, &caller).await {
        return;
    }
    subscribe(&scene, "s1", "*", "work").await;
    let told = event(&scene, "e.a", "2");
    caller.emitted(&told, 1).await;
    let first = worker.lease().await;
    let failure = antiphon_protocol::Failure::new(Code::Unavailable, "not now").retry_after_ms(1);
    worker.settle(&first, antiphon_protocol::Settlement::Retry(failure)).await;
    let second = worker.lease().await;
    assert_eq!((second.call, second.attempt, &second.payload), (first.call, 2, &told.payload));
    caller.caller.attach(&[(first.call, 9)]);
    worker.echo(&second).await;
    assert_eq!(caller.outcome(9).await.state, State::Succeeded);
}

/// Who watches is told what matches, in the order in which it was accepted, and of nothing twice.
pub async fn watched_events_come_in_order(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let caller = scene.caller().await;
    if is_refused(&scene, &caller).await {
        return;
    }
    let watch = |after| [Watch { tag: 7, pattern: pattern(&scene, "*"), after }];
    caller.emitted(&event(&scene, "e.a", "0"), 1).await;
    caller.caller.watch(&watch(Watch::FROM_NOW));
    let mut after = caller.watched(7).await;
    caller.caller.watch(&watch(after));
    let told = ["e.a", "e.b.c", "f.a", "e.b", "e.c"].map(|topic| event(&scene, topic, "1"));
    for (tag, told) in (2..).zip(&told) {
        caller.emitted(told, tag).await;
    }
    for told in [&told[0], &told[3], &told[4]] {
        let (found, last) = caller.next_emission(7).await;
        assert_eq!((found.id, &found.payload), (told.id, &told.payload));
        assert_eq!(found.topic.name(), &told.route.procedure);
        assert!(found.number > after, "numbers strictly increase");
        after = found.number;
        if last {
            caller.caller.watch(&watch(after));
        }
    }
    caller.round_trip().await;
    assert!(!caller.has_emission(), "nothing else matches");
}

/// Watching goes on after any number, as far back as events are kept, also what is too large for one part.
pub async fn watching_goes_on_after_a_number(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let caller = scene.caller().await;
    if is_refused(&scene, &caller).await {
        return;
    }
    let large = format!("\"{}\"", "x".repeat(300_000));
    let told: Vec<Call> = ["0", &large, "2", &large, "4"].iter().map(|value| event(&scene, "e.a", value)).collect();
    for (tag, told) in (1..).zip(&told) {
        caller.emitted(told, tag).await;
    }
    let watch = |tag, after| [Watch { tag, pattern: pattern(&scene, "*"), after }];
    caller.caller.watch(&watch(7, 0));
    let mut before = 0;
    for (again, told) in (100..).zip(&told) {
        let (found, last) = caller.next_emission(7).await;
        assert_eq!((found.id, &found.payload), (told.id, &told.payload), "in their order");
        if last {
            caller.caller.watch(&watch(7, found.number));
        }
        // Under a tag of its own: a part may hold more than the one that is looked for.
        caller.caller.watch(&watch(again, before));
        let next = caller.next_emission(again).await.0;
        assert_eq!((next.number, next.id), (found.number, found.id), "the next one after the number of the one before");
        before = found.number;
    }
}
