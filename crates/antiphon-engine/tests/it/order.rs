//! Random worlds of calls that are tied to each other, held to a reference of plain maps: which call joined its lane
//! when, what runs under which key, what takes how many slots where. A failing seed prints itself.

use crate::script::{World, id_of};
use antiphon_engine::Limits;
use antiphon_protocol::{Explanation, Standing, State};
use std::collections::BTreeMap;

const WORKERS: [(&str, &str); 3] = [("w", "gpu"), ("x", "gpu,big"), ("y", "")];

/// xorshift64.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    pub fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
}

/// What the reference knows of a call.
#[derive(Clone, Debug, Default)]
struct Asked {
    lane: Option<String>,
    key: Option<(String, usize)>,
    slots: u32,
    label: Option<&'static str>,
    procedure: &'static str,
    /// When it is due; 0 is at once.
    due_ms: u64,
    /// Its number among those that joined their lanes.
    joined: usize,
}

struct Play {
    world: World,
    random: Random,
    ms: u64,
    calls: BTreeMap<String, Asked>,
    /// Connected workers and their slots.
    slots: BTreeMap<&'static str, u32>,
    joined: usize,
    caps: BTreeMap<&'static str, u32>,
    paused: BTreeMap<&'static str, bool>,
    grants: usize,
}

impl Play {
    fn new(seed: u64) -> Self {
        let limits = Limits { parked_max: 2, ..Limits::new(true) };
        let mut world = World::new(limits);
        world.run("caller c");
        let random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        Self {
            world,
            random,
            ms: 0,
            calls: BTreeMap::new(),
            slots: BTreeMap::new(),
            joined: 0,
            caps: BTreeMap::new(),
            paused: BTreeMap::new(),
            grants: 0,
        }
    }

    fn run(&mut self, line: &str) {
        self.world.run(line);
        self.hold();
    }

    fn step(&mut self) {
        match self.random.below(16) {
            0..=4 => self.submit(),
            5 => self.pass(),
            6 => self.worker_comes(),
            7 if self.random.chance(2) => self.worker_goes(),
            8 => {
                let call = format!("c{:02}", self.random.below(self.calls.len() + 1));
                self.run(&format!("cancel {call}"));
            }
            9 if self.random.chance(3) => self.restart(),
            10 => self.rule(),
            11 | 12 => self.park(),
            _ => self.report(),
        }
    }

    fn submit(&mut self) {
        let name = format!("c{:02}", self.calls.len());
        let mut asked = Asked { slots: 1, procedure: self.random.pick(&["p", "q"]), ..Asked::default() };
        let mut options = format!("to={} accepted", asked.procedure);
        if self.random.chance(2) {
            let key = self.random.pick(&["k", "l"]);
            let shared = self.random.chance(2);
            options.push_str(&format!(" order={key}"));
            options.push_str(if shared { " lane=shared" } else { "" });
            asked.lane = Some(format!("{}/{key}", if shared { "shared" } else { asked.procedure }));
        }
        if self.random.chance(3) {
            let limit = 1 + self.random.below(2);
            options.push_str(&format!(" with=m limit={limit}"));
            asked.key = Some((format!("{}/m", asked.procedure), limit));
        }
        if self.random.chance(4) {
            asked.slots = 2 + self.random.below(2) as u32;
            options.push_str(&format!(" takes={}", asked.slots));
        }
        if self.random.chance(4) {
            asked.label = Some(self.random.pick(&["gpu", "big"]));
            options.push_str(&format!(" labels={}", asked.label.unwrap()));
        }
        if self.random.chance(4) {
            let delay_ms = [300, 3_000][self.random.below(2)];
            asked.due_ms = self.ms + delay_ms;
            options.push_str(&format!(" delay={delay_ms}ms"));
        }
        options.push_str(self.random.pick(&["", "", " idempotent", " deadline=8s", " priority=9", " attempts=2"]));
        if asked.due_ms == 0 {
            self.joined += 1;
            asked.joined = self.joined;
        }
        self.calls.insert(name.clone(), asked);
        self.run(&format!("submit {name} {options}"));
    }

    fn pass(&mut self) {
        self.ms += [1, 500, 4_000, 11_000][self.random.below(4)];
        self.join_due();
        let ms = self.ms;
        self.run(&format!("at {ms}ms"));
    }

