//! Calls from submission to outcome.

use crate::script::check;
use expect_test::expect;

#[test]
fn an_awaited_idempotent_call_runs_before_it_is_on_disk_and_is_answered_after() {
    check(
        "caller c
           worker w
           submit a idempotent
           ok a
           acknowledge a",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a idempotent
                record Submitted Shared
                w: run a, attempt 1, token 1.1
            ok a
                record Settled Now
                c: a succeeded after 1 [tag 7]  (once recorded)
                w: settled a  (once recorded)
            acknowledge a
        "#]],
    );
}

#[test]
fn a_call_that_is_not_idempotent_runs_once_its_lease_is_recorded() {
    check(
        "caller c
           worker w
           submit a accepted
           fail a",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a accepted
                record Submitted Now
                record Leased Now
                c: a accepted  (once recorded)
                w: run a, attempt 1, token 1.1  (once recorded)
            fail a
                record Settled Now
                c: a failed after 1 [tag 7]  (once recorded)
                w: settled a  (once recorded)
        "#]],
    );
}

#[test]
fn a_volatile_call_records_nothing() {
    check(
        "caller c
           worker w
           submit a volatile
           ok a
           acknowledge a
           attach a",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a volatile
                w: run a, attempt 1, token 1.1
            ok a
                c: a succeeded after 1 [tag 7]
                w: settled a
            acknowledge a
                record Horizon Lazy
            attach a
                c: refused, TooOldToSay
        "#]],
    );
}

#[test]
fn a_failed_attempt_waits_and_runs_again_until_attempts_are_used_up() {
    check(
        "caller c
           worker w
           submit a attempts=2
           retry a after=2s
           at 1999ms
           at 2s
           retry a",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a attempts=2
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            retry a after=2s
                record Returned Now
                w: settled a  (once recorded)
            at 1999ms
            at 2s
                record Leased Now
                w: run a, attempt 2, token 1.2  (once recorded)
            retry a
                record Settled Now
                c: a dead after 2 [tag 7]  (once recorded)
                w: settled a  (once recorded)
        "#]],
    );
}

#[test]
fn a_panic_makes_a_dead_letter_at_once() {
    check(
        "caller c
           worker w
           submit a
           bury a",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            bury a
                record Settled Now
                c: a dead after 1 [tag 7]  (once recorded)
                w: settled a  (once recorded)
        "#]],
    );
}

#[test]
fn a_released_call_runs_again_and_no_attempt_is_counted() {
    check(
        "caller c
           worker w
           submit a
           release a",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            release a
                record Returned Now
                record Leased Now
                w: settled a  (once recorded)
                w: run a, attempt 1, token 1.2  (once recorded)
        "#]],
    );
}

#[test]
fn a_delayed_call_starts_when_it_is_due() {
    check(
        "caller c
           worker w
           submit a delay=5s
           at 4999ms
           at 5s",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a delay=5s
                record Submitted Now
            at 4999ms
            at 5s
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
        "#]],
    );
}

