//! The embedded broker: a driver behind a lock. Whoever calls it runs the state machine on its own thread; one thread
//! sees to what is due later, and the journal's writer thread to what waited for an fsync.

use crate::driver::{Driver, DriverOptions};
use crate::events::capabilities;
use crate::outlet::PeerId;
use crate::sync::{Condvar, JoinHandle, Mutex, MutexGuard, thread};
use crate::turn::Turn;
use antiphon_broker::{
    BoxFuture, Broker, Caller, Capabilities, Inbox, Inspect, OpenError, ProgressReport, Report, Sink, Submission,
    Watch, Worker,
};
use antiphon_protocol::{Answer, CallId, Code, Failure, LeaseTag, Offer, Query, Tag};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// How an embedded broker is opened: as its driver.
pub type EmbeddedOptions = DriverOptions;

/// Engine and journal in this process, behind the seam. Dropping it or closing it frees the data directory.
pub struct Embedded {
    shared: Arc<Shared>,
    capabilities: Capabilities,
    timer: Mutex<Option<JoinHandle<()>>>,
}

pub(crate) struct Shared {
    turn: Mutex<Turn>,
    /// Wakes the timer thread when something is due earlier than it knows.
    earlier: Condvar,
}

impl Embedded {
    /// Opens a broker in memory, or on a directory.
    ///
    /// # Errors
    /// [`OpenError`] when the directory is in use, cannot be written, is damaged, or is of a newer format.
    pub fn open(options: EmbeddedOptions) -> Result<Self, OpenError> {
        let link: Arc<Mutex<Weak<Shared>>> = Arc::default();
        let wake = {
            let link = Arc::clone(&link);
            Arc::new(move || {
                let shared = lock(&link).upgrade();
                if let Some(shared) = shared {
                    shared.run(|_| ());
                }
            })
        };
        let payload_bytes_max = options.payload_bytes_max;
        let driver = Driver::open(options, wake)?;
        let capabilities = capabilities(driver.is_durable(), payload_bytes_max);
        let shared = Arc::new(Shared { turn: Mutex::new(Turn::new(driver)), earlier: Condvar::new() });
        *lock(&link) = Arc::downgrade(&shared);
        let timer = start_timer(&shared)?;
        Ok(Self { shared, capabilities, timer: Mutex::new(Some(timer)) })
    }

    /// Flushes what is pending and stops; later calls are refused.
    fn stop(&self) {
        self.shared.close();
        let timer = lock(&self.timer).take();
        if let Some(timer) = timer
            && timer.thread().id() != thread::current().id()
        {
            // The timer thread only ever ends by being told to; its result holds nothing.
            drop(timer.join());
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A panic in a sink poisons nothing of the state machine, which is consistent between commands.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start_timer(shared: &Arc<Shared>) -> Result<JoinHandle<()>, OpenError> {
    let weak = Arc::downgrade(shared);
    let run = move || {
        while let Some(shared) = weak.upgrade() {
            if !shared.wait_and_run() {
                return;
            }
        }
    };
    let spawned = thread::Builder::new().name("antiphon-timer".to_owned()).spawn(run);
    spawned.map_err(|error| OpenError::Storage(format!("cannot start the timer thread: {error}")))
}

impl Shared {
    /// Runs commands, then whatever follows from them: due work, commits, deliveries.
    fn run<R>(&self, commands: impl FnOnce(&mut Turn) -> R) -> R {
        let mut turn = lock(&self.turn);
        let result = commands(&mut turn);
        turn.settle_down();
        if turn.is_due_earlier() {
            self.earlier.notify_one();
        }
        self.deliver(turn);
        result
    }

    /// Hands events to sinks, outside the lock and in order: one thread at a time delivers, the others leave theirs
    /// to it.
    fn deliver<'a>(&'a self, mut turn: MutexGuard<'a, Turn>) {
        if turn.delivering {
            return;
        }
        turn.delivering = true;
        let mut relief = Relief { shared: self, needed: true };
        // Behind the relief, so that a panic lets go of the lock before that takes it.
        let (mut turn, mut batch) = (turn, Vec::new());
        while let Some(sink) = turn.next_batch(&mut batch) {
            drop(turn);
            sink.events(&mut batch);
            batch.clear();
            turn = lock(&self.turn);
        }
        relief.needed = false;
        turn.delivering = false;
    }

    /// Waits until something is due, then runs it; false when the broker is closed.
    fn wait_and_run(&self) -> bool {
        /// The longest wait: the timer thread looks this often whether its broker is still there.
        const LONGEST: Duration = Duration::from_millis(500);
        let mut turn = lock(&self.turn);
        if turn.closed {
            return false;
        }
        let now = Instant::now();
        let until = turn.due.map_or(LONGEST, |due| due.saturating_duration_since(now)).min(LONGEST);
        turn.timer_until = Some(now + until);
        let (guard, _) = self.earlier.wait_timeout(turn, until).unwrap_or_else(PoisonError::into_inner);
        turn = guard;
        turn.timer_until = None;
        if turn.closed {
            return false;
        }
        if turn.due.is_some_and(|due| due <= Instant::now()) {
            turn.settle_down();
            self.deliver(turn);
        }
        true
    }

    fn close(&self) {
        let mut turn = lock(&self.turn);
        let journal = if turn.closed { None } else { turn.shut() };
        self.earlier.notify_one();
        self.deliver(turn);
        // Outside the lock: the journal waits for its writer thread, which may be waiting for the lock.
        drop(journal);
    }
}

/// Lets another thread deliver if this one panics in a sink. Whether it panics can't be asked: what is let go while a
/// thread unwinds comes here, too.
struct Relief<'a> {
    shared: &'a Shared,
    needed: bool,
}

impl Drop for Relief<'_> {
    fn drop(&mut self) {
        if self.needed {
            lock(&self.shared.turn).delivering = false;
        }
    }
}

