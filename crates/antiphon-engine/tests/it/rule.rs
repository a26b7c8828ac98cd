//! What operators rule about a procedure: pauses, caps and rates.

use crate::script::World;
use antiphon_engine::{Limits, Refusal};
use antiphon_protocol::{Name, Setting};

fn world(script: &str) -> World {
    let mut world = World::new(Limits::new(true));
    world.run(script);
    world
}

#[test]
fn a_paused_procedure_starts_nothing_also_after_a_restart() {
    let mut world = world(
        "caller c
         set p paused=1
         worker w slots=2
         submit a
         submit b to=q
         restart
         caller c
         worker w slots=2",
    );
    assert_eq!(world.granted.len(), 0);
    world.run("set p paused");
    assert_eq!(world.granted.len(), 1);
}

#[test]
fn no_more_run_than_the_cap() {
    let mut world = world(
        "caller c
         set p running_max=2
         worker w slots=4
         submit a
         submit b
         submit d",
    );
    assert_eq!(world.granted.len(), 2);
    world.run("park a");
    assert_eq!(world.granted.len(), 3, "who waits for a sub-call does not count");
    world.run("resume a");
    assert!(!world.log.contains("go on with a"), "two others run");
    world.run("ok b");
    assert!(world.log.contains("go on with a"));
}

#[test]
fn a_cancelled_attempt_counts_for_the_cap_until_it_has_stopped() {
    let mut world = world(
        "caller c
         set p running_max=1
         worker w slots=4
         submit a
         submit b
         cancel a",
    );
    assert_eq!(world.granted.len(), 1);
    world.run("stopped a");
    assert_eq!(world.granted.len(), 2);
}

#[test]
pub fn calls_start_no_faster_than_their_rate_whatever_the_burst() {
    for (count, period_ms, burst) in [(10, 1_000, 3), (7, 1_000, 1), (3, 60_000, 2)] {
        let mut world = world("caller c\nworker w slots=1000");
        world.run(&format!("set p rate_count={count} rate_period_ms={period_ms} rate_burst={burst}"));
        let calls = 30;
        for number in 0..calls {
            world.run(&format!("submit c{number}"));
        }
        let mut starts: Vec<u64> = Vec::new();
        let mut ms = 0;
        while starts.len() < calls {
            let at = world.engine.next_wake().unwrap().max(ms + 2);
            ms = at - 1;
            world.run(&format!("at {ms}ms"));
            starts.resize(world.granted.len(), ms);
            assert!(ms < 40 * period_ms, "the rate is used: {} have started", starts.len());
        }
        for (first, from_ms) in starts.iter().enumerate() {
            for (last, to_ms) in starts.iter().enumerate().skip(first) {
                let most = burst + (to_ms - from_ms) * count / period_ms + 1;
                assert!((last - first) as u64 <= most, "{} starts in {} ms", last - first + 1, to_ms - from_ms);
            }
        }
        let least_ms = (calls as u64 - burst - 1) * period_ms / count;
        assert!(ms >= least_ms, "{calls} calls took {ms} ms, less than {least_ms}");
    }
}

#[test]
fn a_rate_that_is_none_is_refused_and_changes_nothing() {
    let mut world = world("set p rate_count=2 rate_period_ms=1000");
    let before = world.engine.settings(&Name::from_static("p"));
    for (setting, value) in [
        (Setting::RateCount, 1_000_001),
        (Setting::RatePeriodMs, 0),
        (Setting::RateBurst, 0),
        (Setting::RateBurst, u64::MAX),
    ] {
        let set = world.engine.configure(&Name::from_static("p"), &[(setting, Some(value))], &mut world.scribe);
        assert_eq!(set, Err(Refusal::Rate), "{setting} {value}");
    }
    assert_eq!(world.engine.settings(&Name::from_static("p")), before);
    let off = world.engine.configure(&Name::from_static("q"), &[(Setting::RateCount, Some(0))], &mut world.scribe);
    assert!(off.is_ok(), "0 is any number");
}

#[test]
fn a_burst_without_a_rate_is_refused() {
    let mut world = world("set p rate_count=2 rate_period_ms=1000");
    let burst = [(Setting::RateBurst, Some(5))];
    assert!(world.engine.configure(&Name::from_static("p"), &burst, &mut world.scribe).is_ok());
    let set = world.engine.configure(&Name::from_static("q"), &burst, &mut world.scribe);
    assert_eq!(set, Err(Refusal::BurstWithoutRate));
    let taken_back = [(Setting::RateCount, None), (Setting::RatePeriodMs, None), (Setting::RateBurst, None)];
    assert!(world.engine.configure(&Name::from_static("p"), &taken_back, &mut world.scribe).is_ok());
}
