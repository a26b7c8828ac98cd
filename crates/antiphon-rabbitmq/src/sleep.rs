//! What pumps wait for beside the server: an instant that there may not be, and the end.

use std::time::Instant;
use tokio::sync::watch;

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
