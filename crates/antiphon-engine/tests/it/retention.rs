//! How long settled calls are known.

use crate::script::{World, id_of};
use antiphon_engine::{Kind, Limits};
use antiphon_protocol::{Knowledge, State};

fn state(world: &World, name: &str) -> Option<State> {
    match world.engine.knowledge(id_of(name)) {
        Knowledge::Known(status) => Some(status.state),
        _ => None,
    }
}

#[test]
fn an_outcome_is_known_for_a_day_and_then_forgotten() {
    let mut world = World::new(Limits::new(true));
    world.run("caller c\nworker w\nsubmit a detached\nok a\nat 23h");
    assert_eq!(state(&world, "a"), Some(State::Succeeded));
    world.run("at 25h");
    assert_eq!(world.engine.knowledge(id_of("a")), Knowledge::Forgotten);
    world.run("submit a resent accepted");
    assert!(world.log.ends_with("c: refused, TooOldToSay\n"), "{}", world.log);
}

#[test]
fn a_dead_letter_outlives_other_outcomes_and_can_be_revived_or_purged() {
    let mut world = World::new(Limits::new(true));
    world.run("caller c\nworker w\nsubmit a detached\nbury a\nat 25h");
    assert_eq!(state(&world, "a"), Some(State::Dead));
    assert!(world.engine.dead_letter(id_of("a")).is_some());
    assert!(world.engine.purge(id_of("a"), &mut world.scribe));
    assert_eq!(state(&world, "a"), None);
    world.restart();
    assert_eq!(state(&world, "a"), None, "a purge is not undone by a restart");
}

#[test]
fn a_purge_that_a_crash_cuts_off_anywhere_is_whole_or_not_there() {
    let mut world = World::new(Limits::new(true));
    world.run("caller c\nworker w\nsubmit a detached");
    // Its submission and its lease stand in the cold log from now on, what follows in the young one.
    world.sweep();
    world.run("bury a");
    let before = world.records();
    assert!(world.engine.purge(id_of("a"), &mut world.scribe));
    let crashes = before + 1..=world.records();
    assert!(crashes.clone().count() > 1, "it is more than one record");
    for records in crashes {
        let mut crashed = world.after_crash(records);
        if state(&crashed, "a").is_some() {
            assert_eq!(state(&crashed, "a"), Some(State::Dead));
            continue;
        }
        crashed.scribe.recycle(id_of("a"), &[Kind::Settled, Kind::Forgotten]);
        crashed.restart();
        assert_eq!(
            state(&crashed, "a"),
            None,
            "a dead letter that was purged goes on, cut off behind {records} records"
        );
    }
}

#[test]
fn the_oldest_outcomes_of_a_procedure_go_when_it_keeps_too_many_bytes() {
    let mut world = World::new(Limits { outcome_bytes: 1_000, ..Limits::new(true) });
    world.run("caller c\nworker w");
    for name in ["a", "b", "d", "e"] {
        world.run(&format!("submit {name} detached\nok {name} bytes=200"));
    }
    assert_eq!(state(&world, "a"), None);
    assert_eq!(state(&world, "b"), None);
    assert_eq!(state(&world, "e"), Some(State::Succeeded));
}

#[test]
fn what_an_inbox_has_not_acknowledged_is_never_evicted() {
    let mut world = World::new(Limits { outcome_bytes: 1_000, ..Limits::new(true) });
    world.run("inbox billing\nworker w\nsubmit a for=billing\nok a bytes=200\ncaller c");
    for name in ["b", "d", "e", "f", "g"] {
        world.run(&format!("submit {name} detached\nok {name} bytes=200"));
    }
    assert_eq!(state(&world, "a"), Some(State::Succeeded));
    world.run("acknowledge a for=billing");
    assert_eq!(state(&world, "a"), None, "its time had come; it goes once it is acknowledged");
}

#[test]
fn a_key_is_remembered_over_any_number_of_other_outcomes() {
    let mut world = World::new(Limits { outcome_bytes: 1_000, ..Limits::new(true) });
    world.run("caller c\nworker w\nsubmit a detached key=k\nok a bytes=200");
    for name in ["b", "d", "e", "f", "g"] {
        world.run(&format!("submit {name} detached\nok {name} bytes=200"));
    }
    assert_eq!(state(&world, "a"), Some(State::Succeeded));
}

#[test]
fn submissions_over_a_limit_are_refused_before_anything_is_recorded() {
    let mut world = World::new(Limits { calls_max: 2, keys_max: 1, inbox_calls_max: 1, ..Limits::new(true) });
    world.run("caller c\nsubmit a key=k accepted\nsubmit b key=l accepted");
    assert!(world.log.ends_with("c: refused, KeysFull { limit: 1 }\n"), "{}", world.log);
    world.run("inbox billing\nsubmit d for=billing\nsubmit e for=billing");
    assert!(world.log.contains("refused, CallsFull { limit: 2 }"), "{}", world.log);
    world.run("cancel a\nsubmit e for=billing");
    assert!(
        world.log.ends_with("billing: refused, InboxFull { inbox: Some(\"billing\"), limit: 1 }\n"),
        "{}",
        world.log
    );
}
