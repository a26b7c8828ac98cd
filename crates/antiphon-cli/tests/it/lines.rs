//! `worker --lines`: processes that live on, a JSON line in and a JSON line out.

use crate::stage::{Broker, until};
use std::fs;

#[test]
fn one_process_answers_call_after_call() {
    let broker = Broker::start();
    let _worker = broker.worker(&[
        "--slots",
        "1",
        "--lines",
        "count.calls=n=0; while read -r line; do n=$((n+1)); echo \"{\\\"value\\\": $n}\"; done",
    ]);
    for n in ["1", "2", "3"] {
        assert_eq!(broker.run(["call", "count.calls", "{\"a\":\n1}"]).ok(), n);
    }
}

#[test]
fn a_line_tells_the_call_and_its_argument() {
    let broker = Broker::start();
    let _worker = broker.worker(&["--lines", "line.back=while read -r line; do echo \"{\\\"value\\\": $line}\"; done"]);
    let json = broker.run(["call", "line.back", "[1,\n 2]", "-o", "json"]).json();
    let value = &json["value"];
    assert_eq!((&value["call"], &value["attempt"]), (&json["id"], &1.into()));
    assert_eq!(value["argument"], serde_json::json!([1, 2]));
    assert_eq!(value["procedure"], "line.back");
}

#[test]
fn a_failure_says_whether_to_try_again() {
    let broker = Broker::start();
    let failure = |code: &str, retryable: bool| {
        format!(
            "{{\\\"failure\\\":{{\\\"code\\\":\\\"{code}\\\",\\\"message\\\":\\\"no\\\",\\\"retryable\\\":{retryable}}}}}"
        )
    };
    let serve = |name: &str, line: &str| format!("{name}=while read -r line; do echo \"{line}\"; done");
    let _worker = broker.worker(&[
        "--lines",
        &serve("fail.once", &failure("OUT_OF_RANGE", false)),
        "--lines",
        &serve("fail.again", &failure("ABORTED", true)),
        "--lines",
        &serve("fail.broken", "hello"),
    ]);
    broker.run(["call", "fail.once"]).fails(1, "OUT_OF_RANGE: no");
    let again = broker.run(["call", "fail.again", "--attempts", "2", "-o", "json"]).json();
    assert_eq!((&again["state"], &again["attempts"]), (&"dead".into(), &2.into()));
    broker.run(["call", "fail.broken"]).fails(1, "neither");
}

#[test]
fn a_process_that_dies_is_started_again_and_its_call_tried_again() {
    let broker = Broker::start();
    let mark = broker.directory.path().join("mark");
    let serve = format!(
        "die.once=read -r line; if test -e {0}; then echo '{{\"value\": \"second\"}}'; else touch {0}; exit 3; fi",
        mark.display()
    );
    let _worker = broker.worker(&["--slots", "1", "--lines", &serve]);
    let json = broker.run(["call", "die.once", "-o", "json"]).json();
    assert_eq!((&json["value"], &json["attempts"]), (&"second".into(), &2.into()));
    // It ended after its answer; the next call starts another.
    assert_eq!(broker.run(["call", "die.once"]).ok(), "\"second\"");
}

#[test]
fn cancelling_ends_the_process_and_the_next_call_starts_another() {
    let broker = Broker::start();
    let pids = broker.directory.path().join("pids");
    let serve = format!(
        "hang.first=echo $$ >> {0}; read -r line; test $(wc -l < {0}) = 1 && sleep 1000; echo '{{\"value\": 2}}'",
        pids.display()
    );
    let _worker = broker.worker(&["--slots", "1", "--lines", &serve]);
    let id = broker.run(["call", "hang.first", "--detach"]).ok().to_owned();
    until("the process runs", || fs::read_to_string(&pids).is_ok_and(|text| !text.is_empty()));
    broker.run(["cancel", &id]).ok();
    assert_eq!(broker.run(["call", "hang.first"]).ok(), "2");
}

#[test]
fn what_a_process_tells_on_the_way_goes_to_stderr() {
    let broker = Broker::start();
    let serve = "step.by=while read -r line; do echo '{\"progress\": {\"done\": 1}}'; echo '{\"progress\": \"half\"}'; \
                 echo '{\"value\": 7}'; done";
    let _worker = broker.worker(&["--slots", "1", "--lines", serve]);
    let ran = broker.run(["call", "step.by", "--progress"]);
    assert_eq!((ran.ok(), ran.stderr.as_str()), ("7", "{\"done\":1}\n\"half\"\n"));
    // What was kept comes to who asks later, too.
    let id = broker.run(["call", "step.by", "--detach"]).ok().to_owned();
    assert_eq!(broker.run(["result", &id, "--wait", "30s"]).ok(), "7");
    let later = broker.run(["result", &id, "--progress", "-o", "jsonl"]);
    let told: Vec<serde_json::Value> = later.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&told[0]["progress"]["done"], &told[1]["progress"]), (&1.into(), &"half".into()));
    assert_eq!((&told[0]["attempt"], &told[1]["id"]), (&1.into(), &id.as_str().into()));
    assert!(broker.run(["call", "step.by"]).stderr.is_empty(), "without --progress nothing is told");
}
