//! A worker's book at a foreign broker: how many slots are free, which leases are held, what waits here for a slot, and
//! when attempts must be asked to stop. `D` is what the adapter needs to answer a delivery.

use super::CallHeader;
use crate::{Event, Lease, Report};
use antiphon_protocol::{CallId, LeaseTag, Payload, Settlement, State, defaults};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// A call that was handed to this worker and has no slot yet.
#[derive(Clone, Debug)]
pub struct Waiting<D> {
    /// The call.
    pub header: CallHeader,
    /// How often the server handed it out before.
    pub redelivered: u32,
    /// The place of its procedure in the offer.
    pub procedure: u32,
    /// The arguments.
    pub payload: Payload,
    /// W3C trace context.
    pub trace: Option<Box<str>>,
    /// What the adapter needs to answer it.
    pub delivery: D,
}

/// A call that this worker runs.
#[derive(Clone, Debug)]
pub struct Held<D> {
    /// The call.
    pub header: CallHeader,
    /// How often the server handed it out before.
    pub redelivered: u32,
    /// The place of its procedure in the offer.
    pub procedure: u32,
    /// The arguments, for publishing it again.
    pub payload: Payload,
    /// W3C trace context, for publishing it again.
    pub trace: Option<Box<str>>,
    /// What the adapter needs to answer it.
    pub delivery: D,
    /// The terminal state that the call has already, when the attempt was asked to stop.
    pub stopped: Option<State>,
    /// Since when it runs.
    pub since: Instant,
    token: u64,
    deadline: Option<Instant>,
}

/// A report with a current lease.
#[derive(Debug)]
pub struct Reported<D> {
    /// The lease, to be answered by [`Event::Settled`] once everything is published.
    pub lease: LeaseTag,
    /// What was held.
    pub held: Held<D>,
    /// How it ended.
    pub settlement: Settlement,
}

/// The book. Leases are good for as long as the connection: they are extended by being held.
#[derive(Debug)]
pub struct LeaseBook<D> {
    slots: i64,
    next_slot: u32,
    held: HashMap<u32, Held<D>>,
    calls: HashMap<CallId, u32>,
    waiting: VecDeque<Waiting<D>>,
    deadlines: BTreeSet<(Instant, u32)>,
    draining: bool,
}

impl<D> LeaseBook<D> {
    /// The book of a worker with so many slots.
    #[must_use]
    pub fn new(slots: u32) -> Self {
        Self {
            slots: i64::from(slots),
            next_slot: 0,
            held: HashMap::new(),
            calls: HashMap::new(),
            waiting: VecDeque::new(),
            deadlines: BTreeSet::new(),
            draining: false,
        }
    }

    /// How many calls may run at a time: what the server may hand over for each procedure.
    #[must_use]
    pub fn slots(&self) -> u32 {
        u32::try_from(self.slots.max(0)).unwrap_or(u32::MAX)
    }

    /// Adds slots, or takes them away.
    pub fn credit(&mut self, slots: i32) {
        self.slots += i64::from(slots);
    }

    /// Takes no more calls; gives back what had no slot yet, for the server to hand to others.
    pub fn drain(&mut self) -> Vec<Waiting<D>> {
        self.draining = true;
        self.waiting.drain(..).collect()
    }

    /// Whether it takes no more calls.
    #[must_use]
    pub const fn is_draining(&self) -> bool {
        self.draining
    }

