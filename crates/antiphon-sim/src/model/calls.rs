//! Calls as the model has them: submitting, cancelling, attaching, and the marks of how far each has come.

use super::answers::Expected;
use super::groups::Grouped;
use super::leases::Parked;
use super::{Incarnation, Model};
use antiphon_broker::{Submission, Wants};
use antiphon_embedded::PeerId;
use antiphon_engine::Engine;
use antiphon_protocol::{
    CallId, Callback, CancelAnswer, Durability, Key, Knowledge, Name, Outcome, Route, Setting, Start, State,
};
use std::collections::BTreeSet;
use std::sync::Arc;

const QUEUE_FULL: &str = "its queue is full";

/// Where a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Due on the monotonic clock.
    Scheduled(u64),
    Ready,
    Leased,
    Settled(State),
}

/// An attempt that runs, or that must still stop.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub serial: u64,
    /// Known from when its worker was told.
    pub token: Option<u64>,
    pub worker: Incarnation,
    pub ends_ms: u64,
    pub order: u64,
    pub orphan: bool,
    pub crowded: bool,
    /// Whether its worker held others, too, when it was last seen to go.
    pub beside: bool,
    pub as_suspect: bool,
    pub parked: Parked,
    /// Whether its grant waits for the journal.
    pub gated: bool,
}

/// How far a call had come at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub phase: Phase,
    pub started: u16,
    pub failed: u16,
    pub lost: u8,
    /// Whether the journal has it: an eager lease stands in no record.
    pub recorded: bool,
}

/// What the model knows of a call.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub id: CallId,
    pub route: Arc<Route>,
    pub durable: bool,
    pub phase: Phase,
    pub started: u16,
    pub failed: u16,
    pub lost: u8,
    pub suspect: bool,
    pub lease: Option<Lease>,
    /// Monotonic; 0 is none.
    pub deadline_ms: u64,
    /// The least and the most that the wall clock was ahead of the monotonic one when the deadline may have been
    /// recorded.
    pub offsets: (u64, u64),
    /// While the call stands for it.
    pub key: Option<String>,
    /// As it was submitted.
    pub own_key: Option<String>,
    /// `None` is whatever the broker has put together.
    pub payload: Option<Vec<u8>>,
    /// The inbox that its outcome goes to.
    pub inbox: Option<String>,
    pub wants_acceptance: bool,
    /// Inboxes that may see its outcome.
    pub audience: BTreeSet<String>,
    /// `None` while it is not settled, or when the broker itself decided.
    pub outcome: Option<Outcome>,
    pub settled_wall_ms: u64,
    pub acknowledged: bool,
    /// A dead letter that is one too many: it is kept only for its inbox.
    pub evicted: bool,
    pub revives: bool,
    /// The call, event or schedule that it was made of.
    pub cause: Option<CallId>,
    /// Callbacks that were added to it, and whether somebody was told.
    pub added: Vec<Callback>,
    pub added_told: bool,
    /// Its ordering key, and when it joined its lane; not known when it joined late and the broker went down since.
    pub order: Option<String>,
    pub turn: Option<(u64, u64)>,
    pub turn_lost: bool,
    /// Its concurrency key.
    pub together: Option<String>,
    pub group: Option<Grouped>,
    /// The groups that it is a child of, and the one that it was submitted into.
    pub groups: Vec<CallId>,
    pub submitted_into: Option<CallId>,
    /// Since the last thing that is known to be on disk.
    pub marks: Vec<Mark>,
    /// The mark that somebody was told of; nothing before it may come back.
    pub floor: Option<usize>,
}

impl Known {
    /// A ready call without anything that is particular, which no inbox waits for.
    pub fn new(id: CallId, route: Arc<Route>, durable: bool, offset: u64) -> Self {
        Self {
            id,
            route,
            durable,
            phase: Phase::Ready,
            started: 0,
            failed: 0,
            lost: 0,
            suspect: false,
            lease: None,
            deadline_ms: 0,
            offsets: (offset, offset),
            key: None,
            own_key: None,
            payload: None,
            inbox: None,
            wants_acceptance: true,
            audience: BTreeSet::new(),
            outcome: None,
            settled_wall_ms: 0,
            acknowledged: false,
            evicted: false,
            revives: false,
            cause: None,
            added: Vec::new(),
            added_told: false,
            order: None,
            turn: None,
            turn_lost: false,
            together: None,
            group: None,
            groups: Vec::new(),
            submitted_into: None,
            marks: Vec::new(),
            floor: None,
        }
    }

