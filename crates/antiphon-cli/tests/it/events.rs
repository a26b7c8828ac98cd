//! `antiphon events`: a tail of what is emitted, in order, over restarts, ended by a count or a signal.

use crate::stage::{Broker, Process, until};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;

/// A tail whose lines go to a file.
struct Tail {
    process: Process,
    out: PathBuf,
    remarks: PathBuf,
}

impl Tail {
    /// Starts it, and waits until what is emitted from now on is printed.
    fn start(broker: &Broker, arguments: &[&str]) -> Self {
        let (out, remarks) = (broker.directory.path().join("events"), broker.directory.path().join("remarks"));
        let mut command = broker.command(["events"]);
        command.args(arguments).stdin(Stdio::null());
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&remarks).unwrap());
        let tail = Self { process: Process::spawn(command), out, remarks };
        until("the tail has begun", || tail.remarks().contains("from here on"));
        tail
    }

    fn remarks(&self) -> String {
        fs::read_to_string(&self.remarks).unwrap()
    }

    fn printed(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }

    fn events(&self) -> Vec<Value> {
        self.printed().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn values(events: &[Value]) -> Vec<&Value> {
    events.iter().map(|event| &event["value"]).collect()
}

#[test]
fn a_tail_prints_what_matches_in_order_and_ends_after_its_count() {
    let broker = Broker::start();
    broker.run(["emit", "orders.created", "0"]).ok();
    let mut tail = Tail::start(&broker, &["orders.*", "--count", "3", "-o", "json"]);
    let first = broker.run(["emit", "orders.created", "{\"n\": 1}"]).ok().to_owned();
    broker.run(["emit", "users.created", "2"]).ok();
    broker.run(["emit", "orders.paid.twice", "3"]).ok();
    broker.run(["emit", "orders.paid", "4", "--volatile"]).ok();
    // The same event again is no other event.
    broker.run(["emit", "orders.created", "{\"n\": 1}", "--id", &first]).ok();
    broker.run(["emit", "orders.shipped", "5"]).ok();
    assert_eq!(tail.process.ended(), Some(0));
    let events = tail.events();
    assert_eq!(values(&events), [&json!({ "n": 1 }), &json!(4), &json!(5)]);
    assert_eq!(events[0]["id"], first.as_str());
    assert_eq!((&events[0]["topic"], &events[0]["durable"]), (&json!("orders.created"), &json!(true)));
    assert_eq!(events[1]["durable"], false);
    let numbers: Vec<u64> = events.iter().map(|event| event["number"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    // From a number on, and from the oldest that is kept.
    let after = numbers[0].to_string();
    let later = broker.run(["events", ">", "--after", &after, "--count", "4", "-o", "jsonl"]);
    assert_eq!(later.ok().lines().count(), 4);
    let all = broker.run(["events", "--after", "0", "--count", "6"]);
    assert!(all.ok().contains("orders.created 0 (") && all.ok().contains("users.created 2 ("), "{all:?}");
}

#[test]
fn a_tail_goes_on_over_a_restart_and_ends_with_a_signal() {
    let mut broker = Broker::start();
    let mut tail = Tail::start(&broker, &["a.>", "-o", "jsonl"]);
    broker.run(["emit", "a.b", "1"]).ok();
    // What is numbered and not journaled takes no number from what comes after the restart.
    broker.run(["emit", "a.b", "2", "--volatile"]).ok();
    until("both are printed", || tail.events().len() == 2);
    broker.kill_and_restart();
    broker.run(["emit", "a.c", "3"]).ok();
    until("the third is printed", || tail.events().len() == 3);
    assert_eq!(values(&tail.events()), [&json!(1), &json!(2), &json!(3)]);
    assert!(tail.remarks().contains("goes on when the broker is there again"), "{}", tail.remarks());
    tail.process.terminate();
    assert_eq!(tail.process.ended(), Some(0));
}

#[test]
fn a_tail_that_is_interrupted_before_its_count_says_so() {
    let broker = Broker::start();
    let mut tail = Tail::start(&broker, &["--count", "2"]);
    broker.run(["emit", "a.b", "1"]).ok();
    until("the first is printed", || tail.printed().contains("a.b 1 ("));
    tail.process.terminate();
    assert_eq!(tail.process.ended(), Some(130));
    assert!(tail.remarks().contains("1 of the events asked for had not come"), "{}", tail.remarks());
}

#[test]
fn a_tail_reads_a_backlog_that_is_larger_than_one_part() {
    let broker = Broker::start();
    let large = format!("\"{}\"", "x".repeat(700_000));
    let path = broker.directory.path().join("large");
    fs::write(&path, large).unwrap();
    for topic in ["a.large", "b.large", "a.large", "a.large"] {
        broker.run(["emit", topic, &format!("@{}", path.display())]).ok();
    }
    let read = broker.run(["events", "a.*", "--after", "0", "--count", "3", "-o", "jsonl"]);
    assert!(read.ok().lines().all(|line| line.len() > 700_000), "{}", read.stderr);
    assert_eq!(read.ok().lines().count(), 3);
}

#[test]
fn a_tail_of_what_is_no_pattern_is_refused() {
    let broker = Broker::start();
    broker.run(["events", "a.>.b"]).fails(2, "comes last");
    broker.run(["events", "--count", "0"]).fails(2, "0 is not in");
}
