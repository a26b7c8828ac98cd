//! A storm of kills: worker, caller and server are ended with `SIGKILL` at random and started again, until every call has
//! its outcome. Then the caller's log is judged: each call that was accepted has exactly one outcome, the right one.
//! Whoever has a broker brings the programs; see the examples `kills` of its adapter.

use crate::scene::call_id;
use antiphon_broker::{Broker, Event, Inbox, Sink, Submission, Wants};
use antiphon_protocol::{Call, Name, Outcome, Payload, Route, State};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// What goes wrong in a storm.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// How many calls the caller has under way.
const WINDOW: usize = 512;
/// How long nothing may come after the last kill: a lost call is waited for in vain.
const STALL: Duration = Duration::from_secs(60);
/// How long all of it may take.
const BOUND: Duration = Duration::from_secs(900);

/// Tries until the server is there.
pub async fn connected<T, E: std::fmt::Display>(connect: impl AsyncFn() -> Result<T, E>) -> T {
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

/// One life of the caller: goes on where its log ends, until every number below `calls` has its outcome.
///
/// # Errors
/// When a call fails, or the caller is given up.
///
/// # Panics
/// When an outcome surfaces twice in this life, or is no reply.
pub async fn ask(broker: &dyn Broker, procedure: &Name, path: &Path, calls: u64) -> Result<(), Error> {
    let before = Log::read(path)?;
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    // What was cut stands alone.
    file.write_all(b"")?;
    let (sender, mut events) = mpsc::unbounded_channel();
    let sink: Arc<dyn Sink> = Arc::new(Events(sender));
    let inbox = Inbox::Named(Name::from_static("kills"));
    let caller = connected(async || broker.open_caller(inbox.clone(), Arc::clone(&sink)).await).await;
    let route = Arc::new(Route::new(procedure.clone()));

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
            let call = Call::new(call_id(), Arc::clone(&route), Payload::json(number.to_string()));
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
    Ok(())
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

/// What a program of a storm is, by its arguments.
pub enum Role {
    /// `worker URL`
    Worker(String),
    /// `caller URL LOG CALLS`
    Caller {
        /// The broker.
        url: String,
        /// Where it writes down what it hears.
        log: PathBuf,
        /// How many calls it makes, over all its lives.
        calls: u64,
    },
    /// `[CALLS] [KILLS] [SEED]`
    Storm(Size),
}

/// How large a storm is.
pub struct Size {
    calls: u64,
    kills: u64,
    seed: u64,
}

impl Role {
    /// The role of this process.
    ///
    /// # Errors
    /// When its arguments are none of these.
    pub fn read() -> Result<Self, Error> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Ok(match texts.as_slice() {
            ["worker", url] => Self::Worker((*url).to_owned()),
            ["caller", url, log, calls] => {
                Self::Caller { url: (*url).to_owned(), log: PathBuf::from(log), calls: calls.parse()? }
            }
            _ => {
                let mut numbers = texts.iter().map(|text| text.parse::<u64>());
                Self::Storm(Size {
                    calls: numbers.next().transpose()?.unwrap_or(10_000),
                    kills: numbers.next().transpose()?.unwrap_or(20),
                    seed: numbers.next().transpose()?.unwrap_or_else(|| u64::from(std::process::id())),
                })
            }
        })
    }
}

impl Size {
    /// Runs the storm on a broker: `url` has parameters already. What it writes down is in a directory named after `name`,
    /// and removed when all is well.
    ///
    /// # Errors
    /// When a call was lost, has two outcomes or a wrong one, or something cannot be started.
    ///
    /// # Panics
    /// When it takes longer than 15 minutes.
    pub fn run(
        &self,
        name: &str,
        url: &str,
        calm: Duration,
        server: Option<&dyn Fn() -> Result<(), Error>>,
    ) -> Result<(), Error> {
        let directory = std::env::temp_dir().join(format!("antiphon-{name}-kills-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let log = directory.join("log");
        let url = format!("{url}&dedupe={}", directory.join("handled").display());
        let (log_text, count) = (log.display().to_string(), self.calls.to_string());
        let targets = Targets { worker: &["worker", &url], caller: &["caller", &url, &log_text, &count], calm, server };
        storm(self.calls, self.kills, self.seed, &log, &targets)?;
        std::fs::remove_dir_all(&directory)?;
        Ok(())
    }
}

/// What can be killed.
struct Targets<'a> {
    /// Arguments under which this program is a worker.
    worker: &'a [&'a str],
    /// The caller's arguments; see [`ask`].
    caller: &'a [&'a str],
    /// How long the server needs before it may be killed.
    calm: Duration,
    /// Kills the server and starts it again; `None` where that would lose what it has.
    server: Option<&'a dyn Fn() -> Result<(), Error>>,
}

