//! From the journal's records back to the state they describe. Replay runs no policy: it puts down what was decided.

use crate::call::{ACKNOWLEDGED, Attempt, COLD, Call, DURABLE, NONE, SUSPECT};
use crate::callback::Planned;
use crate::codec::Malformed;
use crate::effect::{Handle, Told};
use crate::inbox::InboxKey;
use crate::planted::planted;
use crate::record::{Progress, Record, Settled, Submitted};
use crate::route_codec::LastRoute;
use crate::tail::Ties;
use crate::{Engine, Limits, Now};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use antiphon_protocol::{CallId, Callback, CallbackOn, IncarnationId, LeaseTag, Name, Route, State};
use hashbrown::{DefaultHashBuilder, HashMap};

mod restart;

/// A lease as the journal last knew it.
struct HeldOver {
    lease: LeaseTag,
    incarnation: IncarnationId,
    worker: Name,
    attempt: u16,
}

/// An engine being rebuilt.
pub struct Replay {
    pub(crate) engine: Engine,
    leases: HashMap<u32, HeldOver, DefaultHashBuilder>,
    /// Callbacks that follow from a settlement, until their own records come: those may have been torn off.
    torn: BTreeMap<u32, (CallbackOn, Told)>,
    /// The route read last, and its place.
    last_route: LastRoute,
    last_place: Option<(Arc<Route>, u32)>,
}

impl Replay {
    /// Begins with an empty engine.
    #[must_use]
    pub fn new(limits: Limits, seed: u64, now: Now) -> Self {
        Self {
            engine: Engine::new(limits, seed, now),
            leases: HashMap::default(),
            torn: BTreeMap::new(),
            last_route: LastRoute::default(),
            last_place: None,
        }
    }

