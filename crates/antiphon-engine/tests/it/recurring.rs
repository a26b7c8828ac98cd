//! Recurring calls: what a tick does is of the time of the tick.

use crate::script::World;
use antiphon_engine::Limits;
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
