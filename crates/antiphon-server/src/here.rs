//! The turn on somebody's tokio runtime instead of a thread of its own.

use crate::handle::Phase;
use crate::server::ServeError;
use crate::turn::Turn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

impl Turn {
    /// As [`Turn::run`], as a task of the calling runtime, whose other tasks have their turn between any two of the broker's.
    pub(crate) async fn run_here(mut self) -> Result<(), ServeError> {
        self.here = true;
        let poller = self.poller().map_err(ServeError::Poll)?;
        self.handle.advance(Phase::Ready);
        let mut ended = Ok(());
        while self.handle.phase() == Phase::Ready && ended.is_ok() {
            if self.is_idle() {
                park(&poller, self.due()).await?;
            } else {
                tokio::task::yield_now().await;
            }
            ended = self.poll(Some(Duration::ZERO)).and_then(|()| self.work());
        }
        drop(poller);
        self.end(ended)
    }

    /// The poller's own descriptor, which a runtime can wait for.
    #[allow(deprecated, reason = "what replaces it is unsafe; a descriptor that is owned stays what it is")]
    fn poller(&self) -> io::Result<AsyncFd<OwnedFd>> {
        AsyncFd::with_interest(self.poll.registry().as_fd().try_clone_to_owned()?, Interest::READABLE)
    }
}

/// Waits on the runtime until something happens or is due.
async fn park(poller: &AsyncFd<OwnedFd>, due: Option<Instant>) -> Result<(), ServeError> {
    let ready = async {
        // Cleared before the poll that follows: what comes after that poll is noticed.
        poller.readable().await.map(|mut guard| guard.clear_ready())
    };
    match due {
        // Being due is no less a reason to go on.
        Some(due) => tokio::time::timeout_at(due.into(), ready).await.unwrap_or(Ok(())),
        None => ready.await,
    }
    .map_err(ServeError::Poll)
}
