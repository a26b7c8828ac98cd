//! Scripts: one line a step, what the engine says to it below. Time is an argument, so nothing waits.
//!
//! ```text
//! caller c | inbox billing | worker w slots=2 plain? | submit a [key=.. delay=.. deadline=.. attempts=.. idempotent
//! at_most_once volatile detached accepted priority=.. tenant=.. for=c callback=x@value>y,z order=.. lane=.. with=..
//! (concurrency key) limit=.. (of that) within=a labels=x,y takes=.. (slots)
//! sends=x,y? (parameters; a worker has schema=x,y?)] | callback a x@failure |
//! attach a for=c | acknowledge a for=c | cancel a | ok a | fail a | retry a [after=..] | bury a | release a | stopped a |
//! extend a | close w | drain w | at 1s | explain a | set p queued_max=3 [outcome_ms=] | restart |
//! group g [first=2 settled cancel_rest unsealed=5s] | seal g | join g a | submit a in=g
//! subscribe s pattern=a.* [to=p] | unsubscribe s | emit e topic=a.b
//! park a [awaits=b] | resume a
//! schedule s every=5s [to=p overlap=skip] | tick s
//! ```

mod scribe;
mod steps;

use antiphon_engine::{
    Command, Effect, Ending, Engine, Gate, Grant, Handle, InboxKey, Limits, Now, Peer, Record, Replay,
};
use antiphon_protocol::{CallId, Callback, CallerId, LeaseTag, Name, State};
pub use scribe::Scribe;
use std::collections::BTreeMap;
use std::fmt::Write;
use steps::callback_of;
pub use steps::id_of;

const WALL_START_MS: u64 = 1_000_000;

/// Runs a script and compares what it printed.
pub fn check(script: &str, expected: expect_test::Expect) {
    let mut world = World::new(Limits::new(true));
    world.run(script);
    expected.assert_eq(&world.log);
}

/// An engine with named callers, workers and calls around it.
pub struct World {
    pub engine: Engine,
    pub scribe: Scribe,
    pub now: Now,
    limits: Limits,
    pub callers: BTreeMap<String, Peer>,
    pub workers: BTreeMap<String, Peer>,
    pub slots: BTreeMap<String, u32>,
    peers: u32,
    grants: BTreeMap<String, Grant>,
    /// The grant before the newest, of calls that had several, and who had it.
    pub earlier: BTreeMap<String, (Grant, String)>,
    /// Every grant: the call, the token, the worker.
    pub granted: Vec<(String, u64, String)>,
    /// Every outcome that was told: to whom, of which call, and how it ended.
    pub told: Vec<(String, String, State)>,
    /// Calls whose newest lease is over.
    pub ended: Vec<String>,
    pub holders: BTreeMap<String, String>,
    names: BTreeMap<CallId, String>,
    /// Every subscription there ever was, by its name and its identity.
    pub subscribed: Vec<(String, CallId)>,
    subscriptions: u32,
    /// Calls that the engine named.
    ids: BTreeMap<String, CallId>,
    /// How many records are not what was written first, but copies that replaced it.
    pub swept: usize,
    pub log: String,
}

impl World {
    pub fn new(limits: Limits) -> Self {
        let now = Now { monotonic_ms: 1, wall_ms: WALL_START_MS };
        let mut scribe = Scribe::default();
        let engine = Replay::new(limits.clone(), 7, Now::default()).finish(now, &mut scribe, |_| ());
        scribe.said.clear();
        Self {
            engine,
            scribe,
            now,
            limits,
            callers: BTreeMap::new(),
            workers: BTreeMap::new(),
            slots: BTreeMap::new(),
            peers: 0,
            grants: BTreeMap::new(),
            earlier: BTreeMap::new(),
            granted: Vec::new(),
            told: Vec::new(),
            ended: Vec::new(),
            holders: BTreeMap::new(),
            names: BTreeMap::new(),
            subscribed: Vec::new(),
            subscriptions: 0,
            ids: BTreeMap::new(),
            swept: 0,
            log: String::new(),
        }
    }

