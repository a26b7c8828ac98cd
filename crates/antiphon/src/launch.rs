//! How attempts begin. On a runtime of several threads each is a task at once. On a runtime of one thread, where that
//! gains nothing, those that came together take their first step one after the other, and only those that did not end
//! with it become tasks: most procedures answer at once.

use crate::context::{AttemptState, Stop};
use crate::leases::Leases;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::yield_now;

/// How long first steps may go on before the runtime has its turn.
const TURN: Duration = Duration::from_micros(500);
/// After how many of them to look at the clock.
const LOOK_EVERY: usize = 4;

/// An attempt on its way to its end.
type Run = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Attempts that are about to begin.
pub(crate) struct Launch {
    /// The runtime has one thread.
    together: bool,
    waiting: Mutex<Vec<(Arc<AttemptState>, Run)>>,
}

impl Launch {
    pub(crate) fn new(runtime: &Handle) -> Self {
        Self { together: runtime.runtime_flavor() == RuntimeFlavor::CurrentThread, waiting: Mutex::default() }
    }

    /// Keeps one more; whether it is the first, so that somebody has to be sent for them.
    fn keep(&self, attempt: Arc<AttemptState>, run: Run) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push((attempt, run));
        waiting.len() == 1
    }

    fn take(&self) -> Vec<(Arc<AttemptState>, Run)> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Leases {
    /// Has an attempt begin.
    pub(crate) fn begin(self: &Arc<Self>, attempt: Arc<AttemptState>, run: impl Future<Output = ()> + Send + 'static) {
        if !self.launch.together {
            self.set_going(&attempt, run);
        } else if self.launch.keep(attempt, Box::pin(run)) {
            drop(self.runtime().spawn(Together { leases: Arc::clone(self), begun: false }.begin()));
        }
    }

    fn set_going(&self, attempt: &AttemptState, run: impl Future<Output = ()> + Send + 'static) {
        let running = self.runtime().spawn(run);
        self.started(attempt, running.abort_handle());
    }
}

/// Those that begin together. Dropping it gives back those that have not begun, also when the runtime ends before it ran.
struct Together {
    leases: Arc<Leases>,
    begun: bool,
}

impl Together {
    async fn begin(mut self) {
        self.begun = true;
        let mut since = Instant::now();
        for (number, (attempt, mut run)) in self.leases.launch.take().into_iter().enumerate() {
            // Steps are short or else their turn is over soon: the runtime has more to do.
            if number % LOOK_EVERY == 0 && since.elapsed() >= TURN {
                yield_now().await;
                since = Instant::now();
            }
            if attempt.stop() != Stop::No {
                // Dropped before it began, it says so itself.
                continue;
            }
            let step = poll_fn(|context| {
                Poll::Ready(catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(context).is_pending())))
            });
            // What panicked was dropped as it panicked, and has said so itself.
            if let Ok(true) = step.await {
                self.leases.set_going(&attempt, run);
            }
        }
    }
}

impl Drop for Together {
    fn drop(&mut self) {
        // What has come since belongs to the next.
        if !self.begun {
            drop(self.leases.launch.take());
        }
    }
}
