//! Callbacks, chains and groups from the command line, over a broker that is killed.

use crate::stage::{Broker, Process, until};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

#[test]
fn a_callback_a_chain_and_a_late_callback_happen_after_a_kill() {
    let mut broker = Broker::start();
    let call =
        |arguments: &[&str]| broker.run([&["call", "a.b", "20", "--detach"], arguments].concat()).ok().to_owned();
    let told = call(&["--callback", "log.it", "--on-failure", "log.not"]);
    let chained = call(&["--then", "add.one", "--then", "add.one"]);
    broker.kill_and_restart();
    let add = "n=$(cat); echo $((n + 1))";
    let serve = [format!("a.b={add}"), format!("add.one={add}"), "log.it=cat".to_owned()];
    let _worker = broker.worker(&["--exec", &serve[0], "--exec", &serve[1], "--exec", &serve[2], "--name", "w"]);
    let status = broker.run(["status", &told, "-o", "json"]).json();
    let id = |status: &serde_json::Value, place: usize| status["callbacks"][place]["id"].as_str().unwrap().to_owned();
    broker.run(["result", &told, "--wait", "20s"]).ok();
    let logged = id(&status, 0);
    until("the callback is there", || broker.run(["status", &logged]).code == Some(0));
    let logged = broker.run(["result", &logged, "--wait", "20s", "-o", "json"]).json();
    let expected =
        serde_json::json!({ "id": told, "procedure": "a.b", "state": "succeeded", "attempts": 1, "value": 21 });
    assert_eq!(logged["value"], expected);
    let cause = broker.run(["status", logged["id"].as_str().unwrap(), "-o", "json"]).json();
    assert_eq!(cause["cause"], told.as_str());
    let text = broker.run(["status", &told]).ok().to_owned();
    assert!(text.contains("callback log.not is for other outcomes"), "{text}");

    let first = id(&broker.run(["status", &chained, "-o", "json"]).json(), 0);
    until("the chain goes on", || broker.run(["status", &first]).code == Some(0));
    assert_eq!(broker.run(["result", &first, "--wait", "20s"]).ok(), "22");
    let second = id(&broker.run(["status", &first, "-o", "json"]).json(), 0);
    until("and on", || broker.run(["status", &second]).code == Some(0));
    assert_eq!(broker.run(["result", &second, "--wait", "20s"]).ok(), "23");

    let late = broker.run(["callback", &told, "log.it", "--on", "value"]).ok().to_owned();
    assert_eq!(broker.run(["result", &late, "--wait", "20s"]).ok(), "21");
    assert_eq!(broker.run(["callback", &told, "log.it", "--on", "value"]).ok(), late, "the same one again");
}