#[test]
fn a_call_expires_while_it_waits_and_never_starts() {
    check(
        "caller c
           submit a deadline=3s
           at 3s
           worker w",
        expect![[r#"
            caller c
            submit a deadline=3s
                record Submitted Now
            at 3s
                record Settled Now
                c: a expired after 0, ExpiredQueued [tag 7]  (once recorded)
            worker w
                w: open, keeps 0
        "#]],
    );
}

#[test]
fn a_running_call_that_expires_is_over_at_once_and_holds_its_slot_until_it_stops() {
    check(
        "caller c
           worker w
           submit a deadline=3s
           submit b
           at 3s
           ok a",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a deadline=3s
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            submit b
                record Submitted Now
            at 3s
                record Settled Now
                c: a expired after 1, ExpiredRunning [tag 7]  (once recorded)
                w: stop a  (once recorded)
            ok a
                record Leased Now
                w: stale a
                w: run b, attempt 1, token 1.2  (once recorded)
        "#]],
    );
}

#[test]
fn a_cancel_says_how_far_the_call_had_come() {
    check(
        "caller c
           submit a
           cancel a
           worker w
           submit b
           cancel b
           stopped b
           cancel b
           submit d
           retry d after=9s
           cancel d
           cancel unknown",
        expect![[r#"
            caller c
            submit a
                record Submitted Now
            cancel a
                record Settled Now
                c: a cancelled after 0, CancelledQueued [tag 7]  (once recorded)
                c: cancel a: NeverRan  (once recorded)
            worker w
                w: open, keeps 0
            submit b
                record Submitted Now
                record Leased Now
                w: run b, attempt 1, token 1.1  (once recorded)
            cancel b
                record Settled Now
                c: b cancelled after 1, CancelledRunning [tag 7]  (once recorded)
                w: stop b  (once recorded)
                c: cancel b: Stopping { worker: "w" }  (once recorded)
            stopped b
                w: settled b
            cancel b
                c: cancel b: AlreadySettled(Cancelled)  (once recorded)
            submit d
                record Submitted Now
                record Leased Now
                w: run d, attempt 1, token 1.2  (once recorded)
            retry d after=9s
                record Returned Now
                w: settled d  (once recorded)
            cancel d
                record Settled Now
                c: d cancelled after 1, CancelledRetrying [tag 7]  (once recorded)
                c: cancel d: BetweenAttempts  (once recorded)
            cancel unknown
                c: cancel 0000000f-4240-756e-ab6e-6f776e000000: NotFound
        "#]],
    );
}

#[test]
fn classes_share_and_the_higher_goes_first() {
    check(
        "caller c
           submit low priority=0
           submit mid
           submit high priority=9
           worker w slots=3",
        expect![[r#"
            caller c
            submit low priority=0
                record Submitted Now
            submit mid
                record Submitted Now
            submit high priority=9
                record Submitted Now
            worker w slots=3
                record Leased Now
                record Leased Now
                record Leased Now
                w: open, keeps 0
                w: run high, attempt 1, token 1.1  (once recorded)
                w: run mid, attempt 1, token 1.2  (once recorded)
                w: run low, attempt 1, token 1.3  (once recorded)
        "#]],
    );
}

#[test]
fn tenants_take_turns() {
    check(
        "caller c
           submit a1 tenant=a
           submit a2 tenant=a
           submit a3 tenant=a
           submit b1 tenant=b
           worker w slots=4",
        expect![[r#"
            caller c
            submit a1 tenant=a
                record Submitted Now
            submit a2 tenant=a
                record Submitted Now
            submit a3 tenant=a
                record Submitted Now
            submit b1 tenant=b
                record Submitted Now
            worker w slots=4
                record Leased Now
                record Leased Now
                record Leased Now
                record Leased Now
                w: open, keeps 0
                w: run a1, attempt 1, token 1.1  (once recorded)
                w: run b1, attempt 1, token 1.2  (once recorded)
                w: run a2, attempt 1, token 1.3  (once recorded)
                w: run a3, attempt 1, token 1.4  (once recorded)
        "#]],
    );
}

#[test]
fn an_early_deadline_goes_before_older_calls() {
    check(
        "caller c
           submit a
           submit b
           submit urgent deadline=1s
           worker w slots=3",
        expect![[r#"
            caller c
            submit a
                record Submitted Now
            submit b
                record Submitted Now
            submit urgent deadline=1s
                record Submitted Now
            worker w slots=3
                record Leased Now
                record Leased Now
                record Leased Now
                w: open, keeps 0
                w: run urgent, attempt 1, token 1.1  (once recorded)
                w: run a, attempt 1, token 1.2  (once recorded)
                w: run b, attempt 1, token 1.3  (once recorded)
        "#]],
    );
}

#[test]
fn a_deadline_or_delay_without_sense_is_cut_and_overflows_nothing() {
    check(
        "caller c
           submit a deadline=18446744073709551615ms
           submit b delay=18446744073709551615ms
           restart
           worker w",
        expect![[r#"
            caller c
            submit a deadline=18446744073709551615ms
                record Submitted Now
            submit b delay=18446744073709551615ms
                record Submitted Now
            restart
                record Started Now
            worker w
                record Leased Now
                w: open, keeps 0
                w: run a, attempt 1, token 2.1  (once recorded)
        "#]],
    );
}
