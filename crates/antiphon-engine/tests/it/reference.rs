//! What a broker must do, in plain maps: what was asked of it, what is seen of it, and what of that must not be.

use antiphon_protocol::{Cause, Standing, State};
use std::collections::{BTreeMap, BTreeSet};

/// What was asked of one call.
#[derive(Clone, Debug)]
pub struct Asked {
    pub procedure: &'static str,
    pub tenant: &'static str,
    pub class: u8,
    /// Tenant, lane and ordering key.
    pub lane: Option<String>,
    /// Concurrency key with procedure and tenant, and its cap.
    pub key: Option<(String, usize)>,
    pub slots: u32,
    pub label: Option<&'static str>,
    /// Its parameters, where it says them.
    pub sends: Option<&'static str>,
    /// When it is due; 0 is at once.
    pub due_ms: u64,
    /// When it expires; `u64::MAX` is never.
    pub deadline_ms: u64,
    pub attempts: usize,
    pub once: bool,
    /// Since when it may start, as far as its delay goes.
    pub ready_ms: u64,
    /// Its number among those that joined their lanes; 0 before it does.
    pub joined: usize,
    pub failed: usize,
    pub granted: usize,
    /// Procedures of its callbacks.
    pub callbacks: Vec<&'static str>,
    pub volatile: bool,
}

impl Asked {
    pub fn of(procedure: &'static str) -> Self {
        Self {
            procedure,
            tenant: "",
            class: 4,
            lane: None,
            key: None,
            slots: 1,
            label: None,
            sends: None,
            due_ms: 0,
            deadline_ms: u64::MAX,
            attempts: 3,
            once: false,
            ready_ms: 0,
            joined: 0,
            failed: 0,
            granted: 0,
            callbacks: Vec::new(),
            volatile: false,
        }
    }

    /// Calls of one queue whose order follows from classes, tenants and times alone.
    fn section(&self) -> (&'static str, u32, Option<&'static str>, Option<&'static str>) {
        (self.procedure, self.slots, self.label, self.sends)
    }

    /// The time that orders it among the calls of its tenant and class.
    fn due(&self) -> u64 {
        (self.ready_ms + u64::from(10 - self.class) * 1_000).min(self.deadline_ms)
    }
}

/// A worker that is connected.
#[derive(Clone, Debug)]
pub struct Serving {
    pub slots: u32,
    pub labels: &'static str,
    pub takes: Option<&'static str>,
}

/// A rate as it was set, and when calls started since.
#[derive(Clone, Debug)]
pub struct Rate {
    pub count: u64,
    pub burst: u64,
    pub starts: Vec<u64>,
}

/// Everything that was asked, and how it stood after the last step.
#[derive(Default)]
pub struct Reference {
    pub calls: BTreeMap<String, Asked>,
    pub workers: BTreeMap<String, Serving>,
    pub caps: BTreeMap<&'static str, usize>,
    pub paused: BTreeSet<&'static str>,
    pub rates: BTreeMap<&'static str, Rate>,
    pub queued_max: BTreeMap<&'static str, usize>,
    pub standings: BTreeMap<String, Standing>,
    /// How each group was opened, whether it is sealed, and its children.
    pub groups: BTreeMap<String, (&'static str, bool, Vec<String>)>,
    pub ended: BTreeMap<String, State>,
    /// Whether turns of tenants and classes are the reference's to tell: calls that go aside use up turns.
    pub turns: bool,
    /// How often others of the class went while a tenant's call stood in line.
    passed: BTreeMap<String, usize>,
    joined: usize,
}

impl Reference {
    /// The next number of a lane.
    pub fn join(&mut self) -> usize {
        self.joined += 1;
        self.joined
    }

    /// Delayed calls join their lanes when they are due, unless they have ended by then.
    pub fn join_due(&mut self, ms: u64) {
        let due = |(name, asked): (&String, &Asked)| {
            let waits = self.standings.get(name).is_some_and(|standing| !is_over(standing));
            (asked.joined == 0 && asked.due_ms <= ms && waits).then(|| (asked.due_ms, name.clone()))
        };
        let mut due: Vec<_> = self.calls.iter().filter_map(due).collect();
        due.sort();
        for (_, name) in due {
            let number = self.join();
            self.calls.get_mut(&name).unwrap().joined = number;
        }
    }

    /// A procedure whose queue has no room for this call or for its callbacks, if there is one.
    pub fn full_for(&self, asked: &Asked) -> Option<(&'static str, usize, usize)> {
        self.queued_max.iter().find_map(|(procedure, limit)| {
            let callbacks = asked.callbacks.iter().filter(|callback| *callback == procedure).count();
            let more = callbacks + usize::from(asked.procedure == *procedure);
            let (waiting, reserved) = self.load(procedure);
            (more > 0 && waiting + reserved + more > *limit).then_some((*procedure, waiting, reserved))
        })
    }

    /// How many more calls of a procedure may wait.
    pub fn room(&self, procedure: &str) -> usize {
        let (waiting, reserved) = self.load(procedure);
        self.queued_max.get(procedure).map_or(usize::MAX / 2, |limit| limit.saturating_sub(waiting + reserved))
    }

