//! The small world: one caller, two workers of one slot each, two calls, a journal whose tail a crash may take, and a network
//! that reorders, drops and duplicates what workers and broker say to each other.

use antiphon_engine::{
    Body, Command, Effect, Effects, End, Ending, Engine, Gate, Handle, InboxKey, Limits, Now, Peer, Record, Replay,
    Role, Submit, Told, Urgency,
};
use antiphon_protocol::{
    CallId, CallerId, HeldLease, IncarnationId, LeaseTag, Name, Offer, OfferedProcedure, Route, Start,
};
use std::collections::BTreeMap;
use std::fmt::Write;

const CALLER: Peer = Peer(0);
const LEASE_MS: u32 = 10_000;

/// How much may happen.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Whether the second call runs at most once.
    pub at_most_once: bool,
    pub crashes: u8,
    pub drops: u8,
    pub duplicates: u8,
    /// How often a worker loses its connection and opens another.
    pub reconnects: u8,
    /// How often a lease's whole time passes.
    pub passes: u8,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Choice {
    /// The caller submits a call, or submits it again.
    Submit(u8),
    /// Of what is on its way, this one arrives.
    Deliver(u8),
    /// It arrives, and will once more.
    Duplicate(u8),
    Drop(u8),
    /// A worker ends the attempt it has.
    Finish(u8),
    /// A worker's connection breaks on its side; it opens another.
    Reconnect(u8),
    /// What was recorded is on disk now.
    Sync,
    /// The broker dies, with what is not on disk or without, and is back.
    Crash(bool),
    /// More time than a lease has passes.
    Pass,
}

/// On its way.
#[derive(Clone, Debug, PartialEq)]
enum Frame {
    Hello { worker: u8, session: u16, held: Vec<HeldLease> },
    Report { worker: u8, session: u16, lease: LeaseTag, call: CallId },
    Lease { worker: u8, session: u16, lease: LeaseTag, call: CallId },
    Settled { worker: u8, session: u16, lease: LeaseTag },
    Stale { worker: u8, session: u16, lease: LeaseTag },
    Opened { worker: u8, session: u16, kept: Vec<LeaseTag> },
}

struct Kept {
    kind: u8,
    key: [u8; 16],
    head: Vec<u8>,
}

#[derive(Default)]
struct Journal {
    records: Vec<Kept>,
    synced: usize,
    /// What each outcome's body says, by the number of its record.
    bodies: BTreeMap<u64, String>,
    /// What waits for the record before which it was said.
    gated: Vec<(usize, Effect)>,
    open: Vec<Effect>,
    /// The body that came with the command.
    body: String,
}

impl Journal {
    fn keep(&mut self, body: &Body) -> Handle {
        let at = self.records.len() as u64 + 1;
        let text = match body {
            Body::Command => self.body.clone(),
            Body::Stored(from) => self.bodies.get(&from.0).cloned().unwrap_or_default(),
            _ => String::new(),
        };
        self.bodies.insert(at, text);
        Handle(at)
    }
}

impl Effects for Journal {
    fn record(&mut self, record: &Record<'_>, body: Body, _: Role, _: Urgency) -> Handle {
        let handle = self.keep(&body);
        let mut head = Vec::new();
        record.encode(&mut head);
        self.records.push(Kept { kind: record.kind() as u8, key: record.key(), head });
        handle
    }

    fn store(&mut self, body: Body) -> Handle {
        self.keep(&body)
    }

    fn release(&mut self, _: Handle) {}
    fn begin_gathering(&mut self) {}
    fn gather(&mut self, _: Told) {}
    fn entomb(&mut self, _: CallId) {}

    fn emit(&mut self, gate: Gate, effect: Effect) {
        match gate {
            Gate::Recorded if self.synced < self.records.len() => self.gated.push((self.records.len(), effect)),
            _ => self.open.push(effect),
        }
    }
}

/// A worker: its newest session and what it runs.
#[derive(Clone, Debug, Default, PartialEq)]
struct Hand {
    session: u16,
    open: bool,
    /// What it runs, and whether it has ended that and waits for the answer.
    held: Vec<(LeaseTag, CallId, bool)>,
}

