//! Plain AMQP on one side: the Python examples, each against the Rust one, on a real server.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use xtask::services::{python, rabbitmq::Node};

/// A program that serves until the test is over.
struct Serving(Child, #[allow(dead_code, reason = "closing it would end the program")] BufReader<ChildStdout>);

impl Serving {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "serving rpc_queue\n");
        Self(child, output)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn python_example(name: &str) -> Command {
    let mut command = Command::new(python::with("pika").unwrap());
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python").join(name));
    command
}

/// An example of this crate. `cargo test --examples` builds examples as tests only, so that it is built here; with the
/// features of the whole workspace, as in CI, where nothing but the example itself is then left to build.
pub fn rust_example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "build",
        "--quiet",
        "--locked",
        "--workspace",
        "--features",
        "antiphon-cli/rabbitmq,antiphon-cli/kafka",
        "--example",
        name,
    ]);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "the example {name} is built");
    Command::new(profile.join("examples").join(name))
}

pub fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn a_plain_client_calls_an_antiphon_worker() {
    let node = Node::own("plain-client").unwrap();
    let url = format!("{}?reply_queue=response_queue", node.url());
    let _worker = Serving::start(rust_example("rpc_worker").arg(&url));
    let client = |arguments: &[&str]| said(python_example("rpc_client.py").arg(node.url()).args(arguments));
    assert!(client(&[]).ends_with(": fib(30) = 832040\n"));
    assert!(client(&["--no-reply-to"]).ends_with(": fib(30) = 832040\n"), "answered in the URL's reply queue");
    assert!(client(&["--num", "94"]).ends_with(": OUT_OF_RANGE: 94 is above 93\n"), "a failure is in the body");
}

#[test]
fn an_antiphon_caller_calls_a_plain_worker() {
    let node = Node::own("plain-worker").unwrap();
    let _worker = Serving::start(python_example("rpc_worker.py").arg(node.url()));
    let said = said(rust_example("rpc_caller").arg(node.url()));
    assert!(said.ends_with(": fib(30) = 832040\n"), "{said}");
}