impl Broker for Embedded {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn open_caller(&self, inbox: Inbox, sink: Arc<dyn Sink>) -> BoxFuture<'_, Result<Box<dyn Caller>, OpenError>> {
        let peer = self.shared.run(|turn| turn.open_caller(inbox, sink));
        Box::pin(std::future::ready(peer.map(|peer| {
            let caller: Box<dyn Caller> = Box::new(Connected { shared: Arc::clone(&self.shared), peer });
            caller
        })))
    }

    fn open_worker(&self, offer: Offer, sink: Arc<dyn Sink>) -> BoxFuture<'_, Result<Box<dyn Worker>, OpenError>> {
        let peer = self.shared.run(|turn| turn.open_worker(&offer, sink));
        Box::pin(std::future::ready(peer.map(|peer| {
            let worker: Box<dyn Worker> = Box::new(Connected { shared: Arc::clone(&self.shared), peer });
            worker
        })))
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        Some(self)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.stop();
        Box::pin(std::future::ready(()))
    }
}

/// A caller or worker of an embedded broker.
struct Connected {
    shared: Arc<Shared>,
    peer: PeerId,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.shared.run(|turn| turn.close_peer(self.peer));
    }
}

impl Caller for Connected {
    fn submit(&self, calls: &mut Vec<Submission>) {
        self.shared.run(|turn| turn.submit(self.peer, calls));
    }

    fn attach(&self, calls: &[(CallId, Tag)]) {
        self.shared.run(|turn| {
            for (id, tag) in calls {
                turn.driver.attach(self.peer, *id, *tag);
            }
        });
    }

    fn acknowledge(&self, outcomes: &[CallId]) {
        self.shared.run(|turn| {
            for id in outcomes {
                turn.driver.acknowledge(self.peer, *id);
            }
        });
    }

    fn cancel(&self, calls: &[CallId]) {
        self.shared.run(|turn| {
            for id in calls {
                turn.driver.cancel(self.peer, *id);
            }
        });
    }

    fn follow(&self, calls: &[(CallId, Tag, u64)]) {
        self.shared.run(|turn| {
            for (id, tag, after) in calls {
                turn.driver.follow(self.peer, *id, *tag, *after);
            }
        });
    }

    fn watch(&self, watches: &[Watch]) {
        self.shared.run(|turn| watches.iter().for_each(|watch| turn.driver.watch(self.peer, watch.clone())));
    }
}

impl Worker for Connected {
    fn credit(&self, slots: i32) {
        self.shared.run(|turn| turn.driver.credit(self.peer, slots));
    }

    fn report(&self, reports: &mut Vec<Report>) {
        self.shared.run(|turn| {
            for report in reports.drain(..) {
                turn.driver.report(self.peer, report);
            }
        });
    }

    fn extend(&self, leases: &[LeaseTag]) {
        self.shared.run(|turn| {
            for lease in leases {
                turn.driver.extend(self.peer, *lease);
            }
        });
    }

    fn park(&self, lease: LeaseTag, awaits: Option<CallId>) {
        self.shared.run(|turn| turn.driver.park(self.peer, lease, awaits));
    }

    fn resume(&self, lease: LeaseTag) {
        self.shared.run(|turn| turn.driver.resume(self.peer, lease));
    }

    fn drain(&self) {
        self.shared.run(|turn| turn.driver.drain(self.peer));
    }

    fn progress(&self, told: &mut Vec<ProgressReport>) {
        self.shared.run(|turn| {
            for told in told.drain(..) {
                turn.driver.progress(self.peer, told);
            }
        });
    }
}

impl Inspect for Embedded {
    fn ask(&self, query: Query) -> BoxFuture<'_, Result<Answer, Failure>> {
        let ticket = self.shared.run(|turn| turn.ask(query));
        Box::pin(Asked { shared: Arc::clone(&self.shared), ticket })
    }
}

/// An answer that is awaited.
struct Asked {
    shared: Arc<Shared>,
    ticket: u64,
}

impl Future for Asked {
    type Output = Result<Answer, Failure>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut turn = lock(&self.shared.turn);
        if let Some(answer) = turn.take_answer(self.ticket, context.waker()) {
            return Poll::Ready(match answer {
                Answer::Refused { code, message } if code == Code::DataLoss => Err(Failure::new(code, message)),
                answer => Ok(answer),
            });
        }
        if turn.closed {
            return Poll::Ready(Err(Failure::new(Code::Unavailable, "the broker is closed")));
        }
        Poll::Pending
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        lock(&self.shared.turn).forget_answer(self.ticket);
    }
}
