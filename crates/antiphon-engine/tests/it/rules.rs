//! Random worlds, held to the invariants. A failing seed prints itself.

use crate::script::{World, id_of};
use antiphon_engine::Limits;
use antiphon_protocol::{Knowledge, State};
use std::collections::BTreeMap;

const CALLS: [&str; 6] = ["a", "b", "d", "e", "f", "g"];
const WORKERS: [&str; 2] = ["w", "x"];

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
}

/// A world, and what must stay true in it.
struct Play {
    world: World,
    random: Random,
    ms: u64,
    options: BTreeMap<&'static str, &'static str>,
    settled: BTreeMap<&'static str, State>,
    failures: BTreeMap<String, u32>,
    /// How workers tend to end attempts here.
    verbs: &'static [&'static str],
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut world = World::new(Limits::new(true));
        world.run("caller c");
        let random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let (options, settled) = (BTreeMap::new(), BTreeMap::new());
        let verbs: [&[&str]; 3] = [
            &["ok", "fail", "retry", "bury", "release", "stopped", "extend"],
            &["retry", "retry", "retry", "retry", "release", "extend"],
            &["ok", "ok", "extend", "extend"],
        ];
        let verbs = verbs[seed as usize % 3];
        Self { world, random, ms: 0, options, settled, failures: BTreeMap::new(), verbs }
    }

    fn run(&mut self, line: &str) {
        self.world.run(line);
    }

    fn step(&mut self) {
        match self.random.below(14) {
            0..=3 => self.submit(),
            4 | 5 => self.pass(),
            6 => self.worker_comes(),
            7 => self.worker_goes(),
            8 => {
                let call = self.random.pick(&CALLS);
                self.run(&format!("cancel {call}"));
            }
            9 => {
                self.run("restart");
                self.run("caller c");
            }
            _ => self.report(),
        }
        self.hold();
    }

    fn submit(&mut self) {
        let call = self.random.pick(&CALLS);
        let kinds = [
            "",
            "idempotent",
            "at_most_once",
            "key=k args=1 idempotent",
            "deadline=8s",
            "delay=3s attempts=2",
            "priority=9",
        ];
        let options = *self.options.entry(call).or_insert(kinds[self.random.below(kinds.len())]);
        self.run(&format!("submit {call} {options} accepted"));
    }

    fn pass(&mut self) {
        self.ms += [1, 500, 4_000, 11_000][self.random.below(4)];
        let ms = self.ms;
        self.run(&format!("at {ms}ms"));
    }

    fn worker_comes(&mut self) {
        let (worker, slots) = (self.random.pick(&WORKERS), 1 + self.random.below(3));
        self.run(&format!("worker {worker} slots={slots}"));
    }

    fn worker_goes(&mut self) {
        let worker = self.random.pick(&WORKERS);
        if self.world.workers.contains_key(worker) {
            self.run(&format!("close {worker}"));
            self.world.workers.remove(worker);
        }
    }

    /// Some worker ends some lease that it has or had.
    fn report(&mut self) {
        let held: Vec<String> = self.world.holders.keys().cloned().collect();
        if held.is_empty() {
            return;
        }
        let call = &held[self.random.below(held.len())].clone();
        if !self.world.workers.contains_key(&self.world.holders[call]) {
            return;
        }
        let verb = self.random.pick(self.verbs);
        if self.random.below(4) == 0 {
            return self.report_late(verb, call);
        }
        self.run(&format!("{verb} {call}"));
        if verb == "retry" && self.said(&format!("settled {call}")) {
            *self.failures.entry(call.clone()).or_default() += 1;
        }
    }

    /// A worker that lost its lease long ago comes with an outcome.
    fn report_late(&mut self, verb: &str, call: &str) {
        let known = self.world.earlier.get(call).is_some_and(|(_, holder)| self.world.workers.contains_key(holder));
        if known && verb != "extend" {
            self.run(&format!("{verb} {call} late"));
            assert!(self.said("stale"), "a superseded lease settles nothing: {verb} {call}");
        }
    }

    /// Whether the newest step was answered so.
    fn said(&self, what: &str) -> bool {
        let answers = self.world.log.lines().rev().take_while(|line| line.starts_with("    "));
        answers.into_iter().any(|line| line.contains(what))
    }

    /// The invariants that can be seen from outside.
    fn hold(&mut self) {
        assert_eq!(self.world.engine.audit(), Ok(()));
        for call in CALLS {
            if let Knowledge::Known(status) = self.world.engine.knowledge(id_of(call)) {
                assert!(status.lost_leases <= 3, "{call} lost {} leases", status.lost_leases);
                if status.state.is_settled() {
                    let before = *self.settled.entry(call).or_insert(status.state);
                    assert_eq!(before, status.state, "a terminal state never changes: {call}");
                }
            } else {
                assert!(!self.settled.contains_key(call), "{call} was settled and is forgotten");
            }
        }
        for (_, call, state) in &self.world.told {
            assert_eq!(self.settled.get(call.as_str()), Some(state), "one outcome for {call}, told alike to all");
        }
        self.hold_leases();
    }

    fn hold_leases(&self) {
        let mut newest = BTreeMap::new();
        let mut runs: BTreeMap<&str, u32> = BTreeMap::new();
        for (call, token, _) in &self.world.granted {
            let before = newest.insert(call, *token).unwrap_or(0);
            assert!(*token > before, "tokens of {call} increase");
            *runs.entry(call).or_default() += 1;
        }
        for (call, options) in &self.options {
            if options.contains("at_most_once") {
                assert!(runs.get(call).copied().unwrap_or(0) <= 1, "{call} is leased once");
            }
            let limit = if options.contains("attempts=2") { 2 } else { 3 };
            assert!(self.failures.get(*call).copied().unwrap_or(0) <= limit, "{call} has {limit} attempts");
        }
        for worker in self.world.engine.workers() {
            assert!(!worker.connected || worker.leased <= worker.slots.max(3), "{worker:?} has more leases than slots");
        }
        let counted: u64 = self.world.engine.counts().iter().sum();
        let known = CALLS.iter().filter(|call| matches!(self.world.engine.knowledge(id_of(call)), Knowledge::Known(_)));
        assert_eq!(counted, known.count() as u64, "every call is counted in one state");
    }

    /// With faults over, whatever was accepted ends.
    fn heal(&mut self) {
        self.run("worker w slots=3");
        self.run("worker x slots=3");
        for _ in 0..60 {
            self.ms += 11_000;
            let ms = self.ms;
            self.run(&format!("at {ms}ms"));
            let held: Vec<String> = self.world.holders.keys().cloned().collect();
            for call in held
                .iter()
                .filter(|call| self.world.workers.contains_key(&self.world.holders[*call]))
                .cloned()
                .collect::<Vec<_>>()
            {
                self.run(&format!("ok {call}"));
            }
            self.hold();
        }
        for call in CALLS {
            if let Knowledge::Known(status) = self.world.engine.knowledge(id_of(call)) {
                assert!(status.state.is_settled(), "{call} is still {}", status.state);
            }
        }
    }
}

#[test]
fn random_worlds_keep_the_invariants_and_come_to_rest() {
    for seed in 1..=1_500 {
        let outcome = std::panic::catch_unwind(|| {
            let mut play = Play::new(seed);
            for _ in 0..80 {
                play.step();
            }
            play.heal();
        });
        if let Err(panic) = outcome {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
