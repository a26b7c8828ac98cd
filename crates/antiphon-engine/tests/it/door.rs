//! What the door lets in: as much as may wait, of each procedure and of each tenant.

use crate::script::{World, check};
use antiphon_engine::Limits;
use expect_test::expect;

#[test]
fn a_full_queue_refuses_before_anything_is_recorded_and_takes_again_when_there_is_room() {
    check(
        "
        caller c
        set p queued_max=2
        submit a detached
        submit b detached delay=1h
        submit d detached
        submit e detached to=q
        cancel b
        submit d detached
        worker w
        submit f detached
        ",
        expect![[r#"
            caller c
            set p queued_max=2
                record Configured Now
                {QueuedMax: 2}
            submit a detached
                record Submitted Now
                c: a accepted  (once recorded)
            submit b detached delay=1h
                record Submitted Now
                c: b accepted  (once recorded)
            submit d detached
                c: refused, QueueFull { procedure: "p", bound: Calls, limit: 2, retry_after_ms: 1000 }
            submit e detached to=q
                record Submitted Now
                c: e accepted  (once recorded)
            cancel b
                record Settled Now
                c: cancel b: NeverRan  (once recorded)
            submit d detached
                record Submitted Now
                c: d accepted  (once recorded)
            worker w
                record Leased Now
                w: open, keeps 0
                w: run a, attempt 1, token 1.1  (once recorded)
            submit f detached
                record Submitted Now
                c: f accepted  (once recorded)
        "#]],
    );
}

#[test]
pub fn bytes_and_tenants_have_bounds_of_their_own() {
    let mut world = World::new(Limits::new(true));
    world.run("caller c\nset p tenant_queued_max=1 tenant_queued_bytes_max=200 queued_bytes_max=250");
    let refused = |world: &World, bound: &str| {
        let text = format!("bound: {bound}, limit");
        assert!(world.log.lines().next_back().unwrap().contains(&text), "{bound}: {}", world.log);
    };
    world.run("submit a detached bytes=40 tenant=red\nsubmit b detached bytes=10 tenant=red");
    refused(&world, "TenantCalls");
    world.run("submit b detached bytes=201 tenant=blue");
    refused(&world, "TenantBytes");
    world.run("submit b detached bytes=200 tenant=blue\nsubmit d detached bytes=11 tenant=green");
    refused(&world, "Bytes");
    world.run("submit d detached bytes=10 tenant=green accepted");
    assert!(world.log.ends_with("c: d accepted  (once recorded)\n"), "{}", world.log);
}

#[test]
fn what_is_set_holds_after_restarts_and_may_be_taken_back() {
    let mut world = World::new(Limits { queued_max: 1, ..Limits::new(true) });
    world.run("caller c\nset p queued_max=2 outcome_ms=5\nset p outcome_ms=\nrestart\ncaller c");
    world.run("submit a detached\nsubmit b detached\nsubmit d detached");
    assert!(
        world
            .log
            .ends_with("c: refused, QueueFull { procedure: \"p\", bound: Calls, limit: 2, retry_after_ms: 1000 }\n"),
        "{}",
        world.log
    );
    world.run("set p queued_max=\nrestart\ncaller c\ncancel a\nsubmit d detached");
    assert!(
        world
            .log
            .ends_with("c: refused, QueueFull { procedure: \"p\", bound: Calls, limit: 1, retry_after_ms: 1000 }\n"),
        "{}",
        world.log
    );
}

#[test]
fn a_setting_that_changes_nothing_records_nothing() {
    let mut world = World::new(Limits::new(true));
    world.run("set p queued_max=2\nset p queued_max=2");
    assert_eq!(world.log.matches("record Configured").count(), 1, "{}", world.log);
}

#[test]
fn settings_survive_the_segment_they_stand_in() {
    let mut world = World::new(Limits::new(true));
    world.run("set p queued_max=2");
    let (kind, key, at) = world.scribe.newest();
    assert!(world.engine.survive(kind, key, at, &mut world.scribe));
    assert!(!world.engine.survive(kind, key, at, &mut world.scribe), "an older record of them says nothing any more");
    world.run("restart\ncaller c\nsubmit a detached\nsubmit b detached\nsubmit d detached");
    assert!(world.log.contains("refused, QueueFull"), "{}", world.log);
}

#[test]
fn retention_is_set_for_each_procedure() {
    let mut world = World::new(Limits::new(true));
    world.run("set p outcome_ms=10000\nset q outcome_bytes=500\nset r dead_letters_max=1 dead_letter_ms=60000");
    world.run("caller c\nworker w serves=p,q,r slots=9");
    for call in ["a", "b", "d"] {
        world.run(&format!("submit {call}p detached\nok {call}p\nsubmit {call}q detached to=q\nok {call}q bytes=200"));
        world.run(&format!("submit {call}r detached to=r\nbury {call}r"));
    }
    let standing = |world: &mut World, call: &str| {
        world.run(&format!("explain {call}"));
        world.log.lines().next_back().unwrap().trim().split(' ').next().unwrap().to_owned()
    };
    for (call, expected) in
        [("aq", "Forgotten"), ("dq", "Settled"), ("ar", "Forgotten"), ("dr", "Settled"), ("ap", "Settled")]
    {
        assert_eq!(standing(&mut world, call), expected, "{call}");
    }
    world.run("at 1s\nat 30s");
    for (call, expected) in [("ap", "Forgotten"), ("dq", "Settled"), ("dr", "Settled")] {
        assert_eq!(standing(&mut world, call), expected, "{call} after 30 s");
    }
    world.run("at 31s\nat 61s\nat 62s");
    assert_eq!(standing(&mut world, "dr"), "Forgotten", "dead letters have an age of their own");
}

#[test]
fn a_setting_that_is_lowered_lets_the_rest_go_bit_by_bit() {
    let mut world = World::new(Limits::new(true));
    world.run("caller c\nworker w");
    for call in 0..100 {
        world.run(&format!("submit x{call} detached\nok x{call} bytes=1000"));
    }
    world.run("set p outcome_bytes=3000\nat 1s\nat 2s");
    assert_eq!(world.engine.counts().iter().sum::<u64>(), 2, "two outcomes with what each counts besides are within");
}

#[test]
fn callbacks_have_their_place_in_the_queue_of_their_procedure_from_the_start() {
    let mut world = World::new(Limits::new(true));
    world.run("caller c\nset x queued_max=2\nsubmit a detached callback=x@success,x@failure");
    let last = |world: &World| world.log.lines().next_back().unwrap().trim().to_owned();
    assert!(last(&world).starts_with("c: a accepted"), "{}", world.log);
    let full = "c: refused, QueueFull { procedure: \"x\", bound: Calls, limit: 2, retry_after_ms: 1000 }";
    for line in
        ["submit b detached callback=x", "submit b to=x detached", "callback a x@value", "submit b callback=y>x"]
    {
        world.run(line);
        assert!(last(&world).ends_with(full.strip_prefix("c: ").unwrap()), "{line}: {}", world.log);
    }
    world.run("submit b detached callback=y\nworker w\nok a\nok b");
    world.run("submit d to=x detached");
    assert!(last(&world).starts_with("c: d accepted"), "one of two was needed, the other is given back: {}", world.log);
    world.run("restart\ncaller c\nsubmit e to=x detached");
    assert!(last(&world).contains("QueueFull"), "one callback and one call wait there: {}", world.log);
}
