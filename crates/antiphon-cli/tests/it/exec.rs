//! `worker --exec`: one process per call.

use crate::stage::{Broker, until};
use std::fs;

#[test]
fn a_call_is_answered_with_what_the_command_prints() {
    let broker = Broker::start();
    let _worker = broker.worker(&["--raw", "--exec", "text.count=wc -w", "--exec", "text.shout=tr a-z A-Z"]);
    assert_eq!(broker.run(["call", "text.count", "\"one two three\""]).ok(), "3");
    assert_eq!(broker.run(["call", "text.shout", "\"one\""]).ok(), "\"ONE\"");
    assert_eq!(broker.run(["call", "text.shout", "--raw", "one"]).ok(), "ONE");
    let json = broker.run(["call", "text.count", "\"a b\"", "-o", "json"]).json();
    assert_eq!((&json["value"], &json["state"], &json["attempts"]), (&2.into(), &"succeeded".into(), &1.into()));
}

#[test]
fn without_raw_the_command_reads_json() {
    let broker = Broker::start();
    let _worker = broker.worker(&["--exec", "echo.it=cat"]);
    assert_eq!(broker.run(["call", "echo.it", "{\"a\": [1, \"x\"]}"]).ok(), "{\"a\": [1, \"x\"]}");
    assert_eq!(broker.run(["call", "echo.it"]).ok(), "null");
}

#[test]
fn an_outcome_survives_a_killed_broker() {
    let mut broker = Broker::start();
    let _worker = broker.worker(&["--raw", "--exec", "text.count=wc -w"]);
    let id = broker.run(["call", "text.count", "\"one two three\"", "--detach"]).ok().to_owned();
    assert_eq!(broker.run(["result", &id, "--wait", "20s"]).ok(), "3");
    broker.kill_and_restart();
    assert_eq!(broker.run(["result", &id]).ok(), "3");
    // The worker comes back by itself, and so does a call that waits meanwhile.
    assert_eq!(broker.run(["call", "text.count", "\"a b\""]).ok(), "2");
}

#[test]
fn an_exit_code_says_whether_to_try_again() {
    let broker = Broker::start();
    let _worker = broker.worker(&[
        "--exec",
        "exit.seven=echo the disk is gone >&2; exit 7",
        "--exec",
        "exit.temporary=echo busy >&2; exit 75",
        "--exec",
        "exit.once=test $ANTIPHON_ATTEMPT = 1 && exit 75; echo $ANTIPHON_ATTEMPT",
        "--exec",
        "exit.killed=kill -9 $$",
    ]);
    let failed = broker.run(["call", "exit.seven", "-o", "json"]);
    assert_eq!(failed.code, Some(1));
    let failed = failed.json();
    assert_eq!((&failed["state"], &failed["attempts"]), (&"failed".into(), &1.into()));
    assert_eq!(failed["failure"]["message"], "exit status 7: the disk is gone");
    let dead = broker.run(["call", "exit.temporary", "--attempts", "2", "-o", "json"]);
    assert_eq!(dead.code, Some(1));
    assert_eq!((&dead.json()["state"], &dead.json()["attempts"]), (&"dead".into(), &2.into()));
    assert_eq!(broker.run(["call", "exit.once"]).ok(), "2");
    broker.run(["call", "exit.killed"]).fails(1, "killed by signal 9");
}

#[test]
fn the_environment_tells_the_call() {
    let broker = Broker::start();
    let _worker = broker.worker(&[
        "--exec",
        "env.all=echo $ANTIPHON_CALL_ID $ANTIPHON_ATTEMPT $ANTIPHON_LEASE_TOKEN $ANTIPHON_DEADLINE_MS",
    ]);
    let json = broker.run(["call", "env.all", "--deadline", "20s", "-o", "json"]).json();
    let value = json["value"].as_str().unwrap();
    let [id, attempt, token, deadline] = value.split(' ').collect::<Vec<_>>().try_into().unwrap();
    assert_eq!((id, attempt), (json["id"].as_str().unwrap(), "1"));
    assert!(token.parse::<u64>().unwrap() > 1 << 40, "{token}");
    assert!((1..=20_000).contains(&deadline.parse::<u64>().unwrap()), "{deadline}");
}

