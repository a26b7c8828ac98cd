//! Events and subscriptions, from the command line and over a restart.

use crate::stage::{Broker, until};
use serde_json::Value;
use std::fs;

#[test]
fn an_event_calls_each_matching_subscription_once_over_a_restart() {
    let mut broker = Broker::start();
    let seen = broker.directory.path().join("seen");
    for (name, pattern) in [("one", "orders.*"), ("two", "orders.>"), ("three", "users.>")] {
        broker.run(["subscription", "add", name, pattern, "note.down", "--attempts", "5"]).ok();
    }
    let listed = broker.run(["subscription", "ls", "-o", "json"]).json();
    assert_eq!(listed.as_array().unwrap().len(), 3);
    assert_eq!(listed[0]["route"]["attempts"], 5);
    assert_eq!(broker.run(["subscription", "ls", "orders.created.twice", "-o", "json"]).json()[0]["name"], "two");
    assert!(
        broker
            .run(["subscription", "add", "one", "orders.*", "note.down", "--attempts", "5"])
            .stderr
            .contains("unchanged")
    );
    let id = broker.run(["emit", "orders.created", "{\"n\": 7}"]).ok().to_owned();
    broker.kill_and_restart();
    let again = broker.run(["emit", "orders.created", "{\"n\": 7}", "--id", &id, "-o", "json"]).json();
    assert_eq!((&again["id"], &again["duplicate"]), (&Value::from(id.as_str()), &true.into()));
    let _worker = broker.worker(&["--exec", &format!("note.down=tee -a {0}; echo >> {0}", seen.display())]);
    let succeeded = || broker.run(["ls", "--procedure", "note.down", "--state", "succeeded", "-o", "json"]).json();
    until("both calls have ended", || succeeded().as_array().unwrap().len() == 2);
    assert_eq!(fs::read_to_string(&seen).unwrap().matches("\"n\": 7").count(), 2);
    broker.run(["subscription", "rm", "one"]).ok();
    broker.run(["subscription", "rm", "one"]).fails(5, "no subscription one");
    broker.run(["emit", "orders.created"]).ok();
    until("the one that is left was called", || succeeded().as_array().unwrap().len() == 3);
}

#[test]
fn a_schedule_calls_at_its_ticks_and_shows_the_next_ones() {
    let mut broker = Broker::start();
    broker.run(["schedule", "add", "often", "note.tick", "{\"n\": 1}", "--every", "1s"]).ok();
    broker.run(["schedule", "add", "workdays", "note.tick", "--cron", "0 9 * * MON-FRI", "--tz", "Europe/Berlin"]).ok();
    let listed = broker.run(["schedule", "ls"]).ok().to_owned();
    assert!(listed.contains("every 1s") && listed.contains("0 9 * * MON-FRI Europe/Berlin"), "{listed}");
    assert!(listed.contains("09:00:00 CE"), "{listed}");
    let _worker = broker.worker(&["--exec", "note.tick=cat"]);
    let ended = |broker: &Broker| {
        let calls = broker.run(["ls", "--procedure", "note.tick", "--state", "succeeded", "-o", "json"]).json();
        calls.as_array().unwrap().len()
    };
    until("two ticks were called", || ended(&broker) >= 2);
    broker.kill_and_restart();
    let before = ended(&broker);
    until("ticks go on after a restart", || ended(&broker) > before);
    broker.run(["schedule", "pause", "often"]).ok();
    assert!(broker.run(["schedule", "ls"]).ok().contains("paused"));
    broker.run(["schedule", "rm", "often"]).ok();
    broker.run(["schedule", "rm", "often"]).fails(5, "no schedule often");
    broker.run(["schedule", "add", "x", "a.b", "--cron", "0 99 * * *"]).fails(6, "no hour");
    broker.run(["schedule", "add", "x", "a.b", "--cron", "0 9 * * *", "--tz", "Mars"]).fails(6, "not a time zone");
    broker.run(["schedule", "add", "x", "a.b"]).fails(2, "--every");
}

#[test]
fn wrong_topics_and_patterns_are_told() {
    let broker = Broker::start();
    broker.run(["emit", "orders..created"]).fails(2, "empty token");
    broker.run(["emit", "orders.*"]).fails(2, "characters outside");
    broker.run(["subscription", "add", "x", "orders.>.a", "a.b"]).fails(2, "comes last");
}
