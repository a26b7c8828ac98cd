//! A worker's side of a line: the leases it holds, and the reports that are not answered yet.

use super::RemoteOptions;
use super::line::{Closing, Line, Side, Up};
use crate::{Arrival, Frame, FrameError, Outbound};
use antiphon_broker::{Event, Lease, ProgressReport, Report, Worker};
use antiphon_protocol::{CallId, Code, Failure, HeldLease, LeaseTag, Offer, Payload, Settlement, defaults};
use hashbrown::{HashMap, HashSet};
use rustc_hash::FxBuildHasher;
use std::collections::VecDeque;
use std::sync::Arc;

/// How many leases more than slots a broker may grant before it is taken for broken: leases cross with credits that
/// take slots away.
const LEASES_BEYOND_SLOTS: usize = 1024;

pub(super) struct WorkerSide {
    /// As it was given; the held leases are put in for each connection.
    offer: Offer,
    /// Boxed: a table of what is looked up at random should be small.
    held: HashMap<LeaseTag, Box<Held>, FxBuildHasher>,
    running: usize,
    sequence: u64,
    draining: bool,
    tells_progress: bool,
    starved: bool,
    slots_most: usize,
    /// What the broker was last told in an offer; credits of the time while the line was down are told after it.
    slots_offered: u32,
    payload_bytes_max: usize,
    unsent_bytes_max: usize,
}

struct Held {
    lease: HeldLease,
    sequence: u64,
    /// Kept to be sent again until it is answered.
    report: Option<Report>,
    /// Told and not passed on yet, oldest first: within the bounds of one call's progress.
    told: VecDeque<Payload>,
}

impl Held {
    fn tell(&mut self, payload: Payload) {
        self.told.push_back(payload);
        let bytes = |told: &VecDeque<Payload>| told.iter().map(|payload| payload.bytes.len()).sum::<usize>();
        while self.told.len() > defaults::PROGRESS_ITEMS_MAX || bytes(&self.told) > defaults::PROGRESS_BYTES_MAX {
            self.told.pop_front();
        }
    }

    fn pass_on(&mut self, outbound: &mut Outbound) {
        let HeldLease { lease, call } = self.lease;
        for payload in self.told.drain(..) {
            outbound.progress(&ProgressReport { lease, call, payload });
        }
    }
}

impl WorkerSide {
    pub(super) fn new(offer: Offer, options: &RemoteOptions) -> Self {
        let slots_most = usize::try_from(offer.slots).unwrap_or(usize::MAX);
        let slots_offered = offer.slots;
        let mut side = Self {
            offer,
            held: HashMap::default(),
            running: 0,
            sequence: 0,
            draining: false,
            tells_progress: false,
            starved: false,
            slots_most,
            slots_offered,
            payload_bytes_max: usize::MAX,
            unsent_bytes_max: options.unsent_bytes_max,
        };
        for lease in core::mem::take(&mut side.offer.held) {
            side.hold(lease);
        }
        side
    }

    fn hold(&mut self, lease: HeldLease) {
        self.sequence += 1;
        let held = Held { lease, sequence: self.sequence, report: None, told: VecDeque::new() };
        if self.held.insert(lease.lease, Box::new(held)).is_none_or(|before| before.report.is_some()) {
            self.running += 1;
        }
    }

    fn let_go(&mut self, lease: LeaseTag) {
        if self.held.remove(&lease).is_some_and(|held| held.report.is_none()) {
            self.running -= 1;
        }
    }

    fn leased(&mut self, lease: Lease, events: &mut Vec<Event>) -> Result<(), FrameError> {
        let offered = usize::try_from(lease.procedure).is_ok_and(|place| place < self.offer.procedures.len());
        if !offered {
            return Err(FrameError::Field("procedure"));
        }
        if self.held.len() >= self.slots_most.saturating_add(LEASES_BEYOND_SLOTS) {
            return Err(FrameError::Field("number of leases"));
        }
        self.hold(HeldLease { call: lease.call, lease: lease.lease });
        events.push(Event::Lease(lease));
        Ok(())
    }

