//! Questions of operators and late callers, answered from the engine; long lists over several pumps.

use crate::driver::Driver;
use crate::events::refused;
use crate::output::{Output, SELF};
use crate::topics::check_attempts;
use crate::{Outlet, bodies::Body, output};
use antiphon_broker::OpenError;
use antiphon_engine::{Command, Engine, Gate, Now, Refusal};
use antiphon_journal::{Generation, Reserve};
use antiphon_protocol::{
    Answer, BULK_CALLS_MAX, BrokerStatus, Bulk, CallFilter, CallId, CallStatus, Callback, Code, Failure,
    GROUP_WAIT_MS_MAX, Knowledge, Name, Query, Setting, Settings, Start,
};
use std::time::Duration;

/// Children of a group in one answer.
const CHILDREN_MAX: u32 = 1_000;
/// Questions that wait for children of groups: each is looked at with every pump.
const WAITING_FOR_CHILDREN_MAX: usize = 64;
/// Calls looked at per pump for a list: about a millisecond.
pub(crate) const CALLS_A_PUMP: u32 = 20_000;

/// A question that waits: for its list to be complete, for the fsync of what its answer says, or for a child of a group.
pub(crate) enum Question {
    List { ticket: u64, filter: CallFilter, cursor: u32, found: Vec<CallStatus> },
    Bulk { ticket: u64, bulk: Bulk, cursor: u32, found: Vec<CallStatus> },
    Answered { ticket: u64, answer: Answer, gate: u64 },
    Children { ticket: u64, group: CallId, from: u32, limit: u32, until_ms: u64 },
}

impl Driver {
    /// Asks a question; the outlet gets the answer under this ticket.
    pub fn ask(&mut self, query: Query, ticket: u64) {
        if let Query::Calls(filter) = query {
            self.questions.push_back(Question::List { ticket, filter, cursor: u32::MAX, found: Vec::new() });
            return;
        }
        if let Query::Bulk(mut bulk) = query {
            if bulk.filter.limit == 0 || bulk.filter.limit > BULK_CALLS_MAX {
                bulk.filter.limit = BULK_CALLS_MAX;
            }
            let cursor = bulk.cursor.unwrap_or(u32::MAX);
            self.questions.push_back(Question::Bulk { ticket, bulk, cursor, found: Vec::new() });
            return;
        }
        if let Query::Group { id, from, limit, wait_ms } = query
            && wait_ms > 0
            && self.waits_for_children(id, from)
            && self.waiting_for_children() < WAITING_FOR_CHILDREN_MAX
        {
            let until_ms = self.now().monotonic_ms + u64::from(wait_ms.min(GROUP_WAIT_MS_MAX));
            self.questions.push_back(Question::Children { ticket, group: id, from, limit, until_ms });
            return;
        }
        // Whatever is said of a durable call waits for that call's last record; the newest is not older.
        let (gate, answer) = match query {
            Query::Status(id) => (self.engine.gate_of_answer(id), Answer::Status(self.engine.knowledge(id))),
            Query::Explain(id) => (self.engine.gate_of_answer(id), Answer::Explained(self.engine.explain(id))),
            Query::Procedures => (Gate::Open, Answer::Procedures(self.engine.procedures())),
            Query::Workers => (Gate::Open, Answer::Workers(self.engine.workers())),
            Query::Broker => (Gate::Open, Answer::Broker(self.status())),
            Query::Drain(name) => {
                let asked = self.with(Generation::Young, None, |engine, _, output| engine.ask_to_drain(&name, output));
                (Gate::Open, Answer::Asked(asked))
            }
            Query::Revive { dead, id } => (Gate::Recorded, self.revive(dead, id)),
            Query::Purge(id) => (Gate::Recorded, self.purge(id)),
            Query::AddCallback { call, callback } => self.add_callback(call, &callback),
            Query::Group { id, from, limit, .. } => (self.engine.gate_of_answer(id), self.group(id, from, limit)),
            Query::Seal(id) => {
                let sealed = self.with(Generation::Young, None, |engine, now, output| engine.seal(now, id, output));
                told(sealed.map(|gate| (gate, Answer::Sealed)))
            }
            Query::Join { group, call } => {
                let joined =
                    self.with(Generation::Young, None, |engine, now, output| engine.join(now, group, call, output));
                told(joined.map(|gate| (gate, Answer::Joined)))
            }
            Query::Configure { procedure, changes } => (Gate::Recorded, self.configure(&procedure, &changes)),
            Query::Subscribe(subscription) => (Gate::Recorded, self.subscribe(&subscription)),
            Query::Unsubscribe(name) => (Gate::Recorded, self.unsubscribe(&name)),
            Query::Schedule(schedule) => (Gate::Recorded, self.schedule(*schedule)),
            Query::Unschedule(name) => (Gate::Recorded, self.unschedule(&name)),
            Query::PauseSchedule { name, paused } => (Gate::Recorded, self.pause_schedule(&name, paused)),
            Query::Schedules => (Gate::Recorded, Answer::Schedules(self.schedules())),
            Query::Subscriptions { topic, after } => {
                let found = self.engine.subscriptions(topic.as_ref(), after.as_ref());
                (Gate::Recorded, Answer::Subscriptions(found))
            }
            Query::Calls(_) | Query::Bulk(_) => return,
        };
        let gate = if gate == Gate::Open { 0 } else { self.tip() };
        self.questions.push_back(Question::Answered { ticket, answer, gate });
    }