    /// How many calls run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.held.len()
    }

    /// Takes a call that was handed over; [`Self::grant`] gives it a slot. A draining worker gives it back.
    #[must_use]
    pub fn arrive(&mut self, waiting: Waiting<D>) -> Option<Waiting<D>> {
        if self.draining {
            return Some(waiting);
        }
        self.waiting.push_back(waiting);
        None
    }

    /// The call that a free slot is for, oldest first. The adapter judges it anew (time has passed) and then either
    /// [`Self::lease`]s it or ends it.
    pub fn grant(&mut self) -> Option<Waiting<D>> {
        let free = i64::try_from(self.held.len()).unwrap_or(i64::MAX) < self.slots;
        if free { self.waiting.pop_front() } else { None }
    }

    /// Leases a call.
    pub fn lease(&mut self, waiting: Waiting<D>, now: Instant, wall_ms: u64, events: &mut Vec<Event>) {
        let Waiting { header, redelivered, procedure, payload, trace, delivery } = waiting;
        // Slots are numbered through, so that a tag names one lease and no later one.
        let slot = self.next_slot;
        self.next_slot = self.next_slot.wrapping_add(1);
        let token = header.token(redelivered);
        let remaining_ms = header.remaining_ms(wall_ms);
        let deadline = remaining_ms.map(|ms| now + Duration::from_millis(ms));
        if let Some(at) = deadline {
            self.deadlines.insert((at, slot));
        }
        events.push(Event::Lease(Lease {
            lease: LeaseTag { slot, token },
            call: header.id,
            procedure,
            attempt: header.failed.saturating_add(1),
            attempts_max: header.attempts,
            lease_ms: defaults::LEASE_MS,
            attempt_timeout_ms: header.attempt_timeout_ms,
            deadline_ms: remaining_ms.map_or(0, |ms| ms.max(1)),
            payload: payload.clone(),
            trace: trace.clone(),
        }));
        self.calls.insert(header.id, slot);
        let held = Held {
            header,
            redelivered,
            procedure,
            payload,
            trace,
            delivery,
            stopped: None,
            since: now,
            token,
            deadline,
        };
        self.held.insert(slot, held);
    }

    /// Takes a report; `None`, and [`Event::Stale`], when its lease is not current.
    pub fn report(&mut self, report: Report, events: &mut Vec<Event>) -> Option<Reported<D>> {
        let Report { lease, call, settlement } = report;
        let current = self.held.get(&lease.slot);
        if !current.is_some_and(|held| held.token == lease.token && held.header.id == call) {
            events.push(Event::Stale { lease });
            return None;
        }
        let held = self.held.remove(&lease.slot)?;
        if self.calls.get(&call) == Some(&lease.slot) {
            self.calls.remove(&call);
        }
        if let Some(at) = held.deadline {
            self.deadlines.remove(&(at, lease.slot));
        }
        Some(Reported { lease, held, settlement })
    }

    /// Answers extensions: what is held stays held, everything else is [`Event::Stale`].
    pub fn extend(&self, leases: &[LeaseTag], events: &mut Vec<Event>) {
        let current = |lease: &LeaseTag| self.held.get(&lease.slot).is_some_and(|held| held.token == lease.token);
        events.extend(leases.iter().filter(|lease| !current(lease)).map(|lease| Event::Stale { lease: *lease }));
    }

    /// A caller wants a call cancelled. `true`, and [`Event::CancelAsked`], when it runs here.
    pub fn cancel(&mut self, call: CallId, events: &mut Vec<Event>) -> bool {
        let Some(slot) = self.calls.get(&call).copied() else { return false };
        self.stop(slot, State::Cancelled, events)
    }

    /// Asks the attempts whose deadline has passed to stop.
    pub fn advance(&mut self, now: Instant, events: &mut Vec<Event>) {
        while let Some((at, slot)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(at, slot));
            self.stop(slot, State::Expired, events);
        }
    }

    fn stop(&mut self, slot: u32, state: State, events: &mut Vec<Event>) -> bool {
        let Some(held) = self.held.get_mut(&slot) else { return false };
        if held.stopped.is_none() {
            held.stopped = Some(state);
            events.push(Event::CancelAsked { lease: LeaseTag { slot, token: held.token } });
        }
        true
    }

    /// When [`Self::advance`] has something to do.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Everything that runs.
    pub fn held(&self) -> impl Iterator<Item = &Held<D>> {
        self.held.values()
    }

    /// Part of what was handed over belongs to another worker now: those leases are [`Event::Stale`], and what waited of
    /// it is forgotten.
    pub fn lose(&mut self, lost: impl Fn(&D) -> bool, events: &mut Vec<Event>) {
        self.waiting.retain(|waiting| !lost(&waiting.delivery));
        let slots: Vec<u32> =
            self.held.iter().filter(|(_, held)| lost(&held.delivery)).map(|(slot, _)| *slot).collect();
        for slot in slots {
            let Some(held) = self.held.remove(&slot) else { continue };
            if self.calls.get(&held.header.id) == Some(&slot) {
                self.calls.remove(&held.header.id);
            }
            if let Some(at) = held.deadline {
                self.deadlines.remove(&(at, slot));
            }
            events.push(Event::Stale { lease: LeaseTag { slot, token: held.token } });
        }
    }

    /// The connection is gone, and every lease with it.
    pub fn connection_lost(&mut self) {
        self.held.clear();
        self.calls.clear();
        self.waiting.clear();
        self.deadlines.clear();
    }
}