    /// How many calls it stands for while it is not settled.
    pub fn weight(&self) -> u64 {
        let added: u64 = self.added.iter().map(|callback| u64::from(callback.route.calls())).sum();
        u64::from(self.route.calls()) + added
    }

    /// Whether two of it must not overlap with others.
    pub fn is_serial(&self) -> bool {
        self.order.is_some() || self.together.is_some()
    }

    pub fn is_settled(&self) -> bool {
        matches!(self.phase, Phase::Settled(_))
    }

    pub fn state(&self) -> State {
        match self.phase {
            Phase::Scheduled(_) => State::Scheduled,
            Phase::Ready => State::Ready,
            Phase::Leased => State::Leased,
            Phase::Settled(state) => state,
        }
    }

    pub fn mark(&mut self) -> usize {
        let Self { phase, started, failed, lost, .. } = *self;
        let recorded = phase != Phase::Leased || self.lease.as_ref().is_none_or(|lease| lease.gated);
        self.marks.push(Mark { phase, started, failed, lost, recorded });
        self.marks.len() - 1
    }

    /// Somebody was told of this mark.
    pub fn told(&mut self, mark: usize) {
        let mark = self.marks.iter().take(mark + 1).rposition(|mark| mark.recorded).unwrap_or(0);
        self.floor = Some(self.floor.map_or(mark, |floor| floor.max(mark)));
    }

    pub fn last_mark(&self) -> usize {
        self.marks.len().saturating_sub(1)
    }
}

impl Model {
    /// A caller has handed a call over; the broker has dealt with it already.
    pub fn submit(&mut self, engine: &Engine, peer: PeerId, submission: &Submission) {
        self.tick(engine);
        let call = &submission.call;
        let tag = submission.tag;
        if call.route.event {
            return self.emit(engine, peer, submission);
        }
        if self.calls.contains_key(&call.id) {
            return self.submit_again(engine, call.id, peer, submission);
        }
        let key = call.keys.as_ref().and_then(|keys| keys.idempotency.as_ref()).map(|key| key.as_str().to_owned());
        if let Some(key) = &key
            && let Some(known) = self.keyed(engine, &call.route.procedure, key)
        {
            if self.is_ambiguous(&call.route.procedure, key) {
                // Of several calls that stood for the key one after the other, a restart may have brought back any.
                let inbox = self.callers.get(&peer).map(|caller| caller.inbox.clone()).unwrap_or_default();
                let of_key = |known: &&mut Known| known.own_key.as_deref() == Some(key);
                let mut all = Vec::new();
                for known in self.calls.values_mut().filter(of_key) {
                    known.audience.insert(inbox.clone());
                    all.push(known.id);
                }
                for id in all {
                    self.tie_again(engine, id, submission);
                }
                return match engine.knowledge(call.id) {
                    Knowledge::Known(_) => {
                        let key = Some(key.clone());
                        self.expect(peer, Expected::Either { tag });
                        self.accept(peer, submission, key);
                    }
                    _ => self.expect(peer, Expected::Either { tag }),
                };
            }
            let same =
                self.calls.get(&known).is_some_and(|known| known.payload.as_deref() == Some(&call.payload.bytes[..]));
            if !same {
                return self.expect(peer, Expected::Refused { tag });
            }
            return self.submit_again(engine, known, peer, submission);
        }
        let keyed: Vec<CallId> = self.keys.values().copied().filter(|_| key.is_some()).collect();
        keyed.into_iter().for_each(|id| self.compare_settled(engine, id));
        let taken = matches!(engine.knowledge(call.id), Knowledge::Known(_));
        let refusable = self.may_refuse(submission, peer, key.is_some());
        if !taken {
            if self.must_refuse(submission, peer, key.is_some()) == Some(QUEUE_FULL) {
                self.reached.insert("a submission that a full queue refused");
            }
            if !refusable {
                self.blame(format!("call {} was refused without a reason", call.id));
            }
            return self.expect(peer, Expected::Refused { tag });
        }
        if let Some(reason) = self.must_refuse(submission, peer, key.is_some()) {
            self.blame(format!("call {} was taken although {reason}", call.id));
        }
        self.accept(peer, submission, key);
    }