    /// How many calls of a procedure wait, and how many more the callbacks of unsettled ones may become.
    fn load(&self, procedure: &str) -> (usize, usize) {
        let (mut waiting, mut reserved) = (0, 0);
        for (name, standing) in &self.standings {
            let Some(asked) = self.calls.get(name) else { continue };
            waiting += usize::from(asked.procedure == procedure && matches!(standing, Standing::Waiting { .. }));
            if !is_settled(standing) {
                reserved += asked.callbacks.iter().filter(|callback| **callback == procedure).count();
            }
        }
        (waiting, reserved)
    }

    /// What was granted in one step, in its order: each call and the worker. `standings` is how all stand after it.
    pub fn hold(&mut self, granted: &[(String, String)], standings: BTreeMap<String, Standing>, ms: u64) {
        for (number, (call, worker)) in granted.iter().enumerate() {
            self.hold_grant(call, worker, ms);
            let later: BTreeSet<&str> = granted[number + 1..].iter().map(|(call, _)| call.as_str()).collect();
            self.hold_order(call, &later, &standings);
            let asked = self.calls.get_mut(call).expect("only what was asked for starts");
            asked.granted += 1;
            if let Some(rate) = self.rates.get_mut(asked.procedure) {
                rate.starts.push(ms);
            }
        }
        self.standings = standings;
        self.hold_running(granted);
        self.hold_ends();
        for (name, standing) in &self.standings {
            let starts = matches!(standing, Standing::Waiting { cause: Cause::Starting, .. });
            assert!(!starts, "{name} could start, and does not");
        }
    }

    /// Whether this call may start now, on this worker.
    fn hold_grant(&self, call: &str, worker: &str, ms: u64) {
        let asked = self.calls.get(call).unwrap_or_else(|| panic!("{call} starts and nobody asked for it"));
        assert!(!self.ended.contains_key(call), "{call} starts and has ended: {:?}", self.ended[call]);
        assert!(asked.due_ms <= ms, "{call} starts early, at {ms}: {asked:?}");
        assert!(ms < asked.deadline_ms, "{call} starts and has expired: {asked:?}");
        assert!(asked.failed < asked.attempts, "{call} starts once too often: {asked:?}");
        assert!(!asked.once || asked.granted == 0, "{call} starts twice: {asked:?}");
        assert!(!self.paused.contains(asked.procedure), "{} is paused and {call} starts", asked.procedure);
        let serving = self.workers.get(worker).unwrap_or_else(|| panic!("{call} starts on {worker}, which is gone"));
        let labelled = asked.label.is_none_or(|label| serving.labels.split(',').any(|other| other == label));
        assert!(labelled, "{call} requires {:?} and starts on {worker}", asked.label);
        let known = |takes: &str| asked.sends.is_none_or(|sends| sends == takes);
        assert!(serving.takes.is_none_or(known), "{worker} does not take the arguments of {call}");
        if let Some(rate) = self.rates.get(asked.procedure) {
            for (number, start) in rate.starts.iter().rev().enumerate() {
                let most = rate.burst + (ms - start) * rate.count / 1_000;
                assert!(number as u64 + 2 <= most.max(1), "{call} starts above its rate: {rate:?}, at {ms}");
            }
        }
    }

    /// Whether it was this call's turn among those that stood in line.
    fn hold_order(&mut self, call: &str, later: &BTreeSet<&str>, after: &BTreeMap<String, Standing>) {
        let x = self.calls[call].clone();
        let first = x.granted == 0;
        let plain = x.lane.is_none() && x.key.is_none();
        let mut tenants = BTreeSet::new();
        for (name, standing) in &self.standings {
            let Some(y) = self.calls.get(name).filter(|y| y.section() == x.section() && y.granted == 0) else {
                continue;
            };
            let stays = later.contains(name.as_str()) || after.get(name).is_some_and(in_line);
            if name == call || !in_line(standing) || !stays || y.lane.is_some() || y.key.is_some() {
                continue;
            }
            if first && plain && (y.tenant, y.class) == (x.tenant, x.class) {
                assert!(x.due() <= y.due(), "{call} is due after {name} and goes first: {x:?}, {y:?}");
            }
            tenants.insert((y.tenant, y.class, y.section()));
        }
        self.passed.remove(&format!("{:?}", (x.tenant, x.class, x.section())));
        self.passed.retain(|line, _| tenants.iter().any(|tenant| *line == format!("{tenant:?}")));
        for line in tenants {
            if first && self.turns && line.0 != x.tenant && line.1 == x.class {
                let passed = self.passed.entry(format!("{line:?}")).or_default();
                *passed += 1;
                // Each of the other tenants may go once, and once more where one came in between.
                assert!(*passed <= 4, "{line:?} is passed over {passed} times, now by {call}");
            }
        }
    }

