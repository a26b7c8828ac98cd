//! Callbacks: made once, with the settlement that is their cause.

use crate::script::{World, check};
use antiphon_engine::Limits;
use antiphon_protocol::{Knowledge, State};
use expect_test::expect;

#[test]
fn a_callback_is_made_in_the_batch_of_the_settlement_and_waits_for_it() {
    check(
        "caller c
           worker w
           worker x serves=x
           submit a callback=x
           ok a",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            worker x serves=x
                x: open, keeps 0
            submit a callback=x
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            ok a
                record Settled Now
                record Submitted Now
                record Leased Now
                c: a succeeded after 1 [tag 7]  (once recorded)
                w: settled a  (once recorded)
                x: run a>x, attempt 1, token 1.2  (once recorded)
        "#]],
    );
}

#[test]
fn callbacks_follow_the_outcomes_they_are_for() {
    check(
        "caller c
           worker w slots=3
           submit a callback=s@success,f@failure,v@value,o
           submit b callback=s@success,f@failure,v@value,o
           submit d callback=s@success,f@failure,v@value,o
           ok a
           fail b
           bury d
           submit e callback=s@success,f@failure,v@value,o delay=5s
           cancel e
           submit g callback=s@success,f@failure,v@value,o delay=9s deadline=5s
           at 6s",
        expect![[r#"
            caller c
            worker w slots=3
                w: open, keeps 0
            submit a callback=s@success,f@failure,v@value,o
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            submit b callback=s@success,f@failure,v@value,o
                record Submitted Now
                record Leased Now
                w: run b, attempt 1, token 1.2  (once recorded)
            submit d callback=s@success,f@failure,v@value,o
                record Submitted Now
                record Leased Now
                w: run d, attempt 1, token 1.3  (once recorded)
            ok a
                record Settled Now
                record Submitted Now
                record Submitted Now
                record Submitted Now
                c: a succeeded after 1 [tag 7]  (once recorded)
                w: settled a  (once recorded)
            fail b
                record Settled Now
                record Submitted Now
                record Submitted Now
                c: b failed after 1 [tag 7]  (once recorded)
                w: settled b  (once recorded)
            bury d
                record Settled Now
                record Submitted Now
                record Submitted Now
                c: d dead after 1 [tag 7]  (once recorded)
                w: settled d  (once recorded)
            submit e callback=s@success,f@failure,v@value,o delay=5s
                record Submitted Now
            cancel e
                record Settled Now
                record Submitted Now
                record Submitted Now
                c: e cancelled after 0, CancelledQueued [tag 7]  (once recorded)
                c: cancel e: NeverRan  (once recorded)
            submit g callback=s@success,f@failure,v@value,o delay=9s deadline=5s
                record Submitted Now
            at 6s
                record Settled Now
                record Submitted Now
                record Submitted Now
                c: g expired after 0, ExpiredQueued [tag 7]  (once recorded)
        "#]],
    );
}

#[test]
fn a_callback_is_a_call_that_is_retried_and_survives() {
    check(
        "caller c
           worker w
           submit a callback=x
           ok a
           restart
           worker x serves=x
           retry a>x after=1s
           at 1s
           restart
           worker x serves=x
           ok a>x
           restart
           worker x serves=x",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a callback=x
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            ok a
                record Settled Now
                record Submitted Now
                c: a succeeded after 1 [tag 7]  (once recorded)
                w: settled a  (once recorded)
            restart
                record Started Now
            worker x serves=x
                record Leased Now
                x: open, keeps 0
                x: run a>x, attempt 1, token 2.1  (once recorded)
            retry a>x after=1s
                record Returned Now
                x: settled a>x  (once recorded)
            at 1s
                record Leased Now
                x: run a>x, attempt 2, token 2.2  (once recorded)
            restart
                record Started Now
            worker x serves=x
                x: open, keeps 1
            ok a>x
                record Settled Now
                x: settled a>x  (once recorded)
            restart
                record Started Now
            worker x serves=x
                x: open, keeps 0
        "#]],
    );
}

#[test]
fn callbacks_follow_each_other() {
    check(
        "caller c
           worker w
           worker x serves=x,y slots=2
           submit a callback=x@value>y@value
           ok a
           ok a>x
           ok a>x>y",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            worker x serves=x,y slots=2
                x: open, keeps 0
            submit a callback=x@value>y@value
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            ok a
                record Settled Now
                record Submitted Now
                record Leased Now
                c: a succeeded after 1 [tag 7]  (once recorded)
                w: settled a  (once recorded)
                x: run a>x, attempt 1, token 1.2  (once recorded)
            ok a>x
                record Settled Now
                record Submitted Now
                record Leased Now
                x: settled a>x  (once recorded)
                x: run a>x>y, attempt 1, token 1.3  (once recorded)
            ok a>x>y
                record Settled Now
                x: settled a>x>y  (once recorded)
        "#]],
    );
}

#[test]
fn a_callback_is_added_to_a_call_that_waits_or_has_settled_and_once() {
    check(
        "caller c
           worker w
           submit a
           callback a x@success
           callback a x@success
           ok a
           callback a x@success
           callback a y@failure
           callback a z
           callback b z
           restart
           callback a z
           worker x serves=x,y,z slots=9",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            callback a x@success
                record CallbackAdded Now
            callback a x@success
            ok a
                record Settled Now
                record Submitted Now
                c: a succeeded after 1 [tag 7]  (once recorded)
                w: settled a  (once recorded)
            callback a x@success
            callback a y@failure
                record CallbackAdded Now
            callback a z
                record CallbackAdded Now
                record Submitted Now
            callback b z
                refused, NotFound
            restart
                record Started Now
            callback a z
            worker x serves=x,y,z slots=9
                record Leased Now
                record Leased Now
                x: open, keeps 0
                x: run a>x, attempt 1, token 2.1  (once recorded)
                x: run a>z, attempt 1, token 2.2  (once recorded)
        "#]],
    );
}

#[test]
fn a_submission_under_a_known_key_adds_its_callbacks() {
    check(
        "caller c
           worker w
           submit a key=k
           submit b key=k callback=x accepted
           ok a
           submit d key=k callback=y accepted
           submit d key=k callback=y accepted",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a key=k
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            submit b key=k callback=x accepted
                record CallbackAdded Now
                c: a accepted again  (once recorded)
            ok a
                record Settled Now
                record Submitted Now
                c: a succeeded after 1 [tag 7]  (once recorded)
                w: settled a  (once recorded)
            submit d key=k callback=y accepted
                record CallbackAdded Now
                record Submitted Now
                c: a accepted again  (once recorded)
                c: a succeeded after 1 [tag 7]  (once recorded)
            submit d key=k callback=y accepted
                c: a accepted again  (once recorded)
                c: a succeeded after 1 [tag 7]  (once recorded)
        "#]],
    );
}

#[test]
fn a_volatile_call_has_volatile_callbacks() {
    check(
        "caller c
           worker w
           submit a volatile callback=x
           ok a
           restart
           worker x serves=x",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a volatile callback=x
                w: run a, attempt 1, token 1.1
            ok a
                c: a succeeded after 1 [tag 7]
                w: settled a
            restart
                record Started Now
            worker x serves=x
                x: open, keeps 0
        "#]],
    );
}

#[test]
fn room_for_callbacks_is_taken_at_submission_and_given_back() {
    let mut limits = Limits::new(true);
    limits.calls_max = 4;
    let mut world = World::new(limits);
    // Of x and y only one can follow, and z follows x: at most a, then x, then z.
    world.run("caller c\nworker w\nworker x serves=x,y,z\nsubmit a callback=x@success>z,y@failure");
    world.run("submit b accepted");
    assert!(world.log.ends_with("c: b accepted  (once recorded)\n"), "{}", world.log);
    world.run("submit d accepted");
    assert!(world.log.ends_with("c: refused, CallsFull { limit: 4 }\n"), "{}", world.log);
    world.run("fail a\nok b");
    // Only y is left.
    world.run("submit d detached\nsubmit e detached\nsubmit f detached");
    world.run("submit g detached");
    assert!(world.log.ends_with("c: refused, CallsFull { limit: 4 }\n"), "{}", world.log);
    assert_eq!(world.engine.audit(), Ok(()));
    world.restart();
    assert_eq!(world.engine.audit(), Ok(()));
    world.run("caller c\nsubmit g detached");
    assert!(world.log.ends_with("c: refused, CallsFull { limit: 4 }\n"), "{}", world.log);
}

/// The journal is cut off between the two records, as a crash may do.
#[test]
pub fn a_crash_between_a_settlement_and_its_callback_loses_neither() {
    let mut world = World::new(Limits::new(true));
    world.run("caller c\nworker w\nsubmit a callback=x@value>y\nok a");
    let settled = world.scribe.position_of(world.id("a"), 5).unwrap();
    world.scribe.cut_behind(settled);
    world.restart();
    let Knowledge::Known(status) = world.engine.knowledge(world.id("a>x")) else { panic!("the callback is lost") };
    assert_eq!(status.state, State::Ready);
    world.run("worker x serves=x,y\nok a>x");
    // The one that was made again stands in the journal now; another start makes no third.
    world.restart();
    world.run("worker x serves=x,y");
    assert!(world.log.ends_with("x: open, keeps 1\n"), "{}", world.log);
    assert_eq!(world.granted.iter().filter(|(call, ..)| call == "a>x").count(), 1);
}

#[test]
fn a_settlement_that_compaction_copied_makes_no_callback_again() {
    let mut world = World::new(Limits::new(true));
    world.run("caller c\nworker w\nworker x serves=x\nsubmit a callback=x\nok a\nok a>x");
    world.sweep();
    // The callback's own records are gone before those of its cause, as may be in the cold log.
    world.scribe.forget(world.id("a>x"));
    world.restart();
    assert_eq!(world.engine.knowledge(world.id("a>x")), Knowledge::NeverSeen);
    let Knowledge::Known(cause) = world.engine.knowledge(world.id("a")) else { panic!("the cause is kept") };
    assert_eq!(cause.state, State::Succeeded);
}