    pub(crate) fn tip(&self) -> u64 {
        self.journal.as_ref().map_or(0, |journal| journal.tip().as_u64())
    }

    fn add_callback(&mut self, call: CallId, callback: &Callback) -> (Gate, Answer) {
        if let Err(Failure { code, message, .. }) = check_attempts(&callback.route) {
            return (Gate::Open, Answer::Refused { code, message });
        }
        let run =
            |engine: &mut Engine, now: Now, output: &mut Output<'_>| engine.add_callback(now, call, callback, output);
        told(self.with(Generation::Young, None, run).map(|(id, gate)| (gate, Answer::CallbackAdded(id))))
    }

    fn group(&self, id: CallId, from: u32, limit: u32) -> Answer {
        let limit = if limit == 0 { CHILDREN_MAX } else { limit.min(CHILDREN_MAX) };
        match self.engine.group(id, from, limit) {
            Some(status) => Answer::Group(status),
            None => Answer::Refused { code: Code::NotFound, message: format!("there is no group {id}") },
        }
    }

    /// Whether a group has no child from this place on, and may get one.
    fn waits_for_children(&self, id: CallId, from: u32) -> bool {
        self.engine.group(id, from, 1).is_some_and(|group| !group.sealed && group.counts.children <= from)
    }

    fn waiting_for_children(&self) -> usize {
        self.questions.iter().filter(|question| matches!(question, Question::Children { .. })).count()
    }

    /// When the first of the questions is to be looked at again, if no record and no command comes before.
    pub(crate) fn question_due(&self, now_ms: u64) -> Option<Duration> {
        let durable = self.durable();
        let due = |question: &Question| match question {
            Question::List { .. } | Question::Bulk { .. } => Some(Duration::ZERO),
            Question::Answered { gate, .. } => (*gate <= durable).then_some(Duration::ZERO),
            Question::Children { until_ms, .. } => Some(Duration::from_millis(until_ms.saturating_sub(now_ms))),
        };
        self.questions.iter().filter_map(due).min()
    }

    fn durable(&self) -> u64 {
        self.journal.as_ref().map_or(u64::MAX, |journal| journal.durable().as_u64())
    }

    pub(crate) fn answer_questions(&mut self, outlet: &mut dyn Outlet) {
        let (durable, now_ms) = (self.durable(), self.now().monotonic_ms);
        for _ in 0..self.questions.len() {
            match self.questions.pop_front() {
                Some(Question::Answered { ticket, answer, gate }) if gate <= durable => outlet.answer(ticket, answer),
                Some(Question::List { ticket, filter, cursor, mut found }) => {
                    match self.engine.list(&filter, cursor, CALLS_A_PUMP, &mut found) {
                        None => outlet.answer(ticket, Answer::Calls(found)),
                        Some(_) if found.len() >= limit_of(&filter) => outlet.answer(ticket, Answer::Calls(found)),
                        Some(cursor) => {
                            self.questions.push_back(Question::List { ticket, filter, cursor, found });
                        }
                    }
                }
                Some(Question::Bulk { ticket, bulk, cursor, found }) => {
                    let next = self.look_in_bulk(ticket, bulk, cursor, found);
                    self.questions.push_back(next);
                }
                Some(Question::Children { ticket, group, from, limit, until_ms })
                    if now_ms >= until_ms || !self.waits_for_children(group, from) =>
                {
                    self.ask(Query::Group { id: group, from, limit, wait_ms: 0 }, ticket);
                }
                Some(waiting) => self.questions.push_back(waiting),
                None => return,
            }
        }
    }

    /// After a failed fsync no answer can be relied on.
    pub(crate) fn refuse_questions(&mut self, outlet: &mut dyn Outlet) {
        let Some(Failure { code, message, .. }) = self.poisoned.clone() else { return };
        for question in self.questions.drain(..) {
            let (Question::List { ticket, .. }
            | Question::Bulk { ticket, .. }
            | Question::Answered { ticket, .. }
            | Question::Children { ticket, .. }) = question;
            outlet.answer(ticket, Answer::Refused { code, message: message.clone() });
        }
    }

