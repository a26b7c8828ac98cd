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
//! ```

use antiphon_engine::{
    Body, Command, Effect, Effects, End, Ending, Engine, Gate, Grant, Handle, InboxKey, Limits, Now, Peer, Record,
    Refusal, Replay, Role, Submit, Ties, Told, Urgency,
};
use antiphon_protocol::{
    CallId, Callback, CallbackOn, CallerId, Change, Code, Group, GroupKind, HeldLease, IncarnationId, Key, LeaseTag,
    Name, Offer, OfferedProcedure, Pattern, Priority, Route, Schema, SchemaParameter, Setting, Shape, Start, State,
    Subscription,
};
use std::collections::BTreeMap;
use std::fmt::Write;

const WALL_START_MS: u64 = 1_000_000;

/// Runs a script and compares what it printed.
pub fn check(script: &str, expected: expect_test::Expect) {
    let mut world = World::new(Limits::new(true));
    world.run(script);
    expected.assert_eq(&world.log);
}

/// A journaled record: its bytes, as the journal would give them back.
#[derive(Clone)]
struct Kept {
    kind: u8,
    key: [u8; 16],
    head: Vec<u8>,
    handle: Handle,
}

/// Takes effects down.
#[derive(Default)]
pub struct Scribe {
    /// Whether what was released may come back by a restart, to be released again.
    pub forgets: bool,
    records: Vec<Kept>,
    pub released: Vec<Handle>,
    handles: u64,
    pub effects: Vec<(Gate, Effect)>,
    said: Vec<String>,
    gathered: Vec<String>,
}

impl Scribe {
    /// Whatever is read back is there still.
    fn hold_body(&self, body: &Body) {
        let from = match body {
            Body::Stored(handle) => *handle,
            Body::Told { told, .. } => match told.ending {
                Some(Ending::Stored(handle)) => handle,
                Some(Ending::Decided(_)) | None => return,
            },
            Body::Gathered { .. } | Body::None | Body::Command => return,
        };
        assert!(!self.released.contains(&from), "a body is read before it is released");
    }
}

impl Scribe {
    /// Where the call's first record of this kind stands.
    pub fn position_of(&self, id: CallId, kind: u8) -> Option<usize> {
        self.records.iter().position(|kept| kept.key == id.to_bytes() && kept.kind == kind)
    }

    /// The power went: nothing behind this record was written.
    pub fn cut_behind(&mut self, position: usize) {
        self.records.truncate(position + 1);
        // What was to be released was not: releases are not written.
        let kept: Vec<Handle> = self.records.iter().map(|kept| kept.handle).collect();
        self.released.retain(|handle| !kept.contains(handle));
    }

    /// Every record of this call is gone.
    pub fn forget(&mut self, id: CallId) {
        self.records.retain(|kept| kept.key != id.to_bytes());
    }

    /// The newest record, as compaction comes across it.
    pub fn newest(&self) -> (u8, [u8; 16], Handle) {
        let kept = self.records.last().expect("something was recorded");
        (kept.kind, kept.key, kept.handle)
    }
}

impl Effects for Scribe {
    fn record(&mut self, record: &Record<'_>, body: Body, _: Role, urgency: Urgency) -> Handle {
        self.hold_body(&body);
        self.handles += 1;
        let mut head = Vec::new();
        record.encode(&mut head);
        let decoded = Record::decode(record.kind() as u8, record.key(), &head);
        assert_eq!(decoded.as_ref(), Ok(record), "a record is read back as it was written");
        let handle = Handle(self.handles);
        self.records.push(Kept { kind: record.kind() as u8, key: record.key(), head, handle });
        self.said.push(format!("record {:?} {urgency:?}", record.kind()));
        if let Body::Gathered { .. } = body {
            let gathered = std::mem::take(&mut self.gathered);
            let gathered = if gathered.is_empty() { "nothing".to_owned() } else { gathered.join(", ") };
            self.said.push(format!("gathered: {gathered}"));
        }
        handle
    }

    fn store(&mut self, body: Body) -> Handle {
        self.hold_body(&body);
        self.handles += 1;
        Handle(self.handles | 1 << 63)
    }

    fn release(&mut self, handle: Handle) {
        assert!(!self.released.contains(&handle), "a body is released once");
        self.released.push(handle);
    }

    fn begin_gathering(&mut self) {
        self.gathered.clear();
    }

    fn gather(&mut self, told: Told) {
        let text = format!("{} {}", told.id, told.state);
        self.hold_body(&Body::Told { on: CallbackOn::Outcome, told });
        self.gathered.push(text);
    }