    pub fn run(&mut self, script: &str) {
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            writeln!(self.log, "{line}").unwrap();
            self.step(line);
            self.engine.advance(self.now, 10_000, &mut self.scribe);
            assert_eq!(self.engine.audit(), Ok(()));
            self.describe();
        }
    }

    fn step(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let (verb, name) = (words.next().unwrap(), words.next().unwrap_or(""));
        let options: BTreeMap<&str, &str> = words.map(|word| word.split_once('=').unwrap_or((word, ""))).collect();
        let from = options.get("for").copied().unwrap_or("c");
        let id = self.id(name);
        match verb {
            "at" => self.at(name),
            "caller" => self.open_caller(name, InboxKey::Anonymous(CallerId([name.as_bytes()[0]; 16]))),
            "inbox" => self.open_caller(name, InboxKey::Named(Name::new(name).unwrap())),
            "worker" => self.open_worker(name, &options),
            "submit" => self.submit(name, from, &options),
            "attach" => self.command(Command::Attach { peer: self.callers[from], id, tag: 99 }),
            "acknowledge" => self.command(Command::Acknowledge { peer: self.callers[from], id }),
            "cancel" => self.command(Command::Cancel { peer: self.callers[from], id }),
            "close" => self.close(name),
            "park" => {
                let (peer, lease) = self.held(name);
                self.command(Command::Park { peer, lease, awaits: options.get("awaits").map(|call| id_of(call)) });
            }
            "resume" => {
                let (peer, lease) = self.held(name);
                self.command(Command::Resume { peer, lease });
            }
            "drain" => self.command(Command::Drain { peer: self.workers[name] }),
            "extend" => {
                let (peer, lease) = self.held(name);
                self.command(Command::Extend { peer, lease });
            }
            "explain" => {
                let standing = self.engine.explain(id).standing;
                self.scribe.said.push(format!("{standing:?}"));
            }
            "callback" => self.add_callback(name, line.split_whitespace().nth(2).unwrap()),
            "set" => self.configure(name, &options),
            "group" => self.open_group(name, from, &options),
            "seal" => {
                let sealed = self.engine.seal(self.now, id, &mut self.scribe);
                self.refused(sealed.err());
            }
            "join" => {
                let child = self.id(line.split_whitespace().nth(2).unwrap());
                let joined = self.engine.join(self.now, id, child, &mut self.scribe);
                self.refused(joined.err());
            }
            "subscribe" => self.subscribe(name, &options),
            "unsubscribe" => {
                self.engine.unsubscribe(&Name::new(name).unwrap(), &mut self.scribe);
            }
            "emit" => self.emit(name, from, &options),
            "schedule" => self.schedule(name, &options),
            "tick" => self.tick(name, options.contains_key("newest")),
            "restart" => self.restart(),
            _ => self.report(verb, name, &options),
        }
    }

    pub fn command(&mut self, command: Command<'_>) {
        self.engine.handle(self.now, command, &mut self.scribe);
    }
    /// The callbacks were given to the call of this name, under whatever id they were submitted.
    pub fn name_callbacks_of(&mut self, name: &str, callbacks: &str) {
        let callbacks: Vec<Callback> = callbacks.split(',').map(callback_of).collect();
        self.name_callbacks(self.id(name), name, &callbacks);
    }

    /// The names of all calls there may have been.
    pub fn known(&self) -> Vec<String> {
        self.names.values().cloned().collect()
    }

    /// The id of a call by its name in the script.
    pub fn id(&self, name: &str) -> CallId {
        self.ids.get(name).copied().unwrap_or_else(|| id_of(name))
    }

    /// A step that is followed by no turn.
    pub fn step_quietly(&mut self, line: &str) {
        self.step(line);
    }

    /// A crash and a new start: the engine is rebuilt from the records alone; no peer is connected any more.
    pub fn restart(&mut self) {
        let mut replay = Replay::new(self.limits.clone(), 8, Now::default());
        for kept in self.scribe.records.clone() {
            replay.apply(Record::decode(kept.kind, kept.key, &kept.head).unwrap(), kept.handle, false);
        }
        let mut live = Vec::new();
        self.engine = replay.finish(self.now, &mut self.scribe, |handle| live.push(handle));
        if self.scribe.forgets {
            // What was forgotten may come back as long as its records stand, and is let go again.
            self.scribe.released.retain(|handle| !live.contains(handle));
        }
        for handle in live {
            assert!(!self.scribe.released.contains(&handle), "nothing that was released is needed after a restart");
        }
        self.callers.clear();
        self.workers.clear();
    }

    /// How many records the journal has.
    pub fn records(&self) -> usize {
        self.scribe.records.len()
    }

    /// The same world as a crash right behind the first so many records leaves it.
    pub fn after_crash(&self, records: usize) -> Self {
        let mut world = Self::new(self.limits.clone());
        (world.now, world.names, world.ids) = (self.now, self.names.clone(), self.ids.clone());
        world.scribe.records = self.scribe.records.clone();
        world.scribe.handles = self.scribe.handles;
        world.scribe.cut_behind(records - 1);
        world.restart();
        world
    }

    /// Compaction goes over the whole journal once, as it stands.
    pub fn sweep(&mut self) {
        self.scribe.copies = true;
        for kept in self.scribe.records.clone() {
            self.engine.survive(kept.kind, kept.key, kept.handle, &mut self.scribe);
        }
        let released = &self.scribe.released;
        self.scribe.records.retain(|kept| !released.contains(&kept.handle));
        self.scribe.copies = false;
        self.swept = self.scribe.records.len();
        self.scribe.said.clear();
    }

    /// The record of a call's submission stands once more at the end of the journal, as compaction copies it.
    pub fn repeat_submission(&mut self, name: &str) {
        let key = id_of(name).to_bytes();
        let kept = self.scribe.records.iter().find(|kept| kept.key == key && kept.kind == 2).cloned();
        let mut copy = kept.expect("the call was submitted");
        self.scribe.handles += 1;
        copy.handle = Handle(self.scribe.handles);
        self.scribe.records.push(copy);
    }

    /// Writes down what was recorded and said since the last step.
    fn describe(&mut self) {
        for mut said in std::mem::take(&mut self.scribe.said) {
            if said.starts_with("gathered") {
                self.names.iter().for_each(|(id, name)| said = said.replace(&id.to_string(), name));
            }
            writeln!(self.log, "    {said}").unwrap();
        }
        for (gate, effect) in std::mem::take(&mut self.scribe.effects) {
            let gated = if gate == Gate::Recorded { "  (once recorded)" } else { "" };
            let text = self.text(&effect);
            writeln!(self.log, "    {text}{gated}").unwrap();
        }
    }

    fn name(&self, id: CallId) -> String {
        self.names.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    fn who(&self, peer: Peer) -> String {
        let all = self.callers.iter().chain(&self.workers);
        all.clone().find(|(_, known)| **known == peer).map_or("gone".to_owned(), |(name, _)| name.clone())
    }

    fn text(&mut self, effect: &Effect) -> String {
        match effect {
            Effect::Accepted { peer, id, duplicate, wait_ms, .. } => {
                let again = if *duplicate { " again" } else { "" };
                let wait = wait_ms.filter(|ms| *ms > 0).map_or_else(String::new, |ms| format!(" in {ms} ms"));
                format!("{}: {} accepted{again}{wait}", self.who(*peer), self.name(*id))
            }
            Effect::Refused { peer, refusal, .. } => format!("{}: refused, {refusal:?}", self.who(*peer)),
            Effect::Outcome { peer, tag, id, state, attempts, ending, .. } => {
                let ending = match ending {
                    Ending::Stored(_) => String::new(),
                    Ending::Decided(reason) => format!(", {reason:?}"),
                };
                let (who, name) = (self.who(*peer), self.name(*id));
                self.told.push((who.clone(), name.clone(), *state));
                format!("{who}: {name} {state} after {attempts}{ending} [tag {tag}]")
            }
            Effect::CancelAnswered { peer, id, answer } => {
                format!("{}: cancel {}: {answer:?}", self.who(*peer), self.name(*id))
            }
            Effect::Lease { peer, grant } => {
                let name = self.name(grant.call);
                let who = self.who(*peer);
                if let Some(before) = self.grants.insert(name.clone(), *grant) {
                    self.earlier.insert(name.clone(), (before, self.holders[&name].clone()));
                }
                self.granted.push((name.clone(), grant.lease.token, who.clone()));
                self.ended.retain(|ended| *ended != name);
                self.holders.insert(name.clone(), who.clone());
                let token = (grant.lease.token >> 40, grant.lease.token & 0xFFFF);
                format!("{who}: run {name}, attempt {}, token {}.{}", grant.attempt, token.0, token.1)
            }
            Effect::CancelAsked { peer, lease } => format!("{}: stop {}", self.who(*peer), self.leased(*lease)),
            Effect::Resumed { peer, lease } => format!("{}: go on with {}", self.who(*peer), self.leased(*lease)),
            Effect::Settled { peer, lease } | Effect::Stale { peer, lease } => {
                let name = self.leased(*lease);
                let verb = if matches!(effect, Effect::Settled { .. }) { "settled" } else { "stale" };
                let text = format!("{}: {verb} {name}", self.who(*peer));
                self.ended.push(name);
                text
            }
            Effect::Opened { peer, kept } => format!("{}: open, keeps {}", self.who(*peer), kept.len()),
            Effect::DrainAsked { peer } => format!("{}: drain", self.who(*peer)),
            Effect::Fenced { peer } => format!("{}: fenced", self.who(*peer)),
        }
    }

    fn leased(&self, lease: LeaseTag) -> String {
        let of = self.grants.iter().find(|(_, grant)| grant.lease == lease);
        of.map_or_else(|| "an older lease".to_owned(), |(name, _)| name.clone())
    }
}
