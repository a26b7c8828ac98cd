//! Idempotency keys: which call a key of a procedure stands for.

use crate::planted::planted;
use antiphon_protocol::Key;
use hashbrown::{DefaultHashBuilder, HashMap};

/// All remembered keys.
#[derive(Default)]
pub(crate) struct Keyed {
    calls: HashMap<(u32, Key), u32, DefaultHashBuilder>,
}

impl Keyed {
    /// The call that the key of this procedure stands for.
    pub fn find(&self, procedure: u32, key: &Key) -> Option<u32> {
        let any = |((_, other), call): (&(u32, Key), &u32)| (other == key).then_some(*call);
        let elsewhere = if planted!("keys of all procedures are one") { self.calls.iter().find_map(any) } else { None };
        elsewhere.or_else(|| self.calls.get(&(procedure, key.clone())).copied())
    }

    pub fn insert(&mut self, procedure: u32, key: Key, call: u32) {
        self.calls.insert((procedure, key), call);
    }

    /// Frees the key, if it stands for this call.
    pub fn remove(&mut self, procedure: u32, key: &Key, call: u32) {
        if self.find(procedure, key) == Some(call) {
            self.calls.remove(&(procedure, key.clone()));
        }
    }

    pub fn len(&self) -> usize {
        self.calls.len()
    }
}
