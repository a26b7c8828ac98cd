//! Recurring calls: what a tick does is of the time of the tick.

use crate::script::World;
use antiphon_engine::{Kind, Limits};
use antiphon_protocol::{Knowledge, State};

#[test]
fn what_a_tick_cancels_and_makes_after_a_long_idle_time_is_of_now() {
    let mut world = World::new(Limits { outcome_ms: 10_000, ..Limits::new(true) });
    world.run("caller c\nschedule s every=20s overlap=cancel\nat 20s\ntick s");
    // Nothing happens, and the engine hears of no time, until the next tick that counts.
    world.step_quietly("at 60s");
    world.run("tick s newest");
    let known = |call: &str| match world.engine.knowledge(world.id(call)) {
        Knowledge::Known(status) => (status.state, status.since_ms),
        other => panic!("{call}: {other:?}"),
    };
    assert_eq!(known("s@1"), (State::Cancelled, world.now.wall_ms), "it is kept for as long as any");
    assert_eq!(known("s@3").0, State::Ready);
    assert_eq!(world.engine.procedures()[0].oldest_ready_ms, 0, "it waits since now");
}

#[test]
fn a_removal_of_a_schedule_that_a_crash_cuts_off_anywhere_is_whole_or_not_there() {
    let mut world = World::new(Limits::new(true));
    world.run("caller c\nschedule s every=20s");
    // Its record stands in the cold log from now on.
    world.sweep();
    let (id, name) = world.engine.schedules().map(|kept| (kept.id, kept.name.clone())).next().expect("it is there");
    let before = world.records();
    assert!(world.engine.unschedule(&name, &mut world.scribe));
    let crashes = before + 1..=world.records();
    assert!(crashes.clone().count() > 1, "it is more than one record");
    for records in crashes {
        let mut crashed = world.after_crash(records);
        if crashed.engine.schedules().next().is_none() {
            crashed.scribe.recycle(id, &[Kind::Forgotten]);
            crashed.restart();
            assert_eq!(crashed.engine.schedules().count(), 0, "it is back, cut off behind {records} records");
        }
    }
}