    /// The figures of this driver; the server adds its connections.
    #[must_use]
    pub fn status(&self) -> BrokerStatus {
        let counters = self.engine.counters();
        let journal = self.journal_stats();
        BrokerStatus {
            epoch: self.engine.epoch(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            durable: self.is_durable(),
            calls: self.engine.counts(),
            accepted: counters.accepted,
            refused: counters.refused,
            duplicates: counters.duplicates,
            leased: counters.leased,
            lost_leases: counters.lost_leases,
            stale: counters.stale,
            settled: counters.settled,
            outcomes_rejected: counters.outcomes_rejected,
            syncs: journal.as_ref().map_or(0, |stats| stats.syncs),
            records: journal.as_ref().map_or(0, |stats| stats.entries),
            journal_bytes: journal.as_ref().map_or(0, |stats| stats.written_bytes),
            sync_us: self
                .journal
                .as_ref()
                .map_or(0, |journal| u64::try_from(journal.last_sync().as_micros()).unwrap_or(u64::MAX)),
            connections: 0,
        }
    }

    pub(crate) fn purge(&mut self, id: CallId) -> Answer {
        if self.with(Generation::Young, None, |engine, _, output| engine.purge(id, output)) {
            Answer::Purged
        } else {
            not_dead(&self.engine.knowledge(id), id)
        }
    }

    /// Sets what the options say of procedures, before anybody is served. On disk it is with the first commit: until then
    /// nothing is answered that depends on it.
    pub(crate) fn configure_all(&mut self, procedures: &[(Name, Settings)]) -> Result<(), OpenError> {
        for (name, settings) in procedures {
            let changes: Vec<_> = settings.0.iter().map(|(setting, value)| (*setting, Some(*value))).collect();
            if let Answer::Refused { message, .. } = self.configure(name, &changes) {
                return Err(OpenError::Storage(format!("cannot set what is configured for {name}: {message}")));
            }
        }
        Ok(())
    }

    fn configure(&mut self, procedure: &Name, changes: &[(Setting, Option<u64>)]) -> Answer {
        if let Err(Failure { code, message, .. }) = self.make_room(0, Reserve::Yes) {
            return Answer::Refused { code, message };
        }
        let set = self.with(Generation::Young, None, |engine, _, output| engine.configure(procedure, changes, output));
        match set {
            Ok(settings) => Answer::Settings(settings),
            Err(refusal) => {
                let Failure { code, message, .. } = refused(&refusal);
                Answer::Refused { code, message }
            }
        }
    }

    /// Submits a dead letter anew, as a call of its own.
    pub(crate) fn revive(&mut self, dead: CallId, id: CallId) -> Answer {
        let Some((route, arguments)) = self.engine.dead_letter(dead) else {
            return not_dead(&self.engine.knowledge(dead), dead);
        };
        let body = output::load(&self.bodies, self.journal.as_ref(), arguments);
        let Some(Body::Arguments { payload, trace }) = body else {
            let message = format!("the arguments of {dead} cannot be read back");
            return Answer::Refused { code: Code::DataLoss, message };
        };
        let bytes = payload.bytes.len();
        let route = match self.make_room(bytes, Reserve::No).and_then(|()| self.intern(&route)) {
            Ok(route) => route,
            Err(Failure { code, message, .. }) => return Answer::Refused { code, message },
        };
        let submit = antiphon_engine::Submit {
            peer: SELF,
            tag: 0,
            id,
            route: route.0,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            deadline_ms: 0,
            start: Start::Now,
            key: None,
            wants_acceptance: true,
            wants_outcome: false,
            resent: false,
            revives: Some(dead),
            ties: self.engine.keys_of_dead_letter(dead),
        };
        self.outbox.own_refusal = None;
        let body = Some(Body::Arguments { payload, trace });
        self.with(Generation::Young, body, |engine, now, output| {
            engine.handle(now, Command::Submit(submit), output);
        });
        self.release_route(route);
        match self.outbox.own_refusal.take() {
            Some(Failure { code, message, .. }) => Answer::Refused { code, message },
            None => Answer::Revived(id),
        }
    }
}

/// How many calls a list holds.
fn limit_of(filter: &CallFilter) -> usize {
    if filter.limit == 0 { 100 } else { usize::try_from(filter.limit).unwrap_or(usize::MAX) }
}

/// An answer, or the refusal in its place.
fn told(result: Result<(Gate, Answer), Refusal>) -> (Gate, Answer) {
    result.unwrap_or_else(|refusal| {
        let Failure { code, message, .. } = refused(&refusal);
        (Gate::Open, Answer::Refused { code, message })
    })
}

fn not_dead(known: &Knowledge, id: CallId) -> Answer {
    match known {
        Knowledge::Known(call) => {
            let message = format!("call {id} is {}, not dead: only dead letters can be revived or purged", call.state);
            Answer::Refused { code: Code::FailedPrecondition, message }
        }
        Knowledge::NeverSeen | Knowledge::TooOldToSay | Knowledge::Forgotten => {
            Answer::Refused { code: Code::NotFound, message: format!("there is no dead letter {id}") }
        }
    }
}
