//! A caller's book at a foreign broker, which has none of its own: tags, duplicates, deadlines, what has to be published
//! again, and the one outcome of each call that surfaces. `H` is what the adapter needs to let an outcome go.

use super::{CallHeader, Recent};
use crate::{Event, Submission, Wants};
use antiphon_protocol::{Call, CallId, CancelAnswer, Code, Failure, Name, Outcome, State, Tag};
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// How many settled calls a caller remembers: an outcome that comes twice, with as many others in between, is told
/// apart from a new one. 64 Ki ids take about 4 MiB.
pub const REMEMBERED: usize = 1 << 16;

/// How long the workers have to answer that they run a call that is to be cancelled.
const CANCEL_PATIENCE: Duration = Duration::from_secs(1);

/// The book of one caller.
#[derive(Debug)]
pub struct Ledger<H> {
    named: bool,
    durable_by_default: bool,
    entries: HashMap<CallId, Entry<H>>,
    /// Calls that are done with; `None` where nobody asked for the outcome.
    done: Recent<CallId, Option<State>>,
    deadlines: BTreeSet<(Instant, CallId)>,
    cancels: BTreeSet<(Instant, CallId)>,
    sequence: u64,
}

#[derive(Debug)]
struct Entry<H> {
    tag: Tag,
    wants: Wants,
    stage: Stage,
    /// Of the outcome as the server handed it over; `None` when it came from here, or the connection has gone since.
    handle: Option<H>,
    deadline: Option<Instant>,
    cancel_by: Option<Instant>,
    header: CallHeader,
}

#[derive(Debug)]
enum Stage {
    /// Published, or about to be, and not confirmed: it is published again after a reconnect.
    Sent {
        sequence: u64,
        call: Box<Call>,
    },
    Accepted,
    Settled {
        state: State,
        attempts: u16,
        outcome: Outcome,
    },
}

/// What an adapter reads of a call to publish it.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// The call.
    pub call: &'a Call,
    /// Its header.
    pub header: &'a CallHeader,
    /// Whether its outcome is to be sent to this caller.
    pub wants_outcome: bool,
}

/// What became of an outcome that the server handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Surfacing<H> {
    /// It is the call's first, and the caller has it; it is let go when the caller acknowledges it.
    Surfaced,
    /// The caller had it before; it is kept until the caller acknowledges it.
    Kept,
    /// It is of no use: another one surfaced, or nobody here waits for it. Let it go now.
    Superfluous(H),
}

/// How to answer a cancellation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CancelStep {
    /// At once.
    Answer(CancelAnswer),
    /// Ask the workers; [`Ledger::stopping`] takes their answer, [`Ledger::advance`] gives up on it.
    Ask,
}

impl<H> Ledger<H> {
    /// The book of a caller whose inbox has a name, or has none.
    #[must_use]
    pub fn new(named: bool, durable_by_default: bool) -> Self {
        Self {
            named,
            durable_by_default,
            entries: HashMap::new(),
            done: Recent::new(REMEMBERED),
            deadlines: BTreeSet::new(),
            cancels: BTreeSet::new(),
            sequence: 0,
        }
    }

    /// Remembers a call that was done with in an earlier life of this caller: its outcome does not surface again.
    pub fn remember(&mut self, call: CallId) {
        self.done.insert(call, None);
    }

    /// Enters a call that [`Admission`](super::Admission) let pass. `true` when it is to be published; otherwise it was
    /// submitted before, and is answered.
    pub fn submit(&mut self, submission: Submission, now: Instant, wall_ms: u64, events: &mut Vec<Event>) -> bool {
        let Submission { call, tag, wants, .. } = submission;
        let id = call.id;
        if let Some(entry) = self.entries.get_mut(&id) {
            (entry.tag, entry.wants) = (tag, wants);
            if !matches!(entry.stage, Stage::Sent { .. }) && wants != Wants::Outcome {
                events.push(Event::Accepted { tag, id, duplicate: true, wait_ms: None });
            }
            if let Stage::Settled { state, attempts, outcome } = &entry.stage {
                let tag = if self.named { 0 } else { tag };
                events.push(Event::Outcome { tag, id, state: *state, attempts: *attempts, outcome: outcome.clone() });
            }
            return false;
        }
        if self.done.find(&id).is_some() {
            let text = "this call was submitted before, and is done with";
            events.push(Event::Refused { tag, failure: Failure::new(Code::AlreadyExists, text) });
            return false;
        }
        let durable = CallHeader::is_durable(&call.route, self.durable_by_default);
        let header = CallHeader::new(&call, durable, wall_ms);
        let deadline = (call.deadline_ms != 0).then(|| now + Duration::from_millis(call.deadline_ms));
        self.deadlines.extend(deadline.map(|at| (at, id)));
        self.sequence += 1;
        let stage = Stage::Sent { sequence: self.sequence, call: Box::new(call) };
        self.entries.insert(id, Entry { tag, wants, stage, handle: None, deadline, cancel_by: None, header });
        true
    }

