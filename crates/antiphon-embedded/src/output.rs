//! What the engine wants done, done: records into the journal, bodies into memory, effects into the queues that
//! wait for an fsync or for nothing.

use crate::bodies::{self, Bodies, Body};
use crate::events;
use crate::outlet::PeerId;
use crate::planted::planted;
use crate::told::{self, Gathering};
use crate::tombs::Tombs;
use antiphon_broker::Event;
use antiphon_engine::{Effect, Effects, Ending, Gate, Handle, Peer, Record, Role, Told, Urgency};
use antiphon_journal::{Entry, Generation, Journal, Position, Reserve};
use antiphon_protocol::{CallId, CallbackOn, Code, Epoch, Failure, Outcome};
use std::collections::{HashSet, VecDeque};
use std::time::Instant;

/// The peer that stands for the driver itself when it submits a call.
pub(crate) const SELF: Peer = Peer(u32::MAX);

/// What leaves the driver, and when.
#[derive(Default)]
pub(crate) struct Outbox {
    /// May leave now.
    pub ready: Vec<(PeerId, Event)>,
    /// May leave when the journal is durable up to this number.
    pub gated: VecDeque<(u64, PeerId, Event)>,
    /// How soon what is pending must be on disk, and since when it waits.
    pub urgency: Option<(Urgency, Instant)>,
    /// Why the driver's own submission was refused.
    pub own_refusal: Option<Failure>,
}

impl Outbox {
    /// Something is pending that is as urgent as this.
    pub fn hurry(&mut self, urgency: Urgency) {
        self.urgency = Some(match self.urgency {
            Some((before, since)) => (before.max(urgency), since),
            None => (urgency, Instant::now()),
        });
    }
}

/// One engine call's worth of effects.
pub(crate) struct Output<'a> {
    pub journal: Option<&'a mut Journal>,
    pub bodies: &'a mut Bodies,
    pub outbox: &'a mut Outbox,
    pub cold: &'a mut HashSet<u32>,
    pub tombs: &'a mut Tombs,
    pub poisoned: &'a mut Option<Failure>,
    pub scratch: &'a mut Scratch,
    /// What is gathered for the outcome of a group.
    pub gathering: &'a mut Gathering,
    /// The body that came with the command.
    pub body: Option<Body>,
    /// Where that body went, once it was recorded.
    pub body_at: Handle,
    /// The number of this start.
    pub epoch: Epoch,
    /// The largest payload, in bytes.
    pub payload_bytes_max: usize,
    /// Where records go: survivors of a sweep go to the cold log.
    pub generation: Generation,
}

/// Buffers that are used again and again.
#[derive(Default)]
pub(crate) struct Scratch {
    head: Vec<u8>,
    prefix: Vec<u8>,
}

