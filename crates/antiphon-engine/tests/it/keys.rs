//! Idempotency: one id is one call, one key is one call.

use crate::script::check;
use expect_test::expect;

#[test]
fn one_id_submitted_again_is_the_same_call() {
    check(
        "caller c
           worker w
           submit a accepted
           submit a accepted resent
           ok a
           submit a accepted resent",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a accepted
                record Submitted Now
                record Leased Now
                c: a accepted  (once recorded)
                w: run a, attempt 1, token 1.1  (once recorded)
            submit a accepted resent
                c: a accepted again  (once recorded)
            ok a
                record Settled Now
                c: a succeeded after 1 [tag 7]  (once recorded)
                w: settled a  (once recorded)
            submit a accepted resent
                c: a accepted again  (once recorded)
                c: a succeeded after 1 [tag 7]  (once recorded)
        "#]],
    );
}

#[test]
pub fn one_key_is_one_call_and_other_arguments_are_a_conflict() {
    check(
        "caller c
           caller d
           worker w
           submit a key=k args=1 accepted
           submit b key=k args=1 accepted for=d
           submit e key=k args=2 accepted
           ok a
           submit f key=k args=1 accepted for=d",
        expect![[r#"
            caller c
            caller d
            worker w
                w: open, keeps 0
            submit a key=k args=1 accepted
                record Submitted Now
                record Leased Now
                c: a accepted  (once recorded)
                w: run a, attempt 1, token 1.1  (once recorded)
            submit b key=k args=1 accepted for=d
                d: a accepted again  (once recorded)
            submit e key=k args=2 accepted
                c: refused, KeyConflict { id: 0000000f-4240-7100-8000-000000000000 }  (once recorded)
            ok a
                record Settled Now
                c: a succeeded after 1 [tag 7]  (once recorded)
                d: a succeeded after 1 [tag 7]  (once recorded)
                w: settled a  (once recorded)
            submit f key=k args=1 accepted for=d
                d: a accepted again  (once recorded)
                d: a succeeded after 1 [tag 7]  (once recorded)
        "#]],
    );
}

#[test]
fn a_key_survives_a_restart() {
    check(
        "caller c
           worker w
           submit a key=k
           ok a
           restart
           caller c
           submit b key=k accepted",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a key=k
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            ok a
                record Settled Now
                c: a succeeded after 1 [tag 7]  (once recorded)
                w: settled a  (once recorded)
            restart
                record Started Now
            caller c
            submit b key=k accepted
                c: a accepted again  (once recorded)
                c: a succeeded after 1 [tag 7]  (once recorded)
        "#]],
    );
}

#[test]
fn a_call_that_never_ran_frees_its_key() {
    check(
        "caller c
           submit a key=k
           cancel a
           submit b key=k accepted",
        expect![[r#"
            caller c
            submit a key=k
                record Submitted Now
            cancel a
                record Settled Now
                c: a cancelled after 0, CancelledQueued [tag 7]  (once recorded)
                c: cancel a: NeverRan  (once recorded)
            submit b key=k accepted
                record Submitted Now
                c: b accepted  (once recorded)
        "#]],
    );
}

#[test]
fn a_keyed_call_waits_for_its_record_even_if_it_is_idempotent() {
    check(
        "caller c
           worker w
           submit a key=k idempotent",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a key=k idempotent
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
        "#]],
    );
}