    /// Delayed calls join their lanes when they are due, unless they have ended by then.
    fn join_due(&mut self) {
        let mut due: Vec<(u64, String)> = Vec::new();
        for (name, asked) in &self.calls {
            let waits = !self.standing(name).is_some_and(|standing| is_over(&standing));
            if asked.joined == 0 && asked.due_ms <= self.ms && waits {
                due.push((asked.due_ms, name.clone()));
            }
        }
        due.sort();
        for (_, name) in due {
            self.joined += 1;
            self.calls.get_mut(&name).unwrap().joined = self.joined;
        }
    }

    fn worker_comes(&mut self) {
        let (worker, labels) = WORKERS[self.random.below(WORKERS.len())];
        let slots = 1 + self.random.below(4) as u32;
        self.slots.insert(worker, slots);
        let labels = if labels.is_empty() { String::new() } else { format!("labels={labels}") };
        self.run(&format!("worker {worker} serves=p,q slots={slots} {labels}"));
    }

    fn worker_goes(&mut self) {
        let (worker, _) = WORKERS[self.random.below(WORKERS.len())];
        if self.world.workers.contains_key(worker) {
            self.slots.remove(worker);
            self.run(&format!("close {worker}"));
            self.world.workers.remove(worker);
        }
    }

    fn restart(&mut self) {
        self.slots.clear();
        self.world.run("restart");
        self.world.run("caller c");
        self.hold();
    }

    fn rule(&mut self) {
        let procedure = self.random.pick(&["p", "q"]);
        match self.random.below(4) {
            0 => {
                let pause = self.random.chance(2);
                self.paused.insert(procedure, pause);
                self.world.run(&format!("set {procedure} paused={}", u8::from(pause)));
            }
            1 => {
                let cap = self.random.below(4) as u32;
                self.caps.insert(procedure, cap);
                self.world.run(&format!("set {procedure} running_max={cap}"));
            }
            2 => self.world.run(&format!("set {procedure} rate_count=2 rate_period_ms=1000 rate_burst=1")),
            _ => self.world.run(&format!("set {procedure} rate_count=0")),
        }
        // A new rule lets what ran before run on.
        self.grants = self.world.granted.len();
    }

    /// Calls that a connected worker holds.
    fn held(&self) -> Vec<String> {
        let connected = |holder: &String| self.world.workers.contains_key(holder);
        self.world.holders.iter().filter(|(_, holder)| connected(holder)).map(|(call, _)| call.clone()).collect()
    }

    fn park(&mut self) {
        let held = self.held();
        if !held.is_empty() {
            let call = &held[self.random.below(held.len())];
            let verb = self.random.pick(&["park", "resume"]);
            self.run(&format!("{verb} {call}"));
        }
    }

    fn report(&mut self) {
        let held = self.held();
        if !held.is_empty() {
            let call = &held[self.random.below(held.len())];
            let verb = self.random.pick(&["ok", "ok", "fail", "retry", "bury", "release", "stopped", "extend"]);
            self.run(&format!("{verb} {call}"));
        }
    }

    fn standing(&self, call: &str) -> Option<Standing> {
        let Explanation { standing, .. } = self.world.engine.explain(id_of(call));
        (!matches!(standing, Standing::NeverSeen)).then_some(standing)
    }

