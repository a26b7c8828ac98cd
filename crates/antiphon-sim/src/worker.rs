//! A worker: the leases it holds and the reports that are not answered yet. A lease it is not told to be stale it goes
//! on running, however late: that is what zombies do.

use crate::action::How;
use crate::history::Seen;
use crate::link::Up;
use crate::routes::{self, name, procedure};
use antiphon_broker::{Event, Lease, ProgressReport, Report};
use antiphon_protocol::{
    CallId, Code, Failure, HeldLease, IncarnationId, LeaseTag, Offer, OfferedProcedure, Payload, Settlement,
};

/// An attempt that runs here, or whose report is not answered.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub call: CallId,
    pub lease: LeaseTag,
    pub attempt: u16,
    pub stop_asked: bool,
    pub report: Option<Report>,
    pub waits: Waits,
}

/// Whether a procedure waits for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// It runs.
    No,
    Now,
    /// It wants to go on.
    Over,
}

impl Held {
    fn is_running(&self, call: CallId) -> bool {
        self.call == call && self.report.is_none() && self.waits == Waits::No
    }
}

/// One worker; its lives share the place.
#[derive(Debug)]
pub(crate) struct Worker {
    pub place: u8,
    pub life: u32,
    procedures: u8,
    pub slots: u32,
    pub held: Vec<Held>,
    pub paused: bool,
    pub draining: bool,
    told: u32,
}

impl Worker {
    pub fn new(place: u8, life: u32, procedures: u8, slots: u32) -> Self {
        Self { place, life, procedures, slots, held: Vec::new(), paused: false, draining: false, told: 0 }
    }

    pub fn incarnation(&self) -> IncarnationId {
        let mut id = [0x0A; 16];
        id[0] = self.place;
        id[1..5].copy_from_slice(&self.life.to_le_bytes());
        IncarnationId(id)
    }

    pub fn offer(&self) -> Offer {
        // Which procedures a worker serves follows from its place; the first serves all.
        let serves = |number: &u8| self.place == 0 || !(self.place + number).is_multiple_of(3);
        let offered = |number| OfferedProcedure { name: procedure(number), idempotent: number != 1, schema: None };
        let mut procedures: Vec<_> = (0..self.procedures).filter(serves).map(offered).collect();
        let made =
            (1..=routes::SUBSCRIPTIONS).map(routes::subscriber).chain((1..=routes::SCHEDULES).map(routes::ticked));
        procedures.extend(made.map(|name| OfferedProcedure { name, idempotent: false, schema: None }));
        // The first worker has all labels.
        let has = |number: &u8| self.place.is_multiple_of(number + 1);
        Offer {
            incarnation: self.incarnation(),
            name: name(&format!("w{}-{}", self.place, self.life)),
            procedures,
            slots: self.slots,
            labels: (1..=2).filter(has).map(routes::label).collect(),
            held: self.held.iter().map(|held| HeldLease { call: held.call, lease: held.lease }).collect(),
        }
    }

    /// Ends the attempt of this call, if it runs here and was not ended.
    pub fn finish(&mut self, call: CallId, how: How, seen: &mut Vec<Seen>) -> Option<Up> {
        let worker = self.place;
        let held = self.held.iter_mut().rev().find(|held| held.is_running(call))?;
        let text = format!("{how:?} of {call} by {} attempt {}", held.lease.token, held.attempt);
        seen.push(Seen::Reported { worker, id: call, lease: held.lease, how, text: text.clone() });
        let settlement = match how {
            How::Succeed => Settlement::Succeed(Payload::raw(text)),
            How::Fail => Settlement::Fail(Failure::new(Code::InvalidArgument, text)),
            How::Retry => Settlement::Retry(Failure::new(Code::Unavailable, text)),
            How::RetryAfter(ms) => {
                Settlement::Retry(Failure::new(Code::Unavailable, text).retry_after_ms(u32::from(ms)))
            }
            How::Bury => Settlement::Bury(Failure::new(Code::Unimplemented, text)),
            How::Release => Settlement::Release,
            How::Stop => Settlement::Stop,
        };
        let report = Report { lease: held.lease, call, settlement };
        held.report = Some(report.clone());
        Some(Up::Report(report))
    }

