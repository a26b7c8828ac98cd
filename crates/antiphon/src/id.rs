//! Makes call ids: the wall clock and a generator that is seeded once, so that no id costs a system call.

use antiphon_protocol::CallId;
use std::time::{SystemTime, UNIX_EPOCH};

/// A source of call ids, xoroshiro128++ (Blackman and Vigna, <https://prng.di.unimi.it/xoroshiro128plusplus.c>)
/// behind the clock. Ids need to differ, not to be secret.
pub(crate) struct IdSource {
    low: u64,
    high: u64,
    /// When the last id was made.
    made_ms: u64,
}

impl IdSource {
    pub(crate) fn new() -> Self {
        let seed: [u8; 16] = random();
        let [low, high] = halves(seed);
        // All zeros is the one state the generator never leaves.
        Self { low: low | 1, high, made_ms: 0 }
    }

    pub(crate) fn next_id(&mut self) -> CallId {
        self.made_ms = unix_ms();
        self.next_id_with_the_last()
    }

    /// An id of the time of the last one: for calls that are gathered with it, which saves looking at the clock.
    pub(crate) fn next_id_with_the_last(&mut self) -> CallId {
        if self.made_ms == 0 {
            self.made_ms = unix_ms();
        }
        let [a, b, ..] = self.next_word().to_le_bytes();
        let [c, d, e, f, g, h, i, j] = self.next_word().to_le_bytes();
        CallId::new(self.made_ms, [a, b, c, d, e, f, g, h, i, j])
    }

    fn next_word(&mut self) -> u64 {
        let (low, high) = (self.low, self.high);
        let word = low.wrapping_add(high).rotate_left(17).wrapping_add(low);
        let mixed = high ^ low;
        self.low = low.rotate_left(49) ^ mixed ^ (mixed << 21);
        self.high = mixed.rotate_left(28);
        word
    }
}

fn halves(bytes: [u8; 16]) -> [u64; 2] {
    let both = u128::from_le_bytes(bytes);
    let low = u64::try_from(both & u128::from(u64::MAX)).expect("masked to 64 bits");
    let high = u64::try_from(both >> 64).expect("64 bits are left");
    [low, high]
}

/// Bytes from the operating system.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    bytes
}

/// The wall clock, in milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::IdSource;
    use std::collections::HashSet;

    #[test]
    fn ids_differ_within_a_source_and_between_sources() {
        let (mut one, mut other) = (IdSource::new(), IdSource::new());
        let ids: HashSet<_> = (0..10_000).flat_map(|_| [one.next_id(), other.next_id()]).collect();
        assert_eq!(ids.len(), 20_000);
    }
}
