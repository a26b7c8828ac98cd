//! SIGKILL, again and again: the broker, workers and callers under load. Whatever was acknowledged has exactly one
//! outcome in the end.

use crate::stage::{Broker, Process, antiphon, program};
use antiphon_broker::{Broker as _, Event, Inbox, Sink, Submission, Wants};
use antiphon_protocol::{Call, CallId, CallerId, Durability, Name, Payload, Route};
use antiphon_wire::{Remote, RemoteOptions};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// How often the broker is killed; workers and callers are killed at least as often.
const KILLS: u32 = 200;
/// Calls that one caller has on their way.
const IN_FLIGHT: usize = 12;
const CALLERS: usize = 2;
const WORKERS: usize = 2;
/// Leases that end soon, and segments that fill up between two kills: every restart closes one.
const CONFIG: &str = "[limits]\nlease_ms = 1000\n[journal]\nsegment_bytes = 1048576\n";
/// How long the calls may take to settle after the last kill: lost leases have to end first.
const SETTLE: Duration = Duration::from_secs(60);

#[test]
fn every_acknowledged_call_has_one_outcome_however_often_processes_are_killed() {
    let seed = seed();
    println!("ANTIPHON_SEED={seed}");
    let mut broker = Broker::start_with(CONFIG);
    let ledgers = broker.directory.path().join("ledgers");
    fs::create_dir(&ledgers).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let kills: [Arc<AtomicU32>; 2] = Default::default();
    let mut threads = Vec::new();
    for number in 0..WORKERS {
        let url = broker.url.clone();
        threads.push(killing(seed ^ (1 + number as u64), &stop, &kills[0], move || worker(&url)));
    }
    for number in 0..CALLERS {
        let (url, ledgers) = (broker.url.clone(), ledgers.clone());
        threads.push(killing(seed ^ (101 + number as u64), &stop, &kills[1], move || caller(&url, &ledgers)));
    }
    let mut random = Random(seed);
    let began = Instant::now();
    for _ in 0..KILLS {
        thread::sleep(Duration::from_millis(random.up_to(300)));
        broker.kill_and_restart();
    }
    while kills.iter().any(|kills| kills.load(Ordering::Relaxed) < KILLS) {
        thread::sleep(Duration::from_millis(50));
    }
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    println!("killed after {:?}: workers {:?}, callers {:?}", began.elapsed(), kills[0], kills[1]);
    settle(&broker);
    println!("settled after {:?}", began.elapsed());
    broker.stop();
    check(&broker, &ledgers);
}

/// Starts a process, kills it after a while, and starts another, until told to stop.
fn killing(
    seed: u64,
    stop: &Arc<AtomicBool>,
    kills: &Arc<AtomicU32>,
    start: impl Fn() -> Process + Send + 'static,
) -> thread::JoinHandle<()> {
    let (stop, kills) = (Arc::clone(stop), Arc::clone(kills));
    let mut random = Random(seed);
    thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let mut process = start();
            thread::sleep(Duration::from_millis(50 + random.up_to(600)));
            process.kill();
            kills.fetch_add(1, Ordering::Relaxed);
        }
    })
}

fn worker(url: &str) -> Process {
    let mut command = program();
    command.args(["worker", "--slots", "8", "--url", url]);
    command.args(["--lines", "kill.echo=while read -r line; do echo '{\"value\": 1}'; done"]);
    Process::spawn({
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    })
}

/// This program again, as the process below.
fn caller(url: &str, ledgers: &Path) -> Process {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let ledger = ledgers.join(NUMBER.fetch_add(1, Ordering::Relaxed).to_string());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "kill::a_caller_that_keeps_a_ledger", "--ignored", "--nocapture"]);
    command.env("ANTIPHON_URL", url).env("ANTIPHON_LEDGER", ledger);
    Process::spawn({
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    })
}

