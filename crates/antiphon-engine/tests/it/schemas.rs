//! A call goes only to workers whose schema takes its arguments; the others stay connected.

use crate::script::World;
use antiphon_engine::Limits;

fn world() -> World {
    let mut world = World::new(Limits::new(true));
    world.run("caller c");
    world
}

fn holder<'a>(world: &'a World, call: &str) -> Option<&'a str> {
    world.granted.iter().find(|(granted, ..)| granted == call).map(|(_, _, worker)| worker.as_str())
}

#[test]
fn a_call_waits_for_a_worker_that_takes_its_arguments_at_no_cost() {
    let mut world = world();
    world.run("worker old schema=n\nsubmit a sends=n,max\nsubmit b sends=n\nexplain a");
    assert!(world.log.contains("Waiting { cause: NoSchema { workers: 1 }, starts_ms: None }"), "{}", world.log);
    assert_eq!((holder(&world, "a"), holder(&world, "b")), (None, Some("old")), "others are served meanwhile");
    world.run("at 5s\nworker new schema=n,max,deep?\nexplain a");
    assert_eq!(holder(&world, "a"), Some("new"));
    assert!(world.log.contains("new: run a, attempt 1"), "no attempt was counted: {}", world.log);
}

#[test]
fn who_says_nothing_of_a_schema_is_taken_by_all_and_takes_all() {
    let mut world = world();
    world.run("worker w schema=n\nsubmit a\nworker x\nsubmit b sends=n,max");
    assert_eq!((holder(&world, "a"), holder(&world, "b")), (Some("w"), Some("x")));
}

#[test]
fn a_schema_is_heeded_after_a_restart_and_when_the_lease_was_lost() {
    let mut world = world();
    world.run(
        "submit a sends=n,max idempotent\nrestart\ncaller c\nworker old schema=n\nworker new schema=n,max slots=2",
    );
    assert_eq!(holder(&world, "a"), Some("new"));
    world.run("close new\nat 1s\nexplain a");
    assert!(world.log.lines().next_back().unwrap().contains("NoSchema { workers: 1 }"), "{}", world.log);
    assert_eq!(world.granted.iter().filter(|(call, ..)| call == "a").count(), 1);
}
