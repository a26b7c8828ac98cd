//! Where outcomes go.

use crate::script::{World, check};
use antiphon_engine::Limits;
use expect_test::expect;

#[test]
fn an_outcome_comes_again_after_a_reconnect_until_it_is_acknowledged() {
    check(
        "caller c
           worker w
           submit a idempotent
           close c
           ok a
           caller c
           acknowledge a
           close c
           caller c",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a idempotent
                record Submitted Shared
                w: run a, attempt 1, token 1.1
            close c
            ok a
                record Settled Now
                w: settled a  (once recorded)
            caller c
                c: a succeeded after 1 [tag 7]  (once recorded)
            acknowledge a
            close c
            caller c
        "#]],
    );
}

#[test]
fn an_anonymous_inbox_ends_after_its_grace_and_its_outcomes_stay_readable() {
    check(
        "caller c
           worker w
           submit a
           close c
           ok a
           at 30s
           caller c
           attach a",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            close c
            ok a
                record Settled Now
                w: settled a  (once recorded)
            at 30s
            caller c
            attach a
                c: a succeeded after 1 [tag 99]  (once recorded)
        "#]],
    );
}

#[test]
fn a_named_inbox_survives_a_restart_with_what_it_has_not_acknowledged() {
    check(
        "inbox billing
           worker w slots=2
           submit a for=billing
           submit b for=billing
           ok a
           ok b
           acknowledge a for=billing
           restart
           inbox billing",
        expect![[r#"
            inbox billing
                record InboxOpened Now
            worker w slots=2
                w: open, keeps 0
            submit a for=billing
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            submit b for=billing
                record Submitted Now
                record Leased Now
                w: run b, attempt 1, token 1.2  (once recorded)
            ok a
                record Settled Now
                billing: a succeeded after 1 [tag 0]  (once recorded)
                w: settled a  (once recorded)
            ok b
                record Settled Now
                billing: b succeeded after 1 [tag 0]  (once recorded)
                w: settled b  (once recorded)
            acknowledge a for=billing
                record Acknowledged Lazy
            restart
                record Started Now
            inbox billing
                billing: b succeeded after 1 [tag 0]  (once recorded)
        "#]],
    );
}

#[test]
fn whoever_attaches_is_told_and_nothing_is_consumed() {
    check(
        "caller c
           caller d
           worker w
           submit a
           attach a for=d
           ok a
           attach a for=d",
        expect![[r#"
            caller c
            caller d
            worker w
                w: open, keeps 0
            submit a
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            attach a for=d
            ok a
                record Settled Now
                c: a succeeded after 1 [tag 7]  (once recorded)
                d: a succeeded after 1 [tag 99]  (once recorded)
                w: settled a  (once recorded)
            attach a for=d
                d: a succeeded after 1 [tag 99]  (once recorded)
        "#]],
    );
}

#[test]
fn an_outcome_reaches_only_its_own_inbox() {
    check(
        "caller c
           caller d
           worker w slots=2
           submit a
           submit b for=d
           ok a
           ok b
           acknowledge a for=d",
        expect![[r#"
            caller c
            caller d
            worker w slots=2
                w: open, keeps 0
            submit a
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            submit b for=d
                record Submitted Now
                record Leased Now
                w: run b, attempt 1, token 1.2  (once recorded)
            ok a
                record Settled Now
                c: a succeeded after 1 [tag 7]  (once recorded)
                w: settled a  (once recorded)
            ok b
                record Settled Now
                d: b succeeded after 1 [tag 7]  (once recorded)
                w: settled b  (once recorded)
            acknowledge a for=d
        "#]],
    );
}

#[test]
fn an_inbox_that_ended_leaves_its_calls_to_nobody_else() {
    check(
        "caller c
           submit a
           close c
           at 30s
           caller d
           worker w
           ok a
           caller c
           attach a",
        expect![[r#"
            caller c
            submit a
                record Submitted Now
            close c
            at 30s
            caller d
            worker w
                record Leased Now
                w: open, keeps 0
                w: run a, attempt 1, token 1.1  (once recorded)
            ok a
                record Settled Now
                w: settled a  (once recorded)
            caller c
            attach a
                c: a succeeded after 1 [tag 99]  (once recorded)
        "#]],
    );
}

#[test]
fn who_attached_and_went_leaves_the_outcome_to_nobody_else() {
    check(
        "caller c
           caller d
           submit a
           attach a for=d
           close d
           at 30s
           caller e
           worker w
           ok a",
        expect![[r#"
            caller c
            caller d
            submit a
                record Submitted Now
            attach a for=d
            close d
            at 30s
            caller e
            worker w
                record Leased Now
                w: open, keeps 0
                w: run a, attempt 1, token 1.1  (once recorded)
            ok a
                record Settled Now
                c: a succeeded after 1 [tag 7]  (once recorded)
                w: settled a  (once recorded)
        "#]],
    );
}

#[test]
fn a_caller_that_comes_back_late_is_still_told_what_settles_then() {
    check(
        "caller c
           submit a
           close c
           at 31s
           caller c
           worker w
           ok a",
        expect![[r#"
            caller c
            submit a
                record Submitted Now
            close c
            at 31s
            caller c
            worker w
                record Leased Now
                w: open, keeps 0
                w: run a, attempt 1, token 1.1  (once recorded)
            ok a
                record Settled Now
                c: a succeeded after 1 [tag 7]  (once recorded)
                w: settled a  (once recorded)
        "#]],
    );
}

#[test]
fn a_detached_call_goes_to_no_inbox() {
    check(
        "caller c
           worker w
           submit a detached
           ok a
           attach a",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a detached
                record Submitted Now
                record Leased Now
                c: a accepted  (once recorded)
                w: run a, attempt 1, token 1.1  (once recorded)
            ok a
                record Settled Now
                w: settled a  (once recorded)
            attach a
                c: a succeeded after 1 [tag 99]  (once recorded)
        "#]],
    );
}

#[test]
fn a_newer_session_of_a_caller_fences_the_older() {
    check(
        "caller c
           submit a
           caller c
           worker w
           ok a",
        expect![[r#"
            caller c
            submit a
                record Submitted Now
            caller c
                gone: fenced
            worker w
                record Leased Now
                w: open, keeps 0
                w: run a, attempt 1, token 1.1  (once recorded)
            ok a
                record Settled Now
                c: a succeeded after 1 [tag 7]  (once recorded)
                w: settled a  (once recorded)
        "#]],
    );
}

#[test]
fn a_named_inbox_hands_out_a_window_and_then_one_for_each_acknowledgement() {
    let mut world = World::new(Limits::new(true));
    world.run("inbox billing\nworker w slots=2000");
    for number in 0..1_200 {
        world.run(&format!("submit n{number} for=billing\nok n{number}"));
    }
    let told = |world: &World| world.told.iter().filter(|(who, _, _)| who == "billing").count();
    assert_eq!(told(&world), 1_000);
    world.run("acknowledge n3 for=billing\nacknowledge n999 for=billing");
    assert_eq!(told(&world), 1_002);
    world.run("acknowledge n1100 for=billing");
    assert_eq!(told(&world), 1_002, "one that was not delivered yet makes no room");
    world.told.clear();
    world.run("inbox billing");
    assert_eq!(told(&world), 1_000, "a new consumer gets a window of its own");
    assert_eq!(world.told.first().map(|(_, call, _)| call.as_str()), Some("n0"));
}

#[test]
fn a_fenced_caller_submits_nothing_more() {
    let mut world = World::new(Limits::new(true));
    world.run("caller c");
    let fenced = world.callers["c"];
    world.run("caller c");
    world.callers.insert("old".to_owned(), fenced);
    world.run("submit a for=old accepted");
    assert!(world.log.ends_with("old: refused, Fenced\n"), "{}", world.log);
}

#[test]
fn a_named_inbox_hands_out_no_more_bytes_than_a_connection_holds() {
    let mut world = World::new(Limits::new(true));
    world.run("inbox billing\nworker w slots=200");
    for number in 0..20 {
        world.run(&format!("submit n{number} for=billing\nok n{number} bytes=3000000"));
    }
    let told = |world: &World| world.told.iter().filter(|(who, _, _)| who == "billing").count();
    assert_eq!(told(&world), 3, "three of 3 MB pass 8 MiB");
    world.run("acknowledge n0 for=billing");
    assert_eq!(told(&world), 4);
}