/// The small world.
pub(super) struct Small {
    setup: Setup,
    left: Setup,
    engine: Engine,
    journal: Journal,
    now: Now,
    route: [u32; 2],
    hands: [Hand; 2],
    /// The peer of each worker's session, as the broker has it.
    peers: BTreeMap<(u8, u16), Peer>,
    next_peer: u32,
    flying: Vec<Frame>,
    /// What the caller has said and heard: submitted, accepted, the outcome.
    submitted: [u8; 2],
    accepted: [bool; 2],
    outcome: [Option<String>; 2],
    /// Tokens in the order in which they were granted, by call.
    tokens: [Vec<u64>; 2],
    /// The attempts that began.
    began: [Vec<u64>; 2],
    /// Reports of which a worker was told that they are recorded.
    taken: [Vec<u64>; 2],
    wrong: Option<String>,
}

fn limits() -> Limits {
    let mut limits = Limits::new(true);
    (limits.lease_ms, limits.predict) = (LEASE_MS, false);
    limits
}

fn id(call: u8) -> CallId {
    CallId::new(1_000_000, [call + 1; 10])
}

fn offer(worker: u8, held: Vec<HeldLease>) -> Offer {
    Offer {
        incarnation: IncarnationId([worker + 1; 16]),
        name: Name::new(if worker == 0 { "a" } else { "b" }).expect("well formed"),
        procedures: vec![OfferedProcedure { name: Name::from_static("small.call"), idempotent: false, schema: None }],
        slots: 1,
        labels: Vec::new(),
        held,
    }
}

fn route(call: u8, setup: Setup) -> Route {
    let mut route = Route::new(Name::from_static("small.call"));
    route.at_most_once = setup.at_most_once && call == 1;
    route
}

impl Small {
    pub fn new(setup: Setup) -> Self {
        let now = Now { monotonic_ms: 1_000, wall_ms: 1_000_000 };
        let mut world = Self {
            setup,
            left: setup,
            engine: Engine::new(limits(), 1, now),
            journal: Journal::default(),
            now,
            route: [0; 2],
            hands: [Hand::default(), Hand::default()],
            peers: BTreeMap::new(),
            next_peer: 1,
            flying: Vec::new(),
            submitted: [0; 2],
            accepted: [false; 2],
            outcome: [None, None],
            tokens: [Vec::new(), Vec::new()],
            began: [Vec::new(), Vec::new()],
            taken: [Vec::new(), Vec::new()],
            wrong: None,
        };
        world.start();
        for worker in 0..2 {
            world.connect(worker);
            while let Some(frame) = world.flying.pop() {
                world.arrive(frame);
            }
        }
        world
    }

    pub fn wrong(&self) -> Option<String> {
        self.wrong.clone()
    }

