//! Suspects: calls that lost a lease to a dying worker, and which of them is to blame.

use crate::script::{World, check, id_of};
use antiphon_engine::Limits;
use antiphon_protocol::Knowledge;
use expect_test::expect;

#[test]
fn a_call_that_kills_its_worker_three_times_alone_is_dead() {
    check(
        "caller c
           worker w
           submit a idempotent
           close w
           worker x
           close x
           worker y
           close y",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a idempotent
                record Submitted Shared
                w: run a, attempt 1, token 1.1
            close w
                record Returned Now
            worker x
                record Leased Now
                x: open, keeps 0
                x: run a, attempt 2, token 1.2  (once recorded)
            close x
                record Returned Now
            worker y
                record Leased Now
                y: open, keeps 0
                y: run a, attempt 3, token 1.3  (once recorded)
            close y
                record Settled Now
                c: a dead after 3, LostLeases [tag 7]  (once recorded)
        "#]],
    );
}

#[test]
fn a_neighbour_of_a_poison_call_is_not_blamed() {
    check(
        "caller c
           worker w slots=2
           submit poison idempotent
           submit good idempotent
           close w
           worker x slots=2
           ok poison
           ok good",
        expect![[r#"
            caller c
            worker w slots=2
                w: open, keeps 0
            submit poison idempotent
                record Submitted Shared
                w: run poison, attempt 1, token 1.1
            submit good idempotent
                record Submitted Shared
                w: run good, attempt 1, token 1.2
            close w
                record Returned Now
                record Returned Now
            worker x slots=2
                record Leased Now
                x: open, keeps 0
                x: run poison, attempt 2, token 1.3  (once recorded)
            ok poison
                record Settled Now
                record Leased Now
                c: poison succeeded after 2 [tag 7]  (once recorded)
                x: settled poison  (once recorded)
                x: run good, attempt 2, token 1.4  (once recorded)
            ok good
                record Settled Now
                c: good succeeded after 2 [tag 7]  (once recorded)
                x: settled good  (once recorded)
        "#]],
    );
}

#[test]
fn a_suspect_goes_to_a_worker_that_runs_none_however_few_slots_it_has() {
    check(
        "caller c
           worker w slots=2
           submit a idempotent
           submit b idempotent
           worker x slots=9
           worker y slots=1
           close w",
        expect![[r#"
            caller c
            worker w slots=2
                w: open, keeps 0
            submit a idempotent
                record Submitted Shared
                w: run a, attempt 1, token 1.1
            submit b idempotent
                record Submitted Shared
                w: run b, attempt 1, token 1.2
            worker x slots=9
                x: open, keeps 0
            worker y slots=1
                y: open, keeps 0
            close w
                record Returned Now
                record Returned Now
                record Leased Now
                record Leased Now
                x: run a, attempt 2, token 1.3  (once recorded)
                y: run b, attempt 2, token 1.4  (once recorded)
        "#]],
    );
}

#[test]
fn a_worker_that_comes_back_with_a_call_has_not_died_of_it() {
    check(
        "caller c
           worker w
           submit a idempotent
           close w
           worker w
           close w
           worker w
           close w
           worker w
           close w
           worker w",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a idempotent
                record Submitted Shared
                w: run a, attempt 1, token 1.1
            close w
                record Returned Now
            worker w
                record Leased Now
                w: open, keeps 0
                w: run a, attempt 2, token 1.2  (once recorded)
            close w
                record Returned Now
            worker w
                record Leased Now
                w: open, keeps 0
                w: run a, attempt 3, token 1.3  (once recorded)
            close w
                record Returned Now
            worker w
                record Leased Now
                w: open, keeps 0
                w: run a, attempt 4, token 1.4  (once recorded)
            close w
                record Returned Now
            worker w
                record Leased Now
                w: open, keeps 0
                w: run a, attempt 5, token 1.5  (once recorded)
        "#]],
    );
}

#[test]
fn a_suspect_that_survives_a_restart_is_still_the_only_one_its_worker_runs() {
    check(
        "caller c
           worker w slots=2
           submit a idempotent
           submit b idempotent
           close w
           worker x slots=2
           restart
           worker x slots=2",
        expect![[r#"
            caller c
            worker w slots=2
                w: open, keeps 0
            submit a idempotent
                record Submitted Shared
                w: run a, attempt 1, token 1.1
            submit b idempotent
                record Submitted Shared
                w: run b, attempt 1, token 1.2
            close w
                record Returned Now
                record Returned Now
            worker x slots=2
                record Leased Now
                x: open, keeps 0
                x: run a, attempt 2, token 1.3  (once recorded)
            restart
                record Started Now
            worker x slots=2
                x: open, keeps 1
        "#]],
    );
}

#[test]
fn a_worker_whose_suspect_is_none_any_more_takes_another() {
    let mut world = World::new(Limits::new(true));
    world.run("caller c\nworker v\nsubmit a idempotent\nworker u\nsubmit b idempotent\nclose v\nclose u");
    world.run("worker w slots=2");
    let runs = |world: &World| world.holders.iter().filter(|(_, worker)| *worker == "w").count();
    assert_eq!(runs(&world), 1, "a worker runs one suspect at a time");
    world.run("worker v claims=a serves=q");
    assert_eq!(runs(&world), 2, "v had not died of a");
}

#[test]
fn a_call_whose_first_worker_is_back_is_not_blamed_for_a_second_that_was_lost_with_others() {
    let lost_leases = |neighbour: &str| {
        let mut world = World::new(Limits::new(true));
        world.run("caller c\nworker v\nsubmit a\nclose v\nat 10s\nworker w slots=2");
        world.run(neighbour);
        // The neighbour leaves at once, a when its lease ends.
        world.run("close w\nworker v claims=a serves=q\nat 20s");
        let Knowledge::Known(status) = world.engine.knowledge(id_of("a")) else { panic!("a is known") };
        status.lost_leases
    };
    assert_eq!(lost_leases(""), 1, "w was lost with a alone");
    assert_eq!(lost_leases("submit b idempotent"), 0, "b was lost beside it");
}
