//! What a restart keeps.

use crate::script::{World, check};
use antiphon_engine::Limits;
use expect_test::expect;

#[test]
fn waiting_calls_go_on_waiting_in_their_order() {
    check(
        "caller c
           submit a
           submit b
           submit later delay=10s
           restart
           worker w slots=3
           at 10s",
        expect![[r#"
            caller c
            submit a
                record Submitted Now
            submit b
                record Submitted Now
            submit later delay=10s
                record Submitted Now
            restart
                record Started Now
            worker w slots=3
                record Leased Now
                record Leased Now
                w: open, keeps 0
                w: run a, attempt 1, token 2.1  (once recorded)
                w: run b, attempt 1, token 2.2  (once recorded)
            at 10s
                record Returned Now
                record Returned Now
                record Leased Now
                record Leased Now
                w: stale a
                w: stale b
                w: run a, attempt 2, token 2.3  (once recorded)
                w: run later, attempt 1, token 2.4  (once recorded)
        "#]],
    );
}

#[test]
fn a_recorded_lease_is_held_for_its_worker_and_tokens_go_on() {
    check(
        "caller c
           worker w
           submit a
           at 8s
           restart
           at 12s
           worker w
           ok a
           caller c
           submit b",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            at 8s
            restart
                record Started Now
            at 12s
            worker w
                w: open, keeps 1
            ok a
                record Settled Now
                w: settled a  (once recorded)
            caller c
                c: a succeeded after 1 [tag 7]  (once recorded)
            submit b
                record Submitted Now
                record Leased Now
                w: run b, attempt 1, token 2.1  (once recorded)
        "#]],
    );
}

#[test]
fn a_lease_whose_worker_does_not_come_back_costs_no_attempt() {
    check(
        "caller c
           worker w
           submit a
           restart
           worker x
           at 10s",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            restart
                record Started Now
            worker x
                x: open, keeps 0
            at 10s
                record Returned Now
                record Leased Now
                x: run a, attempt 2, token 2.1  (once recorded)
        "#]],
    );
}

#[test]
fn an_eager_lease_that_lasts_is_recorded_when_it_is_extended() {
    check(
        "caller c
           worker w
           submit a idempotent
           at 4s
           extend a
           restart
           worker w
           ok a",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a idempotent
                record Submitted Shared
                w: run a, attempt 1, token 1.1
            at 4s
            extend a
                record Leased Lazy
            restart
                record Started Now
            worker w
                w: open, keeps 1
            ok a
                record Settled Now
                w: settled a  (once recorded)
        "#]],
    );
}

#[test]
fn a_deadline_goes_on_while_the_broker_is_down() {
    check(
        "caller c
           submit a deadline=5s
           at 6s
           restart
           worker w",
        expect![[r#"
            caller c
            submit a deadline=5s
                record Submitted Now
            at 6s
                record Settled Now
                c: a expired after 0, ExpiredQueued [tag 7]  (once recorded)
            restart
                record Started Now
            worker w
                w: open, keeps 0
        "#]],
    );
}

#[test]
fn failed_attempts_and_their_history_survive() {
    check(
        "caller c
           worker w
           submit a attempts=2
           retry a after=1s
           restart
           at 1s
           caller c
           worker w
           retry a
           attach a",
        expect![[r#"
            caller c
            worker w
                w: open, keeps 0
            submit a attempts=2
                record Submitted Now
                record Leased Now
                w: run a, attempt 1, token 1.1  (once recorded)
            retry a after=1s
                record Returned Now
                w: settled a  (once recorded)
            restart
                record Started Now
            at 1s
            caller c
            worker w
                record Leased Now
                w: open, keeps 0
                w: run a, attempt 2, token 2.1  (once recorded)
            retry a
                record Settled Now
                c: a dead after 2 [tag 7]  (once recorded)
                w: settled a  (once recorded)
            attach a
                c: a dead after 2 [tag 99]  (once recorded)
        "#]],
    );
}

#[test]
fn a_volatile_call_dies_with_the_broker() {
    check(
        "caller c
           submit a volatile
           restart
           caller c
           attach a",
        expect![[r#"
            caller c
            submit a volatile
            restart
                record Started Now
            caller c
            attach a
                c: refused, NotFound
        "#]],
    );
}

#[test]
fn a_dead_letter_whose_copy_was_torn_apart_stays_dead() {
    let mut world = crate::script::World::new(antiphon_engine::Limits::new(true));
    world.run("caller c\nworker w\nsubmit a detached\nbury a");
    // Compaction wrote the submission again; the power went before the settlement followed.
    world.repeat_submission("a");
    world.restart();
    world.run("worker w");
    assert!(!world.log.ends_with("token 2.1  (once recorded)\n"), "{}", world.log);
    let known = world.engine.knowledge(crate::script::id_of("a"));
    let antiphon_protocol::Knowledge::Known(status) = known else { panic!("{known:?}") };
    assert_eq!(status.state, antiphon_protocol::State::Dead);
    assert!(world.engine.dead_letter(crate::script::id_of("a")).is_some());
}

#[test]
fn a_lane_waits_for_a_cancelled_attempt_also_after_a_restart() {
    let mut world = crate::script::World::new(antiphon_engine::Limits::new(true));
    world.run("caller c\nworker w slots=4\nsubmit a order=k\nsubmit b order=k\ncancel a\nrestart\ncaller c");
    world.run("worker x slots=4");
    assert_eq!(world.granted.len(), 1, "a is cancelled, but its attempt may still run");
    world.run("worker w slots=4\nstopped a");
    assert_eq!(world.granted.last().unwrap().0, "b");
}

#[test]
fn a_delayed_call_that_has_joined_its_lane_stays_ready_when_the_clock_is_set_back() {
    check(
        "caller c
           submit a order=k delay=5s
           at 6s
           at 3s
           restart
           worker w
           ok a",
        expect![[r#"
            caller c
            submit a order=k delay=5s
                record Submitted Now
            at 6s
                record LaneJoined Lazy
            at 3s
            restart
                record Started Now
            worker w
                record Leased Now
                w: open, keeps 0
                w: run a, attempt 1, token 2.1  (once recorded)
            ok a
                record Settled Now
                w: settled a  (once recorded)
        "#]],
    );
}

#[test]
fn delayed_calls_that_became_due_while_the_broker_was_down_join_their_lane_in_that_order() {
    let mut world = World::new(Limits::new(true));
    world.run("caller c\nsubmit a order=k delay=20s\nsubmit b order=k delay=10s");
    world.now.wall_ms += 30_000;
    world.run("restart\nworker w\nok b\nok a");
    let started: Vec<&str> = world.granted.iter().map(|(call, _, _)| call.as_str()).collect();
    assert_eq!(started, ["b", "a"], "b was due first, though both were due before this process began");
}

#[test]
fn a_call_of_a_schedule_is_its_last_also_when_a_crash_cut_off_the_word_of_its_tick() {
    let mut world = World::new(Limits::new(true));
    world.run("caller c\nschedule s every=20s overlap=cancel\nat 20s\ntick s");
    let mut world = world.after_crash(world.records() - 1);
    world.run("at 40s\ntick s newest");
    let unsettled: u64 = world.engine.counts().iter().take(3).sum();
    assert_eq!(unsettled, 1, "the call of the first tick was cancelled by that of the second");
}

/// How many calls have not settled.
fn unsettled(world: &World) -> u64 {
    world.engine.counts().iter().take(3).sum()
}

#[test]
fn a_tick_cancels_the_call_before_it_also_when_a_crash_cut_that_off() {
    let mut world = World::new(Limits::new(true));
    world.run("caller c\nworker w\nschedule s every=20s overlap=cancel\nat 20s\ntick s newest\nat 29s\nextend s@1");
    world.run("at 38s\nextend s@1\nat 40s");
    world.step_quietly("tick s newest");
    // Cut off: that the first call was cancelled, and the word of the tick.
    let mut world = world.after_crash(world.records() - 2);
    world.run("at 40s");
    let (first, second) = (world.engine.explain(world.id("s@1")), world.engine.explain(world.id("s@2")));
    assert!(format!("{:?}", first.standing).starts_with("Stopping"), "{first:?}");
    assert!(format!("{:?}", second.standing).starts_with("Waiting"), "{second:?}");
    world.run("at 60s\ntick s newest");
    assert_eq!(unsettled(&world), 1, "only the call of the newest tick is left");
}

#[test]
fn two_calls_of_a_schedule_never_both_wait_or_run_wherever_a_crash_cuts_the_journal() {
    for overlap in ["skip", "queue", "cancel"] {
        for newest in ["", " newest"] {
            let mut world = World::new(Limits::new(true));
            world.run(&format!("caller c\nworker w\nschedule s every=20s overlap={overlap}"));
            let first = world.records();
            let mut ends = [false, true, true, false, true].into_iter();
            for at in [20, 45, 65, 70, 101] {
                world.run(&format!("at {at}s\ntick s{newest}"));
                let running = world.holders.keys().find(|call| !world.ended.contains(call)).cloned();
                if let Some(call) = running.filter(|_| ends.next().unwrap()) {
                    world.run(&format!("{} {call}", if overlap == "cancel" { "stopped" } else { "ok" }));
                }
            }
            for records in first..=world.records() {
                let mut world = world.after_crash(records);
                world.run("at 101s");
                assert!(unsettled(&world) <= 1, "{overlap}{newest}, {records} records");
                for at in [101, 120, 160] {
                    world.run(&format!("at {at}s\ntick s{newest}"));
                    assert!(unsettled(&world) <= 1, "{overlap}{newest}, {records} records, at {at} s");
                }
            }
        }
    }
}