impl Output<'_> {
    fn load(&mut self, handle: Handle) -> Option<Body> {
        if handle == self.body_at && self.body.is_some() {
            return self.body.clone();
        }
        load(self.bodies, self.journal.as_deref(), handle)
    }

    fn append(&mut self, record: &Record<'_>, body: Option<&Body>, role: Role) -> Handle {
        let Some(journal) = self.journal.as_deref_mut() else { return Handle::NONE };
        self.scratch.head.clear();
        record.encode(&mut self.scratch.head);
        let role = match role {
            Role::Base => antiphon_journal::Role::Base,
            Role::Delta(base) if is_cold(self.cold, base) && !planted!("changes of cold calls recycled") => {
                antiphon_journal::Role::PinnedDelta
            }
            Role::Delta(_) => antiphon_journal::Role::Delta,
        };
        let (head, generation) = (&self.scratch.head, self.generation);
        let appended = bodies::encode(body, &mut self.scratch.prefix, |pieces| {
            let entry = Entry { key: record.key(), kind: record.kind() as u8, head, body: pieces };
            journal.append(generation, role, &entry, Reserve::Yes)
        });
        match appended {
            Ok(position) => {
                if generation == Generation::Cold {
                    self.cold.insert(position.segment());
                }
                Handle(position.as_u64())
            }
            Err(error) => {
                // What the engine decided cannot be recorded, so nothing after it may be acknowledged.
                self.poisoned.get_or_insert_with(|| Failure::new(Code::DataLoss, error.to_string()).may_have_run());
                Handle::NONE
            }
        }
    }

    fn event(&mut self, effect: Effect) -> Option<(Peer, Event)> {
        let outcome = match &effect {
            Effect::Outcome { ending: Ending::Stored(handle), .. } => self.load(*handle),
            Effect::Lease { grant, .. } => self.load(grant.arguments),
            _ => None,
        };
        events::event(effect, outcome, self.epoch)
    }

    /// Whether this is the record of a call that was made of something, and one without a body stands there: that of a call of
    /// an event. A dead letter of one may be found again by a restart when its event is not, for both were forgotten before.
    /// Of callbacks and calls of ticks, which have bodies, one written without would not be noticed here.
    fn needs_no_body(&self, record: &Record<'_>, handle: Handle) -> bool {
        if !matches!(record, Record::Submitted(it) if it.ties.as_ref().is_some_and(|ties| ties.cause.is_some())) {
            return false;
        }
        let position = Position::from_u64(handle.0).filter(|_| !Bodies::is_in_memory(handle));
        let read = position.zip(self.journal.as_deref()).map(|(position, journal)| journal.read(position));
        matches!(read, Some(Ok(entry)) if entry.body.is_empty())
    }

    fn outcome(&mut self, told: &Told) -> Option<Outcome> {
        Some(match told.ending? {
            Ending::Stored(handle) => outcome_of(self.load(handle)),
            Ending::Decided(reason) => Outcome::Failure(events::decided(reason)),
        })
    }

    /// The arguments of a callback.
    fn arguments(&mut self, on: CallbackOn, told: &Told) -> Body {
        let payload = match (on, self.outcome(told)) {
            (CallbackOn::Value, Some(Outcome::Reply(payload))) => payload,
            (_, outcome) => told::argument(told, outcome.as_ref(), self.payload_bytes_max),
        };
        Body::Arguments { payload, trace: None }
    }
}

/// Whether a body's record is in the cold log.
fn is_cold(cold: &HashSet<u32>, base: Handle) -> bool {
    !cold.is_empty() && Position::from_u64(base.0).is_some_and(|position| cold.contains(&position.segment()))
}

/// A body from memory, or from the journal. One that cannot be read back is an answer about its call, not the end of
/// the broker: no promise about anything else depends on it.
pub(crate) fn load(bodies: &Bodies, journal: Option<&Journal>, handle: Handle) -> Option<Body> {
    if let Some(body) = bodies.get(handle) {
        return Some(body.clone());
    }
    let position = Position::from_u64(handle.0).filter(|_| !Bodies::is_in_memory(handle))?;
    bodies::decode(journal?.read(position).ok()?.body)
}

