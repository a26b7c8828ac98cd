//! A world: a broker on its disk, callers and workers, and the connections between them, on virtual time. Everything
//! that happens is an [`Action`]; what the world does with one depends on nothing else.

mod broker;
mod clients;
mod healing;
mod network;

use crate::action::{Action, Client};
use crate::audit::{Audit, Region};
use crate::caller::Caller;
use crate::clock::SimClock;
use crate::coverage::Coverage;
use crate::disk::Disk;
use crate::history::Seen;
use crate::link::Links;
use crate::model::Model;
use crate::random::Fingerprint;
use crate::swarm::{Fault, Feature, Swarm};
use crate::worker::Worker;
use antiphon_embedded::{Driver, PeerId};
use antiphon_protocol::{CallId, Query};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The broker's process, while it runs.
pub(crate) struct Broker {
    driver: Driver,
    /// When it wants to be woken, by true time.
    wake_ms: Option<u64>,
    /// Connections that a newer session has fenced, to be closed.
    fenced: Vec<PeerId>,
    /// Questions, by ticket: which connection asked (by serial), and what.
    asked: BTreeMap<u64, (Client, u64, Query)>,
    /// The newest connection of each client that has said hello.
    sessions: BTreeMap<Client, u64>,
}

/// The world.
pub(crate) struct World {
    pub swarm: Swarm,
    pub clock: SimClock,
    pub disk: Disk,
    pub broker: Option<Broker>,
    pub callers: Vec<Caller>,
    pub workers: Vec<Worker>,
    pub links: Links,
    pub model: Model,
    pub history: Vec<Seen>,
    pub coverage: Coverage,
    pub fingerprint: Fingerprint,
    /// Calls by number.
    pub ids: BTreeMap<u32, CallId>,
    pub wrong: Vec<String>,
    /// Events that were not passed over.
    pub happened: u64,
    /// What the bit belongs to that rotted while the broker was down.
    rotten: Option<Region>,
    tickets: u64,
    lives: u32,
    /// No fault has come into effect for this long, in events.
    quiet: u64,
    /// Calls that were submitted in quiet times.
    in_quiet: BTreeSet<u32>,
    /// Whether everything that happens is told, for people who look for the cause of a finding.
    tells: bool,
}

impl World {
    pub fn new(swarm: Swarm) -> Self {
        let named = swarm.has(Feature::NamedInboxes);
        let callers = (0..swarm.callers).map(|place| Caller::new(place, 0, named && place % 2 == 0)).collect();
        let workers = (0..swarm.workers).map(|place| Worker::new(place, 0, swarm.procedures, swarm.slots)).collect();
        let model = Model::new(swarm.limits.clone(), swarm.has(Feature::RetryBudget));
        Self {
            clock: SimClock::default(),
            disk: Disk::default(),
            broker: None,
            callers,
            workers,
            links: Links::default(),
            model,
            history: Vec::new(),
            coverage: Coverage::default(),
            fingerprint: Fingerprint::default(),
            ids: BTreeMap::new(),
            wrong: Vec::new(),
            happened: 0,
            rotten: None,
            tickets: 0,
            lives: 0,
            quiet: 0,
            in_quiet: BTreeSet::new(),
            tells: std::env::var_os("ANTIPHON_SIM_TELLS").is_some(),
            swarm,
        }
    }

    /// Whether a judge that steps along has found something.
    pub fn has_failed(&self) -> bool {
        !self.wrong.is_empty() || !self.model.wrong.is_empty()
    }

    /// Carries out one action; false when it does not apply now.
    pub fn apply(&mut self, action: &Action) -> bool {
        // A judge that goes wrong is a finding, too, and shrinks like any other.
        let applied = catch_unwind(AssertUnwindSafe(|| self.step(action))).unwrap_or_else(|panic| {
            self.wrong.push(format!("the simulation panicked: {}", crate::panic_text(&*panic)));
            self.broker = None;
            true
        });
        if applied {
            self.happened += 1;
            self.quiet += 1;
            self.note(&format_args!("{action:?}"));
            self.links.sweep();
        }
        applied
    }

    pub(crate) fn note(&mut self, what: &std::fmt::Arguments<'_>) {
        self.fingerprint.write_fmt(*what).expect("fingerprints take every text");
        if self.tells {
            eprintln!("{:>8} ms  {what}", self.clock.true_ms());
        }
    }

