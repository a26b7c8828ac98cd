//! Recurring calls: schedules, and the calls of their ticks. When ticks are due is the shell's to say; which of them make
//! a call, and that each makes one at most, is recorded here.

use crate::call::Call;
use crate::codec::{Malformed, Reader, Writer};
use crate::effect::{Body, Effects, Handle, Refusal, Role, Urgency};
use crate::planted::planted;
use crate::record::{Record, name};
use crate::replay::Replay;
use crate::route_codec::{decode_route, encode_route};
use crate::session::Leftover;
use crate::tail::Ties;
use crate::{Engine, Now};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use antiphon_protocol::{CallId, Change, Misfire, Name, Overlap, Recurrence, Route};

/// A schedule as the journal keeps it; its arguments are the record's body.
#[derive(Clone, PartialEq, Debug)]
pub struct Scheduled {
    /// Its identity: one that replaces it has another.
    pub id: CallId,
    /// What it is called.
    pub name: Name,
    /// When its ticks are.
    pub recurrence: Recurrence,
    /// Where its calls go.
    pub route: Route,
    /// What a tick does while an earlier call has not settled.
    pub overlap: Overlap,
    /// What becomes of missed ticks.
    pub misfire: Misfire,
    /// Bytes of its arguments, and their hash.
    pub arguments: (u32, u64),
    /// When it was added, wall.
    pub added_ms: u64,
    /// How far it has come.
    pub ticked: Ticked,
}

/// How far a schedule has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ticked {
    /// Ticks up to here are done with.
    pub cursor_ms: u64,
    /// The tick of its latest call; 0 is none.
    pub last_ms: u64,
    /// A tick that waits for that call to settle; 0 is none.
    pub queued_ms: u64,
    /// Whether its ticks pass.
    pub paused: bool,
}

impl Ticked {
    pub(crate) fn encode(self, to: &mut Writer<'_>) {
        to.u64(self.cursor_ms);
        to.u64(self.last_ms);
        to.u64(self.queued_ms);
        to.u8(u8::from(self.paused));
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (cursor_ms, last_ms, queued_ms) = (from.u64()?, from.u64()?, from.u64()?);
        Ok(Self { cursor_ms, last_ms, queued_ms, paused: from.u8()? != 0 })
    }
}

impl Scheduled {
    pub(crate) fn encode(&self, to: &mut Writer<'_>) {
        to.text(&self.name);
        match &self.recurrence {
            Recurrence::Every(ms) => {
                to.u8(1);
                to.u64(*ms);
            }
            Recurrence::Cron { expression, zone } => {
                to.u8(2);
                to.text(expression);
                to.text(zone);
            }
        }
        to.u8(self.overlap as u8);
        to.u16(match self.misfire {
            Misfire::Once => 0,
            Misfire::All(ticks) => ticks.max(1),
            Misfire::Skip => u16::MAX,
        });
        to.u32(self.arguments.0);
        to.u64(self.arguments.1);
        to.u64(self.added_ms);
        self.ticked.encode(to);
        encode_route(&self.route, to);
    }

    pub(crate) fn decode(id: CallId, from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let name = name(from)?;
        let recurrence = match from.u8()? {
            1 => Recurrence::Every(from.u64()?),
            2 => Recurrence::Cron { expression: from.string()?, zone: from.string()? },
            _ => return Err(Malformed),
        };
        let overlap = match from.u8()? {
            1 => Overlap::Allow,
            2 => Overlap::Skip,
            3 => Overlap::Queue,
            4 => Overlap::Cancel,
            _ => return Err(Malformed),
        };
        let misfire = match from.u16()? {
            0 => Misfire::Once,
            u16::MAX => Misfire::Skip,
            ticks => Misfire::All(ticks),
        };
        let arguments = (from.u32()?, from.u64()?);
        let (added_ms, ticked) = (from.u64()?, Ticked::decode(from)?);
        let route = decode_route(from)?;
        Ok(Self { id, name, recurrence, route, overlap, misfire, arguments, added_ms, ticked })
    }

    /// Whether it is the same but for its identity and how far it has come.
    fn is_same(&self, other: &Self) -> bool {
        let (id, added_ms, ticked) = (self.id, self.added_ms, self.ticked);
        *self == Self { id, added_ms, ticked, ..other.clone() }
    }

