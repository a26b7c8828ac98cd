//! Load from processes of their own, through the public client: callers that write down what they were told, workers
//! that serve them, and the check of what the callers wrote against the journal.

use crate::stage::{Broker, Process, antiphon, until};
use antiphon::{Antiphon, CallError, Failure};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Calls that one caller has on their way.
const IN_FLIGHT: u64 = 12;
/// How long calls may take to settle after the last fault: lost leases have to end first.
const SETTLE: Duration = Duration::from_secs(60);
/// Leases that end soon, and segments that fill up between two faults.
pub const CONFIG: &str = "[limits]\nlease_ms = 1000\n[journal]\nsegment_bytes = 1048576\n";

#[antiphon::service]
trait Load {
    #[procedure(idempotent)]
    async fn repeatable(&self, n: u64) -> Result<u64, Failure>;
    async fn plain(&self, n: u64) -> Result<u64, Failure>;
    #[procedure(at_most_once)]
    async fn once(&self, n: u64) -> Result<u64, Failure>;
}

struct Echo;

impl Load for Echo {
    async fn repeatable(&self, n: u64) -> Result<u64, Failure> {
        Ok(n)
    }

    async fn plain(&self, n: u64) -> Result<u64, Failure> {
        // Some run while a fault comes.
        tokio::time::sleep(Duration::from_millis(n % 7)).await;
        Ok(n)
    }

    async fn once(&self, n: u64) -> Result<u64, Failure> {
        Ok(n)
    }
}

/// This program again, as one of the processes below.
fn process(test: &str, url: &str, ledger: &Path) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]);
    command.env("ANTIPHON_URL", url).env("ANTIPHON_LEDGER", ledger);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    Process::spawn(command)
}

/// Where callers write; outlives the broker's disk.
pub struct Ledgers {
    directory: PathBuf,
    callers: AtomicU32,
}

impl Ledgers {
    pub fn in_directory_of(broker: &Broker) -> Self {
        Self::new(broker.directory.path())
    }

    pub fn new(beside: &Path) -> Self {
        let directory = beside.join("ledgers");
        fs::create_dir(&directory).unwrap();
        Self { directory, callers: AtomicU32::new(0) }
    }

    pub fn caller(&self, url: &str) -> Process {
        let number = self.callers.fetch_add(1, Ordering::Relaxed);
        process("load::a_caller_that_keeps_a_ledger", url, &self.directory.join(number.to_string()))
    }

    /// Lines written so far.
    pub fn lines(&self) -> usize {
        self.read().len()
    }

    fn read(&self) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        for ledger in fs::read_dir(&self.directory).unwrap().flatten() {
            for line in fs::read_to_string(ledger.path()).unwrap().lines() {
                let (word, id) = line.split_once(' ').unwrap();
                lines.push((word.to_owned(), id.to_owned()));
            }
        }
        lines
    }
}

pub fn worker(url: &str) -> Process {
    process("load::a_worker", url, Path::new(""))
}

/// Ends with the test that started it.
fn end_with_stdin() {
    drop(thread::spawn(|| {
        drop(io::stdin().read(&mut [0]));
        std::process::exit(0);
    }));
}

