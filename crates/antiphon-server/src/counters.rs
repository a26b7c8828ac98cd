//! What the server counts: connections and bytes. Calls are counted by the engine.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What a server counted since it started, but for `connections`, which is how many there are.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        #[non_exhaustive]
        pub struct Counters { $($(#[$doc])* pub $name: u64,)* }

        /// The same, written by the turn's thread and read by any.
        #[derive(Debug, Default)]
        pub(crate) struct LiveCounters { $(pub(crate) $name: AtomicU64,)* }

        impl LiveCounters {
            pub(crate) fn read(&self) -> Counters {
                Counters { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Connections that are open.
    connections,
    /// Connections accepted.
    accepted,
    /// Connections refused: too many, a wrong version, a late handshake, not an Antiphon peer.
    refused,
    /// Connections closed because their peer sent what is not allowed.
    malformed,
    /// Connections closed because their peer was silent.
    silent,
    /// Connections closed because their peer did not read.
    unread,
    /// Accepting failed, for want of file descriptors mostly.
    accept_errors,
    /// Payloads refused because they were too large.
    oversized,
    /// Bytes read.
    bytes_in,
    /// Bytes written.
    bytes_out,
}

pub(crate) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(u64::try_from(count).unwrap_or(0), Ordering::Relaxed);
}