/// Submits for ever, and writes down what is acknowledged as soon as it is.
#[test]
#[ignore = "a process of the test above"]
fn a_caller_that_keeps_a_ledger() {
    let (Ok(url), Ok(ledger)) = (std::env::var("ANTIPHON_URL"), std::env::var("ANTIPHON_LEDGER")) else { return };
    // It ends with the test that started it.
    drop(thread::spawn(|| {
        drop(io::stdin().read(&mut [0]));
        std::process::exit(0);
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(keep_a_ledger(&url, Path::new(&ledger)));
}

struct Channel(UnboundedSender<Event>);

impl Sink for Channel {
    fn events(&self, events: &mut Vec<Event>) {
        for event in events.drain(..) {
            drop(self.0.send(event));
        }
    }
}

async fn keep_a_ledger(url: &str, ledger: &Path) {
    let mut ledger = File::create(ledger).unwrap();
    let remote = loop {
        match Remote::connect(url.parse().unwrap(), RemoteOptions::default()).await {
            Ok(remote) => break remote,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    let (sender, mut events) = unbounded_channel();
    let sink = Arc::new(Channel(sender));
    let caller = loop {
        let inbox = Inbox::Anonymous(CallerId(random_bytes()));
        match remote.open_caller(inbox, Arc::clone(&sink) as Arc<dyn Sink>).await {
            Ok(caller) => break caller,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    let mut number = 0_u64;
    let mut next = || {
        number += 1;
        Submission { call: call(number), tag: number, wants: Wants::AcceptanceAndOutcome, resent: false }
    };
    caller.submit(&mut (0..IN_FLIGHT).map(|_| next()).collect());
    while let Some(event) = events.recv().await {
        match event {
            // One write per line: a kill cuts none in two.
            Event::Accepted { id, .. } => ledger.write_all(format!("accepted {id}\n").as_bytes()).unwrap(),
            Event::Outcome { id, state, .. } => {
                ledger.write_all(format!("{state} {id}\n").as_bytes()).unwrap();
                caller.acknowledge(&[id]);
                caller.submit(&mut vec![next()]);
            }
            Event::Refused { failure, .. } => {
                ledger.write_all(format!("refused {failure}\n").as_bytes()).unwrap();
                caller.submit(&mut vec![next()]);
            }
            _ => (),
        }
    }
}

/// Calls of all kinds: every second one idempotent, every tenth at most once.
fn call(number: u64) -> Call {
    let mut route = Route::new(Name::from_static("kill.echo"));
    route.durability = Some(Durability::Durable);
    route.idempotent = number.is_multiple_of(2);
    route.at_most_once = number % 10 == 5;
    let id = CallId::new(now_ms(), random_bytes());
    Call::new(id, Arc::new(route), Payload::json(number.to_string()))
}

/// Waits, with one worker that lives, until nothing waits or runs any more.
fn settle(broker: &Broker) {
    let _worker = worker(&broker.url);
    let give_up = Instant::now() + SETTLE;
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

/// Every call that a ledger has as accepted is settled once in the journal, in the state that its caller was told.
fn check(broker: &Broker, ledgers: &Path) {
    let dumped = antiphon(&["journal", "dump", broker.data().to_str().unwrap(), "-o", "jsonl"]);
    let journal: Vec<Value> = dumped.ok().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Compaction copies records: another settlement has another time or state.
    let mut settled: HashMap<&str, HashSet<(&str, u64)>> = HashMap::new();
    for entry in journal.iter().filter(|entry| entry["kind"] == "Settled") {
        let (call, fields) = (entry["call"].as_str().unwrap(), &entry["fields"]);
        let settlement = (fields["state"].as_str().unwrap(), fields["at_ms"].as_u64().unwrap());
        settled.entry(call).or_default().insert(settlement);
    }
    let once = |id: &str| match settled.get(id)?.iter().collect::<Vec<_>>().as_slice() {
        [(state, _)] => Some(*state),
        _ => None,
    };
    let mut wrong = Vec::new();
    let (mut accepted, mut told) = (HashSet::new(), HashSet::new());
    for ledger in fs::read_dir(ledgers).unwrap().flatten() {
        for line in fs::read_to_string(ledger.path()).unwrap().lines() {
            let (word, id) = line.split_once(' ').unwrap();
            let is_right = match word {
                "accepted" => accepted.insert(id.to_owned()) && once(id).is_some(),
                state => told.insert(id.to_owned()) && once(id) == Some(state),
            };
            if !is_right {
                wrong.push((line.to_owned(), id.to_owned()));
            }
        }
    }
    let states = settled.values().flatten().fold(HashMap::<&str, u32>::new(), |mut counts, (state, _)| {
        *counts.entry(state).or_default() += 1;
        counts
    });
    println!("{} accepted, {} told, {} settled: {states:?}", accepted.len(), told.len(), settled.len());
    for (line, id) in wrong.iter().take(5) {
        println!("{line}, but the journal has");
        journal.iter().filter(|entry| entry["call"] == id.as_str()).for_each(|entry| println!("  {entry}"));
    }
    assert!(wrong.is_empty(), "{} lines of the ledgers are wrong", wrong.len());
    assert!(accepted.len() > 1_000, "there was hardly any load: {} calls", accepted.len());
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn up_to(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % (limit + 1)
    }
}

fn seed() -> u64 {
    let given = std::env::var("ANTIPHON_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| u64::from_le_bytes(random_bytes()) | 1)
}

fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}