    fn accept(&mut self, peer: PeerId, submission: &Submission, key: Option<String>) {
        let call = &submission.call;
        let now_ms = self.now.monotonic_ms;
        let due_ms = match call.start {
            Start::Now | Start::In(0) => 0,
            // The driver adds one, for the part of a millisecond that its clock does not show.
            Start::In(ms) => now_ms + ms + 1,
            Start::At(wall_ms) => (now_ms + wall_ms + 1).saturating_sub(self.now.wall_ms).max(1),
        };
        let due_ms = call.route.group.map_or(due_ms, |group| now_ms + group.unsealed_ms);
        let durable = call.route.durability != Some(Durability::Volatile);
        let inbox = self.callers.get(&peer).map(|caller| caller.inbox.clone());
        let offset = self.now.wall_ms - now_ms;
        let mut known = Known::new(call.id, Arc::clone(&call.route), durable, offset);
        known.phase = if due_ms > now_ms { Phase::Scheduled(due_ms) } else { Phase::Ready };
        known.deadline_ms = if call.deadline_ms == 0 { 0 } else { now_ms + call.deadline_ms };
        (known.key, known.own_key) = (key.clone(), key.clone());
        known.payload = Some(call.payload.bytes.to_vec());
        known.audience = inbox.iter().cloned().collect();
        known.inbox = inbox.filter(|_| submission.wants != Wants::Acceptance);
        known.wants_acceptance = submission.wants != Wants::Outcome;
        let text = |key: &Option<Key>| key.as_ref().map(|key| key.as_str().to_owned());
        known.order = call.keys.as_ref().and_then(|keys| text(&keys.ordering));
        known.together = call.keys.as_ref().and_then(|keys| text(&keys.concurrency));
        known.submitted_into = call.keys.as_ref().and_then(|keys| keys.group);
        known.group = call.route.group.map(|_| Grouped::default());
        let ready = known.phase == Phase::Ready;
        let mark = known.mark();
        self.transitions.insert(("new", known.state().name()));
        self.graveyard.remove(&call.id);
        if let Some(key) = key {
            self.keys.insert((call.route.procedure.clone(), key), call.id);
        }
        self.open.insert(call.id);
        let group = known.submitted_into;
        self.calls.insert(call.id, known);
        self.made.accepted += 1;
        if ready {
            self.order += 1;
            self.join_lane(call.id, (self.order, 0));
        }
        if let Some(group) = group {
            self.enter_group(call.id, group);
        }
        if submission.wants != Wants::Outcome {
            let (tag, id) = (submission.tag, call.id);
            self.expect(peer, Expected::Accepted { tag, id, duplicate: false, mark });
        }
    }

    /// The call that a key stands for, unless it has been forgotten.
    fn keyed(&mut self, engine: &Engine, procedure: &Name, key: &str) -> Option<CallId> {
        let id = *self.keys.get(&(procedure.clone(), key.to_owned()))?;
        self.compare_one(engine, id);
        self.calls.contains_key(&id).then_some(id)
    }

    /// Whether more than one call that is known, or was, stood for this key.
    fn is_ambiguous(&self, procedure: &Name, key: &str) -> bool {
        let mine = |known: &&Known| known.route.procedure == *procedure && known.own_key.as_deref() == Some(key);
        self.calls.values().chain(self.graveyard.values()).filter(mine).count() > 1
    }

    fn submit_again(&mut self, engine: &Engine, id: CallId, peer: PeerId, submission: &Submission) {
        self.compare_one(engine, id);
        let tag = submission.tag;
        let inbox = self.callers.get(&peer).map(|caller| caller.inbox.clone()).unwrap_or_default();
        let Some(known) = self.calls.get_mut(&id) else {
            // It was forgotten: the submission is a new call, or too old to say.
            return match engine.knowledge(submission.call.id) {
                Knowledge::Known(_) => self.submit(engine, peer, submission),
                _ => self.expect(peer, Expected::Refused { tag }),
            };
        };
        if known.route.procedure != submission.call.route.procedure {
            return self.expect(peer, Expected::Refused { tag });
        }
        if !self.tie_again(engine, id, submission) {
            return self.expect(peer, Expected::Refused { tag });
        }
        let Some(known) = self.calls.get_mut(&id) else { return };
        let mark = known.last_mark();
        if submission.wants != Wants::Acceptance {
            known.audience.insert(inbox);
        }
        if submission.wants != Wants::Outcome {
            self.expect(peer, Expected::Accepted { tag, id, duplicate: true, mark });
        }
    }