    /// Reads a record back, as [`Record::decode`] does; faster where routes are those of the record before.
    ///
    /// # Errors
    /// [`Malformed`] when the head is not what its kind says.
    pub fn decode(&mut self, kind: u8, key: [u8; 16], head: &[u8]) -> Result<Record<'static>, Malformed> {
        Record::decode_after(&mut self.last_route, kind, key, head)
    }

    /// Puts down one record, found at `handle`, in the cold log or not. Records must come in the order in which they
    /// were appended.
    pub fn apply(&mut self, record: Record<'_>, handle: Handle, cold: bool) {
        match record {
            Record::Started { epoch, wall_ms } => {
                self.engine.epoch = self.engine.epoch.max(epoch);
                self.engine.started = handle;
                self.clock(wall_ms);
            }
            Record::Submitted(record) => self.submitted(record.into_owned(), handle, cold),
            Record::Leased { id, lease, incarnation, worker, attempt, wall_ms } => {
                self.clock(wall_ms);
                self.leased(id, HeldOver { lease, incarnation, worker, attempt }, wall_ms);
            }
            Record::Returned { id, due_ms, progress, ended } => {
                self.returned(id, due_ms, progress, ended.map(Cow::into_owned));
            }
            Record::Settled(record) => self.settled(record.into_owned(), handle, cold),
            Record::CallbackAdded { id, callback } => self.callback_added(id, &callback),
            Record::Joined { id, group } => {
                if let Some(index) = self.engine.calls.find(id) {
                    self.engine.calls.extra_mut(index).ties.get_or_insert_default().groups.push(group);
                }
            }
            Record::Sealed { id } => {
                if let Some(index) = self.engine.calls.find(id) {
                    self.engine.calls.extra_mut(index).ties.get_or_insert_default().sealed = true;
                }
            }
            Record::Acknowledged { id } => {
                if let Some(index) = self.engine.calls.find(id) {
                    let call = self.engine.calls.get_mut(index);
                    call.inbox = NONE;
                    call.set(ACKNOWLEDGED, true);
                }
            }
            Record::InboxOpened { name } => {
                let (place, _) = self.engine.inboxes.open(InboxKey::Named(name));
                if let Some(inbox) = self.engine.inboxes.get_mut(place) {
                    inbox.handle = handle;
                }
            }
            Record::Emitted(record) => self.emitted(record.into_owned(), handle, cold),
            Record::Distributed { id, cursor } => {
                if let Some(event) = self.engine.events.get_mut(id) {
                    event.it.cursor = cursor;
                }
            }
            Record::Subscribed(record) => self.subscribed(record.into_owned(), handle, cold),
            Record::Scheduled(record) => self.scheduled(record.into_owned(), handle, cold),
            Record::Ticked { id, ticked } => self.engine.schedules.ticked(id, ticked),
            Record::Unsubscribed { id, at } => {
                self.engine.order = self.engine.order.max(at);
                if let Some(place) = self.engine.subscriptions.find(id) {
                    self.engine.subscriptions.end(place, at);
                }
            }
            Record::Forgotten { id } | Record::Entombed { id, .. } => {
                self.engine.events.remove(id);
                self.engine.schedules.remove(id);
                if let Some(place) = self.engine.subscriptions.find(id) {
                    self.engine.subscriptions.remove(place);
                }
                if let Some(index) = self.engine.calls.find(id) {
                    self.drop_call(index);
                }
            }
            Record::Horizon { ms, resend_ms } => {
                // Recorded once a second: what was forgotten after the last one is within that second.
                self.engine.horizon_ms = self.engine.horizon_ms.max(ms + crate::retention::RETENTION_STEP_MS);
                self.engine.resend_horizon_ms =
                    self.engine.resend_horizon_ms.max(resend_ms + crate::retention::RETENTION_STEP_MS);
                self.engine.horizon_record = (handle, ms);
            }
            Record::Configured { procedure, settings } => {
                self.engine.replay_settings(&procedure, settings.into_owned(), handle);
            }
            Record::LaneJoined { id, turn } => {
                self.engine.lane_turns = self.engine.lane_turns.max(turn);
                if let Some(index) = self.engine.calls.find(id)
                    && let Some((_, at)) = self.engine.ties_mut(index).and_then(|ties| ties.ordering.as_mut())
                {
                    *at = turn;
                }
            }
            Record::Stopped { id } => {
                if let Some(index) = self.engine.calls.find(id) {
                    self.leases.remove(&index);
                }
            }
            Record::InboxRemoved { name } => {
                if let Some(place) = self.engine.inboxes.find(&InboxKey::Named(name)) {
                    self.engine.inboxes.remove(place);
                }
            }
        }
    }

    /// Journaled wall time never goes back, even if the clock of this machine was set back.
    pub(crate) fn clock(&mut self, wall_ms: u64) {
        self.engine.now.wall_ms = self.engine.now.wall_ms.max(wall_ms);
    }

    fn drop_call(&mut self, index: u32) {
        let call = self.engine.calls.remove(index);
        self.leases.remove(&index);
        self.engine.forgotten.insert(call.id);
        self.torn.remove(&index);
        // No id is newer than the time it was forgotten, whatever the clock of who made it.
        let made_ms = call.id.unix_ms().min(self.engine.now.wall_ms);
        self.engine.horizon_ms = self.engine.horizon_ms.max(made_ms);
        self.engine.resend_horizon_ms = self.engine.resend_horizon_ms.max(made_ms);
    }

    fn shared_route(&mut self, route: &Arc<Route>) -> u32 {
        if let Some((last, place)) = &self.last_place
            && Arc::ptr_eq(last, route)
        {
            return *place;
        }
        let place = self.route(route);
        self.last_place = Some((Arc::clone(route), place));
        place
    }

    pub(crate) fn route(&mut self, route: &Route) -> u32 {
        // Whatever was accepted is kept, also when the limit on routes is lower now.
        self.engine.routes.find(route).unwrap_or_else(|| self.engine.keep_route(route))
    }

    /// The place of the call with this id: the one there is, emptied, or a new one.
    fn place(&mut self, call: Call) -> u32 {
        if let Some(old) = self.engine.calls.find(call.id) {
            self.engine.calls.remove(old);
            self.leases.remove(&old);
            self.torn.remove(&old);
        }
        self.engine.calls.insert(call)
    }

    fn was_cold(&self, id: CallId) -> bool {
        self.engine.calls.find(id).is_some_and(|index| self.engine.calls.get(index).has(COLD))
    }

    fn inbox(&mut self, inbox: Option<&(InboxKey, u64)>, settled: bool) -> (u32, u64) {
        match inbox {
            // An outcome for an anonymous inbox may have been acknowledged long ago; its caller asks for what it
            // misses when it comes back.
            Some((InboxKey::Anonymous(_), _)) if settled => (NONE, 0),
            Some((key, tag)) => (self.engine.inboxes.open(key.clone()).0, *tag),
            None => (NONE, 0),
        }
    }

    fn submitted(&mut self, record: Submitted, handle: Handle, cold: bool) {
        let cold = cold || self.was_cold(record.id);
        self.clock(record.submitted_ms);
        if let Some(index) = self.engine.calls.find(record.id)
            && self.engine.calls.get(index).state.is_settled()
        {
            // A dead letter's arguments were copied. The copy of its settlement may have been torn off behind it; the
            // settlement itself stands.
            self.engine.calls.get_mut(index).set(COLD, cold);
            self.engine.calls.extra_mut(index).arguments = handle;
            return;
        }
        let route = self.shared_route(&record.route);
        let (inbox, tag) = self.inbox(record.inbox.as_ref(), false);
        let Progress { started, failed, lost, suspect } = record.progress;
        let index = self.place(Call {
            id: record.id,
            handle,
            at_ms: record.due_ms,
            deadline_ms: record.deadline_ms,
            submitted_ms: record.submitted_ms,
            tag,
            route,
            inbox,
            place: NONE,
            lease: NONE,
            bytes: record.bytes,
            extra: NONE,
            stamp: 0,
            generation: 0,
            started,
            failed,
            state: State::Scheduled,
            flags: DURABLE | if suspect { SUSPECT } else { 0 } | if cold { COLD } else { 0 },
            lost,
            reason: 0,
        });
        self.tie(index, record.ties);
        if record.key.is_some() || record.revives.is_some() || !record.history.is_empty() {
            let extra = self.engine.calls.extra_mut(index);
            extra.key = record.key;
            extra.revives = record.revives;
            extra.history = record.history;
        }
    }

    fn tie(&mut self, index: u32, ties: Option<Box<Ties>>) {
        let Some(mut ties) = ties else { return };
        let callbacks = core::mem::take(&mut ties.callbacks);
        let callbacks = callbacks.iter().map(|callback| self.planned(callback)).collect();
        ties.made = false;
        let extra = self.engine.calls.extra_mut(index);
        extra.callbacks = callbacks;
        extra.ties = (*ties != Ties::default()).then_some(ties);
    }

    fn planned(&mut self, callback: &Callback) -> Planned {
        Planned { on: callback.on, route: self.route(&callback.route) }
    }

    /// A settlement makes its callbacks: those whose records come, too, take their places.
    fn make_again(&mut self, index: u32) {
        let succeeded = self.engine.calls.get(index).state == State::Succeeded;
        let due: Vec<Planned> = self.engine.planned(index).filter(|planned| planned.on.follows(succeeded)).collect();
        for planned in due {
            self.make_one_again(index, planned);
        }
    }

    fn make_one_again(&mut self, cause: u32, planned: Planned) {
        let told = self.engine.told(cause);
        if let Some(index) = self.engine.plan_callback(cause, planned) {
            self.torn.insert(index, (planned.on, told));
        }
    }

    fn callback_added(&mut self, id: CallId, callback: &Callback) {
        let Some(index) = self.engine.calls.find(id) else { return };
        let planned = self.planned(callback);
        self.engine.calls.extra_mut(index).callbacks.push(planned);
        let state = self.engine.calls.get(index).state;
        if state.is_settled() && planned.on.follows(state == State::Succeeded) {
            self.make_one_again(index, planned);
        }
    }

    fn leased(&mut self, id: CallId, held: HeldOver, wall_ms: u64) {
        let Some(index) = self.engine.calls.find(id) else { return };
        let ran_on = self.engine.ran_on(index);
        let call = self.engine.calls.get_mut(index);
        if call.state.is_settled() {
            if ran_on {
                self.leases.insert(index, held);
            }
            return;
        }
        call.started = call.started.max(held.attempt);
        call.at_ms = wall_ms;
        self.leases.insert(index, held);
    }

    fn returned(&mut self, id: CallId, due_ms: u64, progress: Progress, ended: Option<Attempt>) {
        let Some(index) = self.engine.calls.find(id) else { return };
        let call = self.engine.calls.get_mut(index);
        if call.state.is_settled() {
            return;
        }
        call.at_ms = due_ms;
        call.started = progress.started;
        call.failed = if planted!("failed attempt forgotten by a restart") { 0 } else { progress.failed };
        call.lost = progress.lost;
        call.set(SUSPECT, progress.suspect);
        self.leases.remove(&index);
        if let Some(ended) = ended {
            self.engine.remember(index, ended);
        }
    }

    fn settled(&mut self, record: Settled, handle: Handle, cold: bool) {
        let cold = cold || self.was_cold(record.id);
        self.clock(record.settled_ms);
        let known = self.engine.calls.find(record.id);
        let held = known.and_then(|index| self.leases.remove(&index));
        let (arguments, mut history) = known.map_or((Handle::NONE, Vec::new()), |index| {
            let call = self.engine.calls.get(index);
            let extra = self.engine.calls.extra(index);
            let before = extra.map_or(Handle::NONE, |extra| extra.arguments);
            let arguments = if call.state.is_settled() { before } else { call.handle };
            (arguments, extra.map_or_else(Vec::new, |extra| extra.history.clone()))
        });
        if !record.history.is_empty() {
            history = record.history;
        }
        let route = self.shared_route(&record.route);
        let (inbox, tag) = self.inbox(record.inbox.as_ref(), true);
        let index = self.place(Call {
            id: record.id,
            handle,
            at_ms: record.settled_ms,
            deadline_ms: 0,
            submitted_ms: record.submitted_ms,
            tag,
            route,
            inbox,
            place: NONE,
            lease: NONE,
            bytes: record.bytes,
            extra: NONE,
            stamp: 0,
            generation: 0,
            started: record.progress.started,
            failed: record.progress.failed,
            state: record.state,
            flags: DURABLE | if cold { COLD } else { 0 },
            lost: record.progress.lost,
            reason: record.reason,
        });
        let made = record.ties.as_ref().is_some_and(|ties| ties.made);
        self.tie(index, record.ties);
        if !made && !planted!("callbacks that a crash cut off are lost") {
            self.make_again(index);
        }
        let dead = record.state == State::Dead;
        // A lease that was held when it settled is held until the journal says that it stopped.
        if let Some(held) = held.filter(|_| self.engine.ran_on(index)) {
            self.leases.insert(index, held);
        }
        if dead || record.key.is_some() || !history.is_empty() {
            let extra = self.engine.calls.extra_mut(index);
            extra.key = record.key;
            extra.history = history;
            extra.arguments = if dead { arguments } else { Handle::NONE };
        }
    }
}
