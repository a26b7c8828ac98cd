//! `serve`: its ready line, its end, and why it does not start.

use crate::stage::{Broker, Process, antiphon, program, run_with, serve, until};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

#[test]
fn it_says_when_it_is_ready_and_what_it_recovered() {
    let mut broker = Broker::start();
    for _ in 0..3 {
        broker.run(["call", "a.b", "--detach"]).ok();
    }
    broker.process.kill();
    let mut command = program();
    command.args(["serve", "--http", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--data"]).arg(broker.data());
    let mut process = Process::spawn({
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        command
    });
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("serves antiphon://127.0.0.1:"), "{line}");
    assert!(line.contains("3 waiting and 0 settled calls recovered in "), "{line}");
    let http = line.split("http://").nth(1).unwrap().split(',').next().unwrap();
    assert!(get(http, "/livez").starts_with("HTTP/1.1 200"));
    assert!(get(http, "/readyz").starts_with("HTTP/1.1 200"));
    assert!(get(http, "/metrics").contains("antiphon_"));
    process.terminate();
    assert_eq!(process.ended(), Some(0));
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn it_listens_on_unix_sockets_too() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    let listen = format!("unix:{}", socket.display());
    let mut command = program();
    command.args(["serve", "--memory", "--http", "none", "--listen", &listen]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _broker = Process::spawn(command);
    until("the socket is there", || socket.exists());
    let url = format!("antiphon+unix://{}", socket.display());
    assert!(antiphon(&["ping", "--url", &url]).ok().contains("volatile"));
}

#[test]
fn a_port_in_use_and_a_directory_in_use_are_told() {
    let broker = Broker::start();
    let other = broker.directory.path().join("other");
    let other = other.to_str().unwrap();
    let data = broker.data().to_str().unwrap();
    antiphon(&["serve", "--http", "none", "--listen", broker.address(), "--data", other]).fails(1, "cannot listen on");
    let taken = antiphon(&["serve", "--http", "none", "--listen", "127.0.0.1:0", "--data", data]);
    taken.fails(1, &format!("in use by process {}", broker.process.0.id()));
    antiphon(&["serve", "--http", broker.address(), "--listen", "127.0.0.1:0", "--data", other]).fails(1, "--http");
}

#[test]
fn other_machines_are_let_in_only_when_asked() {
    let memory = ["serve", "--memory", "--http", "none", "--listen"];
    antiphon(&[&memory[..], &["0.0.0.0:0"]].concat()).fails(2, "--insecure");
    antiphon(&["serve", "--memory", "--listen", "127.0.0.1:0", "--http", "0.0.0.0:0"]).fails(2, "--insecure");
}

#[test]
fn a_directory_that_cannot_be_used_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let under = file.join("data");
    let listen = ["serve", "--http", "none", "--listen", "127.0.0.1:0", "--data"];
    antiphon(&[&listen[..], &[under.to_str().unwrap()]].concat()).fails(1, "cannot use the data directory");
    // Even root cannot write there.
    antiphon(&[&listen[..], &["/proc/antiphon"]].concat()).fails(1, "cannot use the data directory");
}

#[test]
fn a_damaged_journal_is_named_and_kept() {
    let mut broker = Broker::start();
    for _ in 0..20 {
        broker.run(["call", "a.b", "--detach"]).ok();
    }
    broker.stop();
    let segment = broker.data().join("segment-00000001");
    let mut bytes = fs::read(&segment).unwrap();
    for byte in &mut bytes[700..720] {
        *byte ^= 0xff;
    }
    fs::write(&segment, &bytes).unwrap();
    let data = broker.data().to_str().unwrap();
    let refused = antiphon(&["serve", "--http", "none", "--listen", "127.0.0.1:0", "--data", data]);
    refused.fails(1, "segment-00000001 is damaged in bytes");
    let verified = antiphon(&["journal", "verify", data]);
    verified.fails(1, "damaged");
    assert!(verified.stdout.contains("damaged: "), "{verified:?}");
    assert_eq!(fs::read(&segment).unwrap(), bytes, "nothing was changed");
}

#[test]
fn a_configuration_file_is_obeyed_and_checked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("antiphon.toml");
    let with = |text: &str| {
        fs::write(&path, text).unwrap();
        let mut command = program();
        command.args(["serve", "--config"]).arg(&path);
        run_with(command, b"")
    };
    with("dtaa = \"x\"").fails(2, "unknown field `dtaa`");
    with("listen = [\"nowhere\"]\nlog_format = \"xml\"").fails(2, "unknown variant `xml`");
    with("[limits]\nlease_ms = 1").fails(2, "lease_ms");
    with("memory = true\ndata = \"x\"").fails(2, "keep one");
    with("memory = true\nhttp = \"none\"\nlisten = [\"0.0.0.0:0\"]").fails(2, "--insecure");
}

