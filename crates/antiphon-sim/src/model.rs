//! The first judge: a model of the broker in plain maps that steps along. It sees every command in the order in which
//! the broker takes it, says what must come of it, and holds the broker's state, its answers and, after a crash, what it
//! recovered against that. Where the rules leave a choice (who is leased first, how long a backoff is) it looks at what
//! the broker chose and asks whether it could.

mod answers;
mod calls;
mod groups;
mod leases;
mod made;
mod passing;
mod peers;
mod recovery;
mod retention;
mod rules;

pub(crate) use answers::Expected;
pub(crate) use calls::{Known, Phase};
pub(crate) use made::TICKS;

use antiphon_broker::Inbox;
use antiphon_embedded::PeerId;
use antiphon_engine::{Engine, Limits, Now};
use antiphon_protocol::{CallId, CallStatus, Knowledge, Name, State};
use peers::{CallerPeer, WorkerPeer};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How often the engine's own counts are held against what they count.
const AUDIT_EVERY: u64 = 16;

/// The bytes of a worker's incarnation.
type Incarnation = [u8; 16];

/// The model.
pub(crate) struct Model {
    limits: Limits,
    now: Now,
    calls: BTreeMap<CallId, Known>,
    /// Calls that are not settled, or whose attempt has not stopped.
    open: BTreeSet<CallId>,
    keys: BTreeMap<(Name, String), CallId>,
    /// Calls that the broker forgot; a restart may find some of them again.
    graveyard: BTreeMap<CallId, Known>,
    /// Dead letters whose purge somebody was told of.
    purged: BTreeSet<CallId>,
    callers: BTreeMap<PeerId, CallerPeer>,
    workers: BTreeMap<Incarnation, WorkerPeer>,
    peers: BTreeMap<PeerId, Incarnation>,
    expected: BTreeMap<PeerId, Vec<Expected>>,
    /// Leases of workers that went, to be lost when time next passes: call and serial.
    leaving: Vec<(CallId, u64)>,
    tokens: BTreeSet<u64>,
    serial: u64,
    order: u64,
    /// Whether the disk refuses to grow: new work may be refused, and reports too.
    pub full: bool,
    rules: rules::Rules,
    made: made::Made,
    /// How many events the broker has taken since its start.
    emitted: u64,
    /// Groups that are decided, or have settled by themselves.
    deciding: VecDeque<CallId>,
    /// Procedures whose calls are all to be cancelled, when the broker next comes to it.
    bulk: Vec<Name>,
    /// Whether there is a budget of retries.
    budget: bool,
    passes: u64,
    /// A part of a run is audited all the time: otherwise dropping an event would move what is found.
    pub audit_every: u64,
    /// What was found wrong.
    pub wrong: Vec<String>,
    /// What was seen of the features.
    pub reached: BTreeSet<&'static str>,
    /// Which changes of state were seen.
    pub transitions: BTreeSet<(&'static str, &'static str)>,
}

impl Model {
    pub fn new(limits: Limits, budget: bool) -> Self {
        Self {
            limits,
            now: Now::default(),
            calls: BTreeMap::new(),
            open: BTreeSet::new(),
            keys: BTreeMap::new(),
            graveyard: BTreeMap::new(),
            purged: BTreeSet::new(),
            callers: BTreeMap::new(),
            workers: BTreeMap::new(),
            peers: BTreeMap::new(),
            expected: BTreeMap::new(),
            leaving: Vec::new(),
            tokens: BTreeSet::new(),
            serial: 0,
            order: 0,
            full: false,
            rules: rules::Rules::default(),
            made: made::Made::default(),
            emitted: 0,
            deciding: VecDeque::new(),
            bulk: Vec::new(),
            budget,
            passes: 0,
            audit_every: AUDIT_EVERY,
            wrong: Vec::new(),
            reached: BTreeSet::new(),
            transitions: BTreeSet::new(),
        }
    }

    pub(super) fn blame(&mut self, what: String) {
        self.wrong.push(what);
    }

    /// The engine's clocks never go back, whatever the machine's do.
    pub fn tick(&mut self, engine: &Engine) {
        let time = engine.time();
        if time.monotonic_ms < self.now.monotonic_ms || time.wall_ms < self.now.wall_ms {
            self.blame(format!("the engine's time went back from {:?} to {time:?}", self.now));
        }
        self.now = time;
    }

    pub fn call(&self, id: CallId) -> Option<&Known> {
        self.calls.get(&id)
    }