    /// The same call once more may bring callbacks and a group along; whether all of them were taken.
    fn tie_again(&mut self, engine: &Engine, id: CallId, submission: &Submission) -> bool {
        let call = &submission.call;
        let called_back = call.route.callbacks.iter().all(|callback| self.callback_added(engine, id, callback));
        let group = call.keys.as_ref().and_then(|keys| keys.group).filter(|_| id != call.id);
        let Some(group) = group.filter(|_| called_back) else { return called_back };
        self.join(engine, group, id);
        self.calls.get(&id).is_some_and(|known| known.groups.contains(&group))
    }

    /// Why a new call must not be taken, if it must not.
    fn must_refuse(&self, submission: &Submission, peer: PeerId, keyed: bool) -> Option<&'static str> {
        let unsettled = self.open_calls().filter(|known| !known.is_settled());
        let load: u64 = unsettled.map(Known::weight).sum();
        let call = &submission.call;
        if load + u64::from(call.route.calls()) > u64::from(self.limits.calls_max) {
            return Some("there are too many");
        }
        let mut procedures = Vec::new();
        call.route.visit(&mut |each| procedures.push(each.procedure.clone()));
        let full = |procedure: &Name| {
            let more = procedures.iter().filter(|other| *other == procedure).count() as u64;
            self.rule(procedure, Setting::QueuedMax).is_some_and(|most| self.queued(procedure) + more > most)
        };
        if procedures.iter().any(full) {
            return Some(QUEUE_FULL);
        }
        let durable = call.route.durability != Some(Durability::Volatile);
        if let Some(reason) = call.keys.as_ref().and_then(|keys| self.is_closed_to(keys.group?, durable)) {
            return Some(reason);
        }
        if keyed && self.keys.len() > self.limits.keys_max as usize {
            return Some("there are too many keys");
        }
        let caller = self.callers.get(&peer).filter(|caller| !caller.fenced);
        let Some(caller) = caller else { return Some("its caller is fenced") };
        let full = caller.named && self.in_inbox(&caller.inbox) >= self.limits.inbox_calls_max as usize;
        (full && submission.wants != Wants::Acceptance).then_some("its inbox is full")
    }

    /// Whether a new call may be refused: by rule, for want of space, or as too old to say.
    fn may_refuse(&self, submission: &Submission, peer: PeerId, keyed: bool) -> bool {
        let inbox = self.callers.get(&peer).map_or(0, |caller| self.in_inbox(&caller.inbox));
        self.full
            || submission.resent
            || submission.call.deadline_ms != 0
            || (keyed && self.keys.len() >= self.limits.keys_max as usize)
            || self.ever_in_inbox(peer) >= self.limits.inbox_calls_max as usize
            || inbox >= self.limits.inbox_calls_max.min(self.limits.calls_max) as usize
            || self.must_refuse(submission, peer, keyed).is_some()
    }

    /// Unsettled and unacknowledged calls of an inbox.
    fn in_inbox(&self, inbox: &str) -> usize {
        let mine = |call: &&Known| call.inbox.as_deref() == Some(inbox);
        self.calls.values().filter(mine).filter(|call| !call.is_settled() || !call.acknowledged).count()
    }

    /// Calls of a named inbox, acknowledged or not: acknowledgements are recorded lazily, so a crash takes some back.
    fn ever_in_inbox(&self, peer: PeerId) -> usize {
        let Some(caller) = self.callers.get(&peer).filter(|caller| caller.named) else { return 0 };
        self.calls.values().filter(|known| known.inbox.as_ref() == Some(&caller.inbox)).count()
    }

    pub fn attach(&mut self, engine: &Engine, peer: PeerId, id: CallId) {
        self.tick(engine);
        self.compare_one(engine, id);
        let Some(inbox) = self.callers.get(&peer).map(|caller| caller.inbox.clone()) else { return };
        if let Some(known) = self.calls.get_mut(&id) {
            known.audience.insert(inbox);
        }
    }

    pub fn acknowledge(&mut self, engine: &Engine, peer: PeerId, id: CallId) {
        self.tick(engine);
        let Some(inbox) = self.callers.get(&peer).map(|caller| caller.inbox.clone()) else { return };
        if let Some(known) = self.calls.get_mut(&id).filter(|known| known.is_settled())
            && known.inbox.as_ref() == Some(&inbox)
        {
            known.acknowledged = true;
        }
    }

    pub fn cancel(&mut self, engine: &Engine, peer: PeerId, id: CallId) {
        self.tick(engine);
        self.compare_settled(engine, id);
        let Some(known) = self.calls.get(&id) else {
            let answer = CancelAnswer::NotFound;
            return self.expect(peer, Expected::Cancelled { id, answer, mark: 0 });
        };
        let answer = match known.phase {
            Phase::Settled(state) => CancelAnswer::AlreadySettled(state),
            _ if known.group.is_some() => CancelAnswer::Children,
            Phase::Leased => CancelAnswer::Stopping { worker: self.worker_name(known) },
            _ if known.started == 0 => CancelAnswer::NeverRan,
            _ => CancelAnswer::BetweenAttempts,
        };
        if !known.is_settled() {
            self.settle(id, State::Cancelled, None);
        }
        let mark = self.calls.get(&id).map_or(0, Known::last_mark);
        self.expect(peer, Expected::Cancelled { id, answer, mark });
        self.compare_one(engine, id);
    }

    /// A settled call may have been forgotten; one that is not settled changes by the command.
    fn compare_settled(&mut self, engine: &Engine, id: CallId) {
        if self.calls.get(&id).is_some_and(Known::is_settled) {
            self.compare_one(engine, id);
        }
    }

    /// A call reaches its terminal state.
    pub(super) fn settle(&mut self, id: CallId, state: State, outcome: Option<Outcome>) {
        let wall_ms = self.now.wall_ms;
        let Some(known) = self.calls.get_mut(&id) else { return };
        assert!(!known.is_settled(), "the model settles a call once");
        self.transitions.insert((known.state().name(), state.name()));
        known.phase = Phase::Settled(state);
        known.settled_wall_ms = wall_ms;
        known.outcome = outcome;
        known.evicted = false;
        known.mark();
        if known.lease.is_none() {
            self.open.remove(&id);
        }
        self.evict_dead();
        let Some(known) = self.calls.get_mut(&id) else { return };
        if known.started == 0
            && known.group.is_none()
            && let Some(key) = known.key.take()
        {
            let key = (known.route.procedure.clone(), key);
            if self.keys.get(&key) == Some(&id) {
                self.keys.remove(&key);
            }
        }
        self.make_callbacks(id);
        self.count_child(id, state == State::Succeeded);
        self.leave_children(id);
    }

    /// An operator revived a dead letter.
    pub fn revive(&mut self, engine: &Engine, dead: CallId, id: CallId) -> bool {
        self.tick(engine);
        let Some(letter) = self.calls.get(&dead) else { return false };
        let mut known = letter.clone();
        known.id = id;
        known.phase = Phase::Ready;
        (known.started, known.failed, known.lost, known.suspect) = (0, 0, 0, false);
        (known.lease, known.deadline_ms, known.key, known.own_key, known.inbox) = (None, 0, None, None, None);
        (known.outcome, known.acknowledged, known.floor, known.revives) = (None, false, None, true);
        known.wants_acceptance = true;
        known.durable = known.route.durability != Some(Durability::Volatile);
        (known.groups, known.submitted_into, known.cause) = (Vec::new(), None, None);
        (known.turn, known.turn_lost) = (None, false);
        known.marks.clear();
        known.mark();
        self.transitions.insert(("new", "ready"));
        self.open.insert(id);
        self.calls.insert(id, known);
        self.made.accepted += 1;
        self.order += 1;
        self.join_lane(id, (self.order, 0));
        true
    }

    /// Somebody was told that there is such a call; it may have been leased since, in a record that is not written yet.
    pub fn told_of_revival(&mut self, id: CallId) {
        if let Some(known) = self.calls.get_mut(&id) {
            known.told(0);
        }
    }

    fn worker_name(&self, known: &Known) -> Name {
        let worker = known.lease.as_ref().and_then(|lease| self.workers.get(&lease.worker));
        worker.map_or_else(|| Name::new("unknown").expect("well formed"), |worker| worker.name.clone())
    }
}
