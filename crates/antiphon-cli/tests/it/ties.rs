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
