//! Worlds in which any policies are on at once, each in about half of them: held to the reference after every step, and
//! healed at the end, when everything must come to rest and every slot must be free. A failing seed prints itself.

mod deriving;
mod submitting;

use crate::order::Random;
use crate::reference::{Asked, Rate, Reference, Serving, is_over};
use crate::script::World;
use antiphon_engine::{Kind, Limits};
use antiphon_protocol::Standing;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

const WORKERS: [(&str, &str); 3] = [("w", "gpu"), ("x", "gpu,big"), ("y", "")];
const SCHEMAS: [&str; 2] = ["n", "n,max"];

/// What may be on in a world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Policy {
    Classes,
    Tenants,
    Delays,
    Deadlines,
    Lanes,
    Keys,
    Caps,
    Rates,
    Pauses,
    Labels,
    Costs,
    Schemas,
    Parking,
    Callbacks,
    Groups,
    Schedules,
    Events,
    RetryBudget,
    QueueLimits,
    Idempotency,
    Cancels,
    Deaths,
    Restarts,
    Compaction,
    Volatile,
}

/// What a schedule should have done.
struct Schedule {
    overlap: &'static str,
    added_ms: u64,
    /// Its last tick that was looked at.
    cursor: u64,
    /// The tick of its latest call, and one that waits for that to end.
    last: Option<u64>,
    queued: Option<u64>,
    /// Ticks that make a call.
    calls: BTreeSet<u64>,
}

const EVERY_MS: u64 = 3_000;

