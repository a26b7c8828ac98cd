//! What a server may take, and how patient it is.

use antiphon_embedded::DriverOptions;
use antiphon_protocol::defaults;
use std::time::Duration;

/// Bounds and patience of a server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerOptions {
    /// What is kept, and where.
    pub driver: DriverOptions,
    /// How many connections at a time; 10,000.
    pub connections_max: usize,
    /// How many of them before their handshake is done; 1,024. More is a flood, not a crowd.
    pub greeting_max: usize,
    /// How long a handshake may take, a worker's offer included; 5 s.
    pub handshake_timeout: Duration,
    /// A connection that is silent for this long is pinged, after twice this long it is closed; 15 s.
    pub heartbeat: Duration,
    /// A peer that has more than this to read is not read from; 8 MiB.
    pub unsent_bytes_max: usize,
    /// How long such a peer may read nothing before it is closed; 10 s.
    pub write_timeout: Duration,
    /// How long stopping may take to tell everybody; 1 s.
    pub farewell: Duration,
    /// How long to poll before the thread sleeps, where there are at least two processors and something has come as soon
    /// as that again and again: saves the wake of an idle processor; 50 µs. 0 never does, and leaves the core to others.
    pub spin: Duration,
}

impl ServerOptions {
    /// The defaults over this driver.
    #[must_use]
    pub fn new(driver: DriverOptions) -> Self {
        Self {
            driver,
            connections_max: 10_000,
            greeting_max: 1_024,
            handshake_timeout: Duration::from_secs(5),
            heartbeat: Duration::from_millis(defaults::HEARTBEAT_MS as u64),
            unsent_bytes_max: 8 << 20,
            write_timeout: Duration::from_secs(10),
            farewell: Duration::from_secs(1),
            spin: Duration::from_micros(50),
        }
    }
}

/// Who may be listened to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ListenOptions {
    /// Whether to listen, without encryption or authentication, where other machines can connect.
    pub insecure: bool,
}

impl ListenOptions {
    /// Listens where other machines can connect.
    #[must_use]
    pub const fn insecure() -> Self {
        Self { insecure: true }
    }
}
