//! Order, rules and needs from the command line: what waits says why, and it holds over a restart on a real journal.

use crate::stage::{Broker, until};
use std::fs;

#[track_caller]
fn says(broker: &Broker, id: &str, part: &str) {
    let mut text = String::new();
    until(part, || {
        text = broker.run(["explain", id]).ok().to_owned();
        text.contains(part)
    });
}

fn detached(broker: &Broker, arguments: &[&str]) -> String {
    let all: Vec<&str> = ["call"].iter().chain(arguments).chain(&["--detach"]).copied().collect();
    broker.run(all).ok().to_owned()
}

/// A worker whose procedure runs until the file `go` is there.
fn holding(broker: &Broker, procedure: &str) -> String {
    format!("{procedure}=while ! test -e {}; do sleep 0.02; done; echo 1", broker.directory.path().join("go").display())
}

#[test]
fn what_waits_for_a_lane_a_key_or_its_cap_says_so_and_goes_on() {
    let broker = Broker::start();
    let serve = holding(&broker, "pay.out");
    let _worker = broker.worker(&["--exec", &serve, "--name", "w", "--slots", "8"]);
    let first = detached(&broker, &["pay.out", "--ordering-key", "alice", "--concurrency-key", "bank"]);
    says(&broker, &first, "runs its attempt 1");
    let second = detached(&broker, &["pay.out", "--key", "alice"]);
    says(&broker, &second, &format!("call {first} goes before it in its lane alice"));
    let third = detached(&broker, &["pay.out", "--concurrency-key", "bank"]);
    says(&broker, &third, "as many calls with its concurrency key bank run as may: 1");
    broker.run(["queue", "limit", "pay.out", "--running", "1"]).ok();
    let fourth = detached(&broker, &["pay.out"]);
    says(&broker, &fourth, "as many calls of its procedure run as may: 1");
    broker.run(["queue", "limit", "pay.out", "--none"]).ok();
    says(&broker, &fourth, "runs its attempt 1");
    fs::write(broker.directory.path().join("go"), "").unwrap();
    for id in [&first, &second, &third, &fourth] {
        until("all settle", || broker.state(id) == "succeeded");
    }
}

#[test]
fn what_no_worker_can_take_says_so() {
    let broker = Broker::start();
    let _worker = broker.worker(&["--exec", "a.b=echo 1", "--name", "w", "--slots", "2", "--label", "cpu"]);
    let labelled = detached(&broker, &["a.b", "--label", "gpu"]);
    says(&broker, &labelled, "none of one worker has the labels it requires: gpu");
    let heavy = detached(&broker, &["a.b", "--slots", "4"]);
    says(&broker, &heavy, "it takes 4 slots and the largest worker has 2");
    let _gpu = broker.worker(&["--exec", "a.b=echo 1", "--name", "g", "--slots", "4", "--label", "gpu"]);
    for id in [&labelled, &heavy] {
        until("a fitting worker takes it", || broker.state(id) == "succeeded");
    }
}

#[test]
fn what_waits_while_slots_are_kept_for_a_heavier_call_says_so() {
    let broker = Broker::start();
    let serve = holding(&broker, "a.b");
    let _worker = broker.worker(&["--exec", &serve, "--name", "w", "--slots", "3"]);
    let first = detached(&broker, &["a.b"]);
    says(&broker, &first, "runs its attempt 1");
    let heavy = detached(&broker, &["a.b", "--slots", "3"]);
    says(&broker, &heavy, "all slots are busy (3 slots on one worker); about 1st in line");
    let light = detached(&broker, &["a.b"]);
    says(&broker, &light, "the slots that are free are kept for a call that takes 3 of them; about 1st in line");
    fs::write(broker.directory.path().join("go"), "").unwrap();
    for id in [&first, &heavy, &light] {
        until("all settle", || broker.state(id) == "succeeded");
    }
}

#[test]
fn a_pause_a_rate_and_the_order_of_a_lane_hold_over_a_restart() {
    let mut broker = Broker::start();
    broker.run(["queue", "pause", "log.add"]).ok();
    broker.run(["queue", "limit", "log.add", "--rate", "1/h", "--burst", "1"]).ok();
    let ids: Vec<String> =
        (0..4).map(|number| detached(&broker, &["log.add", &number.to_string(), "--key", "k"])).collect();
    broker.kill_and_restart();
    let log = broker.directory.path().join("log");
    let serve = format!("log.add=cat >> {0}; echo >> {0}; sleep 0.05; echo 1", log.display());
    let _worker = broker.worker(&["--exec", &serve, "--name", "w", "--slots", "4"]);
    says(&broker, &ids[0], "its procedure is paused");
    assert!(broker.run(["queue", "ls"]).ok().contains("log.add (paused)"));
    broker.run(["queue", "resume", "log.add"]).ok();
    says(&broker, &ids[0], "its procedure is at its rate: the next may start at");
    broker.run(["queue", "limit", "log.add", "--none"]).ok();
    for id in &ids {
        until("all settle", || broker.state(id) == "succeeded");
    }
    let written = fs::read_to_string(log).unwrap();
    assert_eq!(
        written.split_whitespace().collect::<Vec<_>>(),
        ["0", "1", "2", "3"],
        "in the order of their submission"
    );
}

#[test]
fn a_rate_that_is_none_is_refused_with_how_to_write_it() {
    let broker = Broker::start();
    broker.run(["queue", "limit", "a.b", "--rate", "fast"]).fails(2, "write it like 100/s, 30/min or 5/h");
}

#[test]
fn a_burst_needs_a_rate_and_goes_with_it() {
    let broker = Broker::start();
    let limit = |arguments: &[&str]| broker.run([&["queue", "limit", "log.add"], arguments].concat());
    limit(&["--burst", "5"]).fails(6, "a burst means nothing without a rate");
    limit(&["--rate", "10/s"]).ok();
    assert!(limit(&["--burst", "5"]).ok().contains("rate_burst"));
    assert!(limit(&["--rate", "default"]).ok().contains("nothing is set"));
}
