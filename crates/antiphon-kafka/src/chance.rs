//! What comes from outside: the wall clock and chance, which the shared part takes as arguments, and the end.

use antiphon_protocol::CallId;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// Milliseconds since 1970.
pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Any number.
pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    u64::from_ne_bytes(bytes)
}

/// An id for a call that came without one.
pub(crate) fn new_id() -> CallId {
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    CallId::new(wall_ms(), bytes)
}

/// Sleeps until then, or for ever.
pub(crate) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Waits until the broker is closed.
pub(crate) async fn closed(closing: &mut watch::Receiver<bool>) {
    // The sender goes only with the broker.
    drop(closing.wait_for(|closing| *closing).await);
}
