//! A broker that does only what a test says: it keeps what it is given, and tells what the test emits.

use antiphon_broker::{
    AcceptedMeans, Attach, BoxFuture, Broker, Callbacks, Caller, CancelReach, Capabilities, Delay, Event, Fencing,
    Idempotency, Inbox, Inspect, Lease, LeasesOf, OpenError, Ordering, Questions, Report, Sink, Submission, Support,
    Wants, Worker,
};
use antiphon_protocol::{CallId, LeaseTag, Offer, Outcome, Payload, State, Tag};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;

/// A clone is the same broker.
#[derive(Clone)]
pub struct Fake(Arc<Inner>);

struct Inner {
    capabilities: Capabilities,
    state: Mutex<Kept>,
    changed: Notify,
}

/// What it was given.
#[derive(Default)]
pub struct Kept {
    caller: Option<Arc<dyn Sink>>,
    worker: Option<Arc<dyn Sink>>,
    pub submissions: VecDeque<Submission>,
    /// How many calls came with each `submit` that took any.
    pub batches: Vec<usize>,
    /// How many calls or reports it takes.
    pub room: Option<usize>,
    /// The next time that it takes nothing, it tells before it returns that it takes more.
    pub writable_at_once: bool,
    /// Called the next time that calls are offered, before any is taken.
    pub offered: Option<Box<dyn FnOnce() + Send>>,
    pub attached: Vec<(CallId, Tag)>,
    pub acknowledged: Vec<Vec<CallId>>,
    pub cancelled: Vec<CallId>,
    pub reports: VecDeque<Report>,
    pub extended: Vec<Vec<LeaseTag>>,
    pub offer: Option<Offer>,
    pub drained: bool,
    pub closed_callers: usize,
    pub closed_workers: usize,
    /// How many openings it fails.
    pub unreachable: usize,
}

impl Fake {
    pub fn new() -> Self {
        Self::with(capabilities())
    }

    pub fn with(capabilities: Capabilities) -> Self {
        Self(Arc::new(Inner { capabilities, state: Mutex::default(), changed: Notify::new() }))
    }

    pub fn antiphon(&self) -> antiphon::Antiphon {
        antiphon::Antiphon::from_broker(Arc::new(self.clone()))
    }

    pub fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.state.lock().unwrap()
    }

    fn change<R>(&self, change: impl FnOnce(&mut Kept) -> R) -> R {
        let result = change(&mut self.kept());
        self.0.changed.notify_waiters();
        result
    }

    /// Waits until `look` finds something.
    pub async fn until<R>(&self, look: impl FnMut(&mut Kept) -> Option<R>) -> R {
        let found = tokio::time::timeout(Duration::from_secs(20), self.look(look));
        found.await.expect("the broker was not given what the test waits for")
    }

    async fn look<R>(&self, mut look: impl FnMut(&mut Kept) -> Option<R>) -> R {
        loop {
            let mut changed = std::pin::pin!(self.0.changed.notified());
            changed.as_mut().enable();
            if let Some(found) = look(&mut self.kept()) {
                return found;
            }
            changed.await;
        }
    }

    pub async fn submission(&self) -> Submission {
        self.until(|kept| kept.submissions.pop_front()).await
    }

    pub async fn report(&self) -> Report {
        self.until(|kept| kept.reports.pop_front()).await
    }

    /// Tells the caller.
    pub fn tell(&self, event: Event) {
        let sink = self.kept().caller.clone().expect("no caller is open");
        sink.events(&mut vec![event]);
    }

    /// Tells the worker.
    pub fn tell_worker(&self, event: Event) {
        let sink = self.kept().worker.clone().expect("no worker is open");
        sink.events(&mut vec![event]);
    }

    pub fn accept(&self, submission: &Submission) {
        self.tell(Event::Accepted { tag: submission.tag, id: submission.call.id, duplicate: false, wait_ms: None });
    }

    pub fn reply(&self, submission: &Submission, json: &str) {
        self.end(submission, State::Succeeded, Outcome::Reply(Payload::json(json.to_owned())));
    }

    pub fn end(&self, submission: &Submission, state: State, outcome: Outcome) {
        self.tell(Event::Outcome { tag: submission.tag, id: submission.call.id, state, attempts: 1, outcome });
    }
}

/// A lease of the first procedure, numbered.
pub fn lease(number: u8, payload: Payload) -> Lease {
    Lease {
        lease: LeaseTag { slot: u32::from(number), token: 1 << 40 | u64::from(number) },
        call: CallId::from_bytes([number; 16]),
        procedure: 0,
        attempt: 1,
        attempts_max: 3,
        lease_ms: 10_000,
        attempt_timeout_ms: 0,
        deadline_ms: 0,
        payload,
        trace: None,
    }
}