    /// Lanes, keys, slots and caps of what runs now.
    fn hold_running(&self, granted: &[(String, String)]) {
        let mut lanes: BTreeMap<&str, Vec<(usize, &str)>> = BTreeMap::new();
        let mut keys: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let (mut used, mut running) = (BTreeMap::<&str, u32>::new(), BTreeMap::<&str, usize>::new());
        for (name, standing) in &self.standings {
            let (Some(asked), Some((worker, parked))) = (self.calls.get(name), runs(standing)) else { continue };
            if let Some(lane) = &asked.lane {
                lanes.entry(lane).or_default().push((asked.joined, name));
            }
            if let Some((key, limit)) = &asked.key {
                keys.entry(key).or_default().push(*limit);
            }
            if !parked {
                *used.entry(worker).or_default() += asked.slots;
                *running.entry(asked.procedure).or_default() += 1;
            }
        }
        for (lane, running) in &lanes {
            assert_eq!(running.len(), 1, "calls of lane {lane} overlap: {running:?}");
            let (joined, name) = running[0];
            for (other, asked) in &self.calls {
                let before = asked.lane.as_deref() == Some(lane) && asked.joined != 0 && asked.joined < joined;
                let ended = self.standings.get(other).is_none_or(is_over);
                assert!(!before || ended, "{name} of lane {lane} started before {other}, which joined earlier");
            }
        }
        for (key, limits) in &keys {
            let most = limits.iter().max().unwrap();
            assert!(limits.len() <= *most, "{} calls of key {key} run, at most {most} may", limits.len());
        }
        // What a worker brings along may be more than it has slots now; it gets nothing more then. So with caps.
        for (call, worker) in granted {
            let (uses, slots) = (used.get(worker.as_str()).copied().unwrap_or(0), self.workers[worker].slots);
            assert!(uses <= slots, "{worker} has {slots} slots and got {call}: {uses} are used");
            let procedure = self.calls[call].procedure;
            let (cap, runs) = (self.caps.get(procedure).copied(), running.get(procedure).copied().unwrap_or(0));
            assert!(cap.is_none_or(|cap| runs <= cap), "{runs} calls of {procedure} run, at most {cap:?} may");
        }
    }

    /// Ends are for ever, groups end as their children say, and not before.
    fn hold_ends(&mut self) {
        for (name, standing) in &self.standings {
            if let Standing::Settled { state, .. } | Standing::Stopping { state, .. } = standing {
                let before = *self.ended.entry(name.clone()).or_insert(*state);
                assert_eq!(before, *state, "a terminal state never changes: {name}");
            } else {
                assert!(!self.ended.contains_key(name), "{name} had ended and has not any more");
            }
        }
        for (group, (kind, sealed, children)) in &self.groups {
            let Some(standing) = self.standings.get(group) else { continue };
            let children: Vec<Option<State>> = children.iter().map(|child| self.ended.get(child).copied()).collect();
            let (met, missed) = verdict(kind, *sealed, &children);
            match self.ended.get(group) {
                Some(State::Succeeded) => assert!(met, "{group} {kind} succeeded: {children:?}, sealed: {sealed}"),
                Some(State::Failed) => assert!(missed, "{group} {kind} failed: {children:?}, sealed: {sealed}"),
                Some(_) => {}
                None => assert!(!met && !missed, "{group} {kind} waits: {children:?}, {sealed}, {standing:?}"),
            }
            if self.ended.contains_key(group) && kind.contains("cancel_rest") {
                let open = children.iter().filter(|child| child.is_none()).count();
                assert!(open == 0 || self.ended[group] == State::Expired, "the rest of {group} is cancelled");
            }
        }
    }
}

/// Whether the children of a group have met what it asks, or missed it for good; of each child how it ended.
pub fn verdict(kind: &str, sealed: bool, children: &[Option<State>]) -> (bool, bool) {
    let succeeded = children.iter().filter(|child| **child == Some(State::Succeeded)).count();
    let open = children.iter().filter(|child| child.is_none()).count();
    let failed = children.len() - open - succeeded;
    match kind.strip_prefix("first=").map(|rest| rest[..1].parse::<usize>().unwrap()) {
        Some(needed) => (succeeded >= needed, sealed && succeeded + open < needed),
        None if kind.starts_with("settled") => (sealed && open == 0, false),
        None => (sealed && open == 0 && failed == 0, failed > 0),
    }
}

/// Settled, and nothing of it runs.
pub fn is_over(standing: &Standing) -> bool {
    matches!(standing, Standing::Settled { .. } | Standing::Forgotten)
}

fn is_settled(standing: &Standing) -> bool {
    is_over(standing) || matches!(standing, Standing::Stopping { .. })
}

/// Whether nothing but its turn and free slots keeps it.
fn in_line(standing: &Standing) -> bool {
    matches!(
        standing,
        Standing::Waiting { cause: Cause::SlotsBusy { .. } | Cause::SlotsKept { .. } | Cause::Starting, .. }
    )
}

/// Where it runs, and whether it takes no slots there as far as is known.
fn runs(standing: &Standing) -> Option<(&str, bool)> {
    match standing {
        Standing::Running { worker, .. } => Some((worker.as_str(), false)),
        Standing::Parked { worker, .. } | Standing::Stopping { worker, .. } => Some((worker.as_str(), true)),
        _ => None,
    }
}