    fn blame(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    /// The broker starts on what its journal has.
    fn start(&mut self) {
        let mut replay = Replay::new(limits(), 1, Now::default());
        for (at, kept) in self.journal.records.iter().enumerate() {
            let record = Record::decode(kept.kind, kept.key, &kept.head).expect("it is read as it was written");
            replay.apply(record, Handle(at as u64 + 1), false);
        }
        self.engine = replay.finish(self.now, &mut self.journal, |_| {});
        // Nothing is served before that is on disk.
        self.journal.synced = self.journal.records.len();
        for call in 0..2 {
            self.route[usize::from(call)] = self.engine.intern(&route(call, self.setup)).expect("there is room");
        }
        self.command(Command::OpenCaller { peer: CALLER, inbox: InboxKey::Anonymous(CallerId([9; 16])) });
        for call in 0..2 {
            if self.submitted[usize::from(call)] > 0 && self.outcome[usize::from(call)].is_none() {
                self.submit(call);
            }
        }
    }

    fn command(&mut self, command: Command<'_>) {
        self.engine.handle(self.now, command, &mut self.journal);
        self.pump();
    }

    fn pump(&mut self) {
        self.engine.advance(self.now, 1_000, &mut self.journal);
        self.speak();
    }

    /// What may leave goes on its way.
    fn speak(&mut self) {
        let synced = self.journal.synced;
        let gated = std::mem::take(&mut self.journal.gated);
        let (free, gated): (Vec<_>, Vec<_>) = gated.into_iter().partition(|(at, _)| *at <= synced);
        self.journal.gated = gated;
        let open = std::mem::take(&mut self.journal.open);
        for effect in free.into_iter().map(|(_, effect)| effect).chain(open) {
            self.say(effect);
        }
    }

    fn session(&self, peer: Peer) -> Option<(u8, u16)> {
        self.peers.iter().find(|(_, other)| **other == peer).map(|(session, _)| *session)
    }

    fn number(call: CallId) -> usize {
        usize::from(call == id(1))
    }

    fn say(&mut self, effect: Effect) {
        match effect {
            Effect::Accepted { id, .. } => self.accepted[Self::number(id)] = true,
            Effect::Refused { refusal, .. } => self.blame(format!("a call was refused: {refusal:?}")),
            Effect::Outcome { id, state, ending, .. } => {
                let text = match ending {
                    Ending::Stored(handle) => self.journal.bodies.get(&handle.0).cloned().unwrap_or_default(),
                    Ending::Decided(reason) => format!("{reason:?}"),
                };
                self.told(id, format!("{state}: {text}"));
            }
            Effect::Lease { peer, grant } => {
                let (call, token) = (Self::number(grant.call), grant.lease.token);
                if self.tokens[call].iter().any(|before| *before >= token) {
                    self.blame(format!("call {call} got token {token} after {:?}", self.tokens[call]));
                }
                if self.tokens[1 - call].contains(&token) {
                    self.blame(format!("token {token} was issued twice"));
                }
                self.tokens[call].push(token);
                if let Some((worker, session)) = self.session(peer) {
                    let (lease, call) = (grant.lease, grant.call);
                    self.flying.push(Frame::Lease { worker, session, lease, call });
                }
            }
            Effect::Settled { peer, lease } => {
                for call in 0..2 {
                    let newest = self.tokens[call].last().copied();
                    if self.tokens[call].contains(&lease.token) && newest != Some(lease.token) {
                        self.blame(format!(
                            "call {call}: a report under {} was taken, {newest:?} is current",
                            lease.token
                        ));
                    }
                    if newest == Some(lease.token) {
                        self.taken[call].push(lease.token);
                    }
                }
                if let Some((worker, session)) = self.session(peer) {
                    self.flying.push(Frame::Settled { worker, session, lease });
                }
            }
            Effect::Stale { peer, lease } => {
                if let Some((worker, session)) = self.session(peer) {
                    self.flying.push(Frame::Stale { worker, session, lease });
                }
            }
            Effect::Opened { peer, kept } => {
                if let Some((worker, session)) = self.session(peer) {
                    self.flying.push(Frame::Opened { worker, session, kept });
                }
            }
            _ => {}
        }
    }

    fn told(&mut self, call: CallId, text: String) {
        let call = Self::number(call);
        match &self.outcome[call] {
            Some(before) if *before != text => {
                self.blame(format!("the outcome of call {call} was {before:?}, and then {text:?}"));
            }
            _ => self.outcome[call] = Some(text),
        }
    }

    fn submit(&mut self, call: u8) {
        let submit = Submit {
            peer: CALLER,
            tag: u64::from(call),
            id: id(call),
            route: self.route[usize::from(call)],
            bytes: 1,
            deadline_ms: 0,
            start: Start::Now,
            key: None,
            wants_acceptance: true,
            wants_outcome: true,
            resent: self.submitted[usize::from(call)] > 1,
            revives: None,
            ties: None,
        };
        self.journal.body = String::new();
        self.command(Command::Submit(submit));
    }

    /// A worker opens a connection; its hello is on its way.
    fn connect(&mut self, worker: u8) {
        let hand = &mut self.hands[usize::from(worker)];
        hand.session += 1;
        hand.open = false;
        let held = hand.held.iter().map(|(lease, call, _)| HeldLease { call: *call, lease: *lease }).collect();
        let session = hand.session;
        self.flying.push(Frame::Hello { worker, session, held });
    }

    fn is_to_broker(frame: &Frame) -> bool {
        matches!(frame, Frame::Hello { .. } | Frame::Report { .. })
    }

    fn arrive(&mut self, frame: Frame) {
        match frame {
            Frame::Hello { worker, session, held } => {
                // As the server has it: the newest session counts.
                if self.peers.keys().any(|(other, newer)| *other == worker && *newer >= session) {
                    return;
                }
                let peer = Peer(self.next_peer);
                self.next_peer += 1;
                self.peers.insert((worker, session), peer);
                let offer = offer(worker, held);
                self.command(Command::OpenWorker { peer, offer: &offer });
            }
            Frame::Report { worker, session, lease, call } => {
                let Some(peer) = self.peers.get(&(worker, session)).copied() else { return };
                self.journal.body = format!("worker {worker} under {}", lease.token);
                self.command(Command::Report { peer, lease, call, end: End::Succeed { bytes: 1 } });
            }
            Frame::Lease { worker, session, lease, call } => {
                let hand = &mut self.hands[usize::from(worker)];
                if hand.session != session || hand.held.iter().any(|(held, ..)| *held == lease) {
                    return;
                }
                let number = Self::number(call);
                // What was run and ended is not begun again: a worker knows what it has had.
                if self.began[number].contains(&lease.token) {
                    return;
                }
                hand.held.push((lease, call, false));
                self.began[number].push(lease.token);
                if self.setup.at_most_once && number == 1 && self.began[1].len() > 1 {
                    self.blame(format!("a call that runs at most once began under {:?}", self.began[1]));
                }
            }
            Frame::Settled { worker, session, lease } | Frame::Stale { worker, session, lease } => {
                let hand = &mut self.hands[usize::from(worker)];
                if hand.session == session {
                    hand.held.retain(|(held, ..)| *held != lease);
                }
            }
            Frame::Opened { worker, session, kept } => {
                let hand = &mut self.hands[usize::from(worker)];
                if hand.session != session || hand.open {
                    return;
                }
                hand.open = true;
                hand.held.retain(|(lease, _, ended)| *ended || kept.contains(lease));
                let again: Vec<_> =
                    hand.held.iter().filter(|(.., ended)| *ended).map(|held| (held.0, held.1)).collect();
                for (lease, call) in again {
                    self.flying.push(Frame::Report { worker, session, lease, call });
                }
            }
        }
    }

    /// Everything that may happen next.
    pub fn choices(&self) -> Vec<Choice> {
        let mut choices = Vec::new();
        for call in 0..2 {
            if self.submitted[usize::from(call)] == 0 {
                choices.push(Choice::Submit(call));
                break;
            }
        }
        for at in 0..self.flying.len() as u8 {
            choices.push(Choice::Deliver(at));
            if self.left.duplicates > 0 {
                choices.push(Choice::Duplicate(at));
            }
            if self.left.drops > 0 {
                choices.push(Choice::Drop(at));
            }
        }
        for worker in 0..2_u8 {
            let hand = &self.hands[usize::from(worker)];
            if hand.held.iter().any(|(.., ended)| !ended) {
                choices.push(Choice::Finish(worker));
            }
            if self.left.reconnects > 0 && hand.open {
                choices.push(Choice::Reconnect(worker));
            }
        }
        if !self.journal.gated.is_empty() {
            choices.push(Choice::Sync);
        }
        if self.left.crashes > 0 {
            choices.push(Choice::Crash(false));
            if self.journal.synced < self.journal.records.len() {
                choices.push(Choice::Crash(true));
            }
        }
        if self.left.passes > 0 && self.engine.workers().iter().any(|worker| worker.leased > 0) {
            choices.push(Choice::Pass);
        }
        choices
    }

    pub fn apply(&mut self, choice: Choice) {
        match choice {
            Choice::Submit(call) => {
                self.submitted[usize::from(call)] += 1;
                self.submit(call);
            }
            Choice::Deliver(at) => {
                let frame = self.flying.remove(usize::from(at));
                self.arrive(frame);
            }
            Choice::Duplicate(at) => {
                self.left.duplicates -= 1;
                let frame = self.flying[usize::from(at)].clone();
                self.arrive(frame);
            }
            Choice::Drop(at) => {
                self.left.drops -= 1;
                self.flying.remove(usize::from(at));
            }
            Choice::Finish(worker) => {
                let hand = &mut self.hands[usize::from(worker)];
                let (session, open) = (hand.session, hand.open);
                if let Some((lease, call, ended)) = hand.held.iter_mut().find(|(.., ended)| !ended) {
                    *ended = true;
                    let (lease, call) = (*lease, *call);
                    if open {
                        self.flying.push(Frame::Report { worker, session, lease, call });
                    }
                }
            }
            Choice::Reconnect(worker) => {
                self.left.reconnects -= 1;
                // What was said on the old connection may still arrive; what was on its way to the worker does not.
                self.connect(worker);
            }
            Choice::Sync => self.sync(),
            Choice::Crash(keeps) => {
                self.left.crashes -= 1;
                if !keeps {
                    self.journal.records.truncate(self.journal.synced);
                }
                self.journal.gated.clear();
                self.journal.open.clear();
                // What the broker had said is still on its way; nothing reaches it any more but new connections.
                self.flying.retain(|frame| !Self::is_to_broker(frame));
                self.peers.clear();
                self.start();
                self.connect(0);
                self.connect(1);
            }
            Choice::Pass => {
                self.left.passes -= 1;
                self.pass();
            }
        }
        self.check();
    }

    fn sync(&mut self) {
        self.journal.synced = self.journal.records.len();
        self.speak();
    }

    fn pass(&mut self) {
        self.now.monotonic_ms += u64::from(LEASE_MS) + 1;
        self.now.wall_ms += u64::from(LEASE_MS) + 1;
        self.pump();
    }

    fn check(&mut self) {
        if let Err(wrong) = self.engine.audit() {
            self.blame(format!("the engine miscounts: {wrong}"));
        }
        for call in 0..2 {
            if self.accepted[call]
                && matches!(self.engine.knowledge(id(call as u8)), antiphon_protocol::Knowledge::NeverSeen)
            {
                self.blame(format!("call {call} was accepted and is lost"));
            }
            let (Some(outcome), Some(token)) = (&self.outcome[call], self.taken[call].last()) else { continue };
            if !outcome.ends_with(&format!("under {token}")) && !outcome.starts_with("dead") {
                self.blame(format!(
                    "call {call}: a worker was told that {token} is recorded, the caller got {outcome:?}"
                ));
            }
        }
    }

    /// Nothing goes wrong any more: both calls settle.
    pub fn finish(&mut self) {
        for _ in 0..8 {
            for worker in 0..2 {
                if !self.hands[usize::from(worker)].open {
                    self.connect(worker);
                }
            }
            while !self.flying.is_empty() {
                let frame = self.flying.remove(0);
                self.arrive(frame);
                self.sync();
            }
            for worker in 0..2 {
                self.apply(Choice::Finish(worker));
            }
            self.sync();
            while !self.flying.is_empty() {
                let frame = self.flying.remove(0);
                self.arrive(frame);
                self.sync();
            }
            self.check();
            if self.outcome.iter().all(Option::is_some) {
                return;
            }
            self.pass();
            self.sync();
        }
        for call in 0..2 {
            if self.submitted[call] > 0 && self.outcome[call].is_none() {
                self.blame(format!("call {call} never settles: {:?}", self.engine.knowledge(id(call as u8))));
            }
        }
    }

    /// What can be seen of this state, as a number.
    pub fn fingerprint(&self) -> u128 {
        let mut text = String::new();
        let mut flying: Vec<String> = self.flying.iter().map(|frame| format!("{frame:?}")).collect();
        flying.sort();
        let left = &self.left;
        let budgets = (left.crashes, left.drops, left.duplicates, left.reconnects, left.passes);
        let calls = [self.engine.knowledge(id(0)), self.engine.knowledge(id(1))];
        let mut ok =
            write!(text, "{calls:?}{:?}{flying:?}{budgets:?}{:?}{:?}", self.engine.workers(), self.hands, self.peers);
        ok = ok.and_then(|()| write!(text, "{:?}{:?}{:?}", self.submitted, self.accepted, self.outcome));
        ok = ok.and_then(|()| write!(text, "{:?}{:?}{:?}{:?}", self.tokens, self.began, self.taken, self.now));
        ok = ok.and_then(|()| write!(text, "{}{:?}", self.journal.synced, self.journal.gated));
        ok.expect("strings take every text");
        for kept in &self.journal.records {
            text.push(char::from(kept.kind));
            text.extend(kept.head.iter().chain(&kept.key).map(|byte| char::from(*byte)));
        }
        text.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash: u128, byte| {
            (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
        })
    }
}
