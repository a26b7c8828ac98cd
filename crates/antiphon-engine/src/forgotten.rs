//! The ids of calls forgotten last, so that they are not taken for ids that never were. A table of fixed size: a newer
//! id takes the place of an older one, of which it then cannot be said any more what it was.

use alloc::vec::Vec;
use antiphon_protocol::CallId;

/// How many ids there is room for: 1 MiB, taken when the first call is forgotten.
const PLACES: usize = 1 << 16;

/// Ids forgotten not long ago.
#[derive(Default)]
pub(crate) struct Forgotten {
    places: Vec<u128>,
}

impl Forgotten {
    pub fn insert(&mut self, id: CallId) {
        if self.places.is_empty() {
            self.places = alloc::vec![0; PLACES];
        }
        let id = number(id);
        if let Some(place) = self.places.get_mut(place_of(id)) {
            *place = id;
        }
    }

    pub fn contains(&self, id: CallId) -> bool {
        let id = number(id);
        id != 0 && self.places.get(place_of(id)) == Some(&id)
    }
}

fn number(id: CallId) -> u128 {
    u128::from_le_bytes(id.to_bytes())
}

fn place_of(id: u128) -> usize {
    let folded = (id as u64) ^ ((id >> 64) as u64);
    (folded.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48) as usize
}