    fn entomb(&mut self, _: CallId) {}

    fn emit(&mut self, gate: Gate, effect: Effect) {
        self.effects.push((gate, effect));
    }
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
            "restart" => self.restart(),
            _ => self.report(verb, name, &options),
        }
    }

    /// Sets something for a procedure; without a value it is the broker's again.
    fn configure(&mut self, procedure: &str, options: &BTreeMap<&str, &str>) {
        let setting = |name: &str| Setting::ALL.into_iter().find(|setting| setting.name() == name).unwrap();
        let changes: Vec<_> = options.iter().map(|(name, value)| (setting(name), value.parse().ok())).collect();
        let set = self.engine.configure(&Name::new(procedure).unwrap(), &changes, &mut self.scribe);
        self.scribe.said.push(format!("{:?}", set.unwrap().0));
    }

    fn at(&mut self, time: &str) {
        let ms = millis(time);
        self.now = Now { monotonic_ms: 1 + ms, wall_ms: WALL_START_MS + ms };
    }

    pub fn command(&mut self, command: Command<'_>) {
        self.engine.handle(self.now, command, &mut self.scribe);
    }

    fn peer(&mut self) -> Peer {
        self.peers += 1;
        Peer(self.peers)
    }

    fn open_caller(&mut self, name: &str, inbox: InboxKey) {
        let peer = self.peer();
        self.callers.insert(name.to_owned(), peer);
        self.command(Command::OpenCaller { peer, inbox });
    }

    fn open_worker(&mut self, name: &str, options: &BTreeMap<&str, &str>) {
        let peer = self.peer();
        let slots = options.get("slots").map_or(1, |slots| slots.parse().unwrap());
        self.workers.insert(name.to_owned(), peer);
        self.slots.insert(name.to_owned(), slots);
        let served = options.get("serves").copied().unwrap_or("p");
        let offered = |served: &str| OfferedProcedure {
            name: Name::new(served).unwrap(),
            idempotent: !options.contains_key("plain"),
            schema: options.get("schema").map(|parameters| Schema {
                parameters: parameters.split(',').map(parameter).collect(),
                returns: String::new(),
            }),
        };
        let held = self.holders.iter().filter(|(_, holder)| *holder == name);
        let held = held.map(|(call, _)| HeldLease { call: self.id(call), lease: self.grants[call].lease });
        let offer = Offer {
            incarnation: IncarnationId([name.as_bytes()[0]; 16]),
            name: Name::new(name).unwrap(),
            procedures: served.split(',').map(offered).collect(),
            slots,
            labels: names(options.get("labels").copied()),
            held: if options.contains_key("empty_handed") { Vec::new() } else { held.collect() },
        };
        self.command(Command::OpenWorker { peer, offer: &offer });
    }

    fn submit(&mut self, name: &str, from: &str, options: &BTreeMap<&str, &str>) {
        let get = |key: &str| options.get(key).copied();
        let mut route = Route::new(Name::new(get("to").unwrap_or("p")).unwrap());
        route.idempotent = get("idempotent").is_some();
        route.at_most_once = get("at_most_once").is_some();
        route.tenant = get("tenant").map(|tenant| Name::new(tenant).unwrap());
        if let Some(attempts) = get("attempts") {
            route.attempts = attempts.parse().unwrap();
        }
        route.lane = get("lane").map(|lane| Name::new(lane).unwrap());
        route.concurrency = get("limit").map_or(1, |limit| limit.parse().unwrap());
        route.labels = names(get("labels"));
        let sends =
            |sends: &str| Shape::of(sends.split(',').map(|name| (name.trim_end_matches('?'), name.ends_with('?'))));
        route.shape = get("sends").and_then(sends);
        route.slots = get("takes").map_or(1, |slots| slots.parse().unwrap());
        if let Some(class) = get("priority") {
            route.priority = Priority::new(class.parse().unwrap()).unwrap();
        }
        self.submit_to(route, name, from, options);
    }

    fn submit_to(&mut self, mut route: Route, name: &str, from: &str, options: &BTreeMap<&str, &str>) {
        let get = |key: &str| options.get(key).copied();
        if let Some(callbacks) = get("callback") {
            route.callbacks = callbacks.split(',').map(callback_of).collect();
        }
        if get("volatile").is_some() {
            route.durability = Some(antiphon_protocol::Durability::Volatile);
        }
        let id = id_of(name);
        self.names.insert(id, name.to_owned());
        self.name_callbacks(id, name, &route.callbacks);
        let route = self.engine.intern(&route).unwrap();
        let submit = Submit {
            peer: self.callers[from],
            tag: 7,
            id,
            route,
            bytes: get("bytes").map_or(10, |bytes| bytes.parse().unwrap()),
            deadline_ms: get("deadline").map_or(0, millis),
            start: get("delay").map_or(Start::Now, |delay| Start::In(millis(delay))),
            key: get("key").map(|key| (Key::new(key).unwrap(), get("args").map_or(1, |args| args.parse().unwrap()))),
            wants_acceptance: get("accepted").is_some() || get("detached").is_some(),
            wants_outcome: get("detached").is_none(),
            resent: get("resent").is_some(),
            revives: None,
            ties: self.ties(options),
        };
        self.command(Command::Submit(submit));
        self.engine.release_route(route);
    }

    /// The callbacks of `a` are called `a>x`, theirs `a>x>y`.
    fn name_callbacks(&mut self, cause: CallId, name: &str, callbacks: &[Callback]) {
        for callback in callbacks {
            let id = Callback::id(callback.on, &callback.route.procedure, cause);
            let name = format!("{name}>{}", callback.route.procedure);
            self.name_callbacks(id, &name, &callback.route.callbacks);
            self.ids.insert(name.clone(), id);
            self.names.insert(id, name);
        }
    }

    /// The callbacks were given to the call of this name, under whatever id they were submitted.
    pub fn name_callbacks_of(&mut self, name: &str, callbacks: &str) {
        let callbacks: Vec<Callback> = callbacks.split(',').map(callback_of).collect();
        self.name_callbacks(self.id(name), name, &callbacks);
    }

    fn add_callback(&mut self, name: &str, callback: &str) {
        let callback = callback_of(callback);
        let id = self.id(name);
        self.name_callbacks(id, name, std::slice::from_ref(&callback));
        self.engine.advance(self.now, 0, &mut self.scribe);
        let added = self.engine.add_callback(self.now, id, &callback, &mut self.scribe);
        self.refused(added.err());
    }

    fn refused(&mut self, refusal: Option<Refusal>) {
        if let Some(refusal) = refusal {
            self.scribe.said.push(format!("refused, {refusal:?}"));
        }
    }

    fn open_group(&mut self, name: &str, from: &str, options: &BTreeMap<&str, &str>) {
        let get = |key: &str| options.get(key).copied();
        let kind = match get("first") {
            Some(count) => GroupKind::First(count.parse().unwrap()),
            None if get("settled").is_some() => GroupKind::Settled,
            None => GroupKind::All,
        };
        let mut group = Group::new(kind);
        group.cancel_rest = get("cancel_rest").is_some();
        if let Some(unsealed) = get("unsealed") {
            group.unsealed_ms = millis(unsealed);
        }
        let mut route = Route::new(Name::new("group").unwrap());
        route.group = Some(group);
        self.submit_to(route, name, from, options);
    }

    /// The id of a call by its name in the script.
    pub fn id(&self, name: &str) -> CallId {
        self.ids.get(name).copied().unwrap_or_else(|| id_of(name))
    }

    /// A step that is followed by no turn.
    pub fn step_quietly(&mut self, line: &str) {
        self.step(line);
    }

    pub fn subscribe(&mut self, name: &str, options: &BTreeMap<&str, &str>) {
        let mut route = Route::new(Name::new(options.get("to").copied().unwrap_or("p")).unwrap());
        route.idempotent = true;
        let pattern = Pattern::new(options.get("pattern").copied().unwrap_or(">")).unwrap();
        let subscription = Subscription { name: Name::new(name).unwrap(), pattern, route };
        self.subscriptions += 1;
        let id = id_of(&format!("{name}/{}", self.subscriptions));
        let change = self.engine.subscribe(id, &subscription, &mut self.scribe).unwrap();
        writeln!(self.log, "    {change:?}").unwrap();
        if change != Change::Unchanged {
            let again = self.subscribed.iter().any(|(known, _)| known.split('/').next() == Some(name));
            let shown = if again { format!("{name}/{}", self.subscriptions) } else { name.to_owned() };
            self.subscribed.push((shown, id));
        }
    }

    pub fn emit(&mut self, name: &str, from: &str, options: &BTreeMap<&str, &str>) {
        let mut route = Route::new(Name::new(options.get("topic").copied().unwrap_or("t")).unwrap());
        route.event = true;
        let route = self.engine.intern(&route).unwrap();
        let id = id_of(name);
        self.names.insert(id, name.to_owned());
        for (subscription, by) in &self.subscribed {
            let (call, shown) = (id.derived(&by.to_bytes()), format!("{name}>{subscription}"));
            self.names.insert(call, shown.clone());
            self.ids.insert(shown, call);
        }
        let submit = Submit {
            peer: self.callers[from],
            tag: 7,
            id,
            route,
            bytes: 10,
            deadline_ms: 0,
            start: Start::Now,
            key: None,
            wants_acceptance: true,
            wants_outcome: false,
            resent: options.contains_key("resent"),
            revives: None,
            ties: None,
        };
        self.command(Command::Submit(submit));
        self.engine.release_route(route);
    }

    fn ties(&self, options: &BTreeMap<&str, &str>) -> Option<Box<Ties>> {
        let key = |name: &str| options.get(name).map(|key| Key::new(key).unwrap());
        let ties = Ties {
            groups: options.get("in").map(|group| (self.id(group), 0)).into_iter().collect(),
            ordering: key("order").map(|key| (key, 0)),
            concurrency: key("with"),
            parent: options.get("within").map(|call| self.id(call)),
            ..Ties::default()
        };
        (ties != Ties::default()).then(|| Box::new(ties))
    }

    fn close(&mut self, name: &str) {
        let peer = self.workers.get(name).or_else(|| self.callers.get(name)).copied().unwrap();
        self.command(Command::Close { peer });
    }

    fn held(&self, call: &str) -> (Peer, LeaseTag) {
        (self.workers[&self.holders[call]], self.grants[call].lease)
    }

    fn report(&mut self, verb: &str, name: &str, options: &BTreeMap<&str, &str>) {
        let after_ms = options.get("after").map(|after| u32::try_from(millis(after)).unwrap());
        let bytes = options.get("bytes").map_or(5, |bytes| bytes.parse().unwrap());
        let end = match verb {
            "ok" => End::Succeed { bytes },
            "fail" => End::Fail { bytes },
            "retry" => End::Retry { bytes, code: Code::Unavailable, text: "try again", after_ms },
            "bury" => End::Bury { bytes, code: Code::Internal, text: "it panicked" },
            "release" => End::Release,
            "stopped" => End::Stop,
            other => panic!("no such step: {other}"),
        };
        let (peer, lease) = if options.contains_key("late") {
            let (grant, holder) = &self.earlier[name];
            (self.workers[holder], grant.lease)
        } else {
            self.held(name)
        };
        self.command(Command::Report { peer, lease, call: self.id(name), end });
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
        for kept in self.scribe.records.clone() {
            self.engine.survive(kept.kind, kept.key, kept.handle, &mut self.scribe);
        }
        let released = &self.scribe.released;
        self.scribe.records.retain(|kept| !released.contains(&kept.handle));
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

/// `x@value>y`: the procedure, what it follows, and its own callback.
fn callback_of(text: &str) -> Callback {
    let (text, next) = text.split_once('>').map_or((text, None), |(text, next)| (text, Some(next)));
    let (procedure, on) = text.split_once('@').unwrap_or((text, "outcome"));
    let on = match on {
        "outcome" => CallbackOn::Outcome,
        "success" => CallbackOn::Success,
        "failure" => CallbackOn::Failure,
        "value" => CallbackOn::Value,
        other => panic!("no callback follows {other}"),
    };
    let mut route = Route::new(Name::new(procedure).unwrap());
    route.callbacks = next.map(callback_of).into_iter().collect();
    Callback { on, route }
}

fn names(list: Option<&str>) -> Vec<Name> {
    list.map_or_else(Vec::new, |list| list.split(',').map(|name| Name::new(name).unwrap()).collect())
}

pub fn id_of(name: &str) -> CallId {
    let mut random = [0; 10];
    for (to, from) in random.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    CallId::new(WALL_START_MS, random)
}

fn millis(text: &str) -> u64 {
    let (number, scale) = match text {
        _ if text.ends_with("ms") => (&text[..text.len() - 2], 1),
        _ if text.ends_with('h') => (&text[..text.len() - 1], 3_600_000),
        _ => (text.trim_end_matches('s'), 1_000),
    };
    number.parse::<u64>().unwrap() * scale
}

/// A parameter by its name; one that may be missing ends with a question mark.
fn parameter(name: &str) -> SchemaParameter {
    SchemaParameter {
        name: name.trim_end_matches('?').to_owned(),
        optional: name.ends_with('?'),
        type_name: String::new(),
    }
}
