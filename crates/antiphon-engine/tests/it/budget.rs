//! The budget of retries: it delays durable calls, in order, and fails volatile ones.

use crate::script::{World, id_of};
use antiphon_engine::Limits;
use antiphon_protocol::{Cause, Explanation, Knowledge, Standing, State};

/// A world whose procedure may have two retries in ten seconds.
fn world() -> World {
    let mut world = World::new(Limits { retries_min: 2, retry_percent: 0, ..Limits::new(true) });
    world.run("caller c\nworker w slots=9");
    world
}

fn state(world: &World, call: &str) -> State {
    match world.engine.knowledge(id_of(call)) {
        Knowledge::Known(status) => status.state,
        other => panic!("{call}: {other:?}"),
    }
}

fn cause(world: &World, call: &str) -> Cause {
    match world.engine.explain(id_of(call)) {
        Explanation { standing: Standing::Waiting { cause, .. }, .. } => cause,
        other => panic!("{call} waits: {other:?}"),
    }
}

/// Submits calls, which fail at once and try again as soon as they may.
fn fail(world: &mut World, calls: &[&str], options: &str) {
    for call in calls {
        world.run(&format!("submit {call} detached attempts=9 {options}\nretry {call} after=0"));
    }
}

#[test]
pub fn what_is_over_the_budget_waits_in_order_and_says_so() {
    let mut world = world();
    fail(&mut world, &["a", "b", "d", "e"], "");
    assert_eq!((state(&world, "a"), state(&world, "b")), (State::Leased, State::Leased), "within the budget");
    world.run("at 10ms");
    for (call, ahead) in [("d", 1), ("e", 2)] {
        let Cause::RetryBudget { at_ms, after } = cause(&world, call) else { panic!("{:?}", cause(&world, call)) };
        assert_eq!(at_ms, 1_000_010 + ahead * 5_000, "two in ten seconds");
        assert_eq!(after.unwrap().message, "try again");
    }
    let granted = world.granted.len();
    world.run("at 5s");
    assert_eq!(world.granted.len(), granted, "the window is not over: {}", world.log);
    let mut order = Vec::new();
    for ms in (10_000..=30_000).step_by(100) {
        world.run(&format!("at {ms}ms"));
        order.extend(world.granted.drain(..).map(|(call, _, _)| call).filter(|call| call == "d" || call == "e"));
    }
    assert_eq!(order[order.len() - 2..], ["d", "e"], "in the order in which they were held");
}

#[test]
fn a_retry_that_succeeds_is_given_back() {
    let mut world = world();
    fail(&mut world, &["a", "b", "d"], "");
    world.run("at 10ms");
    assert!(matches!(cause(&world, "d"), Cause::RetryBudget { .. }));
    world.run("ok a\nat 120ms");
    assert_eq!(state(&world, "d"), State::Leased, "{}", world.log);
}

#[test]
fn volatile_calls_fail_and_say_why() {
    let mut world = world();
    fail(&mut world, &["a", "b"], "");
    world.run("submit d volatile attempts=9\nretry d after=0");
    assert!(world.log.contains("c: d dead after 1, RetryBudget"), "{}", world.log);
}

#[test]
fn new_calls_bring_their_percentage_and_the_budget_may_be_lifted() {
    let mut world = World::new(Limits { retries_min: 0, retry_percent: 50, ..Limits::new(true) });
    world.run("caller c\nworker w slots=9");
    fail(&mut world, &["a", "b", "d", "e"], "");
    let leased =
        |world: &World| ["a", "b", "d", "e"].into_iter().filter(|call| state(world, call) == State::Leased).count();
    assert_eq!(leased(&world), 2, "a retry for every other new call: {}", world.log);
    world.run("set p retry_percent=18446744073709551615\nat 200ms\nat 400ms");
    assert_eq!(leased(&world), 4, "{}", world.log);
}

#[test]
fn a_held_call_can_be_cancelled_and_expires() {
    let mut world = world();
    fail(&mut world, &["a", "b", "d"], "");
    fail(&mut world, &["e"], "deadline=3s");
    world.run("at 10ms\ncancel d\nat 4s");
    assert_eq!((state(&world, "d"), state(&world, "e")), (State::Cancelled, State::Expired));
    for second in 10..40 {
        world.run(&format!("at {second}s"));
    }
    assert_eq!(world.engine.audit(), Ok(()));
    assert!(
        !world.granted.iter().skip_while(|(call, ..)| call != "e").skip(1).any(|(call, ..)| call == "d" || call == "e")
    );
}

#[test]
fn held_calls_go_on_after_a_restart() {
    let mut world = world();
    fail(&mut world, &["a", "b", "d"], "");
    world.run("at 10ms\nrestart\nworker w slots=9 empty_handed\nat 200ms");
    assert_eq!(state(&world, "d"), State::Leased, "{}", world.log);
}