    /// Calls that are not settled, or whose attempt has not stopped.
    fn open_calls(&self) -> impl Iterator<Item = &Known> {
        self.open.iter().filter_map(|id| self.calls.get(id))
    }

    /// How many calls are unsettled.
    pub fn unsettled(&self) -> usize {
        self.open_calls().filter(|call| !call.is_settled()).count()
    }

    /// Where the calls are that are not settled, for people.
    pub fn waiting(&self) -> String {
        let waiting = self.calls.values().filter(|call| !call.is_settled());
        let waiting = waiting.map(|call| {
            let Known { id, phase, order, together, turn, .. } = call;
            let (procedure, labels) = (&call.route.procedure, &call.route.labels);
            format!("{id} {procedure} is {phase:?} {order:?} {turn:?} {together:?} {labels:?} {}", call.route.slots)
        });
        waiting.take(5).collect::<Vec<_>>().join(", ")
    }

    /// Calls that are settled and dead, oldest first.
    pub fn dead_letters(&self) -> impl Iterator<Item = &Known> {
        self.calls.values().filter(|call| call.phase == Phase::Settled(State::Dead))
    }

    /// Holds everything that may have changed against what the broker has.
    pub fn compare(&mut self, engine: &Engine) {
        let open: Vec<CallId> = self.open.iter().copied().collect();
        for id in open {
            self.compare_one(engine, id);
        }
        let counts = engine.counts();
        let unsettled: u64 = counts.iter().take(3).sum();
        let mine = self.unsettled() as u64;
        if unsettled != mine {
            let which = self.unknown(engine);
            self.blame(format!("the broker has {unsettled} unsettled calls where there must be {mine}: {which}"));
        }
        // What the engine counts along the way is counted anew now and then: that takes a look at every call.
        self.passes += 1;
        if self.passes.is_multiple_of(self.audit_every)
            && let Err(wrong) = engine.audit()
        {
            self.blame(format!("the engine miscounts: {wrong}"));
        }
    }

    /// Calls that the broker has as unsettled and the model has not, for people.
    fn unknown(&self, engine: &Engine) -> String {
        let filter = antiphon_protocol::CallFilter { limit: u32::MAX, ..Default::default() };
        let mut found = Vec::new();
        engine.list(&filter, u32::MAX, u32::MAX, &mut found);
        found.retain(|it| !it.state.is_settled() && self.calls.get(&it.id).is_none_or(Known::is_settled));
        let told = found.iter().map(|it| {
            let (id, procedure, state, mine) =
                (it.id, &it.procedure, it.state, self.calls.get(&it.id).map(|k| k.phase));
            format!("{id} of {procedure}, made of {:?}, is {state}, not {mine:?}", it.cause)
        });
        told.take(4).collect::<Vec<_>>().join("; ")
    }

    pub(super) fn compare_one(&mut self, engine: &Engine, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        match engine.knowledge(id) {
            Knowledge::Known(status) => {
                if call.is_serial() && !call.is_settled() {
                    // Which of several leases that end together counts is not followed for calls that wait for each other.
                    call.lost = status.lost_leases;
                }
                if let Some(difference) = difference(call, &status) {
                    self.blame(difference);
                }
            }
            _ if !call.is_settled() => {
                let (what, of) = (call.route.procedure.clone(), call.cause);
                let phase = call.phase;
                self.blame(format!(
                    "call {id} of {what}, made of {of:?}, is {phase:?} and the broker does not know it"
                ));
            }
            _ => self.forgotten(id),
        }
    }
}

/// What a status says that the model does not.
fn difference(call: &Known, status: &CallStatus) -> Option<String> {
    let id = call.id;
    let stopping = call.is_settled() && call.lease.is_some();
    if status.state != call.state() {
        return Some(format!("call {id} must be {:?} and is {}", call.phase, status.state));
    }
    if status.attempts != call.started {
        return Some(format!("call {id} must have {} attempts and has {}", call.started, status.attempts));
    }
    if !call.is_settled() && !call.is_serial() && status.lost_leases != call.lost {
        return Some(format!("call {id} must have lost {} leases and lost {}", call.lost, status.lost_leases));
    }
    if status.stopping != stopping {
        return Some(format!("call {id}: stopping must be {stopping}"));
    }
    if status.durable != call.durable {
        return Some(format!("call {id}: durable must be {}", call.durable));
    }
    None
}

/// An inbox as the model names it.
pub(crate) fn inbox_name(inbox: &Inbox) -> String {
    match inbox {
        Inbox::Anonymous(caller) => format!("{:02x?}", caller.0),
        Inbox::Named(name) => format!("named {name}"),
    }
}