    /// Keeps a report until it is answered. One about a lease that is not held is sent all the same: the broker says
    /// that it is stale.
    fn report(&mut self, report: Report, up: Option<&mut Outbound>) {
        let report = self.fitting(report);
        if let Some(outbound) = up {
            if self.tells_progress
                && let Some(held) = self.held.get_mut(&report.lease)
            {
                held.pass_on(outbound);
            }
            outbound.report(&report);
        }
        if let Some(held) = self.held.get_mut(&report.lease) {
            if held.report.is_none() {
                self.running -= 1;
            }
            held.report = Some(report);
        }
    }

    /// A reply that the broker would not take ends the call instead of being tried again and again.
    fn fitting(&self, report: Report) -> Report {
        let bytes = match &report.settlement {
            Settlement::Succeed(payload) => payload.bytes.len(),
            Settlement::Fail(failure) | Settlement::Retry(failure) | Settlement::Bury(failure) => {
                failure.details.as_ref().map_or(0, |details| details.bytes.len())
            }
            Settlement::Release | Settlement::Stop => 0,
        };
        if bytes <= self.payload_bytes_max {
            return report;
        }
        Report { settlement: crate::oversized_settlement(bytes, self.payload_bytes_max), ..report }
    }
}

impl Side for WorkerSide {
    fn offer(&mut self) -> Option<Offer> {
        self.slots_offered = self.offer.slots;
        let mut held: Vec<&Held> = self.held.values().map(|held| &**held).collect();
        held.sort_unstable_by_key(|held| held.sequence);
        let held = held.into_iter().map(|held| held.lease).collect();
        Some(Offer { held, ..self.offer.clone() })
    }

    fn restore(&mut self, outbound: &mut Outbound, up: &Up<'_>, _events: &mut Vec<Event>) {
        self.payload_bytes_max = usize::try_from(up.welcome.payload_bytes_max).unwrap_or(usize::MAX);
        let kept: HashSet<LeaseTag, FxBuildHasher> = up.kept.iter().copied().collect();
        // What runs under a lease that is not kept is stale, as the sink learns from the same list. A report stays until
        // it is answered: the broker may have recorded it before the connection broke.
        self.held.retain(|lease, held| held.report.is_some() || kept.contains(lease));
        self.running = self.held.values().filter(|held| held.report.is_none()).count();
        self.tells_progress = up.welcome.features & crate::feature::PROGRESS != 0;
        if self.tells_progress {
            self.held.values_mut().for_each(|held| held.pass_on(outbound));
        }
        let mut reports: Vec<(u64, &Report)> =
            self.held.values().filter_map(|held| Some((held.sequence, held.report.as_ref()?))).collect();
        reports.sort_unstable_by_key(|(sequence, _)| *sequence);
        for (_, report) in reports {
            outbound.report(report);
        }
        let credit = i64::from(self.offer.slots) - i64::from(self.slots_offered);
        if credit != 0 {
            let credit = i32::try_from(credit).unwrap_or(if credit > 0 { i32::MAX } else { i32::MIN });
            outbound.credit(credit);
        }
        if self.draining {
            outbound.drain();
        }
    }

    fn take(
        &mut self,
        arrival: Arrival<'_>,
        outbound: &mut Outbound,
        events: &mut Vec<Event>,
    ) -> Result<(), FrameError> {
        match arrival {
            Arrival::Frame(Frame::Event(Event::Lease(lease))) => self.leased(lease, events)?,
            Arrival::Frame(Frame::Settled(leases)) => leases.for_each(|lease| {
                self.let_go(lease);
                events.push(Event::Settled { lease });
            }),
            Arrival::Frame(Frame::Stale(leases)) => leases.for_each(|lease| {
                self.let_go(lease);
                events.push(Event::Stale { lease });
            }),
            Arrival::Frame(Frame::CancelAsked(leases)) => {
                events.extend(leases.map(|lease| Event::CancelAsked { lease }));
            }
            Arrival::Frame(Frame::Resumed(leases)) => events.extend(leases.map(|lease| Event::Resumed { lease })),
            Arrival::Frame(Frame::Event(Event::DrainAsked)) => events.push(Event::DrainAsked),
            Arrival::Oversized(Frame::Event(Event::Lease(lease)), bytes) => {
                let text = format!("the arguments have {bytes} bytes, more than this worker takes");
                let settlement = Settlement::Bury(Failure::new(Code::ResourceExhausted, text));
                outbound.report(&Report { lease: lease.lease, call: lease.call, settlement });
            }
            _ => return Err(FrameError::Field("kind for a worker")),
        }
        Ok(())
    }