    /// The attempts that run here: the worker's place, the call, whether it was asked to stop.
    pub fn running(&self) -> Vec<(u8, CallId, bool)> {
        let running = self.held.iter().filter(|held| held.report.is_none() && held.waits == Waits::No);
        running.map(|held| (self.place, held.call, held.stop_asked)).collect()
    }

    pub fn extend(&self, call: CallId) -> Option<Up> {
        self.held.iter().find(|held| held.call == call && held.report.is_none()).map(|held| Up::Extend(held.lease))
    }

    pub fn credit(&mut self, slots: i32) -> Up {
        self.slots = self.slots.saturating_add_signed(slots);
        Up::Credit(slots)
    }

    /// The procedure of this call waits for something.
    pub fn park(&mut self, call: CallId) -> Option<Up> {
        let held = self.held.iter_mut().find(|held| held.is_running(call))?;
        held.waits = Waits::Now;
        Some(Up::Park(held.lease))
    }

    /// It has waited.
    pub fn go_on(&mut self, call: CallId) -> Option<Up> {
        let held = self.held.iter_mut().find(|held| held.call == call && held.waits == Waits::Now)?;
        held.waits = Waits::Over;
        Some(Up::GoOn(held.lease))
    }

    /// Those that wait.
    pub fn waiting(&self) -> Vec<(u8, CallId)> {
        self.held.iter().filter(|held| held.waits == Waits::Now).map(|held| (self.place, held.call)).collect()
    }

    /// A running call tells how far it is.
    pub fn tell(&mut self, call: CallId, seen: &mut Vec<Seen>) -> Option<Up> {
        let lease = self.held.iter().find(|held| held.is_running(call))?.lease;
        self.told += 1;
        let text = format!("{} of {}", self.told, lease.token);
        seen.push(Seen::Told { id: call, payload: text.clone().into_bytes() });
        Some(Up::Tell(ProgressReport { lease, call, payload: Payload::raw(text) }))
    }

    /// Takes an event; what it answers with.
    pub fn take(&mut self, event: Event, seen: &mut Vec<Seen>) -> Vec<Up> {
        let worker = self.place;
        match event {
            Event::Up { kept, epoch } => {
                seen.push(Seen::Epoch { epoch });
                seen.push(Seen::Kept { worker, leases: kept.clone() });
                self.held.retain(|held| held.report.is_some() || kept.contains(&held.lease));
                let again = |held: &Held| match (&held.report, held.waits) {
                    (Some(report), _) => Some(Up::Report(report.clone())),
                    (None, Waits::Over) => Some(Up::GoOn(held.lease)),
                    (None, _) => None,
                };
                return self.held.iter().filter_map(again).collect();
            }
            Event::Lease(lease) => self.begin(lease, seen),
            Event::Resumed { lease } => {
                if let Some(held) = self.held.iter_mut().find(|held| held.lease == lease) {
                    held.waits = Waits::No;
                }
            }
            Event::CancelAsked { lease } => {
                if let Some(held) = self.held.iter_mut().find(|held| held.lease == lease) {
                    held.stop_asked = true;
                }
            }
            Event::Settled { lease } => {
                if let Some(id) = self.let_go(lease) {
                    seen.push(Seen::Settled { worker, id, lease });
                }
            }
            Event::Stale { lease } => {
                if let Some(id) = self.let_go(lease) {
                    seen.push(Seen::Stale { worker, id, lease });
                }
            }
            _ => {}
        }
        Vec::new()
    }

    fn begin(&mut self, lease: Lease, seen: &mut Vec<Seen>) {
        let Lease { lease, call, attempt, attempts_max, deadline_ms, payload, .. } = lease;
        let (worker, payload) = (self.place, payload.bytes.to_vec());
        seen.push(Seen::Began { worker, id: call, lease, attempt, attempts_max, payload, deadline_ms });
        self.held.push(Held { call, lease, attempt, stop_asked: false, report: None, waits: Waits::No });
    }

    fn let_go(&mut self, lease: LeaseTag) -> Option<CallId> {
        let at = self.held.iter().position(|held| held.lease == lease)?;
        Some(self.held.remove(at).call)
    }
}
