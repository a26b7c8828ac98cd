//! The leases a worker holds: starts attempts, passes on requests to stop, reports how attempts ended, and knows what is
//! not answered yet. What a procedure does is in `attempt.rs`.

use crate::Antiphon;
use crate::attempt::Attempt;
use crate::context::{AttemptState, Stop};
use crate::launch::Launch;
use crate::parking::Slot;
use crate::service::Service;
use antiphon_broker::{Event, Lease, ProgressReport, Report, Sink, Support, Worker};
use antiphon_protocol::{CallId, LeaseTag, Payload, Settlement, defaults};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Reports are handed over when they are this many: then a lock and a turn of the broker are a small part of each, and
/// the broker goes on while further attempts end.
const REPORTS_A_BATCH: usize = 64;

/// A service, and which of its procedures: what stands at one place of the offer.
pub(crate) type Served = (Arc<dyn Service>, usize);

/// The leases of one worker.
pub(crate) struct Leases {
    antiphon: Antiphon,
    served: Vec<Served>,
    pub(crate) launch: Launch,
    state: Mutex<State>,
    /// Something ended, was answered, or was asked: whoever waits looks again.
    changed: Notify,
    /// Wakes the renewal thread: a shorter lease than known, or the end.
    pub(crate) renewal: Condvar,
    /// Wakes the renewal on the runtime for the same reasons.
    pub(crate) renewal_here: Notify,
}

struct State {
    worker: Option<Arc<dyn Worker>>,
    running: FxHashMap<LeaseTag, Running>,
    /// Reported and not answered.
    unanswered: FxHashSet<LeaseTag>,
    /// Not taken by the broker yet.
    reports: Vec<Report>,
    /// The reports are only gathered, to be handed over in one batch that is due.
    gathering: bool,
    /// How often the broker said that it takes more.
    writable: u64,
    lease_ms: u32,
    draining: bool,
    /// Given up, and why.
    ended: Option<String>,
}

struct Running {
    attempt: Arc<AttemptState>,
    abort: Option<AbortHandle>,
}

impl Leases {
    pub(crate) fn new(antiphon: Antiphon, served: Vec<Served>) -> Arc<Self> {
        let state = State {
            worker: None,
            running: FxHashMap::default(),
            unanswered: FxHashSet::default(),
            reports: Vec::new(),
            gathering: false,
            writable: 0,
            lease_ms: defaults::LEASE_MS,
            draining: false,
            ended: None,
        };
        Arc::new(Self {
            launch: Launch::new(antiphon.runtime()),
            antiphon,
            served,
            state: Mutex::new(state),
            changed: Notify::new(),
            renewal: Condvar::new(),
            renewal_here: Notify::new(),
        })
    }

    pub(crate) fn sink(self: &Arc<Self>) -> Arc<dyn Sink> {
        Arc::new(LeaseSink(Arc::downgrade(self)))
    }