/// Everything, durable.
pub fn capabilities() -> Capabilities {
    Capabilities {
        accepted: AcceptedMeans::Fsynced,
        durable_by_default: true,
        fencing: Fencing::AtSettle,
        cancel: CancelReach::Running,
        attach: Attach::ById,
        ordering: Ordering::None,
        idempotency: Idempotency::ByKey,
        delay: Delay::Exact,
        callbacks: Callbacks::None,
        groups: Support::Refused,
        late_binding: Support::Native,
        priorities: Support::Native,
        concurrency_keys: Support::Refused,
        needs: Support::Refused,
        parking: Support::Refused,
        tenants: Support::Native,
        leases: LeasesOf::Incarnation,
        questions: Questions::None,
        named_inboxes: Support::Native,
        progress: Support::Refused,
        events: Support::Refused,
        schedules: Support::Refused,
        payload_bytes_max: 1024,
    }
}

impl Broker for Fake {
    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    fn open_caller(&self, _: Inbox, sink: Arc<dyn Sink>) -> BoxFuture<'_, Result<Box<dyn Caller>, OpenError>> {
        let opened = self.change(|kept| {
            if kept.unreachable > 0 {
                kept.unreachable -= 1;
                return Err(OpenError::Unreachable("nobody is there".to_owned()));
            }
            kept.caller = Some(sink);
            Ok(Box::new(FakeCaller(self.clone())) as Box<dyn Caller>)
        });
        Box::pin(std::future::ready(opened))
    }

    fn open_worker(&self, offer: Offer, sink: Arc<dyn Sink>) -> BoxFuture<'_, Result<Box<dyn Worker>, OpenError>> {
        self.change(|kept| {
            kept.worker = Some(sink);
            kept.offer = Some(offer);
        });
        Box::pin(std::future::ready(Ok(Box::new(FakeWorker(self.clone())) as Box<dyn Worker>)))
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        None
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Takes from the front what fits.
fn take<T>(from: &mut Vec<T>, room: &mut Option<usize>) -> Vec<T> {
    let count = room.map_or(from.len(), |room| room.min(from.len()));
    if let Some(room) = room {
        *room -= count;
    }
    from.drain(..count).collect()
}

struct FakeCaller(Fake);

impl Caller for FakeCaller {
    fn submit(&self, calls: &mut Vec<Submission>) {
        let offered = self.0.kept().offered.take();
        if let Some(offered) = offered {
            offered();
        }
        self.0.change(|kept| {
            let taken = take(calls, &mut kept.room);
            if !taken.is_empty() {
                kept.batches.push(taken.len());
            }
            // A call with `Wants::Outcome` is answered by its outcome alone.
            assert!(taken.iter().all(|call| !call.resent && (call.tag != 0 || call.wants == Wants::Acceptance)));
            kept.submissions.extend(taken);
        });
        if !calls.is_empty() && std::mem::take(&mut self.0.kept().writable_at_once) {
            self.0.kept().room = None;
            self.0.tell(Event::Writable);
        }
    }

    fn attach(&self, calls: &[(CallId, Tag)]) {
        self.0.change(|kept| kept.attached.extend(calls));
    }

    fn acknowledge(&self, outcomes: &[CallId]) {
        self.0.change(|kept| kept.acknowledged.push(outcomes.to_vec()));
    }

    fn cancel(&self, calls: &[CallId]) {
        self.0.change(|kept| kept.cancelled.extend(calls));
    }
}

impl Drop for FakeCaller {
    fn drop(&mut self) {
        self.0.change(|kept| kept.closed_callers += 1);
    }
}

struct FakeWorker(Fake);

impl Worker for FakeWorker {
    fn credit(&self, _: i32) {}

    fn report(&self, reports: &mut Vec<Report>) {
        self.0.change(|kept| {
            let taken = take(reports, &mut kept.room);
            kept.reports.extend(taken);
        });
        if !reports.is_empty() && std::mem::take(&mut self.0.kept().writable_at_once) {
            self.0.kept().room = None;
            self.0.tell_worker(Event::Writable);
        }
    }

    fn extend(&self, leases: &[LeaseTag]) {
        self.0.change(|kept| kept.extended.push(leases.to_vec()));
    }

    fn drain(&self) {
        self.0.change(|kept| kept.drained = true);
    }
}

impl Drop for FakeWorker {
    fn drop(&mut self) {
        self.0.change(|kept| kept.closed_workers += 1);
    }
}
