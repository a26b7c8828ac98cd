//! How much waits, of each procedure and of each tenant of it: calls that are scheduled or ready, and the bytes of
//! their arguments. Counted as calls come and go, because the door asks for every submission.

use crate::Engine;
use alloc::vec::Vec;
use hashbrown::{DefaultHashBuilder, HashMap};

/// Calls that wait, and the bytes of their arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Waiting {
    pub calls: u64,
    pub bytes: u64,
}

impl Waiting {
    pub fn add(&mut self, bytes: u32) {
        self.calls += 1;
        self.bytes += u64::from(bytes);
    }

    fn subtract(&mut self, bytes: u32) {
        self.calls = self.calls.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(u64::from(bytes));
    }
}

/// What waits of each tenant of each procedure. Accounts are not forgotten; there are no more than lines.
#[derive(Default)]
pub(crate) struct Accounts {
    all: Vec<Waiting>,
    index: HashMap<(u32, u32), u32, DefaultHashBuilder>,
}

impl Accounts {
    /// The account of a tenant of a procedure; looked up once a route, not once a call.
    pub fn open(&mut self, procedure: u32, tenant: u32) -> u32 {
        let next = u32::try_from(self.all.len()).expect("fewer accounts than lines");
        let place = *self.index.entry((procedure, tenant)).or_insert(next);
        if place == next {
            self.all.push(Waiting::default());
        }
        place
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn get(&self, place: u32) -> Waiting {
        self.all.get(place as usize).copied().unwrap_or_default()
    }

    fn get_mut(&mut self, place: u32) -> &mut Waiting {
        self.all.get_mut(place as usize).expect("accounts are never removed")
    }
}

impl Engine {
    /// The call waits from now on.
    pub(crate) fn begin_wait(&mut self, index: u32) {
        let call = self.calls.get(index);
        let (route, bytes) = (self.routes.get(call.route), call.bytes);
        self.accounts.get_mut(route.account).add(bytes);
        self.procedures.get_mut(route.procedure).waiting.add(bytes);
    }

    /// The call waits no more; to be said before its bytes change.
    pub(crate) fn end_wait(&mut self, index: u32) {
        let call = self.calls.get(index);
        let (route, bytes) = (self.routes.get(call.route), call.bytes);
        self.accounts.get_mut(route.account).subtract(bytes);
        self.procedures.get_mut(route.procedure).waiting.subtract(bytes);
    }
}