    /// A panic under the lock is a bug that the panicking thread reports; the others go on.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) const fn antiphon(&self) -> &Antiphon {
        &self.antiphon
    }

    pub(crate) fn runtime(&self) -> &Handle {
        self.antiphon.runtime()
    }

    /// The worker is open. Leases may have come before.
    pub(crate) fn opened(&self, worker: Arc<dyn Worker>) {
        let mut state = self.lock();
        state.worker = Some(worker);
        let draining = state.draining;
        drop(state);
        self.offer_reports();
        if draining {
            self.drain();
        }
    }

    /// The attempt runs and can be aborted, unless it has ended already.
    pub(crate) fn started(&self, attempt: &AttemptState, abort: AbortHandle) {
        let mut state = self.lock();
        let asked = attempt.stop() != Stop::No;
        if let Some(running) = state.running.get_mut(&attempt.lease) {
            running.abort = Some(abort.clone());
        }
        drop(state);
        // Asked before it could be aborted.
        if asked {
            abort.abort();
        }
    }

    /// The attempt has ended. One that is not held any more reports nothing.
    pub(crate) fn settle(&self, attempt: &AttemptState, settlement: Settlement) {
        let mut state = self.lock();
        if state.running.remove(&attempt.lease).is_none() {
            drop(state);
            self.changed.notify_waiters();
            return;
        }
        state.unanswered.insert(attempt.lease);
        state.reports.push(Report { lease: attempt.lease, call: attempt.call, settlement });
        drop(state);
        self.offer_reports();
        self.changed.notify_waiters();
    }

    /// The same on the runtime, where other attempts may end before it comes to anything else: their reports are
    /// gathered.
    pub(crate) fn settle_together(self: &Arc<Self>, attempt: &AttemptState, settlement: Settlement) {
        let mut state = self.lock();
        if state.running.len() <= 1 && !state.gathering {
            drop(state);
            return self.settle(attempt, settlement);
        }
        if state.running.remove(&attempt.lease).is_none() {
            drop(state);
            self.changed.notify_waiters();
            return;
        }
        state.unanswered.insert(attempt.lease);
        state.reports.push(Report { lease: attempt.lease, call: attempt.call, settlement });
        let first = !state.gathering;
        state.gathering = true;
        let due = state.reports.len() >= REPORTS_A_BATCH;
        drop(state);
        if due {
            self.offer_reports();
        } else if first {
            let gathered = Gathered(Arc::clone(self));
            drop(self.runtime().spawn(async move { drop(gathered) }));
        }
    }

    /// Passes on what an attempt tells of itself; one that is not held any more tells nothing.
    pub(crate) fn tell(&self, attempt: &AttemptState, payload: Payload) {
        let worker = {
            let state = self.lock();
            state.worker.clone().filter(|_| state.running.contains_key(&attempt.lease))
        };
        if let Some(worker) = worker {
            worker.progress(&mut vec![ProgressReport { lease: attempt.lease, call: attempt.call, payload }]);
        }
    }

    /// Offers reports to the broker until it takes no more; `Writable` follows then.
    fn offer_reports(&self) {
        let mut state = self.lock();
        state.gathering = false;
        while !state.reports.is_empty() {
            let Some(worker) = state.worker.clone() else { return };
            let mut batch = std::mem::take(&mut state.reports);
            let seen = state.writable;
            drop(state);
            worker.report(&mut batch);
            state = self.lock();
            if batch.is_empty() {
                continue;
            }
            batch.append(&mut state.reports);
            state.reports = batch;
            if state.writable == seen {
                return;
            }
        }
    }

    fn take(self: &Arc<Self>, events: &mut Vec<Event>) {
        // So that the clock of the runtime is used, which tests pause.
        let _runtime = self.runtime().enter();
        let now = Instant::now();
        for event in events.drain(..) {
            match event {
                Event::Lease(lease) => self.start(lease, now),
                Event::CancelAsked { lease } => self.stop(lease, Stop::Cancelled),
                Event::Settled { lease } => {
                    self.lock().unanswered.remove(&lease);
                }
                Event::Stale { lease } => {
                    self.lock().unanswered.remove(&lease);
                    self.stop(lease, Stop::Stale);
                }
                Event::Resumed { lease } => {
                    let attempt = self.lock().running.get(&lease).map(|running| Arc::clone(&running.attempt));
                    attempt.iter().for_each(|attempt| attempt.parking.resumed());
                }
                Event::DrainAsked => self.drain(),
                Event::Writable => {
                    self.lock().writable += 1;
                    self.offer_reports();
                }
                Event::Up { kept, .. } => self.keep_only(&kept),
                Event::Down { reason, last: true } => self.end(&reason),
                // A broker that is away comes back by itself; what runs goes on. The others are for callers.
                Event::Down { last: false, .. }
                | Event::Accepted { .. }
                | Event::Refused { .. }
                | Event::Outcome { .. }
                | Event::Progress { .. }
                | Event::ProgressEnded { .. }
                | Event::Emitted { .. }
                | Event::Watched { .. }
                | Event::CancelAnswered { .. } => (),
            }
        }
        self.changed.notify_waiters();
    }

    fn start(self: &Arc<Self>, mut lease: Lease, now: Instant) {
        let attempt = Arc::new(AttemptState::new(&mut lease, now));
        let mut state = self.lock();
        state.running.insert(lease.lease, Running { attempt: Arc::clone(&attempt), abort: None });
        let shorter = lease.lease_ms < state.lease_ms;
        state.lease_ms = lease.lease_ms.max(1);
        drop(state);
        if shorter {
            self.renewal.notify_all();
            self.renewal_here.notify_waiters();
        }
        let attempt = Attempt::new(Arc::clone(self), attempt, lease.payload);
        let place = usize::try_from(lease.procedure).unwrap_or(usize::MAX);
        // A place outside the offer is a broker's bug: dropping the attempt gives the call back.
        if let Some((service, procedure)) = self.served.get(place) {
            service.start(*procedure, attempt);
        }
    }

    fn stop(&self, lease: LeaseTag, stop: Stop) {
        let mut state = self.lock();
        let Some(running) = state.running.get(&lease) else { return };
        running.attempt.ask_to_stop(stop);
        let abort = running.abort.clone();
        if stop == Stop::Stale {
            state.running.remove(&lease);
        }
        drop(state);
        // Outside the lock: the attempt may be dropped right here, and settles.
        abort.iter().for_each(AbortHandle::abort);
    }

    /// Connected again: what is not in `kept` was lost. Reports that are on their way are still answered.
    fn keep_only(&self, kept: &[LeaseTag]) {
        let kept: HashSet<LeaseTag> = kept.iter().copied().collect();
        let lost: Vec<LeaseTag> = self.lock().running.keys().filter(|lease| !kept.contains(lease)).copied().collect();
        lost.into_iter().for_each(|lease| self.stop(lease, Stop::Stale));
        self.say_again_who_waits();
    }

    /// A broker that is back counts a slot for every lease, until it is told which are given back.
    fn say_again_who_waits(&self) {
        let state = self.lock();
        let attempts: Vec<Arc<AttemptState>> =
            state.running.values().map(|running| Arc::clone(&running.attempt)).collect();
        let Some(worker) = state.worker.clone() else { return };
        drop(state);
        for attempt in attempts {
            match attempt.parking.slot() {
                Slot::Held => {}
                Slot::Given => worker.park(attempt.lease, None),
                Slot::Wanted => worker.resume(attempt.lease),
            }
        }
    }

    /// Whether slots can be given back while a procedure waits.
    pub(crate) fn can_park(&self) -> bool {
        self.antiphon.capabilities().parking != Support::Refused && self.lock().worker.is_some()
    }

    /// Gives the slot of a lease back.
    pub(crate) fn park(&self, lease: LeaseTag, awaits: Option<CallId>) {
        let worker = self.lock().worker.clone();
        worker.iter().for_each(|worker| worker.park(lease, awaits));
    }

    /// Asks for it again.
    pub(crate) fn resume(&self, lease: LeaseTag) {
        let worker = self.lock().worker.clone();
        worker.iter().for_each(|worker| worker.resume(lease));
    }

    /// Takes no more leases.
    pub(crate) fn drain(&self) {
        let mut state = self.lock();
        state.draining = true;
        let worker = state.worker.clone();
        drop(state);
        worker.iter().for_each(|worker| worker.drain());
        self.changed.notify_waiters();
    }

    /// Asks everything that runs to stop, so that it is given back.
    pub(crate) fn ask_all_to_stop(&self) {
        let running: Vec<LeaseTag> = self.lock().running.keys().copied().collect();
        running.into_iter().for_each(|lease| self.stop(lease, Stop::Drained));
    }

    /// Gives back what still runs, on threads that cannot be stopped: their lease tokens fence them.
    pub(crate) fn release_all(&self) {
        let running: Vec<Arc<AttemptState>> =
            self.lock().running.values().map(|running| Arc::clone(&running.attempt)).collect();
        running.iter().for_each(|attempt| self.settle(attempt, Settlement::Release));
    }

    /// The worker is given up: nothing can be reported any more.
    fn end(&self, reason: &str) {
        let running: Vec<LeaseTag> = {
            let mut state = self.lock();
            state.ended = Some(reason.to_owned());
            state.unanswered.clear();
            state.reports.clear();
            state.running.keys().copied().collect()
        };
        running.into_iter().for_each(|lease| self.stop(lease, Stop::Stale));
        self.renewal.notify_all();
        self.renewal_here.notify_waiters();
    }

    /// Closes the worker. Leases that are held are given up without a word.
    pub(crate) fn close(&self) {
        let worker = self.lock().worker.take();
        self.end("the worker was closed by this program");
        drop(worker);
        self.changed.notify_waiters();
    }

    /// Waits until `done` says so of what runs, what is unanswered, and whether it drains or has ended.
    pub(crate) async fn wait_until(&self, done: impl Fn(&Standing) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if done(&self.standing()) {
                return;
            }
            changed.await;
        }
    }

    pub(crate) fn standing(&self) -> Standing {
        let state = self.lock();
        Standing {
            running: state.running.len(),
            unanswered: state.unanswered.len(),
            draining: state.draining,
            ended: state.ended.clone(),
        }
    }

    /// Prolongs all leases that are held; gives back how soon to do so again, `None` when the worker has ended.
    pub(crate) fn renew(&self) -> Option<Duration> {
        let state = self.lock();
        if state.ended.is_some() {
            return None;
        }
        let held: Vec<LeaseTag> = state.running.keys().copied().collect();
        let worker = state.worker.clone();
        drop(state);
        if let Some(worker) = worker.filter(|_| !held.is_empty()) {
            worker.extend(&held);
        }
        self.renewal_interval()
    }

    /// How long a renewal may wait; `None` when the worker has ended.
    pub(crate) fn renewal_interval(&self) -> Option<Duration> {
        let state = self.lock();
        let ms = (state.lease_ms / defaults::LEASE_RENEWALS).max(1);
        state.ended.is_none().then(|| Duration::from_millis(u64::from(ms)))
    }

    /// Waits on the calling thread until the next renewal is due, the interval becomes shorter, or the end.
    pub(crate) fn wait_for_renewal(&self, interval: Duration) {
        let state = self.lock();
        if state.ended.is_none() {
            drop(self.renewal.wait_timeout(state, interval));
        }
    }
}

/// Where a worker stands.
pub(crate) struct Standing {
    pub(crate) running: usize,
    pub(crate) unanswered: usize,
    pub(crate) draining: bool,
    pub(crate) ended: Option<String>,
}

/// A batch of reports that is due. Dropping it hands them over, also when the runtime ends before it ran.
struct Gathered(Arc<Leases>);

impl Drop for Gathered {
    fn drop(&mut self) {
        let due = self.0.lock().gathering;
        if due {
            self.0.offer_reports();
        }
        self.0.changed.notify_waiters();
    }
}

/// What the broker holds of a worker: not its leases themselves, so that dropping the worker closes it.
struct LeaseSink(Weak<Leases>);

impl Sink for LeaseSink {
    fn events(&self, events: &mut Vec<Event>) {
        match self.0.upgrade() {
            Some(leases) => leases.take(events),
            None => events.clear(),
        }
    }
}
