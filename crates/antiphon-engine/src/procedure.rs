//! The table of procedures: each one's sections, what holds for it, and the outcomes it keeps.

use crate::Limits;
use crate::effect::Handle;
use crate::meter::Meter;
use crate::rule::Ruled;
use crate::terms::Terms;
use crate::waiting::Waiting;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use antiphon_protocol::{Name, State};
use hashbrown::{DefaultHashBuilder, HashMap};

/// What belongs to one procedure.
pub(crate) struct Procedure {
    pub name: Name,
    /// Its ready calls, by what they need of a worker.
    pub sections: Vec<u32>,
    pub terms: Terms,
    pub meter: Meter,
    /// Calls that wait for the budget of retries: index and stamp.
    pub held: VecDeque<(u32, u32)>,
    /// Slots of the connected workers that serve it and do not drain.
    pub slots: u64,
    /// Leases of its calls that take slots: derived from those, never journaled.
    pub running: u32,
    /// What operators rule about it, if they do.
    pub ruled: Option<Box<Ruled>>,
    /// Workers with a call of it that wants to go on, but may not because as many run as may.
    pub resuming: Vec<u32>,
    /// Calls by state.
    pub counts: [u64; 8],
    /// What of them waits.
    pub waiting: Waiting,
    /// Calls of it that the callbacks of unsettled ones may become.
    pub reserved: u64,
    /// Settled calls in the order they settled: index and generation.
    pub settled: VecDeque<(u32, u32)>,
    /// Dead letters, likewise; entries of those that were purged are void.
    pub dead: VecDeque<(u32, u32)>,
    /// How many of them are not void.
    pub dead_kept: u32,
    /// Settled calls with an idempotency key, likewise.
    pub keyed: VecDeque<(u32, u32)>,
    pub settled_bytes: u64,
    /// Calls settled since the start.
    pub total: u64,
}

/// All procedures. They are not removed: their number is bounded by that of routes and offers.
#[derive(Default)]
pub(crate) struct Procedures {
    all: Vec<Procedure>,
    index: HashMap<Name, u32, DefaultHashBuilder>,
    /// Where the settings of procedures are recorded.
    pub configured: HashMap<Handle, u32, DefaultHashBuilder>,
}

impl Procedures {
    pub fn find(&self, name: &str) -> Option<u32> {
        self.index.get(name).copied()
    }

    pub fn open(&mut self, name: &Name, limits: &Limits) -> u32 {
        if let Some(place) = self.find(name) {
            return place;
        }
        let place = u32::try_from(self.all.len()).expect("fewer procedures than routes and offers");
        self.all.push(Procedure {
            name: name.clone(),
            sections: Vec::new(),
            terms: Terms::new(limits),
            meter: Meter::default(),
            held: VecDeque::new(),
            slots: 0,
            running: 0,
            ruled: None,
            resuming: Vec::new(),
            counts: [0; 8],
            waiting: Waiting::default(),
            reserved: 0,
            settled: VecDeque::new(),
            dead: VecDeque::new(),
            dead_kept: 0,
            keyed: VecDeque::new(),
            settled_bytes: 0,
            total: 0,
        });
        self.index.insert(name.clone(), place);
        place
    }

    pub fn get(&self, place: u32) -> &Procedure {
        self.all.get(place as usize).expect("procedures are never removed")
    }

    pub fn get_mut(&mut self, place: u32) -> &mut Procedure {
        self.all.get_mut(place as usize).expect("procedures are never removed")
    }

    pub fn iter(&self) -> impl Iterator<Item = &Procedure> {
        self.all.iter()
    }

    pub fn len(&self) -> u32 {
        u32::try_from(self.all.len()).expect("fewer procedures than routes and offers")
    }
}

impl Procedure {
    pub fn count(&mut self, state: State, by: i64) {
        if let Some(count) = self.counts.get_mut(state as usize) {
            *count = count.saturating_add_signed(by);
        }
    }
}
