//! The README's program in a crate of its own, beside no other crate of ours but `antiphon`, with each kind of broker.

use antiphon_embedded::DriverOptions;
use antiphon_server::{Address, Server, ServerOptions};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What the program prints, whatever the broker.
const PRINTED: &str = "90000\nOUT_OF_RANGE: the square is too large; may have run: true\n1600\n";
/// How long building may take when nothing is compiled yet and the machine is busy.
const BUILD: Duration = Duration::from_secs(400);
/// How long one run may take.
const RUN: Duration = Duration::from_secs(30);

#[test]
fn the_readmes_program_runs_in_a_crate_of_its_own_with_every_broker() {
    let program = build();

    assert_prints(&program, &[]);
    assert_prints(&program, &["memory:"]);

    let data = tempfile::tempdir().unwrap();
    let url = format!("file:{}", data.path().join("data").display());
    assert_prints(&program, &[&url]);
    assert_prints(&program, &[&url]);

    let options =
        ServerOptions::new(DriverOptions { directory: Some(data.path().join("served")), ..DriverOptions::default() });
    let server = Server::new(options).listen(Address::Tcp("127.0.0.1:0".to_owned())).start().unwrap();
    let Some(Address::Tcp(address)) = server.local_address() else { panic!("it listens on TCP") };
    assert_prints(&program, &[&format!("antiphon://{address}")]);
    server.stop().unwrap();
}

#[test]
fn the_example_is_the_readmes_program() {
    let example = include_str!("../../examples/readme.rs");
    let code: Vec<&str> = example.lines().skip_while(|line| line.starts_with("//!")).skip(1).collect();
    assert_eq!(format!("{}\n", code.join("\n")), block("```rust,no_run\n"));
}

#[test]
fn the_readmes_program_is_about_thirty_lines() {
    let lines = block("```rust,no_run\n").lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines <= 30, "{lines} lines that are not empty");
}

/// The README's only block that begins with this line.
fn block(fence: &str) -> &'static str {
    let mut blocks = include_str!("../../../README.md").split(fence).skip(1);
    let found = blocks.next().and_then(|rest| rest.split("```").next()).expect("the README has such a block");
    assert!(blocks.next().is_none(), "the README has two blocks {fence}");
    found
}

/// Writes a crate with the README's program and the README's dependencies, and builds it. It stands outside of the
/// workspace, but shares the versions of its dependencies and what is compiled of them.
fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let made = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let target = made.parent().unwrap();
    let directory = made.join("readme-program");
    fs::create_dir_all(directory.join("src")).unwrap();
    let named = "antiphon = { path = \"../antiphon/crates/antiphon\" }\n";
    let here = format!("antiphon = {{ path = {:?} }}\n", root.join("crates/antiphon"));
    let dependencies = block("```toml\n");
    assert!(dependencies.contains(named), "{dependencies}");
    let package = "[package]\nname = \"readme-program\"\nversion = \"0.0.0\"\nedition = \"2024\"\n";
    let rest = "[workspace]\n\n[profile.dev]\ndebug = \"line-tables-only\"\n";
    let manifest = format!("{package}\n{}\n{rest}", dependencies.replace(named, &here));
    fs::write(directory.join("Cargo.toml"), manifest).unwrap();
    fs::write(directory.join("src/main.rs"), block("```rust,no_run\n")).unwrap();
    fs::copy(root.join("Cargo.lock"), directory.join("Cargo.lock")).unwrap();

    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--offline", "--quiet"]).current_dir(&directory).env("CARGO_TARGET_DIR", target);
    let output = run(cargo, BUILD);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    target.join("debug/readme-program").with_extension(std::env::consts::EXE_EXTENSION)
}

fn assert_prints(program: &Path, arguments: &[&str]) {
    let mut command = Command::new(program);
    command.args(arguments);
    let output = run(command, RUN);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {}: {complaint}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stdout), PRINTED, "{arguments:?}: {complaint}");
}

/// Runs a program to its end, which must come in time.
fn run(mut command: Command, patience: Duration) -> Output {
    let started = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > patience {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            panic!("{command:?} did not end: {}", String::from_utf8_lossy(&output.stderr));
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}