async fn connect(url: &str) -> Antiphon {
    loop {
        match Antiphon::connect(url).await {
            Ok(antiphon) => return antiphon,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

fn block_on(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, future);
}

#[test]
#[ignore = "a process of other tests"]
fn a_worker() {
    let Ok(url) = std::env::var("ANTIPHON_URL") else { return };
    end_with_stdin();
    block_on(async {
        let antiphon = connect(&url).await;
        let started = loop {
            match antiphon.worker().service(LoadService::new(Echo)).slots(8).start().await {
                Ok(worker) => break worker,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        std::future::pending::<()>().await;
        drop(started);
    });
}

#[test]
#[ignore = "a process of other tests"]
fn a_caller_that_keeps_a_ledger() {
    let (Ok(url), Ok(ledger)) = (std::env::var("ANTIPHON_URL"), std::env::var("ANTIPHON_LEDGER")) else { return };
    end_with_stdin();
    block_on(async {
        let ledger = Rc::new(RefCell::new(File::create(ledger).unwrap()));
        let antiphon = connect(&url).await;
        let lines =
            (0..IN_FLIGHT).map(|line| tokio::task::spawn_local(call_for_ever(antiphon.clone(), line, ledger.clone())));
        for line in lines.collect::<Vec<_>>() {
            line.await.unwrap();
        }
    });
}

/// Submits one call after the other; what is acknowledged is written down as soon as it is.
async fn call_for_ever(antiphon: Antiphon, line: u64, ledger: Rc<RefCell<File>>) {
    let load = LoadClient::new(&antiphon);
    // One write per line: a kill cuts none in two.
    let write = |text: String| ledger.borrow_mut().write_all(text.as_bytes()).unwrap();
    for number in (line..).step_by(IN_FLIGHT as usize) {
        let call = match number % 10 {
            5 => load.once(number),
            even if even % 2 == 0 => load.repeatable(number),
            _ => load.plain(number),
        };
        let Ok(mut call) = call.durable().submit().await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let Ok(accepted) = call.accepted().await else { continue };
        write(format!("accepted {}\n", accepted.id));
        match call.settled().await {
            Ok(settled) => write(format!("{} {}\n", settled.state, settled.id)),
            // Its fate is unknown to this caller; the journal must have it all the same.
            Err(CallError::Unknown(_)) => (),
            Err(error) => write(format!("refused {error}\n")),
        }
    }
}

/// Waits, with one worker that lives, until nothing waits or runs any more.
pub fn settle(broker: &Broker) {
    let _worker = worker(&broker.url);
    let give_up = Instant::now() + SETTLE;
    until("the broker answers", || broker.run(["ping"]).code == Some(0));
    loop {
        let json = broker.run(["ping", "-o", "json"]).json();
        let calls: Vec<u64> = json["broker"]["calls"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
        if calls[..3].iter().sum::<u64>() == 0 {
            return;
        }
        assert!(Instant::now() < give_up, "calls have not settled within {SETTLE:?}: {json}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// What the journal has of one call.
#[derive(Default)]
struct Told<'a> {
    /// Compaction copies records: another settlement has another time or state.
    settled: HashSet<(&'a str, u64)>,
    tokens: Vec<u64>,
}

/// Every call that a ledger has as accepted is settled once in the journal, in the state that its caller was told, and the
/// tokens of its leases grow. Answers how many calls were accepted.
pub fn check(data: &Path, ledgers: &Ledgers) -> usize {
    let dumped = antiphon(&["journal", "dump", data.to_str().unwrap(), "-o", "jsonl"]);
    let journal: Vec<Value> = dumped.ok().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut calls: HashMap<&str, Told<'_>> = HashMap::new();
    for entry in &journal {
        let (Some(call), fields) = (entry["call"].as_str(), &entry["fields"]) else { continue };
        let told = calls.entry(call).or_default();
        match entry["kind"].as_str() {
            Some("Settled") => {
                told.settled.insert((fields["state"].as_str().unwrap(), fields["at_ms"].as_u64().unwrap()));
            }
            Some("Leased") => told.tokens.extend(fields["token"].as_u64()),
            _ => (),
        }
    }
    let state = |id: &str| match calls.get(id)?.settled.iter().collect::<Vec<_>>().as_slice() {
        [(state, _)] => Some(*state),
        _ => None,
    };
    let mut wrong = Vec::new();
    let (mut accepted, mut told) = (HashSet::new(), HashSet::new());
    for (word, id) in ledgers.read() {
        let is_right = match word.as_str() {
            "accepted" => accepted.insert(id.clone()) && state(&id).is_some(),
            word => told.insert(id.clone()) && state(&id) == Some(word),
        };
        if !is_right {
            wrong.push((word, id));
        }
    }
    for (id, told) in &calls {
        if told.tokens.windows(2).any(|pair| pair[0] > pair[1]) {
            wrong.push(("tokens that go back:".to_owned(), (*id).to_owned()));
        }
    }
    println!("{} accepted, {} told, {} in the journal", accepted.len(), told.len(), calls.len());
    for (word, id) in wrong.iter().take(5) {
        println!("{word} {id}, but the journal has");
        journal.iter().filter(|entry| entry["call"] == id.as_str()).for_each(|entry| println!("  {entry}"));
    }
    assert!(wrong.is_empty(), "{} lines of the ledgers are wrong", wrong.len());
    accepted.len()
}

/// How many faults a test makes: what it was asked for, or its own number.
pub fn faults(own: u32) -> u32 {
    std::env::var("ANTIPHON_PROVE_FAULTS").map_or(own, |number| number.parse().expect("a number of faults"))
}

/// xorshift64*.
pub struct Random(pub u64);

impl Random {
    /// By `ANTIPHON_SEED`, or by chance; printed, so that it can be given.
    pub fn seeded() -> Self {
        let given = std::env::var("ANTIPHON_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes).unwrap();
            u64::from_le_bytes(bytes) | 1
        });
        println!("ANTIPHON_SEED={seed}");
        Self(seed)
    }

    /// Another one, for another thread.
    pub fn branch(&mut self) -> Self {
        Self(self.up_to(u64::MAX - 1) | 1)
    }

    pub fn up_to(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % (limit + 1)
    }
}
