//! For every id exactly one true answer.

use crate::script::{World, check};
use antiphon_engine::Limits;
use expect_test::expect;

/// What `explain` answers after a script.
fn explain(world: &mut World, call: &str) -> String {
    let before = world.log.len();
    world.run(&format!("explain {call}"));
    world.log[before..].lines().nth(1).unwrap().trim().to_owned()
}

#[test]
fn a_call_that_waits_names_what_it_waits_for() {
    let mut world = World::new(Limits::new(true));
    world.run("caller c\nsubmit a\nsubmit b delay=5s");
    assert_eq!(explain(&mut world, "a"), "Waiting { cause: NoWorker, starts_ms: None }");
    let delayed = explain(&mut world, "b");
    assert_eq!(delayed, "Waiting { cause: NotBefore { at_ms: 1005000 }, starts_ms: Some(1005000) }");
    world.run("worker w\nsubmit d\nsubmit e");
    let busy = "cause: SlotsBusy { ahead: 1, workers: 1, slots: 1 }";
    let answer = explain(&mut world, "e");
    assert!(answer.contains(busy), "{answer}");
    world.run("drain w");
    assert_eq!(explain(&mut world, "e"), "Waiting { cause: Draining { workers: 1 }, starts_ms: None }");
}

#[test]
fn a_call_before_which_slots_are_kept_for_a_heavier_one_says_so() {
    let mut world = World::new(Limits::new(true));
    world.run("caller c\nworker w slots=2\nsubmit a\nsubmit heavy takes=2\nsubmit b\nsubmit d");
    assert_eq!(explain(&mut world, "b"), "Waiting { cause: SlotsKept { ahead: 0, needed: 2 }, starts_ms: None }");
    assert_eq!(explain(&mut world, "d"), "Waiting { cause: SlotsKept { ahead: 1, needed: 2 }, starts_ms: None }");
    let heavy = explain(&mut world, "heavy");
    assert!(heavy.contains("SlotsBusy { ahead: 0, workers: 1, slots: 2 }"), "{heavy}");
}

#[test]
fn a_call_that_failed_says_with_what_and_when_it_tries_again() {
    let mut world = World::new(Limits::new(true));
    world.run("caller c\nworker w\nsubmit a\nretry a after=30s");
    let answer = explain(&mut world, "a");
    for part in ["Retry { at_ms: 1030000", "attempt: 1", "message: \"try again\"", "starts_ms: Some(1030000)"] {
        assert!(answer.contains(part), "{part} is not in {answer}");
    }
}

#[test]
fn running_stopping_and_settled_are_told_apart() {
    check(
        "
        caller c
        worker w
        submit a
        explain a
        at 2s
        cancel a
        explain a
        stopped a
        explain a
        ",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            explain a
                Running { attempt: 1, worker: "w", since_ms: 1000000, worker_away: false }
            at 2s
            cancel a
                record Settled Now
                c: a cancelled after 1, CancelledRunning [tag 7]  (once recorded)
                w: stop a  (once recorded)
                c: cancel a: Stopping { worker: "w" }  (once recorded)
            explain a
                Stopping { state: Cancelled, worker: "w", since_ms: 1002000 }
            stopped a
                w: settled a
            explain a
                Settled { state: Cancelled, at_ms: 1002000 }
        "#]],
    );
}

#[test]
fn ids_that_are_no_calls_are_told_apart() {
    let mut world = World::new(Limits { outcome_ms: 10_000, ..Limits::new(true) });
    world.run("caller c\nworker w\nexplain a\nsubmit a detached\nok a");
    assert!(world.log.contains("    NeverSeen\n"), "{}", world.log);
    world.run("at 1s\nat 20s");
    assert_eq!(explain(&mut world, "a"), "Forgotten");
    assert_eq!(explain(&mut world, "b"), "TooOldToSay", "as old as one that was forgotten");
}

#[test]
fn a_forgotten_call_is_known_as_one_after_a_restart_as_long_as_its_records_stand() {
    let mut world = World::new(Limits { dead_letters_max: 10, ..Limits::new(true) });
    world.run("caller c\nworker w\nsubmit a detached\nbury a");
    assert!(world.engine.purge(crate::script::id_of("a"), &mut world.scribe));
    world.run("restart\nat 1s");
    assert_eq!(explain(&mut world, "a"), "Forgotten");
}

#[test]
fn the_place_in_line_counts_tenants_in_turn_and_classes_by_their_share() {
    let mut world = World::new(Limits::new(true));
    world.run("caller c\nworker w\nsubmit r");
    for call in ["a", "b", "d"] {
        world.run(&format!("submit {call}1 tenant=red\nsubmit {call}2 tenant=red"));
    }
    world.run("submit x tenant=blue\nsubmit y tenant=blue\nsubmit z priority=9");
    let ahead = |world: &mut World, call: &str| {
        let answer = explain(world, call);
        let (_, rest) = answer.split_once("ahead: ").expect("it waits for a slot");
        rest.split(',').next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(ahead(&mut world, "d2"), 5 + 2 + 1, "all of its tenant, both of the other, and the urgent one");
    assert_eq!(ahead(&mut world, "y"), 1 + 1 + 1, "one of its tenant, one of the other, and the urgent one");
    assert_eq!(ahead(&mut world, "z"), 0, "one of the lowest class would go in the time of 38 like it");
}

/// How long the oldest ready call waits, after this script.
fn oldest_ready_ms(script: &str) -> u64 {
    let mut world = World::new(Limits::new(true));
    world.run(script);
    world.engine.procedures().iter().map(|it| it.oldest_ready_ms).max().unwrap()
}

#[test]
fn the_oldest_that_waits_is_told_though_others_before_it_have_expired() {
    let ms = oldest_ready_ms("caller c\nsubmit a deadline=1s\nsubmit b\nsubmit d deadline=2s\nat 5s");
    assert_eq!(ms, 5_000);
}

#[test]
fn the_oldest_that_waits_is_told_though_who_stood_before_it_has_expired_when_the_first_is_leased() {
    // Nobody is before a when b expires, and d is behind b when a goes.
    let expired = "caller c\nsubmit a\nsubmit b deadline=7s\nat 1s\nsubmit d\nat 8s";
    assert_eq!(oldest_ready_ms(expired), 8_000);
    assert_eq!(oldest_ready_ms(&format!("{expired}\nworker w")), 7_000);
    let early = "caller c\nsubmit a\nsubmit b deadline=1s\nat 500ms\nsubmit d\nat 2s\nworker w";
    assert_eq!(oldest_ready_ms(early), 1_500);
}

#[test]
fn the_oldest_that_waits_is_told_also_when_another_goes_first() {
    assert_eq!(oldest_ready_ms("caller c\nsubmit a\nat 1s\nsubmit b deadline=3s\nat 2s"), 2_000);
    assert_eq!(oldest_ready_ms("caller c\nworker w\nsubmit a idempotent\nclose w\nat 2s"), 2_000, "a suspect");
}