struct Play {
    world: World,
    random: Random,
    reference: Reference,
    on: u64,
    ms: u64,
    grants: usize,
    /// Idempotency keys and the calls they stand for.
    keyed: BTreeMap<&'static str, String>,
    subscribed: BTreeMap<String, &'static str>,
    /// Calls that events must have made.
    expected: BTreeSet<String>,
    schedules: BTreeMap<String, Schedule>,
    events: usize,
    /// Calls that a worker gave back unharmed: if they end then, they have freed their keys.
    released: BTreeSet<String>,
    /// Why calls have waited.
    causes: BTreeSet<String>,
    /// The last line that was run.
    line: String,
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        // The first draws of near seeds are near each other.
        (0..8).for_each(|_| _ = random.below(2));
        let on = random.0 ^ random.0 >> 29;
        let limits = Limits { parked_max: 2, predict: false, ..Limits::new(true) };
        let limits =
            if on & 1 << Policy::RetryBudget as u64 == 0 { limits } else { Limits { retries_min: 2, ..limits } };
        let mut world = World::new(limits);
        // A subscription that has ended comes back by a restart, to end again.
        world.scribe.forgets = true;
        world.run("caller c");
        let mut reference = Reference::default();
        let uses = |policy: Policy| on & 1 << policy as u64 != 0;
        reference.turns = !uses(Policy::Keys);
        Self {
            world,
            random,
            reference,
            on,
            ms: 0,
            grants: 0,
            keyed: BTreeMap::new(),
            subscribed: BTreeMap::new(),
            expected: BTreeSet::new(),
            schedules: BTreeMap::new(),
            events: 0,
            released: BTreeSet::new(),
            causes: BTreeSet::new(),
            line: String::new(),
        }
    }

    /// Whether the policy is on here, and is used now.
    fn uses(&mut self, policy: Policy, one_in: usize) -> bool {
        self.on & 1 << policy as u64 != 0 && self.random.below(one_in) == 0
    }

    /// Runs a line and holds what became of it to the reference; whether it was not refused.
    fn run(&mut self, line: &str) -> bool {
        self.line = line.to_owned();
        let before = self.world.log.len();
        self.world.run(line);
        let refused = self.world.log[before..].contains("refused");
        self.hold();
        !refused
    }

    fn hold(&mut self) {
        let known = self.world.known();
        let standing = |name: &String| {
            let standing = self.world.engine.explain(self.world.id(name)).standing;
            (standing != Standing::NeverSeen).then(|| (name.clone(), standing))
        };
        let standings: BTreeMap<String, Standing> = known.iter().filter_map(standing).collect();
        for standing in standings.values() {
            if let Standing::Waiting { cause, .. } = standing {
                self.causes.extend(format!("{cause:?}").split([' ', '{']).next().map(str::to_owned));
            }
        }
        for name in standings.keys() {
            if self.reference.calls.contains_key(name) {
                continue;
            }
            // Made by the broker itself: a callback, or the call of an event or of a tick.
            let to = self.world.engine.explain(self.world.id(name)).procedure;
            let to =
                ["p", "q", "x", "y", "group"].into_iter().find(|it| to.as_ref().is_some_and(|to| to.as_str() == *it));
            let mut asked = Asked::of(to.expect("a procedure of this world"));
            asked.ready_ms = self.ms;
            let cause = name.split('>').next().and_then(|cause| self.reference.calls.get(cause));
            asked.tenant = cause.map_or("", |cause| cause.tenant);
            if name.ends_with(">y") && cause.is_some_and(|cause| cause.callbacks == ["y", "x"]) {
                asked.callbacks.push("x");
            }
            self.reference.calls.insert(name.clone(), asked);
        }
        let granted = &self.world.granted[self.grants..];
        let granted: Vec<_> = granted.iter().map(|(call, _, worker)| (call.clone(), worker.clone())).collect();
        self.grants += granted.len();
        self.reference.hold(&granted, standings, self.ms);
    }

    fn step(&mut self) {
        match self.random.below(30) {
            0..=7 => self.submit(),
            8 | 9 => self.pass(),
            10 => self.worker_comes(),
            11 if self.uses(Policy::Deaths, 2) => self.worker_goes(),
            12 if self.uses(Policy::Cancels, 1) => {
                let call = self.some_call();
                self.run(&format!("cancel {call}"));
            }
            13 if self.uses(Policy::Restarts, 2) => self.restart(),
            14 | 24 => self.rule(),
            15 | 26 if self.uses(Policy::Parking, 1) => self.end(&["park", "resume"]),
            16 | 27 if self.uses(Policy::Groups, 1) => self.group(),
            17 | 28 if self.uses(Policy::Events, 1) => self.event(),
            18 | 25 if self.uses(Policy::Schedules, 1) => self.tick(),
            19 if self.uses(Policy::Compaction, 2) => self.world.sweep(),
            _ => self.end(&["ok", "ok", "fail", "retry", "retry", "bury", "release", "stopped", "extend"]),
        }
    }

    fn some_call(&mut self) -> String {
        format!("c{:02}", self.random.below(self.reference.calls.len() + 1))
    }

    fn pass(&mut self) {
        let passes_ms = [1, 500, 4_000, 11_000][self.random.below(4)];
        self.to(self.ms + passes_ms);
    }

    fn to(&mut self, ms: u64) {
        self.ms = ms;
        self.reference.join_due(ms);
        self.run(&format!("at {ms}ms"));
    }

    fn worker_comes(&mut self) {
        let (worker, labels) = WORKERS[self.random.below(WORKERS.len())];
        let takes = if self.uses(Policy::Schemas, 2) { Some(self.random.pick(&SCHEMAS)) } else { None };
        let slots = 1 + self.random.below(4) as u32;
        self.open(worker, labels, slots, takes);
    }

    fn open(&mut self, worker: &str, labels: &'static str, slots: u32, takes: Option<&'static str>) {
        self.reference.workers.insert(worker.to_owned(), Serving { slots, labels, takes });
        let labels = if labels.is_empty() { String::new() } else { format!("labels={labels}") };
        let takes = takes.map_or_else(String::new, |takes| format!("schema={takes}"));
        self.run(&format!("worker {worker} serves=p,q,x,y slots={slots} {labels} {takes}"));
    }

    fn worker_goes(&mut self) {
        let (worker, _) = WORKERS[self.random.below(WORKERS.len())];
        if self.world.workers.contains_key(worker) {
            self.run(&format!("close {worker}"));
            self.world.workers.remove(worker);
            self.reference.workers.remove(worker);
        }
    }

    fn restart(&mut self) {
        self.world.run("restart");
        self.reference.workers.clear();
        // Whatever waits is ready anew; volatile calls are gone, and what they asked for with them.
        let gone = |name: &String, world: &World| {
            matches!(world.engine.explain(world.id(name)).standing, Standing::NeverSeen | Standing::TooOldToSay)
        };
        for (name, asked) in &mut self.reference.calls {
            asked.ready_ms = self.ms.max(asked.due_ms);
            if gone(name, &self.world) {
                self.reference.standings.remove(name);
                self.reference.ended.remove(name);
            }
        }
        self.run("caller c");
    }

    fn rule(&mut self) {
        let procedure = self.random.pick(&["p", "q"]);
        match self.random.below(4) {
            0 if self.uses(Policy::Pauses, 1) => {
                let pause = !self.reference.paused.remove(procedure);
                if pause {
                    self.reference.paused.insert(procedure);
                }
                self.run(&format!("set {procedure} paused={}", u8::from(pause)));
            }
            1 if self.uses(Policy::Caps, 1) => {
                let cap = self.random.below(4);
                self.reference.caps.remove(procedure);
                if cap > 0 {
                    self.reference.caps.insert(procedure, cap);
                }
                self.run(&format!("set {procedure} running_max={cap}"));
            }
            2 if self.uses(Policy::Rates, 1) => {
                let (count, burst) = [(0, 0), (2, 1), (1, 3)][self.random.below(3)];
                let rate = Rate { count, burst, starts: Vec::new() };
                let before = self.reference.rates.remove(procedure);
                if count > 0 {
                    let same = before.filter(|before| (before.count, before.burst) == (count, burst));
                    self.reference.rates.insert(procedure, same.unwrap_or(rate));
                }
                self.run(&format!("set {procedure} rate_count={count} rate_period_ms=1000 rate_burst={burst}"));
            }
            3 if self.uses(Policy::QueueLimits, 1) => {
                let limit = 2 + self.random.below(6);
                let procedure = self.random.pick(&["p", "q", "x"]);
                self.reference.queued_max.insert(procedure, limit);
                self.run(&format!("set {procedure} queued_max={limit}"));
            }
            _ => {}
        }
    }

    /// Calls that a connected worker holds.
    fn held(&self) -> Vec<String> {
        let connected = |holder: &String| self.world.workers.contains_key(holder);
        self.world.holders.iter().filter(|(_, holder)| connected(holder)).map(|(call, _)| call.clone()).collect()
    }

    fn end(&mut self, verbs: &[&'static str]) {
        let held = self.held();
        if !held.is_empty() {
            let call = held[self.random.below(held.len())].clone();
            let verb = verbs[self.random.below(verbs.len())];
            self.end_as(verb, &call);
        }
    }

    fn end_as(&mut self, verb: &str, call: &str) {
        let runs = matches!(
            self.reference.standings.get(call),
            Some(Standing::Running { worker_away: false, .. } | Standing::Parked { .. })
        );
        let before = self.world.log.len();
        self.line = format!("{verb} {call}");
        // What failed may be granted again in the same step.
        let asked = self.reference.calls.get_mut(call).unwrap();
        let fails = matches!(verb, "retry" | "bury") && runs;
        asked.failed += usize::from(fails);
        self.world.run(&self.line.clone());
        let stale = self.world.log[before..].contains("stale");
        if matches!(verb, "release" | "stopped") {
            self.released.insert(call.to_owned());
        }
        if fails && stale {
            self.reference.calls.get_mut(call).unwrap().failed -= 1;
        }
        self.hold();
    }

    /// With faults over and everything allowed, whatever was accepted ends, once, and every slot is free again.
    fn heal(&mut self) {
        self.reference.caps.clear();
        self.reference.paused.clear();
        self.reference.rates.clear();
        self.reference.queued_max.clear();
        for procedure in ["p", "q", "x"] {
            self.run(&format!("set {procedure} paused=0 running_max=0 rate_count=0 queued_max=1000000"));
        }
        self.open("x", "gpu,big", 4, None);
        self.open("w", "gpu", 3, None);
        for group in self.reference.groups.keys().cloned().collect::<Vec<_>>() {
            let sealed = &mut self.reference.groups.get_mut(&group).unwrap().1;
            if !std::mem::replace(sealed, true) {
                self.run(&format!("seal {group}"));
            }
        }
        for _ in 0..120 {
            if self.reference.standings.values().all(is_over) {
                break;
            }
            self.to(self.ms + 11_000);
            for call in self.held() {
                self.end_as("ok", &call);
            }
        }
        for (name, standing) in &self.reference.standings {
            assert!(is_over(standing), "{name} still stands there: {standing:?}");
        }
        self.hold_once();
        self.hold_free();
    }

    /// Each thing happened once: ends, calls of events and of ticks.
    fn hold_once(&self) {
        let written = |name: &str, kind: Kind| {
            self.world.scribe.written.get(&(self.world.id(name).to_bytes(), kind as u8)).copied().unwrap_or(0)
        };
        for name in self.world.known() {
            for kind in [Kind::Submitted, Kind::Settled] {
                let times = written(&name, kind);
                assert!(times <= 1, "{name}: {times} times {kind:?}");
            }
            if name.contains(">s") {
                let expected = self.expected.contains(&name);
                assert_eq!(written(&name, Kind::Submitted) == 1, expected, "the call {name}");
            }
        }
        for (schedule, it) in &self.schedules {
            for tick in 1..=it.cursor {
                let (made, wanted) =
                    (written(&format!("{schedule}@{tick}"), Kind::Submitted), it.calls.contains(&tick));
                assert_eq!(made == 1, wanted, "tick {tick} of {schedule}, {}", it.overlap);
            }
        }
    }

    /// Nothing is held any more: as many calls start at once as there are slots, and no key and no lane keeps one.
    fn hold_free(&mut self) {
        assert_eq!(self.world.engine.load(), 0, "room for calls that have ended is given back");
        for worker in self.world.engine.workers() {
            assert_eq!((worker.leased, worker.parked), (0, 0), "{} holds nothing", worker.name);
        }
        let connected: Vec<String> = self.reference.workers.keys().cloned().collect();
        for worker in connected.iter().filter(|worker| *worker != "x" && *worker != "w") {
            self.run(&format!("close {worker}"));
        }
        let grants = self.grants;
        for (number, with) in ["order=k", "order=l", "with=m", "with=m limit=2", "", "", ""].iter().enumerate() {
            let name = format!("z{number}");
            let mut asked = Asked::of("p");
            asked.ready_ms = self.ms;
            self.reference.calls.insert(name.clone(), asked);
            self.run(&format!("submit {name} to=p {with}"));
        }
        let started = self.grants - grants;
        assert_eq!(started, 7, "of 7 free slots {started} took calls");
    }
}