    /// What the reference says must hold now.
    fn hold(&mut self) {
        let mut lanes: BTreeMap<&str, Vec<(usize, &str)>> = BTreeMap::new();
        let mut keys: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut used: BTreeMap<String, u32> = BTreeMap::new();
        let mut running: BTreeMap<&str, u32> = BTreeMap::new();
        let mut over: BTreeMap<&str, bool> = BTreeMap::new();
        for (name, asked) in &self.calls {
            let Some(standing) = self.standing(name) else { continue };
            over.insert(name, is_over(&standing));
            let Some((worker, parked)) = runs(&standing) else { continue };
            if let Some(lane) = &asked.lane {
                lanes.entry(lane).or_default().push((asked.joined, name));
            }
            if let Some((key, limit)) = &asked.key {
                keys.entry(key).or_default().push(*limit);
            }
            if !parked {
                *used.entry(worker.clone()).or_default() += asked.slots;
                *running.entry(asked.procedure).or_default() += 1;
            }
            if let Some(label) = asked.label {
                let (_, labels) = WORKERS.iter().find(|(known, _)| *known == worker).unwrap();
                assert!(labels.contains(label), "{name} requires {label} and runs on {worker}");
            }
        }
        for (lane, running) in &lanes {
            assert_eq!(running.len(), 1, "calls of lane {lane} overlap: {running:?}");
            let (joined, name) = running[0];
            for (other, asked) in &self.calls {
                let before = asked.lane.as_deref() == Some(lane) && asked.joined != 0 && asked.joined < joined;
                let ended = over.get(other.as_str()).copied().unwrap_or(true);
                assert!(!before || ended, "{name} of lane {lane} started before {other}, which joined earlier");
            }
        }
        for (key, limits) in &keys {
            let most = limits.iter().max().unwrap();
            assert!(limits.len() <= *most, "{} calls of key {key} run, at most {most} may", limits.len());
        }
        if self.world.granted.len() > self.grants {
            self.hold_room(&used, &running);
        }
        self.grants = self.world.granted.len();
    }

    /// Of workers and procedures that were just given calls.
    fn hold_room(&self, used: &BTreeMap<String, u32>, running: &BTreeMap<&str, u32>) {
        for (call, _, worker) in &self.world.granted[self.grants..] {
            // What a worker brings along from before may be more than it has slots now; it gets nothing more then.
            let (uses, slots) = (used.get(worker).copied().unwrap_or(0), self.slots[worker.as_str()]);
            assert!(uses <= slots, "{worker} has {slots} slots and got {call}: {uses} are used");
            let procedure = self.calls[call].procedure;
            let cap = self.caps.get(procedure).copied().unwrap_or(0);
            let runs = running.get(procedure).copied().unwrap_or(0);
            assert!(cap == 0 || runs <= cap, "{runs} calls of {procedure} run, at most {cap} may");
            assert_ne!(self.paused.get(procedure), Some(&true), "{procedure} is paused and {call} starts");
        }
    }

    /// With faults over and everything allowed, whatever was accepted ends.
    fn heal(&mut self) {
        for procedure in ["p", "q"] {
            self.caps.remove(procedure);
            self.paused.remove(procedure);
            self.run(&format!("set {procedure} paused=0 running_max=0 rate_count=0"));
        }
        for (worker, labels) in [("x", "gpu,big"), ("w", "gpu")] {
            self.slots.insert(worker, 4);
            self.run(&format!("worker {worker} serves=p,q slots=4 labels={labels}"));
        }
        for _ in 0..80 {
            if self.calls.keys().all(|name| self.standing(name).is_none_or(|standing| is_over(&standing))) {
                break;
            }
            self.ms += 11_000;
            self.join_due();
            let ms = self.ms;
            self.run(&format!("at {ms}ms"));
            for call in self.held() {
                self.run(&format!("ok {call}"));
            }
        }
        for name in self.calls.keys() {
            if let Some(standing) = self.standing(name) {
                assert!(is_over(&standing), "{name} still stands there: {standing:?}");
            }
        }
    }
}

/// Settled, and nothing of it runs.
fn is_over(standing: &Standing) -> bool {
    matches!(standing, Standing::Settled { .. } | Standing::Forgotten)
}

/// Where it runs, and whether it is parked there.
fn runs(standing: &Standing) -> Option<(String, bool)> {
    match standing {
        Standing::Running { worker, .. } => Some((worker.to_string(), false)),
        Standing::Parked { worker, .. } => Some((worker.to_string(), true)),
        // Settled while it ran: whether it is parked is not told; it counts for lanes and keys in any case.
        Standing::Stopping { worker, state: State::Cancelled | State::Expired, .. } => Some((worker.to_string(), true)),
        _ => None,
    }
}

#[test]
fn random_worlds_of_tied_calls_agree_with_the_reference_and_come_to_rest() {
    for seed in 1..=500 {
        let mut play = Play::new(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..90 {
                play.step();
            }
            play.heal();
        }));
        if let Err(panic) = outcome {
            if std::env::var_os("ANTIPHON_LOG_WORLD").is_some() {
                eprintln!("{}", play.world.log);
            }
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
