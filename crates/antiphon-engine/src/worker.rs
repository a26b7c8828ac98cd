//! The table of workers and of who serves which procedure.

use crate::Now;
use crate::call::NONE;
use crate::effect::Peer;
use crate::planted::planted;
use crate::section::Needs;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use antiphon_protocol::{IncarnationId, LeaseTag, Name, Shape};
use hashbrown::{DefaultHashBuilder, HashMap};

/// One life of a worker. It lives while it is connected or holds a lease.
pub(crate) struct Worker {
    pub incarnation: IncarnationId,
    pub name: Name,
    pub peer: Option<Peer>,
    pub offers: Vec<Offered>,
    /// What it is or has, in order.
    pub labels: Vec<Name>,
    /// The sections it can take from.
    pub serves: Vec<Served>,
    pub slots: u32,
    /// Slots taken away by negative credit, or given beyond the offer.
    pub credit: i64,
    /// Leases it holds, by index.
    pub leases: Vec<u32>,
    /// Slots that its leases take: derived from those, never journaled.
    pub used: u32,
    /// How many of its leases are parked or want to go on.
    pub parked: u32,
    /// Leases that want to go on, in the order in which they asked.
    pub resuming: VecDeque<LeaseTag>,
    /// The first of those waits for slots: nothing else gets any.
    pub blocked: bool,
    /// The section for a call of which it keeps slots free.
    pub reserved: u32,
    /// Failures of late, in 1024ths, as they counted at this time.
    failing: (u32, u64),
    /// The lease of the suspect it runs.
    pub suspect: u32,
    pub draining: bool,
    /// Whose turn it is among its procedures.
    pub turn: usize,
    pub settled: u64,
    pub failed: u64,
}

/// A procedure that a worker serves.
pub(crate) struct Offered {
    pub procedure: u32,
    pub idempotent: bool,
    /// The shape of the arguments it takes; `None` takes whatever comes.
    pub shape: Option<Shape>,
}

/// A section that a worker can take from.
pub(crate) struct Served {
    pub section: u32,
    /// Whether the worker stands in the section's ring.
    pub in_ring: bool,
}

/// Failures count half after this long: a worker that has come to itself is soon tried again.
const FAILING_HALF_MS: u64 = 5_000;
/// As many as are forgotten within a minute.
const FAILING_MAX: u32 = 64 << 10;

impl Worker {
    /// Slots that may be leased.
    pub fn free(&self) -> u32 {
        if self.peer.is_none() || (self.draining && !planted!("drain ignored")) || self.blocked {
            return 0;
        }
        u32::try_from(self.room().max(0)).unwrap_or(u32::MAX)
    }

    /// Slots that no lease takes; fewer than none after slots were taken away.
    pub fn room(&self) -> i64 {
        i64::from(self.slots) + self.credit - i64::from(self.used)
    }

    /// Slots that it has in all.
    pub fn total(&self) -> u32 {
        u32::try_from((i64::from(self.slots) + self.credit).max(0)).unwrap_or(u32::MAX)
    }

    /// About how many attempts have failed here of late.
    pub fn failures(&self, now: Now) -> u32 {
        self.failing_now(now) >> 10
    }

    fn failing_now(&self, now: Now) -> u32 {
        let (failing, at_ms) = self.failing;
        let halves = now.monotonic_ms.saturating_sub(at_ms) / FAILING_HALF_MS;
        failing.checked_shr(u32::try_from(halves).unwrap_or(u32::MAX)).unwrap_or(0)
    }

    /// An attempt has ended here: a failure counts one, a success makes what counted an eighth less.
    pub fn note_end(&mut self, failed: bool, now: Now) {
        let before = self.failing_now(now);
        let after = if failed { (before + (1 << 10)).min(FAILING_MAX) } else { before - before / 8 };
        self.failing = (after, if after == 0 { 0 } else { now.monotonic_ms });
    }

    /// Whether it may be given leases at all: it is connected and does not drain.
    pub fn is_open(&self) -> bool {
        self.peer.is_some() && !self.draining
    }

    /// Its slots, leased or not, while it may be given leases.
    pub fn capacity(&self) -> u64 {
        let slots = i64::from(self.slots).saturating_add(self.credit);
        if self.is_open() { u64::try_from(slots).unwrap_or(0) } else { 0 }
    }

    /// Whether it serves the procedure with a schema that takes arguments of this shape.
    pub fn understands(&self, procedure: u32, needs: &Needs) -> bool {
        self.offered(procedure).is_some_and(|(_, offered)| needs.fit(offered.shape.as_ref()))
    }

    pub fn offered(&self, procedure: u32) -> Option<(u32, &Offered)> {
        let place = self.offers.iter().position(|offer| offer.procedure == procedure)?;
        Some((u32::try_from(place).ok()?, self.offers.get(place)?))
    }
}

/// All workers.
#[derive(Default)]
pub(crate) struct Workers {
    slots: Vec<Option<Worker>>,
    free: Vec<u32>,
    incarnations: HashMap<IncarnationId, u32, DefaultHashBuilder>,
}

impl Workers {
    pub fn find(&self, incarnation: IncarnationId) -> Option<u32> {
        self.incarnations.get(&incarnation).copied()
    }

    /// The place of this life of a worker, made if it is not known.
    pub fn open(&mut self, incarnation: IncarnationId, name: Name) -> u32 {
        if let Some(place) = self.find(incarnation) {
            return place;
        }
        let worker = Worker {
            incarnation,
            name,
            peer: None,
            offers: Vec::new(),
            slots: 0,
            credit: 0,
            labels: Vec::new(),
            serves: Vec::new(),
            leases: Vec::new(),
            used: 0,
            parked: 0,
            resuming: VecDeque::new(),
            blocked: false,
            reserved: NONE,
            failing: (0, 0),
            suspect: NONE,
            draining: false,
            turn: 0,
            settled: 0,
            failed: 0,
        };
        let place = match self.free.pop() {
            Some(place) => {
                if let Some(slot) = self.slots.get_mut(place as usize) {
                    *slot = Some(worker);
                }
                place
            }
            None => {
                self.slots.push(Some(worker));
                u32::try_from(self.slots.len() - 1).expect("fewer workers than connections and leases")
            }
        };
        self.incarnations.insert(incarnation, place);
        place
    }

    pub fn get(&self, place: u32) -> Option<&Worker> {
        self.slots.get(place as usize).and_then(Option::as_ref)
    }

    pub fn get_mut(&mut self, place: u32) -> Option<&mut Worker> {
        self.slots.get_mut(place as usize).and_then(Option::as_mut)
    }

    pub fn remove(&mut self, place: u32) {
        if let Some(worker) = self.slots.get_mut(place as usize).and_then(Option::take) {
            self.incarnations.remove(&worker.incarnation);
            self.free.push(place);
        }
    }

    /// The places of all workers.
    pub fn places(&self) -> Vec<u32> {
        (0..).zip(&self.slots).filter(|(_, worker)| worker.is_some()).map(|(place, _)| place).collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Worker> {
        self.slots.iter().flatten()
    }
}
