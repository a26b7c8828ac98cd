//! What a remote broker's connections may take, and how patient they are.

use super::carrier::Connect;
use core::time::Duration;
use std::sync::Arc;

/// Bounds and patience of connections to a broker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RemoteOptions {
    /// How many bytes may wait to be sent on one connection; 8 MiB. More in flight is slower, not faster.
    pub unsent_bytes_max: usize,
    /// How many bytes of submissions a caller keeps to send again until they are answered; 64 MiB.
    pub kept_bytes_max: usize,
    /// The largest payload taken from the broker, whatever it says; 64 MiB.
    pub payload_bytes_max: u32,
    /// How long connecting and the handshake may take; 5 s.
    pub open_timeout: Duration,
    /// Bound of the wait before the first attempt to reconnect; doubled each time; 50 ms.
    pub backoff_first: Duration,
    /// The largest bound of that wait; 5 s.
    pub backoff_max: Duration,
    /// A connection that is silent for this long is pinged, after twice this long it is closed; `None` takes the
    /// broker's word.
    pub heartbeat: Option<Duration>,
    /// Whether a submission or report that is alone is written by its own thread, which saves waking the tokio task.
    pub direct_writes: bool,
    /// Program and version, shown to operators.
    pub agent: String,
    /// What opens connections; `None` is the operating system, to the address.
    pub connect: Option<Arc<dyn Connect>>,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        Self {
            unsent_bytes_max: 8 << 20,
            kept_bytes_max: 64 << 20,
            payload_bytes_max: 64 << 20,
            open_timeout: Duration::from_secs(5),
            backoff_first: Duration::from_millis(50),
            backoff_max: Duration::from_secs(5),
            heartbeat: None,
            direct_writes: true,
            agent: concat!("antiphon-rust/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect: None,
        }
    }
}

impl RemoteOptions {
    /// The wait before the `failed`-th attempt to reconnect (counted from 0): a random part of the bound, so that
    /// clients of one broker do not come back all at once.
    pub(super) fn backoff(&self, failed: u32) -> Duration {
        let bound = self.backoff_first.saturating_mul(1 << failed.min(16)).min(self.backoff_max);
        // Without randomness the bound itself is a wait too.
        let part = getrandom::u32().unwrap_or(u32::MAX);
        bound.mul_f64(f64::from(part) / f64::from(u32::MAX))
    }
}