#[test]
fn cancelling_ends_the_whole_process_group() {
    let broker = Broker::start();
    let pids = broker.directory.path().join("pids");
    let serve = format!("sleep.long=sleep 1000 & echo $$ $! > {}; wait", pids.display());
    let _worker = broker.worker(&["--exec", &serve]);
    let id = broker.run(["call", "sleep.long", "--detach"]).ok().to_owned();
    until("the command runs", || fs::read_to_string(&pids).is_ok_and(|text| text.ends_with('\n')));
    assert!(broker.run(["cancel", &id]).ok().contains("stopping on"));
    broker.run(["result", &id]).fails(1, "CANCELLED");
    let text = fs::read_to_string(&pids).unwrap();
    for pid in text.split_whitespace() {
        until("the group is gone", || !is_running(pid));
    }
    until("the attempt has stopped", || broker.run(["status", &id, "-o", "json"]).json()["stopping"] == false);
}

#[test]
fn an_attempt_that_takes_too_long_is_ended_and_tried_again() {
    let broker = Broker::start();
    let _worker = broker.worker(&["--exec", "slow.once=test $ANTIPHON_ATTEMPT = 1 && exec sleep 1000; echo done"]);
    let called = broker.run(["call", "slow.once", "--attempt-timeout", "300ms", "-o", "json"]);
    assert_eq!((&called.json()["value"], &called.json()["attempts"]), (&"done".into(), &2.into()));
}

#[test]
fn a_large_argument_and_value_pass_and_a_larger_value_does_not() {
    let broker = Broker::start();
    let _worker =
        broker.worker(&["--raw", "--exec", "large.size=wc -c", "--exec", "large.zeros=head -c 17000000 /dev/zero"]);
    let file = broker.directory.path().join("argument");
    fs::write(&file, format!("\"{}\"", "x".repeat(10_000_000))).unwrap();
    let at = format!("@{}", file.display());
    assert_eq!(broker.run(["call", "large.size", &at]).ok(), "10000000");
    broker.run(["call", "large.zeros", "--raw", ""]).fails(1, "RESOURCE_EXHAUSTED");
}

#[test]
fn a_command_that_leaves_something_behind_does_not_hold_its_slot() {
    let broker = Broker::start();
    let _worker = broker.worker(&["--slots", "1", "--exec", "left.over=sleep 1000 & echo 1"]);
    broker.run(["call", "left.over", "--deadline", "10s"]).fails(1, "background");
    broker.run(["call", "left.over", "--deadline", "10s"]).fails(1, "background");
}

#[test]
fn a_draining_worker_finishes_what_runs() {
    let broker = Broker::start();
    let mut worker = broker.worker(&["--exec", "slow.second=sleep 1; echo 1", "--name", "slow"]);
    let id = broker.run(["call", "slow.second", "--detach"]).ok().to_owned();
    until("the call runs", || broker.state(&id) == "leased");
    worker.terminate();
    assert_eq!(worker.ended(), Some(0));
    assert_eq!(broker.run(["result", &id]).ok(), "1");
    let mut worker = broker.worker(&["--exec", "slow.second=sleep 1; echo 1", "--name", "slow"]);
    broker.run(["worker", "drain", "slow"]).ok();
    assert_eq!(worker.ended(), Some(0));
    broker.run(["worker", "drain", "nobody"]).fails(5, "no worker is named nobody");
}

#[test]
fn a_short_lease_is_renewed_from_its_start() {
    let broker = Broker::start_with("[limits]\nlease_ms = 500\n");
    let _worker = broker.worker(&["--exec", "slow.call=sleep 2; echo 1"]);
    let called = broker.run(["call", "slow.call", "-o", "json"]).json();
    assert_eq!((&called["value"], &called["attempts"]), (&1.into(), &1.into()));
    let status = broker.run(["status", called["id"].as_str().unwrap(), "-o", "json"]).json();
    assert_eq!(status["lost_leases"], 0, "{status}");
}

#[test]
fn a_command_that_closed_its_output_may_read_on() {
    let broker = Broker::start();
    let count = broker.directory.path().join("count");
    // Nothing is read before its output is seen to be closed.
    let serve = format!("closed.early=exec >&- 2>&-; sleep 1; wc -c > {}", count.display());
    let _worker = broker.worker(&["--raw", "--exec", &serve]);
    let file = broker.directory.path().join("argument");
    fs::write(&file, format!("\"{}\"", "x".repeat(1_000_000))).unwrap();
    let at = format!("@{}", file.display());
    assert_eq!(broker.run(["call", "closed.early", &at, "--deadline", "15s"]).ok(), "null");
    assert_eq!(fs::read_to_string(&count).unwrap().trim(), "1000000");
}

/// A zombie has ended, too.
fn is_running(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