#[test]
fn a_group_collects_its_children_over_a_kill() {
    let mut broker = Broker::start();
    let group = broker.run(["group", "open", "--then", "reduce.it"]).ok().to_owned();
    let call = |broker: &Broker| broker.run(["call", "a.b", "1", "--detach", "--group", &group]).ok().to_owned();
    let first = call(&broker);
    broker.kill_and_restart();
    let second = call(&broker);
    let third = broker.run(["call", "a.b", "1", "--detach"]).ok().to_owned();
    broker.run(["group", "add", &group, &third]).ok();
    let text = broker.run(["group", "status", &group]).ok().to_owned();
    assert!(
        text.starts_with("group of all, open, 3 children: 0 succeeded, 0 ended otherwise, 3 not settled"),
        "{text}"
    );
    let why = broker.run(["explain", &group]).ok().to_owned();
    assert!(why.contains("it is a group, 3 children of 3 not settled; to be sealed before"), "{why}");
    broker.run(["group", "seal", &group]).ok();
    broker.run(["call", "a.b", "--detach", "--group", &group]).fails(6, "is sealed");
    broker.kill_and_restart();
    let _worker = broker.worker(&["--exec", "a.b=cat", "--exec", "reduce.it=cat"]);
    let list: serde_json::Value =
        serde_json::from_str(broker.run(["group", "result", &group, "--wait", "20s"]).ok()).unwrap();
    let ids: Vec<&str> = list.as_array().unwrap().iter().map(|child| child["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [first.as_str(), &second, &third]);
    let status = broker.run(["status", &group, "-o", "json"]).json();
    let reduced = status["callbacks"][0]["id"].as_str().unwrap();
    until("the reduce call is there", || broker.run(["status", reduced]).code == Some(0));
    let reduced: serde_json::Value =
        serde_json::from_str(broker.run(["result", reduced, "--wait", "20s"]).ok()).unwrap();
    assert_eq!(reduced, list);
    broker
        .run(["group", "seal", "0190a5c2-7b1e-7c3d-8e4f-001122334455"])
        .fails(5, "there is no group 0190a5c2-7b1e-7c3d-8e4f-001122334455\n");
}

#[test]
fn a_group_is_followed_while_children_are_added() {
    let broker = Broker::start();
    let _worker = broker.worker(&["--exec", "a.b=cat", "--exec", "a.c=echo no >&2; exit 1", "--name", "w"]);
    let group = broker.run(["group", "open", "--settled"]).ok().to_owned();
    let mut command = broker.command(["group", "follow", &group]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut follower = Process::spawn(command);
    let mut lines = BufReader::new(follower.0.stdout.take().unwrap()).lines();
    let mut next = || -> serde_json::Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let call = |procedure: &str| {
        let call = ["call", procedure, "7", "--detach", "--attempts", "1", "--group", &group];
        broker.run(call).ok().to_owned()
    };
    for (procedure, state) in [("a.b", "succeeded"), ("a.c", "failed"), ("a.b", "succeeded")] {
        let id = call(procedure);
        let told = next();
        assert_eq!((told["id"].as_str(), told["state"].as_str()), (Some(id.as_str()), Some(state)), "{told}");
    }
    broker.run(["group", "seal", &group]).ok();
    assert_eq!(follower.ended(), Some(0));
    broker.run(["group", "follow", "0190a5c2-7b1e-7c3d-8e4f-001122334455"]).fails(5, "there is no group");
}

#[test]
fn raw_bytes_of_children_are_told_as_text_or_in_base64() {
    let broker = Broker::start();
    let serve = ["--raw", "--exec", "a.text=cat", "--exec", "a.bytes=printf '\\377\\000'", "--exec", "log.it=cat"];
    let _worker = broker.worker(&serve);
    let group = broker.run(["group", "open", "--then", "log.it"]).ok().to_owned();
    for procedure in ["a.text", "a.bytes"] {
        broker.run(["call", procedure, "--raw", "one", "--detach", "--group", &group]).ok();
    }
    broker.run(["group", "seal", &group]).ok();
    let values = |text: &str| -> Vec<serde_json::Value> {
        let list: serde_json::Value = serde_json::from_str(text).unwrap();
        list.as_array().unwrap().iter().map(|child| child["value"].clone()).collect()
    };
    let expected = [serde_json::json!("one"), serde_json::json!({ "base64": "/wA=", "bytes": 2 })];
    assert_eq!(values(broker.run(["group", "result", &group, "--wait", "20s"]).ok()), expected);
    let all = broker.run(["group", "result", &group, "-o", "json"]).json();
    assert_eq!(values(&all["value"].to_string()), expected);
    // From the outcome of the group, and from those of its children one by one.
    let followed = |id: &str| -> Vec<serde_json::Value> {
        let lines = broker.run(["group", "follow", id]).ok().to_owned();
        let mut children: Vec<serde_json::Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        children.sort_by_key(|child| child["procedure"].to_string());
        assert!(children.iter().all(|child| child["state"] == "succeeded"), "{lines}");
        children.into_iter().map(|child| child["value"].clone()).rev().collect()
    };
    assert_eq!(followed(&group), expected);
    let open = broker.run(["group", "open", "--first", "3"]).ok().to_owned();
    for child in all["value"].as_array().unwrap() {
        broker.run(["group", "add", &open, child["id"].as_str().unwrap()]).ok();
    }
    broker.run(["call", "a.none", "--detach", "--group", &open, "--delay", "1h"]).ok();
    let mut command = broker.command(["group", "follow", &open]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut follower = Process::spawn(command);
    let lines = BufReader::new(follower.0.stdout.take().unwrap()).lines();
    let mut told: Vec<serde_json::Value> = lines
        .take(2)
        .map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap()["value"].clone())
        .collect();
    told.sort_by_key(|value| value.is_object());
    assert_eq!(told, expected);
    // Whoever is called with the list reads them, too.
    let status = broker.run(["status", &group, "-o", "json"]).json();
    let reduced = status["callbacks"][0]["id"].as_str().unwrap();
    until("the callback is there", || broker.run(["status", reduced]).code == Some(0));
    assert_eq!(values(broker.run(["result", reduced, "--wait", "20s"]).ok()), expected);
}
