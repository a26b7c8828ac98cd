//! The turn on somebody's tokio runtime instead of a thread of its own.

use crate::handle::Phase;
use crate::inside::Hall;
use crate::server::ServeError;
use crate::turn::Turn;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How often bells alone may wake the turn before it looks at sockets again.
const BELLS_IN_A_ROW: u32 = 8;

impl Turn {
    /// As [`Turn::run`], as a task of the calling runtime, whose other tasks have their turn between any two of the broker's.
    pub(crate) async fn run_here(mut self, hall: Hall) -> Result<(), ServeError> {
        self.here = true;
        let hall = self.hall.insert(Arc::new(hall)).clone();
        let poller = self.poller().map_err(ServeError::Poll)?;
        self.handle.advance(Phase::Ready);
        let (mut ended, mut bells) = (Ok(()), 0);
        while self.handle.phase() == Phase::Ready && ended.is_ok() {
            let woken_by = match self.is_idle() {
                true => park(&poller, &hall, self.due()).await?,
                false => {
                    tokio::task::yield_now().await;
                    WokenBy::Any
                }
            };
            ended = match woken_by {
                // Sockets that are ready meanwhile are noticed before the turn sleeps again.
                WokenBy::Bell if bells < BELLS_IN_A_ROW => {
                    bells += 1;
                    self.now = Instant::now();
                    self.listen_inside();
                    self.work()
                }
                // Bells that other threads ring need not end.
                WokenBy::Bell | WokenBy::Any => {
                    if core::mem::take(&mut bells) > 0 {
                        tokio::task::yield_now().await;
                    }
                    self.poll(Some(Duration::ZERO)).and_then(|()| self.work())
                }
            };
        }
        drop(poller);
        drop(hall);
        let ended = self.end(ended);
        self.hall = None;
        ended
    }

    /// The poller's own descriptor, which a runtime can wait for.
    #[allow(deprecated, reason = "what replaces it is unsafe; a descriptor that is owned stays what it is")]
    fn poller(&self) -> io::Result<AsyncFd<OwnedFd>> {
        AsyncFd::with_interest(self.poll.registry().as_fd().try_clone_to_owned()?, Interest::READABLE)
    }
}

/// What ended a sleep.
enum WokenBy {
    /// Somebody inside, and maybe nobody else.
    Bell,
    Any,
}

/// Waits on the runtime until something happens or is due.
async fn park(poller: &AsyncFd<OwnedFd>, hall: &Hall, due: Option<Instant>) -> Result<WokenBy, ServeError> {
    let mut ready = pin!(async {
        // Cleared before the poll that follows: what comes after that poll is noticed.
        poller.readable().await.map(|mut guard| guard.clear_ready())
    });
    let mut heard = pin!(hall.heard());
    let either = poll_fn(|context| match heard.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(Ok(WokenBy::Bell)),
        Poll::Pending => ready.as_mut().poll(context).map_ok(|()| WokenBy::Any),
    });
    match due {
        // Being due is no less a reason to go on.
        Some(due) => tokio::time::timeout_at(due.into(), either).await.unwrap_or(Ok(WokenBy::Any)),
        None => either.await,
    }
    .map_err(ServeError::Poll)
}
