//! Leases: who holds them, how they are lost, and who is to blame.

use crate::script::{World, check};
use antiphon_engine::Limits;
use antiphon_protocol::Knowledge;
use expect_test::expect;

#[test]
fn no_more_leases_than_slots() {
    check(
        "caller c
           worker w slots=2
           submit a
           submit b
           submit d
           ok a",
        expect![[r#"
            caller c
            worker w slots=2
                w: open, keeps 0
            submit a
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            submit b
                record Submitted Now
                record Leased Now
                w: run b, attempt 1, token 1.2  (once recorded)
            submit d
                record Submitted Now
            ok a
                record Settled Now
                record Leased Now
                c: a succeeded after 1 [tag 7]  (once recorded)
                w: settled a  (once recorded)
                w: run d, attempt 1, token 1.3  (once recorded)
        "#]],
    );
}

#[test]
fn a_lease_that_is_not_extended_is_lost_and_its_late_report_is_stale() {
    check(
        "caller c
           worker w
           submit a
           at 9s
           extend a
           at 18s
           at 19s
           ok a late
           ok a",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            at 9s
            extend a
            at 18s
            at 19s
                record Returned Now
                record Leased Now
                w: stale a
                w: run a, attempt 2, token 1.2  (once recorded)
            ok a late
                w: stale an older lease
            ok a
                record Settled Now
                c: a succeeded after 2 [tag 7]  (once recorded)
                w: settled a  (once recorded)
        "#]],
    );
}

#[test]
fn a_worker_that_goes_gives_back_idempotent_calls_at_once_and_others_when_the_lease_ends() {
    check(
        "caller c
           worker w slots=2
           submit a idempotent
           submit b
           close w
           worker x slots=2
           at 10s",
        expect![[r#"
            caller c
            worker w slots=2
                w: open, keeps 0
            submit a idempotent
                record Submitted Shared
                w: run a, attempt 1, token 1.1
            submit b
                record Submitted Now
                record Leased Now
                w: run b, attempt 1, token 1.2  (once recorded)
            close w
                record Returned Now
            worker x slots=2
                record Leased Now
                x: open, keeps 0
                x: run a, attempt 2, token 1.3  (once recorded)
            at 10s
                record Returned Now
                record Returned Now
                record Leased Now
                x: stale a
                x: run b, attempt 2, token 1.4  (once recorded)
        "#]],
    );
}

#[test]
fn a_worker_that_comes_back_keeps_what_it_holds() {
    check(
        "caller c
           worker w
           submit a
           close w
           at 1s
           worker w
           ok a",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            close w
            at 1s
            worker w
                w: open, keeps 1
            ok a
                record Settled Now
                c: a succeeded after 1 [tag 7]  (once recorded)
                w: settled a  (once recorded)
        "#]],
    );
}

#[test]
fn a_lease_its_worker_does_not_know_of_is_given_back_without_blame() {
    check(
        "caller c
           worker w
           submit a
           close w
           worker w empty_handed",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            close w
            worker w empty_handed
                record Returned Now
                record Leased Now
                w: open, keeps 0
                w: stale a
                w: run a, attempt 2, token 1.2  (once recorded)
        "#]],
    );
}

#[test]
fn an_at_most_once_call_whose_lease_is_lost_is_dead_and_may_have_run() {
    check(
        "caller c
           worker w
           submit a at_most_once
           close w
           at 10s",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a at_most_once
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            close w
            at 10s
                record Settled Now
                c: a dead after 1, AtMostOnceLost [tag 7]  (once recorded)
        "#]],
    );
}

#[test]
fn an_at_most_once_call_is_not_leased_again_when_it_is_released() {
    check(
        "caller c
           worker w
           submit a at_most_once
           release a",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a at_most_once
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            release a
                record Settled Now
                c: a dead after 1, AtMostOnceLost [tag 7]  (once recorded)
                w: settled a  (once recorded)
        "#]],
    );
}

#[test]
fn a_draining_worker_keeps_its_leases_and_gets_no_more() {
    check(
        "caller c
           worker w slots=2
           submit a
           drain w
           submit b
           ok a",
        expect![[r#"
            caller c
            worker w slots=2
                w: open, keeps 0
            submit a
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            drain w
            submit b
                record Submitted Now
            ok a
                record Settled Now
                c: a succeeded after 1 [tag 7]  (once recorded)
                w: settled a  (once recorded)
        "#]],
    );
}

#[test]
fn a_newer_session_of_a_worker_fences_the_older() {
    check(
        "caller c
           worker w
           submit a
           worker w
           ok a",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            worker w
                gone: fenced
                w: open, keeps 1
            ok a
                record Settled Now
                c: a succeeded after 1 [tag 7]  (once recorded)
                w: settled a  (once recorded)
        "#]],
    );
}

#[test]
fn a_cancelled_call_keeps_its_slot_until_it_stops_even_when_its_caller_has_the_outcome() {
    check(
        "caller c
           worker w
           submit a volatile
           submit b volatile
           cancel a
           acknowledge a
           stopped a",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a volatile
                w: run a, attempt 1, token 1.1
            submit b volatile
            cancel a
                c: a cancelled after 1, CancelledRunning [tag 7]
                w: stop a
                c: cancel a: Stopping { worker: "w" }
            acknowledge a
            stopped a
                record Horizon Lazy
                w: settled a
                w: run b, attempt 1, token 1.2
        "#]],
    );
}

#[test]
fn a_worker_that_was_away_when_its_call_was_cancelled_is_told_when_it_is_back() {
    check(
        "caller c
           worker w
           submit a
           close w
           cancel a
           worker w",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            close w
            cancel a
                record Settled Now
                c: a cancelled after 1, CancelledRunning [tag 7]  (once recorded)
                c: cancel a: Stopping { worker: "w" }  (once recorded)
            worker w
                w: open, keeps 1
                w: stop a  (once recorded)
        "#]],
    );
}

#[test]
fn a_keyed_call_of_a_worker_that_goes_waits_for_the_end_of_its_lease() {
    check(
        "caller c
           worker w
           submit a idempotent key=k
           close w
           worker x
           at 10s",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a idempotent key=k
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            close w
            worker x
                x: open, keeps 0
            at 10s
                record Returned Now
                record Leased Now
                x: run a, attempt 2, token 1.2  (once recorded)
        "#]],
    );
}

#[test]
fn a_call_that_is_no_suspect_any_more_is_lost_like_those_beside_it() {
    let mut world = World::new(Limits::new(true));
    // The call is a suspect when its second worker goes, and so the only one to blame there.
    world.run("caller c\nworker v\nsubmit a\nclose v\nat 10s\nworker w slots=2\nsubmit b\nextend a\nclose w");
    // The first worker is back with it: only its connection had broken.
    world.run("worker v slots=2 claims=a\nat 20s");
    let Knowledge::Known(status) = world.engine.knowledge(world.id("a")) else { panic!("it is there") };
    let lost = status.history.iter().filter(|attempt| attempt.lost).count();
    assert_eq!((status.lost_leases, lost), (0, 2));
}
