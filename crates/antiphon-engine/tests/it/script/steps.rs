//! The steps of a script: what each says to the engine.

use super::{WALL_START_MS, World};
use antiphon_engine::{Command, End, InboxKey, Now, Peer, Refusal, Scheduled, Submit, Ticked, Ties};
use antiphon_protocol::{
    CallId, Callback, CallbackOn, Change, Code, Group, GroupKind, HeldLease, IncarnationId, Key, LeaseTag, Misfire,
    Name, Offer, OfferedProcedure, Overlap, Pattern, Priority, Recurrence, Route, Schema, SchemaParameter, Setting,
    Shape, Start, Subscription,
};
use std::collections::BTreeMap;
use std::fmt::Write;

impl World {
    /// Sets something for a procedure; without a value it is the broker's again.
    pub(super) fn configure(&mut self, procedure: &str, options: &BTreeMap<&str, &str>) {
        let setting = |name: &str| Setting::ALL.into_iter().find(|setting| setting.name() == name).unwrap();
        let changes: Vec<_> = options.iter().map(|(name, value)| (setting(name), value.parse().ok())).collect();
        let set = self.engine.configure(&Name::new(procedure).unwrap(), &changes, &mut self.scribe);
        self.scribe.said.push(format!("{:?}", set.unwrap().0));
    }

    pub(super) fn at(&mut self, time: &str) {
        let ms = millis(time);
        self.now = Now { monotonic_ms: 1 + ms, wall_ms: WALL_START_MS + ms };
    }

    pub(super) fn peer(&mut self) -> Peer {
        self.peers += 1;
        Peer(self.peers)
    }

    pub(super) fn open_caller(&mut self, name: &str, inbox: InboxKey) {
        let peer = self.peer();
        self.callers.insert(name.to_owned(), peer);
        self.command(Command::OpenCaller { peer, inbox });
    }

    pub(super) fn open_worker(&mut self, name: &str, options: &BTreeMap<&str, &str>) {
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
        // A lease of a call that was lost long ago.
        let lost = LeaseTag { slot: u32::MAX, token: 1 };
        let claims = options.get("claims").map(|call| HeldLease { call: self.id(call), lease: lost });
        let offer = Offer {
            incarnation: IncarnationId([name.as_bytes()[0]; 16]),
            name: Name::new(name).unwrap(),
            procedures: served.split(',').map(offered).collect(),
            slots,
            labels: names(options.get("labels").copied()),
            held: if options.contains_key("empty_handed") { Vec::new() } else { held.chain(claims).collect() },
        };
        self.command(Command::OpenWorker { peer, offer: &offer });
    }

    pub(super) fn submit(&mut self, name: &str, from: &str, options: &BTreeMap<&str, &str>) {
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

    pub(super) fn submit_to(&mut self, mut route: Route, name: &str, from: &str, options: &BTreeMap<&str, &str>) {
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
    pub(super) fn name_callbacks(&mut self, cause: CallId, name: &str, callbacks: &[Callback]) {
        for callback in callbacks {
            let id = Callback::id(callback.on, &callback.route.procedure, cause);
            let name = format!("{name}>{}", callback.route.procedure);
            self.name_callbacks(id, &name, &callback.route.callbacks);
            self.ids.insert(name.clone(), id);
            self.names.insert(id, name);
        }
    }

    pub(super) fn add_callback(&mut self, name: &str, callback: &str) {
        let callback = callback_of(callback);
        let id = self.id(name);
        self.name_callbacks(id, name, std::slice::from_ref(&callback));
        self.engine.advance(self.now, 0, &mut self.scribe);
        let added = self.engine.add_callback(self.now, id, &callback, &mut self.scribe);
        self.refused(added.err());
    }

    pub(super) fn refused(&mut self, refusal: Option<Refusal>) {
        if let Some(refusal) = refusal {
            self.scribe.said.push(format!("refused, {refusal:?}"));
        }
    }

    pub(super) fn open_group(&mut self, name: &str, from: &str, options: &BTreeMap<&str, &str>) {
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

    pub(super) fn close(&mut self, name: &str) {
        let peer = self.workers.get(name).or_else(|| self.callers.get(name)).copied().unwrap();
        self.command(Command::Close { peer });
    }

    pub(super) fn held(&self, call: &str) -> (Peer, LeaseTag) {
        (self.workers[&self.holders[call]], self.grants[call].lease)
    }

    pub(super) fn report(&mut self, verb: &str, name: &str, options: &BTreeMap<&str, &str>) {
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

    /// A recurring call, from now on; its ticks are what `tick` says.
    pub(super) fn schedule(&mut self, name: &str, options: &BTreeMap<&str, &str>) {
        let get = |key: &str| options.get(key).copied();
        let mut route = Route::new(Name::new(get("to").unwrap_or("p")).unwrap());
        route.idempotent = true;
        let overlap = match get("overlap") {
            Some("skip") => Overlap::Skip,
            Some("queue") => Overlap::Queue,
            Some("cancel") => Overlap::Cancel,
            _ => Overlap::Allow,
        };
        let wanted = Scheduled {
            id: id_of(name),
            name: Name::new(name).unwrap(),
            recurrence: Recurrence::Every(millis(get("every").unwrap_or("1s"))),
            route,
            overlap,
            misfire: Misfire::All(9),
            arguments: (10, 1),
            added_ms: self.now.wall_ms,
            ticked: Ticked { cursor_ms: self.now.wall_ms, ..Ticked::default() },
        };
        let change = self.engine.schedule(wanted, &mut self.scribe).unwrap();
        self.scribe.said.push(format!("{change:?}"));
    }

    /// The ticks of this schedule that are due by now, as the shell would find them after its cursor, at most nine; or the
    /// newest alone.
    pub(super) fn tick(&mut self, name: &str, newest: bool) {
        let Some(it) = self.engine.schedules().find(|it| it.name.as_str() == name).cloned() else { return };
        let Recurrence::Every(every_ms) = it.recurrence else { return };
        let past = self.now.wall_ms - it.added_ms;
        let ticks = (1..=past / every_ms).map(|tick| it.added_ms + tick * every_ms);
        let mut due: Vec<u64> = ticks.filter(|tick| *tick > it.ticked.cursor_ms).take(9).collect();
        due.drain(..if newest { due.len().saturating_sub(1) } else { 0 });
        let cursor_ms = due.last().copied().unwrap_or(it.ticked.cursor_ms);
        for tick_ms in &due {
            let (id, shown) = (it.call_of(*tick_ms), format!("{name}@{}", (tick_ms - it.added_ms) / every_ms));
            self.names.insert(id, shown.clone());
            self.ids.insert(shown, id);
        }
        let all = self.engine.tick_schedule(self.now, it.id, &due, cursor_ms, &mut self.scribe);
        self.scribe.said.push(format!("ticks {}{}", due.len(), if all { "" } else { ", not all" }));
    }
}

/// `x@value>y`: the procedure, what it follows, and its own callback.
pub fn callback_of(text: &str) -> Callback {
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
