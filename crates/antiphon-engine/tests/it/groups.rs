//! Groups: decided by their children, once, and not before.

use crate::script::check;
use expect_test::expect;

#[test]
fn a_group_of_all_succeeds_when_it_is_sealed_and_all_have() {
    check(
        "caller c
           worker w slots=9
           group g
           submit a in=g detached
           submit b in=g detached
           ok b
           ok a
           seal g",
        expect![[r#"
            caller c
            worker w slots=9
                w: open, keeps 0
            group g
                record Submitted Now
            submit a in=g detached
                record Submitted Now
                record Leased Now
                c: a accepted  (once recorded)
                w: run a, attempt 1, token 1.1  (once recorded)
            submit b in=g detached
                record Submitted Now
                record Leased Now
                c: b accepted  (once recorded)
                w: run b, attempt 1, token 1.2  (once recorded)
            ok b
                record Settled Now
                w: settled b  (once recorded)
            ok a
                record Settled Now
                w: settled a  (once recorded)
            seal g
                record Sealed Now
                record Settled Now
                gathered: a succeeded, b succeeded
                c: g succeeded after 0 [tag 7]  (once recorded)
        "#]],
    );
}

#[test]
fn a_group_of_all_fails_with_the_first_that_does_not_succeed() {
    check(
        "caller c
           worker w slots=9
           group g cancel_rest
           submit a in=g detached
           submit b in=g detached
           submit d in=g detached delay=9s
           fail a
           stopped b",
        expect![[r#"
            caller c
            worker w slots=9
                w: open, keeps 0
            group g cancel_rest
                record Submitted Now
            submit a in=g detached
                record Submitted Now
                record Leased Now
                c: a accepted  (once recorded)
                w: run a, attempt 1, token 1.1  (once recorded)
            submit b in=g detached
                record Submitted Now
                record Leased Now
                c: b accepted  (once recorded)
                w: run b, attempt 1, token 1.2  (once recorded)
            submit d in=g detached delay=9s
                record Submitted Now
                c: d accepted  (once recorded)
            fail a
                record Settled Now
                record Settled Now
                record Settled Now
                record Settled Now
                gathered: a failed, b cancelled, d cancelled
                w: settled a  (once recorded)
                w: stop b  (once recorded)
                c: g failed after 0 [tag 7]  (once recorded)
            stopped b
                w: settled b
        "#]],
    );
}

#[test]
fn the_first_that_succeed_decide_a_group_and_the_rest_goes_on() {
    check(
        "caller c
           worker w slots=9
           group g first=2 callback=x
           submit a in=g detached
           submit b in=g detached
           submit d in=g detached
           bury a
           ok d
           ok b
           submit e in=g",
        expect![[r#"
            caller c
            worker w slots=9
                w: open, keeps 0
            group g first=2 callback=x
                record Submitted Now
            submit a in=g detached
                record Submitted Now
                record Leased Now
                c: a accepted  (once recorded)
                w: run a, attempt 1, token 1.1  (once recorded)
            submit b in=g detached
                record Submitted Now
                record Leased Now
                c: b accepted  (once recorded)
                w: run b, attempt 1, token 1.2  (once recorded)
            submit d in=g detached
                record Submitted Now
                record Leased Now
                c: d accepted  (once recorded)
                w: run d, attempt 1, token 1.3  (once recorded)
            bury a
                record Settled Now
                w: settled a  (once recorded)
            ok d
                record Settled Now
                w: settled d  (once recorded)
            ok b
                record Settled Now
                record Settled Now
                gathered: a dead, b succeeded, d succeeded
                record Submitted Now
                w: settled b  (once recorded)
                c: g succeeded after 0 [tag 7]  (once recorded)
            submit e in=g
                c: refused, GroupSettled { id: 0000000f-4240-7700-8000-000000000000, state: Succeeded }
        "#]],
    );
}

#[test]
fn a_group_that_can_not_be_met_any_more_fails_when_it_is_sealed() {
    check(
        "caller c
           worker w slots=9
           group g first=2
           submit a in=g detached
           submit b in=g detached
           fail a
           seal g
           submit d in=g",
        expect![[r#"
            caller c
            worker w slots=9
                w: open, keeps 0
            group g first=2
                record Submitted Now
            submit a in=g detached
                record Submitted Now
                record Leased Now
                c: a accepted  (once recorded)
                w: run a, attempt 1, token 1.1  (once recorded)
            submit b in=g detached
                record Submitted Now
                record Leased Now
                c: b accepted  (once recorded)
                w: run b, attempt 1, token 1.2  (once recorded)
            fail a
                record Settled Now
                w: settled a  (once recorded)
            seal g
                record Sealed Now
                record Settled Now
                gathered: a failed, b leased
                c: g failed after 0 [tag 7]  (once recorded)
            submit d in=g
                c: refused, GroupSettled { id: 0000000f-4240-7700-8000-000000000000, state: Failed }
        "#]],
    );
}

#[test]
fn whatever_becomes_of_children_settles_a_group_of_settled_ones() {
    check(
        "caller c
           worker w slots=9
           group g settled
           submit a in=g detached
           submit b in=g detached attempts=1
           submit d in=g detached
           submit e in=g detached delay=5s deadline=2s
           submit f in=g detached delay=5s
           seal g
           ok a
           retry b
           fail d
           cancel f
           at 3s",
        expect![[r#"
            caller c
            worker w slots=9
                w: open, keeps 0
            group g settled
                record Submitted Now
            submit a in=g detached
                record Submitted Now
                record Leased Now
                c: a accepted  (once recorded)
                w: run a, attempt 1, token 1.1  (once recorded)
            submit b in=g detached attempts=1
                record Submitted Now
                record Leased Now
                c: b accepted  (once recorded)
                w: run b, attempt 1, token 1.2  (once recorded)
            submit d in=g detached
                record Submitted Now
                record Leased Now
                c: d accepted  (once recorded)
                w: run d, attempt 1, token 1.3  (once recorded)
            submit e in=g detached delay=5s deadline=2s
                record Submitted Now
                c: e accepted  (once recorded)
            submit f in=g detached delay=5s
                record Submitted Now
                c: f accepted  (once recorded)
            seal g
                record Sealed Now
            ok a
                record Settled Now
                w: settled a  (once recorded)
            retry b
                record Settled Now
                w: settled b  (once recorded)
            fail d
                record Settled Now
                w: settled d  (once recorded)
            cancel f
                record Settled Now
                c: cancel f: NeverRan  (once recorded)
            at 3s
                record Settled Now
                record Settled Now
                gathered: a succeeded, b dead, d failed, e expired, f cancelled
                c: g succeeded after 0 [tag 7]  (once recorded)
        "#]],
    );
}

#[test]
fn empty_groups_settle_when_they_are_sealed() {
    check(
        "caller c
           group g
           group h first=1
           group i settled
           seal g
           seal h
           seal i
           seal i
           seal j",
        expect![[r#"
            caller c
            group g
                record Submitted Now
            group h first=1
                record Submitted Now
            group i settled
                record Submitted Now
            seal g
                record Sealed Now
                record Settled Now
                gathered: nothing
                c: g succeeded after 0 [tag 7]  (once recorded)
            seal h
                record Sealed Now
                record Settled Now
                gathered: nothing
                c: h failed after 0 [tag 7]  (once recorded)
            seal i
                record Sealed Now
                record Settled Now
                gathered: nothing
                c: i succeeded after 0 [tag 7]  (once recorded)
            seal i
            seal j
                refused, NoGroup { id: 0000000f-4240-7a00-8000-000000000000 }
        "#]],
    );
}

#[test]
fn a_group_that_nobody_seals_expires() {
    check(
        "caller c
           group g unsealed=5s
           submit a in=g detached
           group h unsealed=5s
           seal h
           restart
           caller c
           at 6s",
        expect![[r#"
            caller c
            group g unsealed=5s
                record Submitted Now
            submit a in=g detached
                record Submitted Now
                c: a accepted  (once recorded)
            group h unsealed=5s
                record Submitted Now
            seal h
                record Sealed Now
                record Settled Now
                gathered: nothing
                c: h succeeded after 0 [tag 7]  (once recorded)
            restart
                record Started Now
            caller c
            at 6s
                record Settled Now
                c: g expired after 0, GroupUnsealed [tag 7]  (once recorded)
        "#]],
    );
}

#[test]
fn a_cancelled_group_cancels_its_children_and_so_does_one_that_expires_if_it_is_to() {
    check(
        "caller c
           worker w
           group g
           submit a in=g detached
           submit b in=g detached
           cancel g
           stopped a
           group h deadline=2s cancel_rest
           group i deadline=2s
           submit d in=h detached
           submit e in=i detached
           at 3s
           explain e",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            group g
                record Submitted Now
            submit a in=g detached
                record Submitted Now
                record Leased Now
                c: a accepted  (once recorded)
                w: run a, attempt 1, token 1.1  (once recorded)
            submit b in=g detached
                record Submitted Now
                c: b accepted  (once recorded)
            cancel g
                record Settled Now
                record Settled Now
                record Settled Now
                c: g cancelled after 0, GroupCancelled [tag 7]  (once recorded)
                c: cancel g: Children  (once recorded)
                w: stop a  (once recorded)
            stopped a
                w: settled a
            group h deadline=2s cancel_rest
                record Submitted Now
            group i deadline=2s
                record Submitted Now
            submit d in=h detached
                record Submitted Now
                record Leased Now
                c: d accepted  (once recorded)
                w: run d, attempt 1, token 1.2  (once recorded)
            submit e in=i detached
                record Submitted Now
                c: e accepted  (once recorded)
            at 3s
                record Settled Now
                record Settled Now
                record Settled Now
                c: h expired after 0, GroupExpired [tag 7]  (once recorded)
                c: i expired after 0, GroupExpired [tag 7]  (once recorded)
                w: stop d  (once recorded)
            explain e
                Waiting { cause: SlotsBusy { ahead: 0, workers: 1, slots: 1 }, starts_ms: None }
        "#]],
    );
}
