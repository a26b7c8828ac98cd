//! Events: one call for each subscription that existed when the event was accepted, over restarts and compaction.

use crate::script::{World, check, id_of};
use antiphon_engine::Limits;
use antiphon_protocol::{Pattern, Topic};
use expect_test::expect;
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn an_event_makes_one_call_for_each_subscription_that_existed() {
    check(
        "caller c
           subscribe early pattern=orders.*
           subscribe other pattern=users.>
           emit e topic=orders.created
           emit e topic=orders.created
           emit e topic=orders.other
           subscribe late pattern=orders.>
           worker w slots=4
           ok e>early",
        expect![[r#"
            caller c
            subscribe early pattern=orders.*
                Added
                record Subscribed Now
            subscribe other pattern=users.>
                Added
                record Subscribed Now
            emit e topic=orders.created
                record Emitted Now
                record Submitted Now
                record Distributed Lazy
                c: e accepted  (once recorded)
            emit e topic=orders.created
                c: e accepted again  (once recorded)
            emit e topic=orders.other
                c: refused, IdConflict
            subscribe late pattern=orders.>
                Added
                record Subscribed Now
            worker w slots=4
                record Leased Now
                w: open, keeps 0
                w: run e>early, attempt 1, token 1.1  (once recorded)
            ok e>early
                record Settled Now
                w: settled e>early  (once recorded)
        "#]],
    );
}

#[test]
fn who_is_removed_still_gets_what_came_before() {
    let mut limits = Limits::new(true);
    limits.calls_max = 1;
    let mut world = World::new(limits);
    world.run(
        "caller c
           subscribe one pattern=>
           subscribe two pattern=>
           emit e topic=t
           unsubscribe two
           emit f topic=t
           worker w
           restart
           caller c
           worker w
           ok e>one
           ok e>two
           ok f>one",
    );
    expect![[r#"
        caller c
        subscribe one pattern=>
            Added
            record Subscribed Now
        subscribe two pattern=>
            Added
            record Subscribed Now
        emit e topic=t
            record Emitted Now
            record Submitted Now
            record Distributed Lazy
            c: e accepted  (once recorded)
        unsubscribe two
            record Unsubscribed Now
        emit f topic=t
            record Emitted Now
            c: f accepted  (once recorded)
        worker w
            record Leased Now
            w: open, keeps 0
            w: run e>one, attempt 1, token 1.1  (once recorded)
        restart
            record Started Now
        caller c
        worker w
            w: open, keeps 1
        ok e>one
            record Settled Now
            record Submitted Now
            record Distributed Lazy
            record Leased Now
            w: settled e>one  (once recorded)
            w: run e>two, attempt 1, token 2.1  (once recorded)
        ok e>two
            record Settled Now
            record Submitted Now
            record Distributed Lazy
            record Leased Now
            w: settled e>two  (once recorded)
            w: run f>one, attempt 1, token 2.2  (once recorded)
        ok f>one
            record Settled Now
            w: settled f>one  (once recorded)
    "#]]
    .assert_eq(&world.log);
}

#[test]
fn over_its_bounds_an_event_is_refused_and_what_waits_is_not_lost() {
    let mut limits = Limits::new(true);
    (limits.calls_max, limits.events_open_max) = (1, 2);
    let mut world = World::new(limits);
    world.run(
        "caller c
           subscribe s pattern=>
           submit a to=q
           emit e topic=t
           emit f topic=t
           emit g topic=t
           cancel a
           worker w
           ok e>s
           ok f>s",
    );
    expect![[r#"
        caller c
        subscribe s pattern=>
            Added
            record Subscribed Now
        submit a to=q
            record Submitted Now
        emit e topic=t
            record Emitted Now
            c: e accepted  (once recorded)
        emit f topic=t
            record Emitted Now
            c: f accepted  (once recorded)
        emit g topic=t
            c: refused, EventsFull { limit: 2 }
        cancel a
            record Settled Now
            record Submitted Now
            record Distributed Lazy
            c: a cancelled after 0, CancelledQueued [tag 7]  (once recorded)
            c: cancel a: NeverRan  (once recorded)
        worker w
            record Leased Now
            w: open, keeps 0
            w: run e>s, attempt 1, token 1.1  (once recorded)
        ok e>s
            record Settled Now
            record Submitted Now
            record Distributed Lazy
            record Leased Now
            w: settled e>s  (once recorded)
            w: run f>s, attempt 1, token 1.2  (once recorded)
        ok f>s
            record Settled Now
            w: settled f>s  (once recorded)
    "#]]
    .assert_eq(&world.log);
}

#[test]
fn a_dead_letter_of_an_event_keeps_its_payload() {
    let mut limits = Limits::new(true);
    limits.event_ms = 1;
    let mut world = World::new(limits);
    world.run(
        "caller c
           worker w
           subscribe s pattern=>
           emit e topic=t
           bury e>s
           at 5s",
    );
    let id = id_of("e").derived(&world.subscribed[0].1.to_bytes());
    let (_, payload) = world.engine.dead_letter(id).unwrap();
    world.sweep();
    world.restart();
    world.run("at 9s");
    let (_, moved) = world.engine.dead_letter(id).unwrap();
    for handle in [payload, moved] {
        assert_eq!(world.scribe.released.contains(&handle), handle != moved, "the event is kept, where it is now");
    }
    assert!(world.engine.purge(id, &mut world.scribe));
    world.run("at 20s");
    assert!(world.scribe.released.contains(&moved), "nothing needs the payload any more");
}

/// xorshift64.
fn below(random: &mut u64, bound: u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random % bound
}

const PATTERNS: [&str; 6] = ["a.*", "a.b", "*.b", ">", "a.>", "c"];
const TOPICS: [&str; 5] = ["a.b", "a.c", "b.b", "c", "a.b.c"];

/// Which pairs of event and subscription must have had a call.
#[derive(Default)]
struct Model {
    subscriptions: BTreeMap<String, (&'static str, String)>,
    expected: BTreeSet<String>,
}

/// Subscriptions come and go, events are emitted, calls end and are forgotten at once, the journal is compacted and the
/// broker restarts in between, with few steps a turn: in the end each pair had exactly one call.
fn play(seed: u64) {
    let mut limits = Limits::new(true);
    (limits.outcome_ms, limits.calls_max, limits.event_ms) = (0, 6, 60_000);
    let mut world = World::new(limits);
    let (mut random, mut model, mut ms) = (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, Model::default(), 0);
    world.scribe.forgets = true;
    world.run("caller c");
    for step in 0..120 {
        match below(&mut random, 10) {
            0..=2 => {
                let name = format!("s{}", below(&mut random, 4));
                let pattern = PATTERNS[below(&mut random, 6) as usize];
                world.subscribe(&name, &BTreeMap::from([("pattern", pattern)]));
                if model.subscriptions.get(&name).is_none_or(|(before, _)| *before != pattern) {
                    model.subscriptions.insert(name, (pattern, world.subscribed.last().unwrap().0.clone()));
                }
            }
            3 => {
                let name = format!("s{}", below(&mut random, 4));
                world.step_quietly(&format!("unsubscribe {name}"));
                model.subscriptions.remove(&name);
            }
            4..=6 => {
                let topic = TOPICS[below(&mut random, 5) as usize];
                let event = format!("e{step}");
                world.emit(&event, "c", &BTreeMap::from([("topic", topic)]));
                let topic = Topic::new(topic).unwrap();
                for (pattern, shown) in model.subscriptions.values() {
                    if Pattern::new(pattern).unwrap().matches(&topic) {
                        model.expected.insert(format!("{event}>{shown}"));
                    }
                }
            }
            7 => world.sweep(),
            8 => {
                world.restart();
                world.run("caller c");
            }
            _ => {
                ms += 1_500;
                world.run(&format!("at {ms}ms"));
            }
        }
        world.engine.advance(world.now, 1 + below(&mut random, 3) as u32, &mut world.scribe);
        drain(&mut world, below(&mut random, 4));
        world.engine.audit().unwrap();
    }
    for _ in 0..200 {
        ms += 100;
        world.run(&format!("at {ms}ms"));
        drain(&mut world, 100);
    }
    let granted: Vec<String> = world.granted.iter().map(|(name, _, _)| name.clone()).collect();
    let once: BTreeSet<String> = granted.iter().cloned().collect();
    assert_eq!(granted.len(), once.len(), "seed {seed}: a call was made twice");
    assert_eq!(once, model.expected, "seed {seed}");
}

/// A worker comes, does up to so many calls, and goes.
fn drain(world: &mut World, calls: u64) {
    if calls == 0 {
        return;
    }
    world.run("worker w");
    for _ in 0..calls {
        let Some(name) = world.holders.keys().find(|name| !world.ended.contains(name)).cloned() else { break };
        world.run(&format!("ok {name}"));
    }
    while let Some(name) = world.holders.keys().find(|name| !world.ended.contains(name)).cloned() {
        world.run(&format!("ok {name}"));
    }
    world.run("drain w\nclose w");
    world.holders.clear();
}

#[test]
fn each_event_calls_each_subscription_of_its_time_exactly_once() {
    for seed in 0..60 {
        play(seed);
    }
}
