//! Random worlds of callbacks and groups, held to a model of plain maps: what a settled call entails is there, exactly
//! once, after any history and any crash; and a group settles when its children say so, not before and not later.

use crate::rules::Random;
use crate::script::World;
use antiphon_engine::Limits;
use antiphon_protocol::{CallStatus, Knowledge, State};
use std::collections::{BTreeMap, BTreeSet};

const CALLS: [&str; 6] = ["a", "b", "d", "e", "f", "h"];
const GROUPS: [&str; 3] = ["g", "i", "j"];
const KINDS: [&str; 6] = ["", "cancel_rest", "first=1", "first=2 cancel_rest", "settled", "deadline=9s"];
const CALLBACKS: [&str; 5] =
    ["", "callback=x", "callback=x@success,y@failure", "callback=x@value>y", "callback=y@failure>x"];
const OPTIONS: [&str; 6] = ["", "key=k idempotent", "delay=3s", "deadline=8s", "at_most_once", "attempts=1 priority=9"];

/// A world, and what was done in it.
struct Play {
    world: World,
    random: Random,
    ms: u64,
    /// How each group was opened.
    groups: BTreeMap<&'static str, String>,
    sealed: BTreeSet<&'static str>,
    /// The children of each group, in the order they were taken.
    children: BTreeMap<&'static str, Vec<&'static str>>,
    /// The callbacks of calls and groups: procedure and when.
    callbacks: BTreeMap<String, BTreeSet<(&'static str, &'static str)>>,
    /// Of those, what was given later and so may be cut off by a crash.
    added: BTreeSet<(String, &'static str)>,
    settled: BTreeMap<String, State>,
}

fn spelled(callbacks: &str) -> Vec<(&'static str, &'static str)> {
    match callbacks {
        "callback=x" => vec![("x", "any")],
        "callback=x@success,y@failure" => vec![("x", "success"), ("y", "failure")],
        "callback=x@value>y" => vec![("x", "success")],
        "callback=y@failure>x" => vec![("y", "failure")],
        _ => Vec::new(),
    }
}

fn status(world: &World, name: &str) -> Option<CallStatus> {
    match world.engine.knowledge(world.id(name)) {
        Knowledge::Known(status) => Some(status),
        _ => None,
    }
}

fn state(world: &World, name: &str) -> Option<State> {
    status(world, name).map(|status| status.state)
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut limits = Limits::new(true);
        limits.calls_max = [40, 12][seed as usize % 2];
        let mut world = World::new(limits);
        world.run("caller c");
        Self {
            world,
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            ms: 0,
            groups: BTreeMap::new(),
            sealed: BTreeSet::new(),
            children: BTreeMap::new(),
            callbacks: BTreeMap::new(),
            added: BTreeSet::new(),
            settled: BTreeMap::new(),
        }
    }

