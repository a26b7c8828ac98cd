//! The commands of operators: lists, dead letters, cancellation by filter, completions.

use crate::stage::{Broker, antiphon};

#[test]
fn a_status_is_a_timeline() {
    let broker = Broker::start();
    let _worker = broker.worker(&["--exec", "fail.once=test $ANTIPHON_ATTEMPT = 1 && exit 75; echo 1", "--name", "w"]);
    let json = broker.run(["call", "fail.once", "-o", "json"]).json();
    let status = broker.run(["status", json["id"].as_str().unwrap()]);
    let text = status.ok();
    for part in ["submitted", "attempt 1 failed on w: UNAVAILABLE", "succeeded"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn lists_are_filtered() {
    let broker = Broker::start();
    for tenant in ["red", "blue"] {
        broker.run(["call", "a.b", "--detach", "--tenant", tenant]).ok();
    }
    broker.run(["call", "c.d", "--detach", "--delay", "1h", "--priority", "9"]).ok();
    let count =
        |arguments: &[&str]| broker.run(["ls", "-o", "json"].iter().chain(arguments)).json().as_array().unwrap().len();
    assert_eq!(count(&[]), 3);
    assert_eq!(count(&["--tenant", "red"]), 1);
    assert_eq!(count(&["--procedure", "a.b"]), 2);
    assert_eq!(count(&["--state", "scheduled"]), 1);
    assert_eq!(count(&["--since", "1h"]), 3);
    assert_eq!(count(&["--since", "2199-01-01T00:00:00Z"]), 0);
    assert_eq!(count(&["--limit", "2"]), 2);
    let queues = broker.run(["queue", "ls", "-o", "json"]).json();
    assert_eq!((&queues[0]["procedure"], &queues[0]["calls"]["ready"]), (&"a.b".into(), &2.into()));
    assert!(broker.run(["queue", "show", "c.d"]).ok().contains("scheduled"));
    let lines = broker.run(["ls", "-o", "jsonl"]);
    assert_eq!(lines.ok().lines().count(), 3);
}

#[test]
fn calls_are_cancelled_by_filter() {
    let broker = Broker::start();
    for _ in 0..3 {
        broker.run(["call", "a.b", "--detach"]).ok();
    }
    let kept = broker.run(["call", "c.d", "--detach"]).ok().to_owned();
    broker.run(["cancel", "--procedure", "a.b"]).fails(2, "--yes");
    assert!(broker.run(["cancel", "--procedure", "a.b", "--dry-run"]).stderr.contains("would cancel 3 calls"));
    assert_eq!(broker.run(["cancel", "--procedure", "a.b", "--yes", "-o", "jsonl"]).ok().lines().count(), 3);
    assert_eq!(broker.state(&kept), "ready");
    assert_eq!(broker.run(["ls", "--state", "cancelled", "-o", "json"]).json().as_array().unwrap().len(), 3);
    assert!(broker.run(["cancel", &kept]).ok().contains("it never ran"));
    assert_eq!(broker.run(["cancel", &kept]).code, Some(1));
}

#[test]
fn dead_letters_are_revived_and_purged() {
    let broker = Broker::start();
    let fixed = broker.directory.path().join("fixed");
    let serve = format!("fail.until=test -e {} || exit 75; echo 1", fixed.display());
    let _worker = broker.worker(&["--exec", &serve]);
    let call = ["call", "fail.until", "--attempts", "1", "-o", "json"];
    let [first, second] = [(); 2].map(|()| broker.run(call).json()["id"].as_str().unwrap().to_owned());
    let dead = || broker.run(["dead", "ls", "-o", "json"]).json().as_array().unwrap().len();
    assert_eq!(dead(), 2);
    assert!(broker.run(["dead", "show", &first]).ok().contains("dead"));
    broker.run(["dead", "revive"]).fails(2, "which?");
    broker.run(["dead", "revive", "--procedure", "fail.until"]).fails(2, "--yes");
    assert!(broker.run(["dead", "purge", "--procedure", "fail.until", "--dry-run"]).stderr.contains("would purge 2"));
    std::fs::write(&fixed, "").unwrap();
    let revived = broker.run(["dead", "revive", &first, "-o", "json"]).json();
    let id = revived[0]["id"].as_str().unwrap();
    assert_eq!(broker.run(["result", id, "--wait", "20s"]).ok(), "1");
    broker.run(["dead", "purge", &second]).ok();
    broker.run(["dead", "purge", "--since", "1h", "--yes"]).ok();
    assert_eq!(dead(), 0);
}

#[test]
fn ping_tells_the_broker_and_what_it_counted() {
    let broker = Broker::start();
    broker.run(["call", "a.b", "--detach"]).ok();
    assert!(broker.run(["ping"]).ok().contains("answers in"));
    let json = broker.run(["ping", "-o", "json"]).json();
    assert_eq!((&json["broker"]["accepted"], &json["broker"]["durable"]), (&1.into(), &true.into()));
}

#[test]
fn the_journal_of_a_broker_that_ended_is_verified_and_dumped() {
    let mut broker = Broker::start();
    let id = broker.run(["call", "a.b", "--detach"]).ok().to_owned();
    let data = broker.data().to_str().unwrap().to_owned();
    antiphon(&["journal", "verify", &data]).fails(1, "in use by process");
    broker.stop();
    assert!(antiphon(&["journal", "verify", &data]).ok().contains("intact"));
    assert!(antiphon(&["status", &id, "--url", &format!("file:{data}")]).ok().contains("is ready"));
    let dumped = antiphon(&["journal", "dump", &data, "-o", "json"]).json();
    let submitted = dumped.as_array().unwrap().iter().find(|entry| entry["kind"] == "Submitted").unwrap();
    assert_eq!((&submitted["call"], &submitted["fields"]["procedure"]), (&id.as_str().into(), &"a.b".into()));
    assert!(antiphon(&["journal", "dump", &data]).ok().contains("procedure=\"a.b\""));
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = antiphon(&["completions", shell]);
        assert!(script.ok().contains("require-worker"), "{shell}");
    }
}

#[test]
fn colours_are_used_as_asked() {
    let broker = Broker::start();
    assert!(broker.run(["ls", "--color", "always"]).ok().contains("\u{1b}["));
    assert!(!broker.run(["ls", "--color", "auto"]).ok().contains("\u{1b}["));
    assert!(!broker.run(["ls", "--color", "never"]).ok().contains("\u{1b}["));
}