/// Plays one seed, and says why calls have waited in it and what else was said; or what was wrong.
pub fn play(seed: u64) -> Result<(BTreeSet<String>, String), String> {
    let mut play = Play::new(seed);
    let steps = || {
        for _ in 0..100 {
            play.step();
        }
        play.heal();
    };
    match catch_unwind(AssertUnwindSafe(steps)) {
        Ok(()) => Ok((play.causes, play.world.log)),
        Err(panic) => {
            if std::env::var_os("ANTIPHON_LOG_WORLD").is_some() {
                eprintln!("{}", play.world.log);
            }
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(format!("seed {seed}, at `{}`: {}", play.line, text.unwrap_or_default()))
        }
    }
}

/// The seeds to play: one by name, or the first so many.
fn seeds() -> std::ops::RangeInclusive<u64> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number of seeds, or a seed"));
    match number("ANTIPHON_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("ANTIPHON_PROVE_WORLDS").unwrap_or(120),
    }
}

/// What must have come up in some world, so that none of it is held to nothing.
const CAUSES: [&str; 16] = [
    "NotBefore",
    "Children",
    "Retry",
    "RetryBudget",
    "Paused",
    "NoWorker",
    "NoSchema",
    "NoLabels",
    "TooFewSlots",
    "SlotsBusy",
    "SlotsKept",
    "Suspect",
    "LaneHeld",
    "KeyHeld",
    "CapReached",
    "RateLimited",
];
const SAID: [&str; 9] = [
    ", not all",
    "QueueFull",
    "accepted again",
    "go on with",
    ": stop ",
    "stale",
    "record Sealed",
    "record Ticked",
    "record Stopped",
];

#[test]
fn random_combinations_of_all_policies_agree_with_the_reference_and_come_to_rest() {
    let (mut wrong, mut causes, mut said) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let seeds = seeds();
    for seed in seeds.clone() {
        match play(seed) {
            Ok((seen, log)) => {
                causes.extend(seen);
                said.extend(SAID.into_iter().filter(|text| log.contains(text)));
            }
            Err(text) => wrong.push(text),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{} random worlds", seeds.clone().count());
    if seeds.count() >= 100 {
        let missing: Vec<_> = CAUSES.iter().filter(|cause| !causes.contains(**cause)).collect();
        assert!(missing.is_empty(), "no call waited because of {missing:?}, only of {causes:?}");
        let missing: Vec<_> = SAID.iter().filter(|text| !said.contains(**text)).collect();
        assert!(missing.is_empty(), "nothing was said of {missing:?}");
    }
}