    /// What to publish of a call that is not confirmed yet.
    #[must_use]
    pub fn unconfirmed(&self, id: CallId) -> Option<Delivery<'_>> {
        let entry = self.entries.get(&id)?;
        let Stage::Sent { call, .. } = &entry.stage else { return None };
        Some(Delivery { call, header: &entry.header, wants_outcome: entry.wants != Wants::Acceptance })
    }

    /// The broker has a call.
    pub fn confirmed(&mut self, id: CallId, events: &mut Vec<Event>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if !matches!(entry.stage, Stage::Sent { .. }) {
            return;
        }
        entry.stage = Stage::Accepted;
        if entry.wants != Wants::Outcome {
            events.push(Event::Accepted { tag: entry.tag, id, duplicate: false, wait_ms: None });
        }
        if entry.wants == Wants::Acceptance {
            self.remove(id);
            self.done.insert(id, None);
        }
    }

    /// The broker does not take a call, or nobody knows whether it did (the failure says so).
    pub fn refused(&mut self, id: CallId, failure: Failure, events: &mut Vec<Event>) {
        if self.entries.get(&id).is_some_and(|entry| matches!(entry.stage, Stage::Settled { .. })) {
            return;
        }
        if let Some(entry) = self.remove(id) {
            events.push(Event::Refused { tag: entry.tag, failure });
        }
    }

    /// The server handed an outcome over.
    pub fn outcome(
        &mut self,
        id: CallId,
        state: State,
        attempts: u16,
        outcome: Outcome,
        handle: H,
        events: &mut Vec<Event>,
    ) -> Surfacing<H> {
        let Some(entry) = self.entries.get_mut(&id) else {
            if !self.named || self.done.find(&id).is_some() {
                return Surfacing::Superfluous(handle);
            }
            events.push(Event::Outcome { tag: 0, id, state, attempts, outcome: outcome.clone() });
            let stage = Stage::Settled { state, attempts, outcome };
            let header = CallHeader::plain(id);
            let (tag, wants) = (0, Wants::Outcome);
            let entry = Entry { tag, wants, stage, handle: Some(handle), deadline: None, cancel_by: None, header };
            self.entries.insert(id, entry);
            return Surfacing::Surfaced;
        };
        if matches!(entry.stage, Stage::Settled { .. }) {
            if entry.handle.is_some() {
                return Surfacing::Superfluous(handle);
            }
            entry.handle = Some(handle);
            return Surfacing::Kept;
        }
        entry.handle = Some(handle);
        self.settle(id, state, attempts, outcome, events);
        Surfacing::Surfaced
    }

    /// Settles a call for its caller.
    fn settle(&mut self, id: CallId, state: State, attempts: u16, outcome: Outcome, events: &mut Vec<Event>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if matches!(entry.stage, Stage::Sent { .. }) && entry.wants != Wants::Outcome {
            // What has an outcome was accepted.
            events.push(Event::Accepted { tag: entry.tag, id, duplicate: false, wait_ms: None });
        }
        if let Some(at) = entry.deadline.take() {
            self.deadlines.remove(&(at, id));
        }
        if let Some(at) = entry.cancel_by.take() {
            self.cancels.remove(&(at, id));
            events.push(Event::CancelAnswered { id, answer: CancelAnswer::AlreadySettled(state) });
        }
        let tag = if self.named { 0 } else { entry.tag };
        events.push(Event::Outcome { tag, id, state, attempts, outcome: outcome.clone() });
        entry.stage = Stage::Settled { state, attempts, outcome };
    }

    /// The caller has handled an outcome. Gives back what lets it go at the server, if it came from there.
    pub fn acknowledge(&mut self, id: CallId) -> Option<H> {
        let settled = self.entries.get(&id).map(|entry| match entry.stage {
            Stage::Settled { state, .. } => Some(state),
            Stage::Sent { .. } | Stage::Accepted => None,
        });
        let state = settled??;
        let entry = self.remove(id)?;
        self.done.insert(id, Some(state));
        entry.handle
    }

    /// The caller wants a call cancelled.
    pub fn cancel(&mut self, id: CallId, now: Instant) -> CancelStep {
        let Some(entry) = self.entries.get_mut(&id) else {
            return CancelStep::Answer(match self.done.find(&id) {
                Some(Some(state)) => CancelAnswer::AlreadySettled(*state),
                Some(None) => CancelAnswer::NotReached,
                None => CancelAnswer::NotFound,
            });
        };
        if let Stage::Settled { state, .. } = &entry.stage {
            return CancelStep::Answer(CancelAnswer::AlreadySettled(*state));
        }
        if entry.cancel_by.is_none() {
            let by = now + CANCEL_PATIENCE;
            entry.cancel_by = Some(by);
            self.cancels.insert((by, id));
        }
        CancelStep::Ask
    }

    /// A worker has asked the attempt of a call that is to be cancelled to stop.
    pub fn stopping(&mut self, id: CallId, worker: Name, events: &mut Vec<Event>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if matches!(entry.stage, Stage::Settled { .. }) {
            return;
        }
        if let Some(by) = entry.cancel_by.take() {
            self.cancels.remove(&(by, id));
        }
        events.push(Event::CancelAnswered { id, answer: CancelAnswer::Stopping { worker } });
        let attempts = entry.header.started(0);
        let failure = Failure::new(Code::Cancelled, "it was cancelled while running").may_have_run();
        self.settle(id, State::Cancelled, attempts, Outcome::Failure(failure), events);
    }

    /// Settles calls whose deadline has passed, and gives up on cancellations that no worker answered.
    pub fn advance(&mut self, now: Instant, events: &mut Vec<Event>) {
        while let Some((at, id)) = self.cancels.first().copied().filter(|(at, _)| *at <= now) {
            self.cancels.remove(&(at, id));
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.cancel_by = None;
            }
            events.push(Event::CancelAnswered { id, answer: CancelAnswer::NotReached });
        }
        while let Some((at, id)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(at, id));
            // Nobody here knows whether a worker has started it.
            let failure = Failure::new(Code::DeadlineExceeded, "its deadline passed").may_have_run();
            self.settle(id, State::Expired, 0, Outcome::Failure(failure), events);
        }
    }

    /// When [`Self::advance`] has something to do.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        let first = |set: &BTreeSet<(Instant, CallId)>| set.first().map(|(at, _)| *at);
        first(&self.deadlines).into_iter().chain(first(&self.cancels)).min()
    }

    /// The connection is gone. Volatile calls went with it, and at-most-once ones cannot be published a second time:
    /// nobody knows what became of those. Gives back what must be published again, in the order of submission.
    pub fn connection_lost(&mut self, events: &mut Vec<Event>) -> Vec<CallId> {
        let (mut lost, mut again) = (Vec::new(), Vec::new());
        for (id, entry) in &mut self.entries {
            entry.handle = None;
            match &entry.stage {
                Stage::Settled { .. } => (),
                _ if !entry.header.durable => lost.push(*id),
                Stage::Sent { .. } if entry.header.at_most_once => lost.push(*id),
                Stage::Sent { sequence, .. } => again.push((*sequence, *id)),
                Stage::Accepted => (),
            }
        }
        self.give_up(&lost, "the connection broke, and nobody knows what became of the call", events);
        again.sort_unstable();
        again.into_iter().map(|(_, id)| id).collect()
    }

    /// The inbox is gone, and with it the outcomes that were in it: nobody knows what became of the calls that the
    /// broker had.
    pub fn inbox_lost(&mut self, events: &mut Vec<Event>) {
        let accepted = |entry: &Entry<H>| matches!(entry.stage, Stage::Accepted);
        let lost: Vec<CallId> = self.entries.iter().filter(|(_, entry)| accepted(entry)).map(|(id, _)| *id).collect();
        self.give_up(&lost, "the broker was away for longer than it keeps this caller's inbox", events);
    }

    fn give_up(&mut self, calls: &[CallId], text: &str, events: &mut Vec<Event>) {
        for id in calls {
            self.refused(*id, Failure::new(Code::Unavailable, text).may_have_run(), events);
        }
    }

    fn remove(&mut self, id: CallId) -> Option<Entry<H>> {
        let entry = self.entries.remove(&id)?;
        if let Some(at) = entry.deadline {
            self.deadlines.remove(&(at, id));
        }
        if let Some(at) = entry.cancel_by {
            self.cancels.remove(&(at, id));
        }
        Some(entry)
    }
}
