//! Durable calls under kills: worker, caller and server are ended with SIGKILL at random and started again, until every call
//! has its outcome. Then the caller's log is checked: each call that was accepted has exactly one outcome, the right one.
//!
//! ```sh
//! cargo run --release -p antiphon-rabbitmq --example kills [calls] [kills] [seed]
//! ```

use antiphon::{Antiphon, CallId, Failure, Outcome, Payload, RawProcedureOptions, State};
use antiphon_broker::{Broker, Event, Inbox, Sink, Submission, Wants};
use antiphon_protocol::{Call, Name, Route};
use antiphon_rabbitmq::RabbitMq;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use xtask::services::rabbitmq::Node;

type Error = Box<dyn std::error::Error + Send + Sync>;

const PROCEDURE: &str = "kills.echo";
/// How many calls the caller has under way.
const WINDOW: usize = 512;
/// How long all of it may take.
const BOUND: Duration = Duration::from_secs(900);

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match texts.as_slice() {
        ["worker", url] => tokio::runtime::Runtime::new()?.block_on(work(url)),
        ["caller", url, log, calls] => {
            tokio::runtime::Runtime::new()?.block_on(ask(url, Path::new(log), calls.parse()?))
        }
        _ => {
            let mut numbers = texts.iter().map(|text| text.parse::<u64>());
            let calls = numbers.next().transpose()?.unwrap_or(10_000);
            let kills = numbers.next().transpose()?.unwrap_or(20);
            let seed = numbers.next().transpose()?.unwrap_or_else(|| u64::from(std::process::id()));
            storm(calls, kills, seed)
        }
    }
}

async fn work(url: &str) -> Result<(), Error> {
    let antiphon = connected(async || Antiphon::builder(url).driver(antiphon_rabbitmq::driver()).connect().await).await;
    let echo = |_, payload: Payload| async {
        tokio::time::sleep(Duration::from_millis(8)).await;
        Ok::<_, Failure>(payload)
    };
    let options = RawProcedureOptions::default;
    let worker =
        connected(async || antiphon.worker().slots(4).procedure(PROCEDURE, options(), echo).start().await).await;
    std::future::pending::<()>().await;
    drop(worker);
    Ok(())
}

