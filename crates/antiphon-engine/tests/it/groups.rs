//! Groups: decided by their children, once, and not before.

use crate::script::{World, check};
use antiphon_engine::Limits;
use antiphon_protocol::{Knowledge, State};
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

#[test]
fn a_group_survives_and_is_told_in_the_order_of_its_children() {
    check(
        "caller c
           inbox billing
           worker w slots=9
           group g for=billing callback=x
           submit a in=g detached
           submit b in=g detached
           submit d in=g detached
           ok d
           restart
           caller c
           worker w slots=9
           ok b
           seal g
           restart
           worker w slots=9
           worker x serves=x
           ok a
           inbox billing",
        expect![[r#"
            caller c
            inbox billing
                record InboxOpened Now
            worker w slots=9
                w: open, keeps 0
            group g for=billing callback=x
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
            ok d
                record Settled Now
                w: settled d  (once recorded)
            restart
                record Started Now
            caller c
            worker w slots=9
                w: open, keeps 2
            ok b
                record Settled Now
                w: settled b  (once recorded)
            seal g
                record Sealed Now
            restart
                record Started Now
            worker w slots=9
                w: open, keeps 1
            worker x serves=x
                x: open, keeps 0
            ok a
                record Settled Now
                record Settled Now
                gathered: a succeeded, b succeeded, d succeeded
                record Submitted Now
                record Leased Now
                w: settled a  (once recorded)
                x: run g>x, attempt 1, token 3.1  (once recorded)
            inbox billing
                billing: g succeeded after 0 [tag 0]  (once recorded)
        "#]],
    );
}

#[test]
fn a_call_that_is_there_joins_a_group_once() {
    check(
        "caller c
           worker w slots=9
           submit a key=k
           ok a
           group g
           group h
           submit b key=k in=g accepted
           join g a
           join h a
           join h h
           join z a
           seal g
           restart
           caller c
           seal h",
        expect![[r#"
            caller c
            worker w slots=9
                w: open, keeps 0
            submit a key=k
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            ok a
                record Settled Now
                c: a succeeded after 1 [tag 7]  (once recorded)
                w: settled a  (once recorded)
            group g
                record Submitted Now
            group h
                record Submitted Now
            submit b key=k in=g accepted
                record Joined Now
                c: a accepted again  (once recorded)
                c: a succeeded after 1 [tag 7]  (once recorded)
            join g a
            join h a
                record Joined Now
            join h h
                refused, NoGroup { id: 0000000f-4240-7800-8000-000000000000 }
            join z a
                refused, NoGroup { id: 0000000f-4240-7a00-8000-000000000000 }
            seal g
                record Sealed Now
                record Settled Now
                gathered: a succeeded
                c: g succeeded after 0 [tag 7]  (once recorded)
            restart
                record Started Now
            caller c
            seal h
                record Sealed Now
                record Settled Now
                gathered: a succeeded
                c: h succeeded after 0 [tag 7]  (once recorded)
        "#]],
    );
}

#[test]
fn a_group_may_be_a_child_and_explains_itself() {
    check(
        "caller c
           worker w
           group g
           group h in=g
           seal g
           submit a in=h detached
           explain g
           seal h
           ok a",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            group g
                record Submitted Now
            group h in=g
                record Submitted Now
            seal g
                record Sealed Now
            submit a in=h detached
                record Submitted Now
                record Leased Now
                c: a accepted  (once recorded)
                w: run a, attempt 1, token 1.1  (once recorded)
            explain g
                Waiting { cause: Children { counts: GroupCounts { children: 1, open: 1, succeeded: 0 }, unsealed_until_ms: None }, starts_ms: None }
            seal h
                record Sealed Now
            ok a
                record Settled Now
                record Settled Now
                gathered: a succeeded
                record Settled Now
                gathered: h succeeded
                w: settled a  (once recorded)
                c: h succeeded after 0 [tag 7]  (once recorded)
                c: g succeeded after 0 [tag 7]  (once recorded)
        "#]],
    );
}

#[test]
fn a_durable_group_takes_no_volatile_child_and_a_volatile_one_dies_with_the_broker() {
    check(
        "caller c
           worker w
           group g
           submit a in=g volatile
           group h volatile
           submit b in=h volatile detached
           submit d in=h detached
           ok b
           restart
           worker w
           ok d",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            group g
                record Submitted Now
            submit a in=g volatile
                c: refused, GroupDurable { id: 0000000f-4240-7700-8000-000000000000 }
            group h volatile
            submit b in=h volatile detached
                c: b accepted
                w: run b, attempt 1, token 1.1
            submit d in=h detached
                record Submitted Now
                c: d accepted  (once recorded)
            ok b
                record Leased Now
                w: settled b
                w: run d, attempt 1, token 1.2  (once recorded)
            restart
                record Started Now
            worker w
                w: open, keeps 1
            ok d
                record Settled Now
                w: settled d  (once recorded)
        "#]],
    );
}

#[test]
fn a_child_is_kept_until_its_group_is_done() {
    let mut limits = Limits::new(true);
    limits.outcome_ms = 1_000;
    let mut world = World::new(limits);
    world.run("caller c\nworker w\ngroup g\nsubmit a in=g detached\nsubmit b detached\nok a\nok b\nat 5s\nat 7s");
    assert!(matches!(world.engine.knowledge(world.id("a")), Knowledge::Known(_)));
    assert!(!matches!(world.engine.knowledge(world.id("b")), Knowledge::Known(_)));
    world.sweep();
    world.restart();
    world.run("at 9s\nat 11s");
    assert!(matches!(world.engine.knowledge(world.id("a")), Knowledge::Known(_)));
    world.run("seal g\nat 13s");
    assert!(world.log.contains("gathered: a succeeded"), "{}", world.log);
    assert!(!matches!(world.engine.knowledge(world.id("a")), Knowledge::Known(_)));
    assert_eq!(world.engine.audit(), Ok(()));
}

#[test]
fn a_group_is_bounded() {
    let mut limits = Limits::new(true);
    limits.group_children_max = 2;
    let mut world = World::new(limits);
    world.run("caller c\ngroup g\nsubmit a in=g detached\nsubmit b in=g detached\nsubmit d in=g");
    assert!(world.log.contains("c: refused, GroupFull { id: "), "{}", world.log);
}

#[test]
fn a_crash_while_the_rest_is_cancelled_leaves_nothing_running() {
    let mut world = World::new(Limits::new(true));
    world.run("caller c\ngroup g\nsubmit a in=g detached\nsubmit b in=g detached\ncancel g");
    let settled = world.scribe.position_of(world.id("g"), 5).unwrap();
    world.scribe.cut_behind(settled);
    world.restart();
    world.run("caller c\nat 1s");
    for child in ["a", "b"] {
        let Knowledge::Known(status) = world.engine.knowledge(world.id(child)) else { panic!("{child} is lost") };
        assert_eq!(status.state, State::Cancelled);
    }
    assert_eq!(world.engine.audit(), Ok(()));
}

#[test]
fn a_group_that_was_decided_when_the_broker_went_down_settles_when_it_is_back() {
    let mut world = World::new(Limits::new(true));
    world.run("caller c\nworker w\ngroup g\nsubmit a in=g detached\nseal g\nok a");
    let decided = world.scribe.position_of(world.id("a"), 5).unwrap();
    world.scribe.cut_behind(decided);
    world.restart();
    world.run("caller c");
    let Knowledge::Known(status) = world.engine.knowledge(world.id("g")) else { panic!("the group is lost") };
    assert_eq!(status.state, State::Succeeded);
}
