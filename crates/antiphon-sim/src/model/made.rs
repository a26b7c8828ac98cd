//! Calls that the broker makes itself: callbacks, and those of events and schedules. Each must have its cause, and be made
//! once; and each cause must have its calls.

use super::Model;
use super::calls::{Known, Phase};
use crate::routes;
use antiphon_broker::Submission;
use antiphon_embedded::PeerId;
use antiphon_engine::Engine;
use antiphon_protocol::{
    CallFilter, CallId, CallStatus, Callback, CallbackOn, Durability, Knowledge, Name, Outcome, Overlap, Query, Route,
    State,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is reached when a schedule makes a call.
pub(crate) const TICKS: [&str; 4] = [
    "a call of a schedule that skips",
    "a call of a schedule that queues",
    "a call of a schedule that cancels",
    "a call of a schedule that allows",
];

/// An event that was taken.
struct Event {
    durable: bool,
    told: bool,
    emitted_ms: u64,
    /// The subscriptions that must hear of it.
    heard_by: Vec<u8>,
}

/// A schedule that there is.
pub(super) struct Scheduled {
    id: CallId,
    added_ms: u64,
    paused: bool,
}

/// What makes calls, and what was made.
#[derive(Default)]
pub(super) struct Made {
    events: BTreeMap<CallId, Event>,
    subscriptions: BTreeSet<u8>,
    pub schedules: BTreeMap<u8, Scheduled>,
    /// What somebody was told of: whether the subscription, and the schedule, is there.
    told: BTreeMap<(bool, u8), bool>,
    /// The call of a cause and a procedure, or of a cause and a tick.
    by_cause: BTreeMap<(CallId, Name, u64), CallId>,
    /// How many calls the broker has accepted since its start.
    pub accepted: u64,
}

impl Model {
    /// The callbacks of a call that has just settled are there at once.
    pub(super) fn make_callbacks(&mut self, cause: CallId) {
        let Some(known) = self.calls.get(&cause) else { return };
        let succeeded = known.phase == Phase::Settled(State::Succeeded);
        let all: Vec<Callback> = known.route.callbacks.iter().chain(&known.added).cloned().collect();
        for callback in all.into_iter().filter(|callback| callback.on.follows(succeeded)) {
            self.make_callback(cause, &callback);
        }
    }

    fn make_callback(&mut self, cause: CallId, callback: &Callback) {
        let id = Callback::id(callback.on, &callback.route.procedure, cause);
        let Some(known) = self.calls.get(&cause) else { return };
        if self.calls.contains_key(&id) {
            return;
        }
        let payload = match (callback.on, &known.outcome) {
            (CallbackOn::Value, Some(Outcome::Reply(payload))) => Some(payload.bytes.to_vec()),
            _ => None,
        };
        let mut route = callback.route.clone();
        route.durability = Some(if known.durable { Durability::Durable } else { Durability::Volatile });
        route.tenant = route.tenant.or_else(|| known.route.tenant.clone());
        let durable = known.durable;
        let again = known.cause.is_some();
        self.reached.insert(if again { "a callback of a callback" } else { "a callback" });
        if payload.is_some() {
            self.reached.insert("a value handed on");
        }
        self.born(id, cause, route, durable, payload);
        self.made.accepted += 1;
    }

    /// A call that no caller submitted.
    fn born(&mut self, id: CallId, cause: CallId, route: Route, durable: bool, payload: Option<Vec<u8>>) {
        if let Some(before) = self.graveyard.get(&id)
            && before.floor.is_some_and(|floor| {
                before
                    .marks
                    .get(floor..)
                    .and_then(|marks| marks.first())
                    .is_some_and(|mark| matches!(mark.phase, Phase::Settled(_)))
            })
        {
            self.blame(format!("call {id} was made again from {cause}, it was {:?}", before.phase));
        }
        let offset = self.now.wall_ms - self.now.monotonic_ms;
        let mut known = Known::new(id, Arc::new(route), durable, offset);
        (known.payload, known.cause) = (payload, Some(cause));
        known.mark();
        self.transitions.insert(("new", "ready"));
        self.graveyard.remove(&id);
        self.open.insert(id);
        self.calls.insert(id, known);
    }

    /// An event was submitted; the broker has dealt with it already.
    pub(super) fn emit(&mut self, engine: &Engine, peer: PeerId, submission: &Submission) {
        let (tag, id) = (submission.tag, submission.call.id);
        let emitted = engine.counters().emitted;
        let taken = std::mem::replace(&mut self.emitted, emitted) != emitted;
        let duplicate = self.made.events.contains_key(&id);
        let (wall_ms, keeps) = (self.now.wall_ms, self.limits.outcome_bytes > 1 << 20);
        let remembered = |event: &Event| event.told && keeps && wall_ms < event.emitted_ms + self.limits.event_ms;
        if taken && self.made.events.get(&id).is_some_and(remembered) {
            self.blame(format!("event {id} was taken twice"));
        }
        if taken {
            let topic = submission.call.route.procedure.to_string();
            let heard_by = self.made.subscriptions.iter().copied().filter(|number| routes::hears(*number, &topic));
            let durable = submission.call.route.durability != Some(Durability::Volatile);
            let event = Event { durable, told: false, emitted_ms: wall_ms, heard_by: heard_by.collect() };
            self.made.events.insert(id, event);
        } else if !duplicate && !self.full && !submission.resent {
            self.blame(format!("event {id} was refused without a reason"));
        }
        // After a restart nobody can say whether an event of which no word was given is there.
        self.expect(peer, super::Expected::Either { tag });
    }

    /// Somebody was told that an event is taken.
    pub(super) fn event_told(&mut self, id: CallId) {
        if let Some(event) = self.made.events.get_mut(&id) {
            event.told = true;
        }
    }

    /// A question that may have changed what makes calls.
    pub fn operated(&mut self, engine: &Engine, query: &Query) {
        self.tick(engine);
        match query {
            Query::Configure { .. } => self.configured(engine, query),
            Query::Subscribe(_) | Query::Unsubscribe(_) => {
                self.made.subscriptions = subscriptions(engine);
                self.changed(query);
            }
            Query::Schedule(_) | Query::Unschedule(_) | Query::PauseSchedule { .. } => {
                self.made.schedules = schedules(engine);
                self.changed(query);
            }
            Query::AddCallback { call, callback } => {
                self.compare_one(engine, *call);
                self.callback_added(engine, *call, callback);
            }
            Query::Seal(group) => self.seal(engine, *group),
            Query::Join { group, call } => self.join(engine, *group, *call),
            Query::Bulk(bulk) => self.bulk.extend(bulk.filter.procedure.clone()),
            _ => {}
        }
    }

    /// What was asked for is so at once, unless the disk is full.
    fn changed(&mut self, query: &Query) {
        let right = match query {
            Query::Subscribe(wanted) => {
                numbers(1, routes::SUBSCRIPTIONS, |n| routes::subscription(n).name == wanted.name)
                    .is_none_or(|number| self.made.subscriptions.contains(&number))
            }
            Query::Unsubscribe(name) => numbers(1, routes::SUBSCRIPTIONS, |n| routes::subscription(n).name == *name)
                .is_none_or(|number| !self.made.subscriptions.contains(&number)),
            Query::Schedule(wanted) => numbers(1, routes::SCHEDULES, |n| routes::schedule_name(n) == wanted.name)
                .is_none_or(|number| self.made.schedules.contains_key(&number)),
            Query::Unschedule(name) => numbers(1, routes::SCHEDULES, |n| routes::schedule_name(n) == *name)
                .is_none_or(|number| !self.made.schedules.contains_key(&number)),
            Query::PauseSchedule { name, paused } => {
                numbers(1, routes::SCHEDULES, |n| routes::schedule_name(n) == *name)
                    .and_then(|number| self.made.schedules.get(&number))
                    .is_none_or(|schedule| schedule.paused == *paused)
            }
            _ => true,
        };
        if !right && !self.full {
            self.blame(format!("{query:?} changed nothing"));
        }
    }

    /// Somebody was told that something is changed.
    pub fn answered(&mut self, query: &Query) {
        match query {
            Query::Configure { .. } => self.told_settings(query),
            Query::Subscribe(wanted) => self.told_made((false, true), |n| routes::subscription(n).name == wanted.name),
            Query::Unsubscribe(name) => self.told_made((false, false), |n| routes::subscription(n).name == *name),
            Query::Schedule(wanted) => self.told_made((true, true), |n| routes::schedule_name(n) == wanted.name),
            Query::Unschedule(name) => self.told_made((true, false), |n| routes::schedule_name(n) == *name),
            Query::AddCallback { call, .. } => {
                if let Some(known) = self.calls.get_mut(call).filter(|known| !known.added.is_empty()) {
                    known.added_told = true;
                }
            }
            _ => {}
        }
    }

    fn told_made(&mut self, (schedule, there): (bool, bool), is: impl Fn(u8) -> bool) {
        let most = if schedule { routes::SCHEDULES } else { routes::SUBSCRIPTIONS };
        if let Some(number) = numbers(1, most, is) {
            self.made.told.insert((schedule, number), there);
        }
    }

    /// Whether the call has this callback now.
    pub(super) fn callback_added(&mut self, engine: &Engine, call: CallId, callback: &Callback) -> bool {
        let Knowledge::Known(status) = engine.knowledge(call) else { return false };
        let id = Callback::id(callback.on, &callback.route.procedure, call);
        let added = status.callbacks.iter().any(|other| other.id == id);
        let Some(known) = self.calls.get_mut(&call) else { return false };
        let before = known.route.callbacks.iter().chain(&known.added).any(|other| other.is_same(callback));
        if added && !before {
            known.added.push(callback.clone());
            if known.is_settled() {
                let succeeded = known.phase == Phase::Settled(State::Succeeded);
                if callback.on.follows(succeeded) {
                    self.make_callback(call, callback);
                }
            }
        }
        added
    }

    /// The broker may have made calls of events and ticks.
    pub(super) fn discover(&mut self, engine: &Engine) {
        let accepted = engine.counters().accepted;
        if accepted == self.made.accepted {
            return;
        }
        self.made.accepted = accepted;
        let made =
            (1..=routes::SUBSCRIPTIONS).map(routes::subscriber).chain((1..=routes::SCHEDULES).map(routes::ticked));
        for procedure in made {
            let filter = CallFilter { procedure: Some(procedure), limit: u32::MAX, ..CallFilter::default() };
            let mut found = Vec::new();
            engine.list(&filter, u32::MAX, u32::MAX, &mut found);
            found.retain(|status| !self.calls.contains_key(&status.id));
            // In the order in which they were made.
            found.sort_by_key(|status| (status.id.unix_ms(), status.id));
            for status in found {
                self.discovered(engine, &status);
            }
        }
    }

    fn discovered(&mut self, engine: &Engine, status: &CallStatus) {
        let (id, procedure) = (status.id, &status.procedure);
        let Some(cause) = status.cause else {
            return self.blame(format!("call {id} of {procedure} was made of nothing"));
        };
        let subscription = numbers(1, routes::SUBSCRIPTIONS, |number| routes::subscriber(number) == *procedure);
        let schedule = numbers(1, routes::SCHEDULES, |number| routes::ticked(number) == *procedure);
        let route = match (subscription, schedule) {
            (Some(number), _) => {
                if !self.made.events.get(&cause).is_some_and(|event| event.heard_by.contains(&number)) {
                    self.blame(format!("call {id} was made of {cause}, which {procedure} does not subscribe to"));
                }
                self.reached.insert("a call of an event");
                routes::subscription(number).route
            }
            (_, Some(number)) => {
                self.check_tick(engine, status, number, cause);
                self.reached.insert(TICKS.get(usize::from(number) - 1).copied().unwrap_or_default());
                routes::schedule(number).0.route
            }
            _ => return,
        };
        let tick_ms = if schedule.is_some() { id.unix_ms() } else { 0 };
        let other = self.made.by_cause.insert((cause, procedure.clone(), tick_ms), id);
        if let Some(other) = other.filter(|other| *other != id) {
            self.blame(format!("both {other} and {id} were made of {cause} at {tick_ms} for {procedure}"));
        }
        self.born(id, cause, route, status.durable, None);
        self.transitions.insert(("new", status.state.name()));
        if status.state.is_settled() {
            self.settle(id, status.state, None);
        }
    }

    fn check_tick(&mut self, engine: &Engine, status: &CallStatus, number: u8, cause: CallId) {
        let (id, tick_ms) = (status.id, status.id.unix_ms());
        let (schedule, every_ms) = routes::schedule(number);
        let Some(known) = self.made.schedules.get(&number).filter(|known| known.id == cause) else {
            return self.blame(format!("call {id} is of a schedule that is not there"));
        };
        let (added_ms, paused) = (known.added_ms, known.paused);
        if paused {
            self.blame(format!("call {id} is of a schedule that is paused"));
        }
        if tick_ms <= added_ms || !(tick_ms - added_ms).is_multiple_of(every_ms) || tick_ms > self.now.wall_ms {
            self.blame(format!("call {id} is of no tick: {tick_ms}, every {every_ms} from {added_ms}"));
        }
        if schedule.overlap == Overlap::Allow {
            return;
        }
        let runs: Vec<CallId> = self
            .calls
            .values()
            .filter(|other| other.cause == Some(cause) && !other.is_settled())
            .map(|other| other.id)
            .collect();
        for other in runs {
            let Knowledge::Known(status) = engine.knowledge(other) else { continue };
            if schedule.overlap == Overlap::Cancel && status.state == State::Cancelled {
                self.settle(other, State::Cancelled, None);
            } else if !status.state.is_settled() {
                self.blame(format!("call {id} was made while {other} of the same schedule had not settled"));
            }
        }
    }

    pub(super) fn forget_made(&mut self) {
        self.made.accepted = 0;
        self.emitted = 0;
        self.made.events.retain(|_, event| event.durable);
    }

    /// After a restart: what was told is there, and every settled call has its callbacks.
    pub(super) fn recover_made(&mut self, engine: &Engine) {
        self.made.accepted = engine.counters().accepted;
        self.emitted = engine.counters().emitted;
        let before = std::mem::replace(&mut self.made.subscriptions, subscriptions(engine));
        let before_schedules = std::mem::replace(&mut self.made.schedules, schedules(engine));
        for ((schedule, number), told) in self.made.told.clone() {
            let (was, is, what) = if schedule {
                let is = self.made.schedules.contains_key(&number);
                (before_schedules.contains_key(&number), is, "schedule")
            } else {
                (before.contains(&number), self.made.subscriptions.contains(&number), "subscription")
            };
            // What was changed after that may be there or not.
            if was == told && is != told {
                self.blame(format!("after recovery {what} {number} is there: {is}; somebody was told: {told}"));
            }
            self.made.told.insert((schedule, number), is);
        }
        let settled: Vec<CallId> =
            self.calls.values().filter(|known| known.is_settled() && known.durable).map(|known| known.id).collect();
        for cause in settled {
            self.recover_callbacks(engine, cause);
        }
        let early = |known: &&Known| {
            let cause = known.cause.and_then(|cause| self.calls.get(&cause));
            cause.is_some_and(|cause| !cause.is_settled())
        };
        let early: Vec<CallId> = self.calls.values().filter(early).map(|known| known.id).collect();
        for id in early {
            self.blame(format!("after recovery the callback {id} is there and its cause has not settled"));
        }
    }

    fn recover_callbacks(&mut self, engine: &Engine, cause: CallId) {
        let Some(known) = self.calls.get(&cause) else { return };
        let succeeded = known.phase == Phase::Settled(State::Succeeded);
        // Of those that were added, the ones that recovery has found.
        let certain =
            known.route.callbacks.iter().chain(&known.added).filter(|callback| callback.on.follows(succeeded));
        for callback in certain.cloned().collect::<Vec<_>>() {
            let id = Callback::id(callback.on, &callback.route.procedure, cause);
            match engine.knowledge(id) {
                Knowledge::Known(status) if !self.calls.contains_key(&id) => {
                    self.make_callback(cause, &callback);
                    if status.state.is_settled() {
                        self.blame(format!("after recovery callback {id} of {cause} is {}", status.state));
                    }
                }
                Knowledge::Known(_) => {}
                _ if self.graveyard.contains_key(&id) || self.purged.contains(&id) => {}
                _ => self.blame(format!("after recovery call {cause} is settled and its callback {id} is not there")),
            }
        }
        self.made.accepted = engine.counters().accepted;
    }

    /// At the end every event has made its calls.
    pub fn everything_heard(&mut self) {
        let mut missing = Vec::new();
        for (id, event) in self.made.events.iter().filter(|(_, event)| event.durable && event.told) {
            for number in &event.heard_by {
                if !self.made.by_cause.contains_key(&(*id, routes::subscriber(*number), 0)) {
                    missing.push(format!("event {id} was taken and subscription {number} never heard of it"));
                }
            }
        }
        self.wrong.append(&mut missing);
    }
}

fn numbers(from: u8, to: u8, is: impl Fn(u8) -> bool) -> Option<u8> {
    (from..=to).find(|number| is(*number))
}

fn subscriptions(engine: &Engine) -> BTreeSet<u8> {
    let all = engine.subscriptions(None, None);
    let known = |number: &u8| all.iter().any(|it| it.name == routes::subscription(*number).name);
    (1..=routes::SUBSCRIPTIONS).filter(known).collect()
}

fn schedules(engine: &Engine) -> BTreeMap<u8, Scheduled> {
    let of = |number: u8| {
        let found = engine.schedules().find(|it| it.name == routes::schedule_name(number))?;
        Some((number, Scheduled { id: found.id, added_ms: found.added_ms, paused: found.ticked.paused }))
    };
    (1..=routes::SCHEDULES).filter_map(of).collect()
}
