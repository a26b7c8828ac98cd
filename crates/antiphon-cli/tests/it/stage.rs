//! Processes of the program under test. Each ends when it is dropped, and brokers also when this process is gone.

use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take before it is called stuck.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// The program under test.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_antiphon"));
    command.env_remove("ANTIPHON_URL").env_remove("NO_COLOR");
    command
}

/// What a finished command left behind.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Its output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Its output, if it succeeded.
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout.trim_end()
    }

    /// Asserts an exit code and a part of what it said.
    pub fn fails(&self, code: i32, text: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.contains(text), "{text:?} is not in {self:?}");
    }
}

/// Runs a command to its end, with this on stdin.
pub fn run_with(mut command: Command, stdin: &[u8]) -> Ran {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let stdin = stdin.to_vec();
    // The program may end without reading.
    let feed = thread::spawn(move || drop(pipe.write_all(&stdin)));
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        err.read_to_end(&mut text).unwrap();
        text
    });
    let mut stdout = Vec::new();
    out.read_to_end(&mut stdout).unwrap();
    let stderr = reader.join().unwrap();
    feed.join().unwrap();
    let status = child.wait().unwrap();
    Ran {
        code: status.code(),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

/// Runs the program without a broker.
pub fn antiphon(arguments: &[&str]) -> Ran {
    let mut command = program();
    command.args(arguments);
    run_with(command, b"")
}

/// A process that is killed when it is dropped.
pub struct Process(pub Child);

impl Process {
    pub fn spawn(mut command: Command) -> Self {
        Self(command.spawn().unwrap())
    }

    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// The same of one that may have ended by itself.
    pub fn kill_if_running(&mut self) {
        if self.0.try_wait().unwrap().is_none() {
            self.kill();
        }
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        let status = Command::new("kill").arg(self.0.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end and answers its exit code.
    pub fn ended(&mut self) -> Option<i32> {
        let child = &mut self.0;
        let mut status = None;
        until("the process has ended", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A broker with a data directory of its own.
pub struct Broker {
    pub process: Process,
    pub url: String,
    data: PathBuf,
    pub directory: TempDir,
}

impl Broker {
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts it with this configuration.
    pub fn start_with(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        Self::start_in(directory, data, config)
    }

    /// Starts it with its data on some other disk.
    pub fn start_on(data: &Path, config: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), data.to_path_buf(), config)
    }

    fn start_in(directory: TempDir, data: PathBuf, config: &str) -> Self {
        let path = directory.path().join("antiphon.toml");
        fs::write(&path, config).unwrap();
        let (process, url) = serve(&data, "127.0.0.1:0", Some(&path));
        Self { process, url, data, directory }
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    /// `HOST:PORT`.
    pub fn address(&self) -> &str {
        self.url.strip_prefix("antiphon://").unwrap()
    }

    /// Kills it and starts it again on the same data and port.
    pub fn kill_and_restart(&mut self) {
        self.process.kill();
        self.restart();
    }

    /// Starts it again after it has ended.
    pub fn restart(&mut self) {
        let config = self.directory.path().join("antiphon.toml");
        let (process, _) = serve(&self.data, self.url.strip_prefix("antiphon://").unwrap(), Some(&config));
        self.process = process;
    }

    /// Asks it to end.
    pub fn stop(&mut self) {
        self.process.terminate();
        assert_eq!(self.process.ended(), Some(0));
    }

    /// The program, to be run against this broker.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = program();
        command.args(arguments).env("ANTIPHON_URL", &self.url);
        command
    }

    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ran {
        run_with(self.command(arguments), b"")
    }

    /// Starts a worker and waits until the broker knows it.
    pub fn worker(&self, arguments: &[&str]) -> Process {
        let before = self.workers();
        let mut command = self.command(["worker"]);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Process::spawn(command);
        until("the worker is connected", || self.workers() > before);
        process
    }

    fn workers(&self) -> usize {
        self.run(["worker", "ls", "-o", "json"]).json().as_array().unwrap().len()
    }

    /// The state of a call.
    pub fn state(&self, id: &str) -> String {
        self.run(["status", id, "-o", "json"]).json()["state"].as_str().unwrap().to_owned()
    }
}

/// Starts a broker and waits until it serves; answers its URL too.
pub fn serve(data: &Path, address: &str, config: Option<&Path>) -> (Process, String) {
    let mut command = program();
    command.args(["serve", "--http", "none", "--until-stdin-ends", "-o", "jsonl", "--listen", address, "--data"]);
    command.arg(data);
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = Process::spawn(command);
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("the broker is not ready: {error}"));
    let url = ready["listen"][0].as_str().unwrap().to_owned();
    (process, url)
}

/// Waits until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < give_up, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