    /// Runs a line; whether it was not refused.
    fn run(&mut self, line: &str) -> bool {
        let before = self.world.log.len();
        self.world.run(line);
        !self.world.log[before..].contains("refused")
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0..=4 => self.submit(),
            5 | 6 => self.open(),
            7 => self.seal(),
            8 => self.join(),
            9 => self.add_callback(),
            10 => {
                let name = if self.random.below(3) == 0 { self.random.pick(&GROUPS) } else { self.random.pick(&CALLS) };
                self.run(&format!("cancel {name}"));
            }
            11 => {
                self.ms += [1, 500, 4_000, 11_000][self.random.below(4)];
                let ms = self.ms;
                self.run(&format!("at {ms}ms"));
            }
            12 => {
                self.run("restart");
                self.run("caller c");
                self.run("worker w slots=3");
            }
            13 => self.world.sweep(),
            14 => {
                let line = ["worker w slots=3", "worker v serves=x,y slots=2"][self.random.below(2)];
                self.run(line);
            }
            _ => self.report(),
        }
        self.hold();
    }

    fn submit(&mut self) {
        let call = CALLS[self.random.below(CALLS.len())];
        if state(&self.world, call).is_some() {
            return;
        }
        let (options, callback) = (self.random.pick(&OPTIONS), self.random.pick(&CALLBACKS));
        let group = GROUPS[self.random.below(3)];
        let inside = self.random.below(2) == 0 && self.groups.contains_key(group);
        let place = if inside { format!("in={group}") } else { String::new() };
        if !self.run(&format!("submit {call} {options} {callback} {place} detached")) {
            return;
        }
        // Under a known key it is the call that has the key.
        let accepted = self.world.log.lines().rev().find_map(|line| {
            let rest = line.trim().strip_prefix("c: ")?;
            CALLS.into_iter().find(|known| rest.starts_with(&format!("{known} accepted")))
        });
        let call = accepted.expect("what is not refused is accepted");
        if let Some(callbacks) = callback.strip_prefix("callback=") {
            self.world.name_callbacks_of(call, callbacks);
        }
        let again = self.callbacks.contains_key(call);
        for (procedure, on) in spelled(callback) {
            self.callbacks.entry(call.to_owned()).or_default().insert((procedure, on));
            if again {
                self.added.insert((call.to_owned(), procedure));
            }
        }
        self.callbacks.entry(call.to_owned()).or_default();
        if inside {
            let children = self.children.entry(group).or_default();
            if !children.contains(&call) {
                children.push(call);
            }
        }
    }

    fn open(&mut self) {
        let group = GROUPS[self.random.below(3)];
        if self.groups.contains_key(group) {
            return;
        }
        let (kind, callback) = (self.random.pick(&KINDS), self.random.pick(&CALLBACKS));
        if self.run(&format!("group {group} {kind} {callback}")) {
            self.groups.insert(group, kind.to_owned());
            self.children.insert(group, Vec::new());
            self.callbacks.entry(group.to_owned()).or_default().extend(spelled(callback));
        }
    }

    fn seal(&mut self) {
        let group = GROUPS[self.random.below(3)];
        if self.groups.contains_key(group) && self.run(&format!("seal {group}")) {
            self.sealed.insert(group);
        }
    }

    fn join(&mut self) {
        let (group, call) = (GROUPS[self.random.below(3)], CALLS[self.random.below(CALLS.len())]);
        if self.run(&format!("join {group} {call}")) && !self.children[group].contains(&call) {
            self.children.get_mut(group).unwrap().push(call);
        }
    }

    fn add_callback(&mut self) {
        let call = self.random.pick(&CALLS);
        if self.run(&format!("callback {call} y@failure")) {
            self.callbacks.entry(call.to_owned()).or_default().insert(("y", "failure"));
            self.added.insert((call.to_owned(), "y"));
        }
    }

    fn report(&mut self) {
        let held: Vec<String> = self.world.holders.keys().cloned().collect();
        if held.is_empty() {
            return;
        }
        let call = held[self.random.below(held.len())].clone();
        if !self.world.workers.contains_key(&self.world.holders[&call]) {
            return;
        }
        let verb = self.random.pick(&["ok", "ok", "fail", "retry", "bury", "release", "stopped", "extend"]);
        self.run(&format!("{verb} {call}"));
    }

    fn hold(&mut self) {
        assert_eq!(self.world.engine.audit(), Ok(()));
        for name in self.names() {
            if let Some(state) = state(&self.world, &name).filter(|state| state.is_settled()) {
                let before = *self.settled.entry(name.clone()).or_insert(state);
                assert_eq!(before, state, "a terminal state never changes: {name}");
            } else {
                assert!(!self.settled.contains_key(&name), "{name} was settled and is not any more");
            }
        }
        self.hold_in(&self.world);
    }

    /// Every call and group, and every callback there may be of them.
    fn names(&self) -> Vec<String> {
        let own = CALLS.into_iter().chain(GROUPS).map(str::to_owned);
        let after = |name: &String| ["x", "y", "x>y", "y>x"].map(|callback| format!("{name}>{callback}"));
        own.flat_map(|name| after(&name).into_iter().chain([name])).collect()
    }

    /// What must be true of this world or of what a crash has left of it.
    fn hold_in(&self, world: &World) {
        for (cause, callbacks) in &self.callbacks {
            let ended = state(world, cause).filter(|state| state.is_settled());
            for (procedure, on) in callbacks {
                let follows = match *on {
                    "any" => ended.is_some(),
                    "success" => ended == Some(State::Succeeded),
                    _ => ended.is_some_and(|state| state != State::Succeeded),
                };
                let name = format!("{cause}>{procedure}");
                let there = status(world, &name);
                // Another of its callbacks may be of the same procedure, for other outcomes.
                let may_be_cut = !std::ptr::eq(world, &self.world) && self.added.contains(&(cause.clone(), procedure));
                let other = may_be_cut || callbacks.iter().filter(|(other, _)| other == procedure).count() > 1;
                assert!(!follows || there.is_some() || other, "{name} follows {cause} and is not there\n{}", world.log);
                assert!(follows || there.is_none() || other, "{name} is there and {cause} has not ended so");
            }
        }
        for (group, kind) in &self.groups {
            self.hold_group(world, group, kind);
        }
    }

    fn hold_group(&self, world: &World, group: &str, kind: &str) {
        let Some(standing) = state(world, group) else { return };
        let children: Vec<State> = self.children[group].iter().filter_map(|child| state(world, child)).collect();
        let count = |wanted: fn(&State) -> bool| children.iter().filter(|state| wanted(state)).count();
        let succeeded = count(|state| *state == State::Succeeded);
        let open = count(|state| !state.is_settled());
        let ended = children.len() - open - succeeded;
        // A crash may have cut off the seal, or a child's joining: then the group may only wait for longer.
        let whole = std::ptr::eq(world, &self.world);
        let sealed = self.sealed.contains(group);
        let needed = kind.strip_prefix("first=").map(|rest| rest[..1].parse::<usize>().unwrap());
        let met = match needed {
            Some(needed) => succeeded >= needed,
            None => sealed && open == 0 && (ended == 0 || kind == "settled"),
        };
        let missed = match needed {
            Some(needed) => sealed && succeeded + open < needed,
            None => kind != "settled" && ended > 0,
        };
        match standing {
            State::Succeeded => assert!(met, "{group} {kind} succeeded, with {children:?}, sealed: {sealed}"),
            State::Failed => assert!(missed, "{group} {kind} failed, with {children:?}, sealed: {sealed}"),
            state if state.is_settled() => {}
            _ => assert!(!whole || !(met || missed), "{group} {kind} waits, with {children:?}, sealed: {sealed}"),
        }
        if matches!(standing, State::Succeeded | State::Failed | State::Cancelled) && kind.contains("cancel_rest") {
            assert_eq!(open, 0, "the rest of {group} is cancelled");
        }
    }

    /// Everything is served until it rests: nothing is left, not even reserved.
    fn heal(&mut self) {
        for group in GROUPS.into_iter().filter(|group| self.groups.contains_key(group)).collect::<Vec<_>>() {
            self.run(&format!("seal {group}"));
            self.sealed.insert(group);
        }
        self.run("worker w slots=9");
        self.run("worker v serves=x,y slots=9");
        for _ in 0..40 {
            self.ms += 11_000;
            let ms = self.ms;
            self.run(&format!("at {ms}ms"));
            let held: Vec<String> = self.world.holders.keys().cloned().collect();
            for call in held {
                self.run(&format!("ok {call}"));
            }
            self.hold();
        }
        for name in self.names() {
            assert!(state(&self.world, &name).is_none_or(State::is_settled), "{name} does not come to rest");
        }
        self.run("worker u slots=0");
        assert_eq!(self.world.engine.load(), 0, "room for calls that have ended is given back");
    }
}

fn each_seed(seeds: std::ops::RangeInclusive<u64>, play: impl Fn(u64) + std::panic::RefUnwindSafe) {
    for seed in seeds {
        if let Err(panic) = std::panic::catch_unwind(|| play(seed)) {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
pub fn callbacks_and_groups_follow_from_what_became_of_calls() {
    each_seed(1..=300, |seed| {
        let mut play = Play::new(seed);
        (0..70).for_each(|_| play.step());
        play.heal();
    });
}

#[test]
fn and_they_do_after_a_crash_behind_any_record() {
    each_seed(1..=30, |seed| {
        let mut play = Play::new(seed);
        (0..40).for_each(|_| play.step());
        // What was copied replaces its originals only when all of it is on disk.
        for records in play.world.swept.max(1)..=play.world.records() {
            let mut world = play.world.after_crash(records);
            world.run("caller c");
            assert_eq!(world.engine.audit(), Ok(()));
            play.hold_in(&world);
        }
    });
}
