//! Children of groups: how calls become that, how long they are kept, and what is there of both after a restart.

use crate::script::{World, check};
use antiphon_engine::Limits;
use antiphon_protocol::{Knowledge, State};
use expect_test::expect;

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
                refused, GroupOfItself { id: 0000000f-4240-7800-8000-000000000000 }
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