    /// The id of the call of one tick: always the same, so that there is one.
    #[must_use]
    pub fn call_of(&self, tick_ms: u64) -> CallId {
        // The tick's time stands in the id, as that of any call.
        CallId::new(tick_ms, [0; 10]).derived(&self.id.to_bytes())
    }
}

struct Kept {
    it: Scheduled,
    route: u32,
    handle: Handle,
    cold: bool,
}

/// All schedules.
#[derive(Default)]
pub(crate) struct Schedules {
    all: BTreeMap<CallId, Kept>,
    names: BTreeMap<Name, CallId>,
    /// Those with a tick that waits for a call to settle.
    queued: BTreeSet<CallId>,
}

impl Schedules {
    pub fn handles(&self) -> impl Iterator<Item = Handle> {
        self.all.values().map(|kept| kept.handle).filter(|handle| *handle != Handle::NONE)
    }

    pub fn remove(&mut self, id: CallId) {
        if let Some(kept) = self.all.remove(&id) {
            self.names.remove(&kept.it.name);
        }
        self.queued.remove(&id);
    }

    pub fn ticked(&mut self, id: CallId, ticked: Ticked) {
        if let Some(kept) = self.all.get_mut(&id) {
            kept.it.ticked = ticked;
            if ticked.queued_ms == 0 {
                self.queued.remove(&id);
            } else {
                self.queued.insert(id);
            }
        }
    }
}

impl Engine {
    /// Has a schedule be; its body is the arguments. One of the same name that is the same stays, another is replaced.
    ///
    /// # Errors
    /// A [`Refusal`] about its route, or when there are too many.
    pub fn schedule(&mut self, wanted: Scheduled, effects: &mut impl Effects) -> Result<Change, Refusal> {
        let before = self.schedules.names.get(&wanted.name).copied();
        if before.and_then(|id| self.schedules.all.get(&id)).is_some_and(|kept| kept.it.is_same(&wanted)) {
            return Ok(Change::Unchanged);
        }
        let limit = self.limits.schedules_max;
        if before.is_none() && self.schedules.all.len() >= limit as usize {
            return Err(Refusal::SchedulesFull { limit });
        }
        let route = self.intern(&wanted.route)?;
        if let Some(id) = before {
            self.drop_schedule(id, effects);
        }
        let handle = if self.limits.durable {
            effects.record(&Record::Scheduled(Cow::Borrowed(&wanted)), Body::Command, Role::Base, Urgency::Now)
        } else {
            effects.store(Body::Command)
        };
        let (id, name) = (wanted.id, wanted.name.clone());
        self.schedules.names.insert(name, id);
        self.schedules.all.insert(id, Kept { it: wanted, route, handle, cold: false });
        Ok(if before.is_some() { Change::Replaced } else { Change::Added })
    }

    /// Removes a schedule; false when there is none of this name. Its calls go on.
    pub fn unschedule(&mut self, name: &Name, effects: &mut impl Effects) -> bool {
        let Some(id) = self.schedules.names.get(name).copied() else { return false };
        self.drop_schedule(id, effects);
        true
    }

    fn drop_schedule(&mut self, id: CallId, effects: &mut impl Effects) {
        let Some(kept) = self.schedules.all.get(&id) else { return };
        let (handle, route, cold) = (kept.handle, kept.route, kept.cold);
        if cold {
            // First, so that no crash leaves the record below without it: that one may be recycled before the cold log.
            effects.entomb(id);
        }
        if self.limits.durable {
            effects.record(&Record::Forgotten { id }, Body::None, Role::Delta(handle), Urgency::Now);
        }
        self.schedules.remove(id);
        self.routes.let_go(route);
        effects.release(handle);
    }

    /// Lets a schedule's ticks pass, or not any more; ticks up to `now_ms` are done with. False when there is none.
    pub fn pause_schedule(&mut self, name: &Name, paused: bool, now_ms: u64, effects: &mut impl Effects) -> bool {
        let Some(id) = self.schedules.names.get(name).copied() else { return false };
        let Some(kept) = self.schedules.all.get(&id) else { return false };
        if kept.it.ticked.paused != paused {
            let cursor_ms = kept.it.ticked.cursor_ms.max(now_ms);
            let ticked = Ticked { paused, cursor_ms, queued_ms: 0, ..kept.it.ticked };
            self.record_ticked(id, ticked, effects);
        }
        true
    }