/// Tries until the server is there.
async fn connected<T, E: std::fmt::Display>(connect: impl AsyncFn() -> Result<T, E>) -> T {
    loop {
        match connect().await {
            Ok(connected) => return connected,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// What a caller has written down, over all its lives.
#[derive(Default)]
struct Log {
    accepted: BTreeSet<String>,
    outcomes: BTreeMap<String, String>,
    /// Outcomes that came again in a later life, because the one before was killed before it had acknowledged them.
    again: usize,
    wrong: Vec<String>,
}

impl Log {
    fn read(path: &Path) -> Result<Self, Error> {
        let mut text = String::new();
        if let Ok(mut file) = File::open(path) {
            file.read_to_string(&mut text)?;
        }
        let mut log = Self::default();
        // A line that was cut by a kill was not acted on.
        let whole = text.rfind('\n').map_or("", |end| text.get(..=end).unwrap_or_default());
        for line in whole.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["accepted", id] => drop(log.accepted.insert((*id).to_owned())),
                ["outcome", id, value] => {
                    if log.outcomes.insert((*id).to_owned(), (*value).to_owned()).is_some() {
                        log.wrong.push(format!("two outcomes of {id}"));
                    }
                }
                ["again", id, value] => {
                    log.again += 1;
                    if log.outcomes.get(*id).map(String::as_str) != Some(value) {
                        log.wrong.push(format!("another outcome of {id}: {value}"));
                    }
                }
                _ => log.wrong.push(line.to_owned()),
            }
        }
        Ok(log)
    }
}

struct Events(mpsc::UnboundedSender<Event>);

impl Sink for Events {
    fn events(&self, events: &mut Vec<Event>) {
        for event in events.drain(..) {
            drop(self.0.send(event));
        }
    }
}

/// One life of the caller: goes on where the log ends, until every number has its outcome.
async fn ask(url: &str, path: &Path, calls: u64) -> Result<(), Error> {
    let before = Log::read(path)?;
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    // What was cut stands alone.
    file.write_all(b"")?;
    let broker = connected(async || RabbitMq::open(url).await).await;
    let (sender, mut events) = mpsc::unbounded_channel();
    let sink: Arc<dyn Sink> = Arc::new(Events(sender));
    let inbox = Inbox::Named(Name::from_static("kills"));
    let caller = connected(async || broker.open_caller(inbox.clone(), Arc::clone(&sink)).await).await;
    let route = Arc::new(Route::new(Name::from_static(PROCEDURE)));

    let mut here: BTreeSet<String> = before.outcomes.keys().cloned().collect();
    let mut lacking: BTreeSet<String> = before.accepted.difference(&here).cloned().collect();
    let answered: BTreeSet<u64> = before.outcomes.values().filter_map(|value| value.parse().ok()).collect();
    let mut missing: BTreeSet<u64> = (0..calls).filter(|number| !answered.contains(number)).collect();
    let mut surfaced = BTreeSet::new();
    let mut unsent: Vec<u64> = missing.iter().rev().copied().collect();
    let mut under_way = 0_usize;
    while !missing.is_empty() || !lacking.is_empty() {
        let mut batch = Vec::new();
        while under_way < WINDOW {
            let Some(number) = unsent.pop() else { break };
            under_way += 1;
            let call = Call::new(new_id(), Arc::clone(&route), Payload::json(number.to_string()));
            batch.push(Submission { call, tag: number, wants: Wants::AcceptanceAndOutcome, resent: false });
        }
        caller.submit(&mut batch);
        for left in batch {
            under_way -= 1;
            unsent.push(left.tag);
        }
        match events.recv().await.ok_or("the caller is gone")? {
            Event::Accepted { id, .. } => {
                writeln!(file, "accepted {id}")?;
                let id = id.to_string();
                if !here.contains(&id) {
                    lacking.insert(id);
                }
            }
            // Nobody knows, or it was not taken: under another id it is another call.
            Event::Refused { tag, .. } => {
                under_way -= 1;
                unsent.push(tag);
            }
            Event::Outcome { id, state, outcome, .. } => {
                let value = match &outcome {
                    Outcome::Reply(value) => String::from_utf8_lossy(&value.bytes).into_owned(),
                    Outcome::Failure(failure) => return Err(format!("{id} {state}: {failure}").into()),
                };
                assert_eq!(state, State::Succeeded);
                assert!(surfaced.insert(id), "{id} surfaced twice in one life");
                let name = id.to_string();
                // Written down before it is acknowledged: what is not comes again.
                let word = if here.insert(name.clone()) { "outcome" } else { "again" };
                writeln!(file, "{word} {name} {value}")?;
                caller.acknowledge(&[id]);
                lacking.remove(&name);
                missing.remove(&value.parse()?);
                under_way = under_way.saturating_sub(1);
            }
            Event::Down { last: true, reason } => return Err(reason.into()),
            _ => (),
        }
    }
    drop(caller);
    broker.close().await;
    Ok(())
}

fn new_id() -> CallId {
    let mut random = [0; 10];
    getrandom::fill(&mut random).expect("the operating system has randomness");
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    CallId::new(u64::try_from(since.as_millis()).unwrap_or(0), random)
}

/// A child process that is killed when it is dropped.
struct Life(Child);

impl Life {
    fn start(arguments: &[&str]) -> Result<Self, Error> {
        Ok(Self(Command::new(std::env::current_exe()?).args(arguments).stdin(Stdio::null()).spawn()?))
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn storm(calls: u64, kills: u64, seed: u64) -> Result<(), Error> {
    let directory = std::env::temp_dir().join(format!("antiphon-kills-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let log = directory.join("log");
    let node = Node::own("kills")?;
    let url = format!("{}?dedupe={}", node.url(), directory.join("handled").display());
    let (log_text, count) = (log.display().to_string(), calls.to_string());
    let caller = || Life::start(&["caller", &url, &log_text, &count]);
    let worker = || Life::start(&["worker", &url]);
    let (mut calling, mut working) = (caller()?, worker()?);
    let start = Instant::now();
    // A server that is killed right after a queue was declared may come back without it (seen with 3.10.8).
    std::thread::sleep(Duration::from_secs(3));
    let (mut random, mut done) = (seed | 1, [0_u64; 3]);
    let mut left = kills;
    println!("{calls} calls, {kills} kills, seed {seed}");
    let status = loop {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let pause = Duration::from_millis(200 + (random >> 33) % 800);
        let until = Instant::now() + pause;
        let ended = loop {
            if let Some(status) = calling.0.try_wait()? {
                break Some(status);
            }
            if Instant::now() > until {
                break None;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        if let Some(status) = ended {
            break status;
        }
        assert!(start.elapsed() < BOUND, "not done within {BOUND:?}");
        if left == 0 {
            continue;
        }
        left -= 1;
        match (random >> 20) % 3 {
            0 => {
                done[0] += 1;
                working = {
                    drop(working);
                    worker()?
                };
            }
            1 => {
                done[1] += 1;
                calling = {
                    drop(calling);
                    caller()?
                };
            }
            _ => {
                done[2] += 1;
                node.kill()?;
                node.start()?;
            }
        }
    };
    drop(working);
    if !status.success() {
        return Err(format!("the caller ended with {status}; seed {seed}; its log is {log_text}").into());
    }
    let mut read = Log::read(&log)?;
    let lacking: Vec<&String> = read.accepted.iter().filter(|id| !read.outcomes.contains_key(*id)).collect();
    let answered: BTreeSet<&String> = read.outcomes.values().collect();
    if answered.len() as u64 != calls {
        read.wrong.push(format!("{} of {calls} numbers were answered", answered.len()));
    }
    let [workers, callers, servers] = done;
    println!(
        "killed {workers} workers, {callers} callers, {servers} servers in {:.0} s ({left} kills were left)",
        start.elapsed().as_secs_f64()
    );
    println!(
        "{} calls accepted, {} with an outcome, {} without one; {} outcomes came again after a kill of the caller",
        read.accepted.len(),
        read.accepted.len() - lacking.len(),
        lacking.len(),
        read.again
    );
    if !lacking.is_empty() || !read.wrong.is_empty() {
        return Err(format!("lost: {lacking:?}; wrong: {:?}; seed {seed}; the log is {log_text}", read.wrong).into());
    }
    std::fs::remove_dir_all(&directory)?;
    println!("every accepted call has exactly one outcome");
    Ok(())
}
