//! Kafka: the broker `nisshi` from the registry of crates, which speaks Kafka's protocol and keeps everything in memory, or
//! in a file where a test kills it. It is built once, beside the nodes, and takes minutes for that. Kafka itself is in no registry that tests can reach.

use super::Service;
use super::place::{Place, directory, end, run, wait_until};
use anyhow::Context;
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

const VERSION: &str = "0.8.1";
/// What it keeps records in: memory, and a file.
const FEATURES: &str = "dynostore,libsql";
const START: Duration = Duration::from_secs(60);
const MEMORY: &str = "memory://nisshi/";
/// In the node's directory. What was confirmed is in the file when the process is killed; nothing is fsynced for it.
const FILE: &str = "sqlite://nisshi.db";

/// The kind of server.
pub struct Kafka;

impl Service for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn up(&self, place: &Place) -> anyhow::Result<()> {
        if self.url(place).is_some() {
            return Ok(());
        }
        let program = program()?;
        let port = place.port("port")?;
        let storage = place.fact("storage").unwrap_or_else(|| MEMORY.to_owned());
        let log = File::options().create(true).append(true).open(place.path().join("log"))?;
        let mut server = Command::new(program);
        server
            .args(["--listener-url", &listener(port), "--advertised-listener-url", &listener(port)])
            .args(["--storage-engine", &storage])
            // A group of one member need not wait for others.
            .args(["--group-initial-rebalance-delay", "0s", "--group-poll-interval", "50ms"])
            .env("RUST_LOG", "error")
            .current_dir(place.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        // Nobody waits for it: whoever stops it knows it by its process id.
        #[allow(clippy::zombie_processes, reason = "it outlives this process, which is where it is waited for")]
        let child = server.spawn().context("running nisshi")?;
        place.note("pid", &child.id().to_string())?;
        let answered = wait_until(START, || answers(port));
        answered.with_context(|| format!("the node does not answer on port {port}: {}", last_words(place)))
    }

    fn url(&self, place: &Place) -> Option<String> {
        let port: u16 = place.fact("port")?.parse().ok()?;
        (pid(place).is_some() && answers(port)).then(|| format!("kafka://127.0.0.1:{port}"))
    }

    fn down(&self, place: &Place) -> anyhow::Result<()> {
        pid(place).map_or(Ok(()), |pid| end(pid, "-KILL"))
    }
}

/// A node of a test: started when it is made, stopped when it is dropped, or the shared one.
pub struct Node {
    name: String,
    url: String,
    shared: bool,
}

impl Node {
    /// The node that tests share. It is started if nobody did, and left running.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn shared() -> anyhow::Result<Self> {
        Self::open(Kafka.name(), true, MEMORY)
    }

    /// A node that only this test uses.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn own(test: &str) -> anyhow::Result<Self> {
        Self::open(&format!("kafka-{test}-{}", std::process::id()), false, MEMORY)
    }

    /// A node that only this test uses, and may kill: it keeps what it has in a file.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn durable(test: &str) -> anyhow::Result<Self> {
        Self::open(&format!("kafka-{test}-{}", std::process::id()), false, FILE)
    }

    fn open(name: &str, shared: bool, storage: &str) -> anyhow::Result<Self> {
        let place = Place::open(Kafka.name(), name)?;
        place.note("storage", storage)?;
        Kafka.up(&place)?;
        let url = Kafka.url(&place).context("the node is gone as soon as it was there")?;
        Ok(Self { name: name.to_owned(), url, shared })
    }

    /// Where it is: `kafka://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Kills it with `SIGKILL`.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&self) -> anyhow::Result<()> {
        Kafka.down(&Place::open(Kafka.name(), &self.name)?)
    }

    /// Starts it again, at the same address and on what it had stored.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(&self) -> anyhow::Result<()> {
        Kafka.up(&Place::open(Kafka.name(), &self.name)?)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.shared {
            return;
        }
        let stopped =
            Place::open(Kafka.name(), &self.name).and_then(|place| Kafka.down(&place).and_then(|()| place.remove()));
        if let Err(error) = stopped {
            eprintln!("stopping the node {}: {error:#}", self.name);
        }
    }
}

/// The broker's program: the one of this version in the search path, or one that was built here.
fn program() -> anyhow::Result<PathBuf> {
    // Beside the nodes, so that it is not thrown away with them.
    let root = directory().with_file_name(format!("nisshi-{VERSION}-{}", FEATURES.replace(',', "-")));
    let program = root.join("bin/nisshi");
    fs::create_dir_all(&root)?;
    let lock = File::create(root.join(".lock"))?;
    lock.lock().context("locking the build of nisshi")?;
    if program.exists() {
        return Ok(program);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut install = Command::new(cargo);
    install
        .args(["install", "nisshi", "--version", VERSION, "--locked", "--debug", "--ignore-rust-version"])
        .args(["--no-default-features", "--features", FEATURES, "--root"])
        .arg(&root)
        // Its own build directory: other flags would build everything of ours anew.
        .env("CARGO_TARGET_DIR", root.join("build"))
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .current_dir(&root);
    run(&mut install).context("building nisshi from the registry of crates")?;
    fs::remove_dir_all(root.join("build"))?;
    Ok(program)
}

fn listener(port: u16) -> String {
    format!("tcp://127.0.0.1:{port}")
}

fn pid(place: &Place) -> Option<u32> {
    place.process("pid", &listener(place.fact("port")?.parse().ok()?))
}

fn answers(port: u16) -> bool {
    TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_secs(1)).is_ok()
}

/// What the node said last, for the error that it did not start.
fn last_words(place: &Place) -> String {
    let text = fs::read_to_string(place.path().join("log")).unwrap_or_default();
    let from = text.lines().count().saturating_sub(15);
    text.lines().skip(from).collect::<Vec<_>>().join("\n")
}