    /// All schedules, by name.
    pub fn schedules(&self) -> impl Iterator<Item = &Scheduled> {
        self.schedules.names.values().filter_map(|id| self.schedules.all.get(id)).map(|kept| &kept.it)
    }

    /// These ticks of a schedule are due, in their order; those up to `cursor_ms` are done with then. Says whether
    /// there was room for all their calls: if not, the first that had none is due again.
    pub fn tick_schedule(
        &mut self,
        now: Now,
        id: CallId,
        due: &[u64],
        cursor_ms: u64,
        effects: &mut impl Effects,
    ) -> bool {
        // Nothing may have happened for long: what is settled and made here is of now.
        self.tick(now);
        let Some(kept) = self.schedules.all.get(&id).filter(|kept| !kept.it.ticked.paused) else { return true };
        let mut ticked = kept.it.ticked;
        let overlap = kept.it.overlap;
        for tick_ms in due.iter().copied() {
            if tick_ms <= kept_cursor(&ticked) {
                continue;
            }
            let runs = overlap != Overlap::Allow && !planted!("ticks overlap") && self.last_runs(id, ticked.last_ms);
            let launched = match overlap {
                Overlap::Skip if runs => true,
                Overlap::Queue if runs => {
                    ticked.queued_ms = if ticked.queued_ms == 0 { tick_ms } else { ticked.queued_ms };
                    true
                }
                _ => {
                    let launched = self.launch(id, tick_ms, effects);
                    if launched && runs {
                        self.cancel_tick(id, ticked.last_ms, effects);
                    }
                    ticked.last_ms = if launched { tick_ms } else { ticked.last_ms };
                    launched
                }
            };
            if !launched {
                self.record_ticked(id, ticked, effects);
                return false;
            }
            ticked.cursor_ms = tick_ms;
        }
        ticked.cursor_ms = ticked.cursor_ms.max(cursor_ms);
        self.record_ticked(id, ticked, effects);
        true
    }

    /// Makes the calls of ticks that waited for an earlier call, now that it has settled.
    pub(crate) fn launch_queued(&mut self, effects: &mut impl Effects) {
        let queued: Vec<CallId> = self.schedules.queued.iter().copied().collect();
        for id in queued {
            let Some(mut ticked) = self.schedules.all.get(&id).map(|kept| kept.it.ticked) else { continue };
            let forgotten = planted!("a tick that waits is forgotten");
            if !forgotten && !self.last_runs(id, ticked.last_ms) && self.launch(id, ticked.queued_ms, effects) {
                ticked.last_ms = core::mem::take(&mut ticked.queued_ms);
                self.record_ticked(id, ticked, effects);
            }
        }
    }

    fn record_ticked(&mut self, id: CallId, ticked: Ticked, effects: &mut impl Effects) {
        let Some(kept) = self.schedules.all.get(&id).filter(|kept| kept.it.ticked != ticked) else { return };
        if self.limits.durable && !planted!("ticks are forgotten by a restart") {
            // Behind the records of the calls: a crash that cuts it off finds those calls there.
            effects.record(&Record::Ticked { id, ticked }, Body::None, Role::Delta(kept.handle), Urgency::Now);
        }
        self.schedules.ticked(id, ticked);
    }

    /// A call that a restart has found tells that its tick was done, also where a crash has cut off the record of that: or else
    /// the next would not know that it runs.
    pub(crate) fn note_tick(&mut self, index: u32) {
        let tick_ms = self.calls.get(index).id.unix_ms();
        let Some(schedule) = self.ties(index).and_then(|ties| ties.cause) else { return };
        let Some(mut ticked) = self.schedules.all.get(&schedule).map(|kept| kept.it.ticked) else { return };
        if tick_ms > ticked.last_ms {
            ticked.last_ms = tick_ms;
            ticked.cursor_ms = ticked.cursor_ms.max(tick_ms);
            ticked.queued_ms = if ticked.queued_ms == tick_ms { 0 } else { ticked.queued_ms };
            self.schedules.ticked(schedule, ticked);
        }
    }