/// Starts worker and caller, kills so many times, and judges the caller's log. It goes wrong when a call was lost, has two
/// outcomes or a wrong one, or something cannot be started or takes longer than 15 minutes.
fn storm(calls: u64, kills: u64, seed: u64, log: &Path, targets: &Targets<'_>) -> Result<(), Error> {
    let (mut calling, mut working) = (Life::start(targets.caller)?, Life::start(targets.worker)?);
    let start = Instant::now();
    std::thread::sleep(targets.calm);
    let (mut random, mut workers, mut callers, mut servers) = (seed | 1, 0_u64, 0_u64, 0_u64);
    let mut left = kills;
    let (mut told, mut told_at) = (0, Instant::now());
    println!("{calls} calls, {kills} kills, seed {seed}");
    let status = loop {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let until = Instant::now() + Duration::from_millis(200 + (random >> 33) % 800);
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
        let written = std::fs::metadata(log).map_or(0, |log| log.len());
        if written != told {
            (told, told_at) = (written, Instant::now());
        }
        if left == 0 && told_at.elapsed() > STALL {
            judge(Log::read(log)?, calls)?;
            return Err(format!("the caller waits for nothing; seed {seed}; its log is {}", log.display()).into());
        }
        if left == 0 {
            continue;
        }
        left -= 1;
        match ((random >> 20) % 3, targets.server) {
            (0, _) => {
                workers += 1;
                drop(working);
                working = Life::start(targets.worker)?;
            }
            (2, Some(kill_and_start)) => {
                servers += 1;
                kill_and_start()?;
            }
            _ => {
                callers += 1;
                drop(calling);
                calling = Life::start(targets.caller)?;
            }
        }
    };
    drop(working);
    if !status.success() {
        return Err(format!("the caller ended with {status}; seed {seed}; its log is {}", log.display()).into());
    }
    println!(
        "killed {workers} workers, {callers} callers, {servers} servers in {:.0} s ({left} kills were left)",
        start.elapsed().as_secs_f64()
    );
    judge(Log::read(log)?, calls)
}

fn judge(mut read: Log, calls: u64) -> Result<(), Error> {
    let lacking: Vec<&String> = read.accepted.iter().filter(|id| !read.outcomes.contains_key(*id)).collect();
    let answered: BTreeSet<&String> = read.outcomes.values().collect();
    if answered.len() as u64 != calls {
        read.wrong.push(format!("{} of {calls} numbers were answered", answered.len()));
    }
    println!(
        "{} calls accepted, {} with an outcome, {} without one; {} outcomes came again after a kill of the caller",
        read.accepted.len(),
        read.accepted.len() - lacking.len(),
        lacking.len(),
        read.again
    );
    if !lacking.is_empty() || !read.wrong.is_empty() {
        // The first few tell as much as all.
        let first = |texts: &[String]| texts.iter().take(5).cloned().collect::<Vec<_>>();
        let lost: Vec<String> = lacking.iter().map(|id| (*id).clone()).collect();
        let text =
            format!("{} lost: {:?}; {} wrong: {:?}", lost.len(), first(&lost), read.wrong.len(), first(&read.wrong));
        return Err(text.into());
    }
    println!("every accepted call has exactly one outcome");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(lines: &str) -> Result<(), Error> {
        let path = std::env::temp_dir().join(format!("antiphon-storm-{}-{}", std::process::id(), lines.len()));
        std::fs::write(&path, lines)?;
        let judged = Log::read(&path).and_then(|log| judge(log, 2));
        std::fs::remove_file(path)?;
        judged
    }

    #[test]
    fn a_lost_call_and_a_second_outcome_are_found() {
        let good = "accepted a\noutcome a 0\naccepted b\noutcome b 1\nagain b 1\nout";
        judged(good).expect("each has its outcome, and what was cut was not acted on");
        let error = |lines: &str| judged(lines).expect_err(lines).to_string();
        assert!(error("accepted a\noutcome a 0\naccepted b\n").contains("1 lost: [\"b\"]"));
        assert!(error("accepted a\noutcome a 0\noutcome a 0\noutcome b 1\n").contains("two outcomes of a"));
        assert!(error("outcome a 0\noutcome b 1\nagain b 0\n").contains("another outcome of b"));
        assert!(error("outcome a 0\n").contains("1 of 2 numbers"));
    }
}