    fn step(&mut self, action: &Action) -> bool {
        match *action {
            Action::Advance(ms) => self.advance(ms),
            Action::Turn => self.turn(),
            Action::Say => self.say_only(),
            Action::Connect(client) => self.connect(client),
            Action::ToBroker(client, nth) => self.deliver_up(client, nth),
            Action::ToClient(client, nth) => self.deliver_down(client, nth),
            Action::GiveUp(client) => self.give_up(client),
            Action::NoticeGone(client, nth) => self.notice_gone(client, nth),
            Action::Blackhole(client, nth, up) => self.blackhole(client, nth, up),
            Action::Submit { caller, call, ref shape } => self.submit(caller, call, shape),
            Action::SubmitAgain { caller, call } => self.submit_again(caller, call),
            Action::Attach { caller, call } => self.attach(caller, call),
            Action::Acknowledge(caller) => self.acknowledge(caller),
            Action::Cancel { caller, call } => self.cancel(caller, call),
            Action::Ask { caller, call } => self.ask(caller, call),
            Action::Revive { caller, dead, call } => self.revive(caller, dead, call),
            Action::Purge { caller, dead } => self.purge(caller, dead),
            Action::Finish { worker, call, how } => self.finish(worker, call, how),
            Action::Extend { worker, call } => self.extend(worker, call),
            Action::Credit { worker, slots } => self.credit(worker, slots),
            Action::Drain(worker) => self.drain(worker),
            Action::Park { worker, call } => self.park(worker, call),
            Action::GoOn { worker, call } => self.go_on(worker, call),
            Action::Tell { worker, call } => self.tell(worker, call),
            Action::Follow { caller, call } => self.follow(caller, call),
            Action::Operate { caller, deed } => self.operate(caller, deed),
            Action::KillBroker => self.kill_broker(),
            Action::PowerLoss(seed) => self.power_loss(seed),
            Action::StopBroker => self.stop_broker(),
            Action::Start => self.start(),
            Action::KillCaller(caller) => self.kill_caller(caller),
            Action::KillWorker(worker) => self.kill_worker(worker),
            Action::Pause(worker) => self.pause(worker),
            Action::Resume(worker) => self.resume(worker),
            Action::DiskFault { after, fault } => {
                self.disk.fail_after(after, fault);
                true
            }
            Action::DiskFull(full) => {
                self.disk.fill(full);
                // What a full disk refused is refused for as long as its free pool is empty.
                self.fired("DiskFull", full);
                true
            }
            Action::DiskSlow(slow) => {
                self.disk.slow(slow);
                self.fired("SlowDisk", slow);
                true
            }
            Action::BitRot(seed) => self.bit_rot(seed),
            Action::WallJump(ms) => {
                self.clock.jump_wall(ms);
                self.fired(if ms > 0 { "WallForward" } else { "WallBack" }, true);
                true
            }
        }
    }

    /// A fault has come into effect.
    pub(crate) fn fired(&mut self, fault: &'static str, on: bool) {
        if on {
            *self.coverage.faults.entry(fault).or_default() += 1;
            self.quiet = 0;
        }
    }

    /// Faults that are enabled and have not come into effect.
    pub fn missing(&self) -> Vec<Fault> {
        let fired = |fault: &Fault| self.coverage.faults.contains_key(format!("{fault:?}").as_str());
        self.swarm.faults.iter().copied().filter(|fault| !fired(fault)).collect()
    }

    fn advance(&mut self, ms: u64) -> bool {
        // The broker wakes whenever something is due, as its owner's timer makes it.
        let mut left = ms;
        while left > 0 {
            let now_ms = self.clock.true_ms();
            let wake_ms = self.broker.as_ref().and_then(|broker| broker.wake_ms).filter(|wake| *wake > now_ms);
            let step = wake_ms.map_or(left, |wake| (wake - now_ms).min(left)).max(1);
            self.clock.advance(step);
            left -= step;
            self.turn();
            if self.has_failed() {
                break;
            }
        }
        true
    }

    /// What is wrong, by any judge that has spoken so far.
    pub fn findings(&mut self) -> Vec<String> {
        let mut all = std::mem::take(&mut self.wrong);
        all.append(&mut self.model.wrong);
        all
    }

    /// Ends the run: what the judges say of the whole.
    pub fn verdict(&mut self) -> Vec<String> {
        let mut all = self.findings();
        all.extend(crate::checker::check(&self.history, &self.swarm));
        all.extend(self.model.unanswered());
        let accepted = |seen: &&Seen| match seen {
            Seen::Accepted { call, .. } => self.in_quiet.contains(call),
            // One that is only awaited is answered by its outcome.
            Seen::Outcome { id, .. } => {
                self.ids.iter().any(|(call, other)| other == id && self.in_quiet.contains(call))
            }
            _ => false,
        };
        let accepted: BTreeSet<u32> =
            self.history.iter().filter(accepted).filter_map(|seen| self.number(seen)).collect();
        self.coverage.quiet_accepted = accepted.len() as u64;
        self.coverage.transitions.extend(self.model.transitions.iter().copied());
        self.coverage.reached.extend(self.model.reached.iter().copied());
        for ((op, power), count) in self.disk.fired() {
            *self.coverage.disk.entry((op, power)).or_default() += count;
        }
        all
    }

    /// The number of the call that was seen to be accepted, or answered.
    fn number(&self, seen: &Seen) -> Option<u32> {
        match seen {
            Seen::Accepted { call, .. } => Some(*call),
            Seen::Outcome { id, .. } => self.ids.iter().find(|(_, other)| *other == id).map(|(call, _)| *call),
            _ => None,
        }
    }

    fn audit(&mut self, audit: &Audit) {
        self.coverage.records.extend(audit.kinds.iter().copied());
        self.coverage.audited += audit.entries;
        self.wrong.extend(audit.wrong.iter().cloned());
    }
}
