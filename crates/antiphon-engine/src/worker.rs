//! The table of workers and of who serves which procedure.

use crate::call::NONE;
use crate::effect::Peer;
use alloc::vec::Vec;
use antiphon_protocol::{IncarnationId, Name};
use hashbrown::{DefaultHashBuilder, HashMap};

/// One life of a worker. It lives while it is connected or holds a lease.
pub(crate) struct Worker {
    pub incarnation: IncarnationId,
    pub name: Name,
    pub peer: Option<Peer>,
    pub offers: Vec<Offered>,
    pub slots: u32,
    /// Slots taken away by negative credit, or given beyond the offer.
    pub credit: i64,
    /// Leases it holds, by index.
    pub leases: Vec<u32>,
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
    /// Whether the worker stands in the procedure's ring.
    pub in_ring: bool,
}

impl Worker {
    /// Slots that may be leased: derived from the leases there are, never stored beside them.
    pub fn free(&self) -> u32 {
        if self.peer.is_none() || self.draining {
            return 0;
        }
        let room = i64::from(self.slots) + self.credit - i64::try_from(self.leases.len()).unwrap_or(i64::MAX);
        u32::try_from(room.max(0)).unwrap_or(u32::MAX)
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
            leases: Vec::new(),
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

    pub fn iter(&self) -> impl Iterator<Item = &Worker> {
        self.slots.iter().flatten()
    }
}