    /// Of a schedule whose ticks cancel the call before, a crash may have left the newest call and cut off the end of that
    /// before it: no later tick would look at that any more. One that skips or queues makes a call only behind such an end.
    /// It is left to the first turn, as replay decides nothing.
    pub(crate) fn leave_overtaken(&mut self) {
        if !self.schedules.all.values().any(|kept| kept.it.overlap == Overlap::Cancel) {
            return;
        }
        for index in 0..self.calls.end() {
            let Some(call) = self.calls.slot(index).filter(|call| !call.state.is_settled()) else { continue };
            let tick_ms = call.id.unix_ms();
            let cause = self.ties(index).and_then(|ties| ties.cause);
            let schedule = cause.and_then(|cause| self.schedules.all.get(&cause)).map(|kept| &kept.it);
            if schedule.is_some_and(|it| it.overlap == Overlap::Cancel && tick_ms < it.ticked.last_ms) {
                self.leftovers.push_back(Leftover::Overtaken(index, call.generation));
            }
        }
    }

    fn last_runs(&self, id: CallId, last_ms: u64) -> bool {
        last_ms != 0 && self.schedules.all.get(&id).is_some_and(|kept| self.is_under_way(kept.it.call_of(last_ms)))
    }

    fn cancel_tick(&mut self, id: CallId, last_ms: u64, effects: &mut impl Effects) {
        let call = self.schedules.all.get(&id).map(|kept| kept.it.call_of(last_ms));
        if let Some(call) = call {
            self.cancel_call(call, effects);
        }
    }

    /// Makes the call of one tick; false when there is no room for it now.
    fn launch(&mut self, schedule: CallId, tick_ms: u64, effects: &mut impl Effects) -> bool {
        let Some(kept) = self.schedules.all.get(&schedule) else { return true };
        let (id, route, arguments, bytes) = (kept.it.call_of(tick_ms), kept.route, kept.handle, kept.it.arguments.0);
        if self.calls.find(id).is_some() {
            return true;
        }
        let kept = self.routes.get(route);
        if !self.has_room_for(kept.weight)
            || (self.reservation_refusal(&kept.route).is_some() && !planted!("ticks need no place in a queue"))
        {
            return false;
        }
        let durable = self.routes.get(route).durable;
        let index = self.calls.insert(Call::made(id, route, bytes, durable, self.now));
        self.calls.extra_mut(index).ties = Some(Box::new(Ties { cause: Some(schedule), ..Ties::default() }));
        self.routes.hold(route);
        self.counters.accepted += 1;
        self.count_unsettled(index);
        let handle = if durable {
            let record = Record::Submitted(Cow::Owned(self.submitted(index)));
            effects.record(&record, Body::Stored(arguments), Role::Base, Urgency::Now)
        } else {
            effects.store(Body::Stored(arguments))
        };
        self.calls.get_mut(index).handle = handle;
        self.line_up(index);
        true
    }

    /// The record of a schedule stands in a segment that is to be emptied.
    pub(crate) fn move_schedule(&mut self, id: CallId, at: Option<Handle>, effects: &mut impl Effects) -> bool {
        let Some(kept) = self.schedules.all.get_mut(&id) else { return false };
        let old = kept.handle;
        if at.is_some_and(|at| at != old) {
            return false;
        }
        let record = Record::Scheduled(Cow::Borrowed(&kept.it));
        kept.handle = effects.record(&record, Body::Stored(old), Role::Base, Urgency::Now);
        kept.cold = true;
        effects.release(old);
        true
    }
}

/// A queued tick is not done with, but not to be made twice either.
fn kept_cursor(ticked: &Ticked) -> u64 {
    ticked.cursor_ms.max(ticked.queued_ms)
}

impl Replay {
    pub(crate) fn scheduled(&mut self, record: Scheduled, handle: Handle, cold: bool) {
        let route = self.route(&record.route);
        let before = self.engine.schedules.all.remove(&record.id);
        let cold = cold || before.as_ref().is_some_and(|before| before.cold);
        match before {
            Some(before) if before.route == route => {}
            before => {
                before.iter().for_each(|before| self.engine.routes.let_go(before.route));
                self.engine.routes.hold(route);
            }
        }
        let (id, ticked) = (record.id, record.ticked);
        self.engine.schedules.names.insert(record.name.clone(), id);
        self.engine.schedules.all.insert(id, Kept { it: record, route, handle, cold });
        self.engine.schedules.ticked(id, ticked);
    }
}