#[test]
fn a_setting_out_of_range_is_told_with_its_range() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("antiphon.toml");
    let cases = [
        ("limits", "heartbeat_ms", "99", "100 to 86400000"),
        ("limits", "connections_max", "0", "1 to"),
        ("limits", "calls_max", "0", "1 to"),
        ("limits", "routes_max", "0", "1 to"),
        ("limits", "inbox_calls_max", "0", "1 to"),
        ("limits", "procedures_max", "0", "1 to"),
        ("limits", "lease_ms", "99", "100 to 86400000"),
        ("limits", "lost_leases_max", "0", "1 to 255"),
        ("limits", "payload_bytes_max", "16777217", "1 to 16777216"),
        ("limits", "outcome_ms", "9000000000000000000", "0 to"),
        ("limits", "dead_letter_ms", "9000000000000000000", "0 to"),
        ("journal", "segment_bytes", "65535", "65536 to 1073741824"),
        ("journal", "segment_bytes", "1073741825", "65536 to 1073741824"),
    ];
    for (table, key, value, range) in cases {
        fs::write(&path, format!("[{table}]\n{key} = {value}\n")).unwrap();
        let mut command = program();
        command.args(["serve", "--memory", "--until-stdin-ends", "--http", "none", "--listen", "127.0.0.1:0"]);
        command.arg("--config").arg(&path);
        run_with(command, b"").fails(2, &format!("{table}.{key} = {value} is out of range: it is {range}"));
    }
}

#[test]
fn the_most_procedures_and_dead_letters_can_be_set() {
    let broker = Broker::start_with("[limits]\nprocedures_max = 1\ndead_letters_max = 1\n");
    let _worker = broker.worker(&["--exec", "fail.always=exit 75"]);
    broker.run(["call", "an.other", "--detach"]).fails(6, "procedures");
    for _ in 0..2 {
        assert_eq!(broker.run(["call", "fail.always", "--attempts", "1"]).code, Some(1));
    }
    assert_eq!(broker.run(["dead", "ls", "-o", "json"]).json().as_array().unwrap().len(), 1);
}

#[test]
fn a_filter_of_logs_that_says_nothing_is_told() {
    let with = |filter: &str| {
        let mut command = program();
        command.args(["serve", "--memory", "--until-stdin-ends", "--http", "none", "--listen", "127.0.0.1:0"]);
        command.env("ANTIPHON_LOG", filter);
        run_with(command, b"")
    };
    with("a=b=c").fails(2, "ANTIPHON_LOG=a=b=c");
    with("debgu").fails(2, "ANTIPHON_LOG=debgu");
    for filter in ["", "debug", "INFO,antiphon_server=debug"] {
        assert_ne!(with(filter).code, Some(2), "{filter}");
    }
}

#[test]
fn a_memory_broker_refuses_what_must_be_durable_and_takes_the_rest() {
    let mut command = program();
    command.args([
        "serve",
        "--memory",
        "--http",
        "none",
        "--listen",
        "127.0.0.1:0",
        "-o",
        "jsonl",
        "--until-stdin-ends",
    ]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = Process::spawn(command);
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    let url = ready["listen"][0].as_str().unwrap();
    antiphon(&["call", "a.b", "--detach", "--url", url]).ok();
    antiphon(&["call", "a.b", "--detach", "--volatile", "--url", url]).ok();
}

#[test]
fn a_broker_that_was_started_for_another_program_ends_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let (mut process, _) = serve(&directory.path().join("data"), "127.0.0.1:0", None);
    drop(process.0.stdin.take());
    assert_eq!(process.ended(), Some(0));
}