    fn became_writable(&mut self, outbound: &Outbound) -> bool {
        let writable = self.starved && outbound.bytes() <= self.unsent_bytes_max / 2;
        self.starved &= !writable;
        writable
    }

    fn lost(&mut self) -> bool {
        true
    }
}

pub(super) struct RemoteWorker(pub(super) Arc<Line<WorkerSide>>);

impl Worker for RemoteWorker {
    fn credit(&self, slots: i32) {
        let mut guard = self.0.state();
        let state = &mut *guard;
        let offer = &mut state.side.offer;
        offer.slots = offer.slots.saturating_add_signed(slots);
        state.side.slots_most = state.side.slots_most.max(usize::try_from(offer.slots).unwrap_or(usize::MAX));
        if state.is_up() {
            state.outbound.credit(slots);
        }
        self.0.send(guard, false);
    }

    fn report(&self, reports: &mut Vec<Report>) {
        let mut guard = self.0.state();
        if guard.closing {
            return;
        }
        let state = &mut *guard;
        let up = state.is_up();
        // Reports are as many as leases at most; only their bytes are bounded here.
        let mut unsent = state.outbound.bytes();
        let mut fits = |report: &&Report| {
            let room = unsent < state.side.unsent_bytes_max;
            if let Settlement::Succeed(payload) = &report.settlement {
                unsent += payload.bytes.len();
            }
            room
        };
        let count = reports.iter().take_while(|report| fits(report)).count();
        for report in reports.drain(..count) {
            state.side.report(report, up.then_some(&mut state.outbound));
        }
        state.side.starved |= !reports.is_empty();
        let alone = count == 1 && state.side.running == 0;
        self.0.send(guard, alone);
    }

    fn extend(&self, leases: &[LeaseTag]) {
        let mut guard = self.0.state();
        let state = &mut *guard;
        // While the line is down there is nothing to say: coming back prolongs what is kept.
        if state.is_up() {
            leases.iter().for_each(|lease| state.outbound.extend(*lease));
            self.0.send(guard, false);
        }
    }

    fn park(&self, lease: LeaseTag, awaits: Option<CallId>) {
        let mut guard = self.0.state();
        // While the line is down there is nothing to say: what waits is said again when it is back.
        if guard.is_up() {
            guard.outbound.park(lease, awaits);
            self.0.send(guard, false);
        }
    }

    fn resume(&self, lease: LeaseTag) {
        let mut guard = self.0.state();
        if guard.is_up() {
            guard.outbound.resume(lease);
            self.0.send(guard, false);
        }
    }

    fn drain(&self) {
        let mut guard = self.0.state();
        let state = &mut *guard;
        state.side.draining = true;
        if state.is_up() {
            state.outbound.drain();
        }
        self.0.send(guard, false);
    }

    fn progress(&self, told: &mut Vec<ProgressReport>) {
        let mut guard = self.0.state();
        let state = &mut *guard;
        let up = state.is_up();
        let side = &mut state.side;
        for ProgressReport { lease, payload, .. } in told.drain(..) {
            let room = state.outbound.bytes() < side.unsent_bytes_max;
            if let Some(held) = side.held.get_mut(&lease).filter(|held| held.report.is_none()) {
                held.tell(payload);
                if up && room && side.tells_progress {
                    held.pass_on(&mut state.outbound);
                }
            }
        }
        self.0.send(guard, false);
    }
}

impl Drop for RemoteWorker {
    fn drop(&mut self) {
        self.0.close();
    }
}