impl Effects for Output<'_> {
    fn record(&mut self, record: &Record<'_>, body: antiphon_engine::Body, role: Role, urgency: Urgency) -> Handle {
        let handle = match body {
            antiphon_engine::Body::None => self.append(record, None, role),
            antiphon_engine::Body::Command => {
                let body = self.body.take();
                let handle = self.append(record, body.as_ref(), role);
                if let Some(Body::Arguments { .. }) = &body {
                    // The arguments are wanted soon: by the worker that gets the call.
                    self.bodies.cache(handle, body.clone().expect("it was just matched"));
                }
                self.body = body;
                self.body_at = handle;
                handle
            }
            antiphon_engine::Body::Stored(from) => {
                let body = self.load(from);
                if body.is_none() && !self.needs_no_body(record, from) {
                    // To write the record again without it would lose it for good.
                    let what = record.kind();
                    let text = format!(
                        "the journal cannot be read back while it is compacted: the body of a {what:?} is gone"
                    );
                    self.poisoned.get_or_insert_with(|| Failure::new(Code::DataLoss, text).may_have_run());
                }
                self.append(record, body.as_ref(), role)
            }
            antiphon_engine::Body::Gathered { met, counts } => {
                let body = Body::Outcome(self.gathering.finish(met, counts));
                let handle = self.append(record, Some(&body), role);
                (self.body, self.body_at) = (Some(body), handle);
                handle
            }
            antiphon_engine::Body::Told { on, told } => {
                let body = self.arguments(on, &told);
                let handle = self.append(record, Some(&body), role);
                self.bodies.cache(handle, body);
                handle
            }
        };
        self.outbox.hurry(urgency);
        handle
    }

    fn store(&mut self, body: antiphon_engine::Body) -> Handle {
        match body {
            antiphon_engine::Body::Command => {
                // From now on it is found where it is kept.
                let Some(body) = self.body.take() else { return Handle::NONE };
                self.bodies.keep(body)
            }
            antiphon_engine::Body::Told { on, told } => {
                let body = self.arguments(on, &told);
                self.bodies.keep(body)
            }
            antiphon_engine::Body::Gathered { met, counts } => {
                let body = Body::Outcome(self.gathering.finish(met, counts));
                self.bodies.keep(body)
            }
            antiphon_engine::Body::Stored(from) => self.load(from).map_or(Handle::NONE, |body| self.bodies.keep(body)),
            antiphon_engine::Body::None => Handle::NONE,
        }
    }

    fn release(&mut self, handle: Handle) {
        self.bodies.release(handle);
        if Bodies::is_in_memory(handle) {
            return;
        }
        if let (Some(journal), Some(position)) = (self.journal.as_deref_mut(), Position::from_u64(handle.0)) {
            journal.release(position);
        }
    }

    fn begin_gathering(&mut self) {
        *self.gathering = Gathering::default();
    }

    fn gather(&mut self, told: Told) {
        let outcome = self.outcome(&told);
        self.gathering.add(&told, outcome.as_ref(), self.payload_bytes_max);
    }

    fn entomb(&mut self, id: CallId) {
        let Some(until) = self.journal.as_deref().map(|journal| journal.tip().as_u64()) else { return };
        let generation = std::mem::replace(&mut self.generation, Generation::Cold);
        let at = self.append(&Record::Entombed { id, until }, None, Role::Base);
        self.generation = generation;
        self.outbox.hurry(Urgency::Lazy);
        self.tombs.insert(at, id, until);
    }

    fn emit(&mut self, gate: Gate, effect: Effect) {
        let Some((peer, event)) = self.event(effect) else { return };
        if peer == SELF {
            if let Event::Refused { failure, .. } = event {
                self.outbox.own_refusal = Some(failure);
            }
            return;
        }
        let peer = PeerId(peer.0);
        let tip = self.journal.as_deref().map_or(0, |journal| journal.tip().as_u64());
        let durable = self.journal.as_deref().map_or(0, |journal| journal.durable().as_u64());
        if gate == Gate::Recorded && self.poisoned.is_some() {
            // What it waits for was not recorded and never will be.
            return;
        }
        if gate == Gate::Open || (durable >= tip && self.outbox.gated.is_empty()) {
            self.outbox.ready.push((peer, event));
        } else {
            self.outbox.gated.push_back((tip, peer, event));
        }
    }
}

/// The outcome a body holds.
pub(crate) fn outcome_of(body: Option<Body>) -> Outcome {
    match body {
        Some(Body::Outcome(outcome)) => outcome,
        Some(Body::Arguments { .. }) | None => {
            let text =
                "the outcome was recorded but cannot be read back: `antiphon journal verify` says what is damaged";
            Outcome::Failure(Failure::new(Code::DataLoss, text).may_have_run())
        }
    }
}
