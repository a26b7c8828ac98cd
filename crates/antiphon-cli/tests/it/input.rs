//! Bad input: one line that says what to do, and the exit code that fits.

use crate::stage::{Broker, antiphon, program, run_with};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

#[test]
fn a_wrong_command_line_is_told_before_anybody_is_asked() {
    let long = "a".repeat(256);
    let cases: &[(&[&str], &str)] = &[
        (&["call"], "<PROCEDURE>"),
        (&["call", "Text.Count"], "characters outside a-z 0-9 _ . -"),
        (&["call", ""], "a name is empty"),
        (&["call", &long], "256 bytes: at most 255"),
        (&["call", "a.b", "{"], "not JSON"),
        (&["call", "a.b", "word"], "needs quotes"),
        (&["call", "a.b", ""], "the argument is empty"),
        (&["call", "a.b", "@/no/such/file"], "cannot read /no/such/file"),
        (&["call", "a.b", "--priority", "10"], "0 to 9"),
        (&["call", "a.b", "--priority", "-1"], "0 to 9"),
        (&["call", "a.b", "--deadline", "-5s"], "lies in the past"),
        (&["call", "a.b", "--deadline", "2001-01-01T00:00:00Z"], "lies in the past"),
        (&["call", "a.b", "--deadline", "soon"], "neither a duration nor an instant"),
        (&["call", "a.b", "--attempt-timeout", "-1s"], "not negative"),
        (&["call", "a.b", "--delay", "later"], "not a duration"),
        (&["call", "a.b", "--not-before", "later"], "neither a duration nor an instant"),
        (&["call", "a.b", "--attempts", "0"], "1..=65535"),
        (&["call", "a.b", "--tenant", "A B"], "characters outside"),
        (&["call", "a.b", "--idempotency-key", ""], "empty"),
        (&["result", "17"], "not a call id"),
        (&["ls", "--state", "running"], "scheduled, ready, leased"),
        (&["worker"], "nothing to serve"),
        (&["worker", "--exec", "a.b"], "PROCEDURE=COMMAND"),
        (&["worker", "--exec", "a.b=true", "--exec", "a.b=false"], "served twice"),
        (&["worker", "--exec", "a.b=true", "--slots", "0"], "1..=65536"),
        (&["cancel"], "either ids, or filters"),
        (&["ping", "--url", "http//:"], "not a broker's address"),
        (&["ping", "--url", "file:/no/such/data"], "antiphon serve --data"),
        (&["ping", "--url", "memory:"], "antiphon serve --memory"),
        (&["journal", "verify", "/no/such/directory"], "cannot read"),
        (&["journal", "dump", "/"], "holds no journal"),
        (&["demo", "/no/such/directory"], "cannot read"),
        (&["frobnicate"], "unrecognized"),
    ];
    for (arguments, text) in cases {
        antiphon(arguments).fails(2, text);
    }
}

#[test]
fn what_is_not_utf_8_is_told_where() {
    let mut command = program();
    command.args(["call", "a.b", "-"]);
    run_with(command, b"\"caf\xe9\"").fails(2, "not UTF-8 at byte 4");
    let mut command = program();
    command.args([OsStr::new("call"), OsStr::new("a.b"), OsStr::from_bytes(b"\"\xff\"")]);
    run_with(command, b"").fails(2, "UTF-8");
}

#[test]
fn without_a_broker_the_exit_code_is_3() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("antiphon://127.0.0.1:{port}");
    for arguments in [&["ping"][..], &["ls"], &["call", "a.b"], &["worker", "--exec", "a.b=true"]] {
        antiphon(&[arguments, &["--url", &url]].concat()).fails(3, "antiphon serve");
    }
}

#[test]
fn an_id_that_was_never_seen_is_5() {
    let broker = Broker::start();
    let id = "01a1fccc-a31f-79f1-b8c2-9df2b76e5c8c";
    broker.run(["result", id]).fails(5, "never seen");
    broker.run(["status", id]).fails(5, "never seen");
    let cancelled = broker.run(["cancel", id]);
    assert_eq!(cancelled.code, Some(5), "{cancelled:?}");
    broker.run(["queue", "show", "no.such"]).fails(5, "no calls or workers");
}

#[test]
fn what_the_broker_does_not_take_is_6() {
    let broker = Broker::start();
    let file = broker.directory.path().join("large");
    fs::write(&file, vec![b'1'; 17 << 20]).unwrap();
    let at = format!("@{}", file.display());
    broker.run(["call", "a.b", &at, "--raw"]).fails(6, "at most 16777216");
    broker.run(["call", "a.b", "--require-worker"]).fails(6, "no worker serves a.b");
    let key = ["call", "a.b", "--detach", "--idempotency-key", "k"];
    let first = broker.run(key.iter().chain(&["1"])).ok().to_owned();
    assert_eq!(broker.run(key.iter().chain(&["1"])).ok(), first);
    broker.run(key.iter().chain(&["2"])).fails(6, "ALREADY_EXISTS");
    // Nothing of all that was taken.
    assert_eq!(broker.run(["ls", "-o", "json"]).json().as_array().unwrap().len(), 1);
}

#[test]
fn a_call_that_does_not_settle_in_time_is_4() {
    let broker = Broker::start();
    let id = broker.run(["call", "a.b", "--detach"]).ok().to_owned();
    broker.run(["result", &id]).fails(4, "--wait");
    broker.run(["result", &id, "--wait", "200ms"]).fails(4, "has not settled");
}

#[test]
fn a_name_that_nobody_serves_is_told_with_the_nearest_one() {
    let broker = Broker::start();
    let _worker = broker.worker(&["--exec", "text.count=wc -w"]);
    let called = broker.run(["call", "text.cuont", "--deadline", "1500ms"]);
    called.fails(1, "did you mean text.count?");
    called.fails(1, "DEADLINE_EXCEEDED");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let broker = Broker::start();
    for _ in 0..3 {
        broker.run(["call", "a.b", "--detach"]).ok();
    }
    let mut command = broker.command(["ls", "-o", "jsonl"]);
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), &b""[..]));
}
