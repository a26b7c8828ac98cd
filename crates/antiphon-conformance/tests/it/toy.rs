//! A broker in a few hundred lines behind one lock, which can break each rule on purpose. It stores nothing on disk;
//! its restart keeps what a durable broker would.

mod progress;
mod seam;

use crate::fault::Fault;
use antiphon_broker::{
    AcceptedMeans, Attach, Callbacks, CancelReach, Capabilities, Delay, Event, Fencing, Idempotency, Inbox, Lease,
    LeasesOf, Ordering, Questions, Report, Sink, Submission, Support, Wants,
};
use antiphon_protocol::{
    Call, CallId, Code, Durability, Epoch, Failure, IncarnationId, LeaseTag, Offer, Outcome, Payload, Priority,
    Settlement, Start, State, Tag,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Short, so that rules that wait for a lease's end do not wait long.
const LEASE: Duration = Duration::from_millis(200);

pub fn full() -> Capabilities {
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
        progress: Support::Native,
        events: Support::Refused,
        schedules: Support::Refused,
        payload_bytes_max: 11_000_000,
    }
}

pub fn bare() -> Capabilities {
    Capabilities {
        accepted: AcceptedMeans::Memory,
        durable_by_default: false,
        fencing: Fencing::AtSettle,
        cancel: CancelReach::None,
        attach: Attach::InboxOnly,
        idempotency: Idempotency::ById,
        delay: Delay::None,
        priorities: Support::Refused,
        concurrency_keys: Support::Refused,
        needs: Support::Refused,
        parking: Support::Refused,
        tenants: Support::Refused,
        named_inboxes: Support::Refused,
        progress: Support::Refused,
        payload_bytes_max: 1_000,
        ..full()
    }
}

pub struct Toy {
    capabilities: Capabilities,
    data: Shared,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Data>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Data> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Data {
    capabilities: Capabilities,
    fault: Fault,
    epoch: u32,
    peers: u32,
    tokens: u64,
    grants: u64,
    calls: BTreeMap<CallId, Kept>,
    callers: BTreeMap<u32, (Inbox, Arc<dyn Sink>)>,
    workers: BTreeMap<u32, Working>,
    told: progress::Told,
}

struct Kept {
    call: Call,
    submitted: u64,
    state: State,
    due: Instant,
    deadline: Option<Instant>,
    started: u16,
    failed: u16,
    lease: Option<Held>,
    outcome: Option<Outcome>,
    watchers: Vec<(Inbox, Tag)>,
}

struct Held {
    tag: LeaseTag,
    incarnation: IncarnationId,
    peer: u32,
    ends: Option<Instant>,
}

struct Working {
    offer: Offer,
    free: i64,
    draining: bool,
    sink: Arc<dyn Sink>,
}

impl Toy {
    pub fn new(capabilities: Capabilities, fault: Fault) -> Arc<Self> {
        let data = Data {
            capabilities: capabilities.clone(),
            fault,
            epoch: 1,
            peers: 0,
            tokens: 1_000,
            grants: 0,
            calls: BTreeMap::new(),
            callers: BTreeMap::new(),
            workers: BTreeMap::new(),
            told: progress::Told::default(),
        };
        let data = Arc::new(Mutex::new(data));
        let clock: Weak<Mutex<Data>> = Arc::downgrade(&data);
        std::thread::spawn(move || {
            while let Some(data) = clock.upgrade() {
                Shared(data).lock().tick();
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Arc::new(Self { capabilities, data: Shared(data) })
    }

    /// Forgets what a crash would make it forget.
    pub fn restart(&self) {
        let mut data = self.data.lock();
        data.epoch += 1;
        data.callers.clear();
        data.workers.clear();
        let fault = data.fault;
        data.calls.retain(|_, kept| {
            let durable = kept.call.route.durability != Some(Durability::Volatile) || fault == Fault::KeepVolatile;
            durable && fault != Fault::ForgetCalls && !(fault == Fault::ForgetOutcomes && kept.outcome.is_some())
        });
        for kept in data.calls.values_mut() {
            if fault == Fault::ForgetAttempts {
                kept.failed = 0;
            }
            if fault == Fault::ForgetLeases && kept.lease.take().is_some() {
                kept.state = State::Ready;
            }
            if fault == Fault::ForgetKeys {
                kept.call.keys = None;
            }
            if fault == Fault::ForgetInboxes {
                kept.watchers.clear();
            }
        }
        if fault == Fault::ForgetTokens {
            data.tokens = 1;
        }
    }
}

impl Data {
    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn tell_caller(&self, peer: u32, event: Event) {
        if let Some((_, sink)) = self.callers.get(&peer) {
            sink.events(&mut vec![event]);
        }
    }

    fn tell_worker(&self, peer: u32, event: Event) {
        if let Some(worker) = self.workers.get(&peer) {
            worker.sink.events(&mut vec![event]);
        }
    }

    fn inbox(&self, peer: u32) -> Option<Inbox> {
        self.callers.get(&peer).map(|(inbox, _)| inbox.clone())
    }

    fn refusal(&self, call: &Call) -> Option<Failure> {
        let lacking = |what: &str| Some(Failure::new(Code::Unimplemented, format!("this broker has no {what}")));
        let bytes = call.payload.bytes.len();
        if bytes > self.capabilities.payload_bytes_max as usize && !self.has(Fault::NoPayloadCap) {
            return Some(Failure::new(Code::ResourceExhausted, format!("a payload of {bytes} bytes is too large")));
        }
        if call.route.attempts == 0 && !self.has(Fault::TakeNoAttempts) {
            return Some(Failure::new(Code::InvalidArgument, "a call needs at least one attempt"));
        }
        if self.has(Fault::IgnoreWhatIsLacking) {
            return None;
        }
        let memory = self.capabilities.accepted == AcceptedMeans::Memory;
        if memory && call.route.durability == Some(Durability::Durable) {
            return Some(Failure::new(Code::FailedPrecondition, "this broker keeps calls in memory"));
        }
        if self.capabilities.idempotency == Idempotency::ById && call.keys.is_some() {
            return lacking("idempotency keys");
        }
        if self.capabilities.delay == Delay::None && call.start != Start::Now {
            return lacking("delays");
        }
        if self.capabilities.priorities == Support::Refused && call.route.priority != Priority::DEFAULT {
            return lacking("priorities");
        }
        if call.keys.as_ref().is_some_and(|keys| keys.ordering.is_some() || keys.concurrency.is_some()) {
            return lacking("ordering or concurrency keys");
        }
        if !call.route.labels.is_empty() || call.route.slots != 1 {
            return lacking("labels or slots of calls");
        }
        if !call.route.callbacks.is_empty() {
            return lacking("callbacks");
        }
        if call.route.group.is_some() || call.keys.as_ref().is_some_and(|keys| keys.group.is_some()) {
            return lacking("groups");
        }
        if call.route.event {
            return lacking("events");
        }
        if self.capabilities.tenants == Support::Refused && call.route.tenant.is_some() {
            return lacking("tenants");
        }
        None
    }

    fn submit(&mut self, peer: u32, submission: Submission) {
        let Submission { call, mut tag, wants, .. } = submission;
        if self.has(Fault::OtherTag) {
            tag = tag.wrapping_add(1);
        }
        if let Some(failure) = self.refusal(&call) {
            self.tell_caller(peer, Event::Refused { tag, failure });
            if self.has(Fault::AcceptRefused) {
                self.tell_caller(peer, Event::Accepted { tag, id: call.id, duplicate: false, wait_ms: None });
            }
            return;
        }
        let known = match self.known(&call) {
            Ok(known) => known,
            Err(failure) => return self.tell_caller(peer, Event::Refused { tag, failure }),
        };
        let id = known.unwrap_or(call.id);
        if wants != Wants::Outcome {
            self.tell_caller(peer, Event::Accepted { tag, id, duplicate: known.is_some(), wait_ms: None });
        }
        if known.is_none() {
            self.keep(call);
        }
        if self.has(Fault::RunDuplicates) && known.is_some() {
            self.calls.get_mut(&id).unwrap().state = State::Ready;
        }
        if wants != Wants::Acceptance || self.has(Fault::SendDetached) {
            self.watch(peer, id, tag);
        }
        self.dispatch();
    }

    /// The call that this one is, if it was submitted before.
    fn known(&self, call: &Call) -> Result<Option<CallId>, Failure> {
        if self.calls.contains_key(&call.id) {
            return Ok(Some(call.id));
        }
        let Some(keys) = call.keys.as_ref().filter(|_| !self.has(Fault::IgnoreKeys)) else { return Ok(None) };
        let found = self.calls.values().find(|kept| {
            let same_key = kept.call.keys.as_ref() == Some(keys);
            let same_procedure =
                kept.call.route.procedure == call.route.procedure || self.has(Fault::KeysOverProcedures);
            let freed = kept.state.is_settled() && kept.started == 0 && !self.has(Fault::KeepFreedKeys);
            let forgotten = kept.state.is_settled() && self.has(Fault::ForgetSettledKeys);
            same_key && same_procedure && !freed && !forgotten
        });
        match found {
            Some(kept) if kept.call.payload != call.payload && !self.has(Fault::NoConflicts) => {
                Err(Failure::new(Code::AlreadyExists, "the key stands for a call with other arguments"))
            }
            found => Ok(found.map(|kept| kept.call.id)),
        }
    }

    fn keep(&mut self, mut call: Call) {
        if self.has(Fault::CutPayloads) {
            let keep = call.payload.bytes.len().min(9_999_999);
            call.payload.bytes.truncate(keep);
        }
        if self.has(Fault::ForgetContentType) {
            call.payload = Payload::json(call.payload.bytes);
        }
        let now = Instant::now();
        let wait_ms = match call.start {
            _ if self.has(Fault::IgnoreStarts) => 0,
            Start::Now => 0,
            Start::In(ms) => ms,
            Start::At(at_ms) => at_ms.saturating_sub(
                u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap(),
            ),
        };
        let kept = Kept {
            submitted: self.calls.len() as u64,
            state: if wait_ms == 0 { State::Ready } else { State::Scheduled },
            due: now + Duration::from_millis(wait_ms),
            deadline: (call.deadline_ms > 0).then(|| now + Duration::from_millis(call.deadline_ms)),
            started: 0,
            failed: 0,
            lease: None,
            outcome: None,
            watchers: Vec::new(),
            call,
        };
        self.calls.insert(kept.call.id, kept);
    }

    /// Sends the outcome to the peer's inbox: now, or when there is one.
    fn watch(&mut self, peer: u32, id: CallId, tag: Tag) {
        let Some(inbox) = self.inbox(peer) else { return };
        let tag = if matches!(inbox, Inbox::Named(_)) { 0 } else { tag };
        let Some(kept) = self.calls.get_mut(&id) else { return };
        kept.watchers.retain(|(found, _)| *found != inbox);
        kept.watchers.push((inbox, tag));
        self.deliver(id, Some(peer));
    }

    /// Tells the callers that watch this call, or one of them, how it ended.
    fn deliver(&self, id: CallId, only: Option<u32>) {
        let Some(kept) = self.calls.get(&id) else { return };
        let Some(outcome) = &kept.outcome else { return };
        for (peer, (inbox, _)) in &self.callers {
            let watches = kept.watchers.iter().find(|(found, _)| found == inbox).map(|(_, tag)| *tag);
            let told = watches.or(self.has(Fault::TellEveryone).then_some(1));
            if let Some(tag) = told.filter(|_| only.is_none_or(|only| only == *peer)) {
                let (state, attempts, outcome) = (kept.state, kept.started, outcome.clone());
                self.tell_caller(*peer, Event::Outcome { tag, id, state, attempts, outcome });
            }
        }
    }

    fn settle(&mut self, id: CallId, state: State, mut outcome: Outcome) {
        let fault = self.fault;
        let Some(kept) = self.calls.get_mut(&id) else { return };
        if kept.state.is_settled() && fault != Fault::SettleTwice {
            return;
        }
        if let (Outcome::Failure(failure), Fault::LoseDetails) = (&mut outcome, fault) {
            failure.details = None;
        }
        kept.state = state;
        kept.outcome = Some(outcome);
        self.deliver(id, None);
    }

    /// Ends a call that its procedure did not end; a running attempt is asked to stop and keeps its lease.
    fn end(&mut self, id: CallId, state: State, code: Code) {
        let Some(kept) = self.calls.get(&id) else { return };
        let mut failure = Failure::new(code, "it was ended");
        failure.may_have_run = kept.started > 0;
        let held = kept.lease.as_ref().map(|held| (held.peer, held.tag));
        self.settle(id, state, Outcome::Failure(failure));
        if let Some((peer, lease)) = held {
            if !self.has(Fault::AskNobodyToStop) {
                self.tell_worker(peer, Event::CancelAsked { lease });
            }
            if self.has(Fault::FreeSlotsEarly) {
                self.workers.get_mut(&peer).unwrap().free += 1;
            }
        }
        self.dispatch();
    }

    fn dispatch(&mut self) {
        while let Some((id, peer)) = self.choose() {
            self.grants += 1;
            self.tokens += 1;
            let token = if self.has(Fault::SameTokens) { 1_000 } else { self.tokens };
            let worker = self.workers.get_mut(&peer).unwrap();
            worker.free -= 1;
            let kept = self.calls.get_mut(&id).unwrap();
            kept.state = State::Leased;
            kept.started += 1;
            let tag = LeaseTag { slot: peer, token };
            kept.lease = Some(Held { tag, incarnation: worker.offer.incarnation, peer, ends: None });
            let procedures = &worker.offer.procedures;
            let place = procedures.iter().position(|offered| offered.name == kept.call.route.procedure);
            let remaining = kept.deadline.map_or(0, |at| at.saturating_duration_since(Instant::now()).as_millis());
            let lease = Lease {
                lease: tag,
                call: id,
                procedure: u32::try_from(place.unwrap_or(0)).unwrap(),
                attempt: kept.failed + 1,
                attempts_max: kept.call.route.attempts,
                lease_ms: u32::try_from(LEASE.as_millis()).unwrap(),
                attempt_timeout_ms: 0,
                deadline_ms: u64::try_from(remaining).unwrap(),
                payload: kept.call.payload.clone(),
                trace: None,
            };
            self.tell_worker(peer, Event::Lease(lease));
        }
    }

    fn choose(&self) -> Option<(CallId, u32)> {
        let mut ready: Vec<&Kept> = self.calls.values().filter(|kept| kept.state == State::Ready).collect();
        // Every tenth grant goes to the oldest, so that no class starves.
        let by_class = self.has(Fault::Starve) || self.grants % 10 != 9;
        ready.sort_by_key(|kept| {
            let class = if by_class && !self.has(Fault::IgnoreClasses) { kept.call.route.priority.class() } else { 0 };
            let class = if by_class { class } else { 9 - kept.call.route.priority.class() };
            (std::cmp::Reverse(class), kept.submitted)
        });
        ready.into_iter().find_map(|kept| {
            let (peer, _) = self.workers.iter().find(|(_, worker)| {
                let offers = worker.offer.procedures.iter().any(|offered| offered.name == kept.call.route.procedure);
                let room = worker.free > 0 || self.has(Fault::IgnoreSlots);
                let takes = !worker.draining || self.has(Fault::IgnoreDrain);
                room && takes && (offers || self.has(Fault::IgnoreOffers))
            })?;
            Some((kept.call.id, *peer))
        })
    }

    fn report(&mut self, peer: u32, report: Report) {
        let Some(worker) = self.workers.get(&peer) else { return };
        let incarnation = worker.offer.incarnation;
        let any = self.has(Fault::TakeAnyToken);
        let current = self.calls.get(&report.call).is_some_and(|kept| {
            any || kept.lease.as_ref().is_some_and(|held| held.tag == report.lease && held.incarnation == incarnation)
        });
        if !current {
            return self.tell_worker(peer, Event::Stale { lease: report.lease });
        }
        if !self.has(Fault::KeepSlots) {
            self.workers.get_mut(&peer).unwrap().free += 1;
        }
        self.tell_worker(peer, Event::Settled { lease: report.lease });
        self.end_lease(report.call, report.settlement);
        self.dispatch();
    }

    fn end_lease(&mut self, id: CallId, settlement: Settlement) {
        let fault = self.fault;
        let Some(kept) = self.calls.get_mut(&id) else { return };
        kept.lease = None;
        let settled = kept.state.is_settled();
        match settlement {
            Settlement::Succeed(value) => self.settle(id, State::Succeeded, Outcome::Reply(value)),
            Settlement::Fail(failure) => self.settle(id, State::Failed, Outcome::Failure(failure)),
            Settlement::Bury(failure) if fault != Fault::RetryBuried => {
                self.settle(id, State::Dead, Outcome::Failure(failure));
            }
            Settlement::Retry(failure) | Settlement::Bury(failure) if !settled => {
                kept.failed += 1;
                if kept.failed >= kept.call.route.attempts && fault != Fault::NoLimitOfAttempts {
                    return self.settle(id, State::Dead, Outcome::Failure(failure.may_have_run()));
                }
                kept.state = State::Scheduled;
                kept.due = Instant::now() + Duration::from_millis(u64::from(failure.retry_after_ms.unwrap_or(1)));
            }
            Settlement::Release if !settled => {
                kept.state = State::Ready;
                kept.started -= 1;
                if fault == Fault::CountReleases {
                    kept.failed += 1;
                }
                if kept.failed >= kept.call.route.attempts {
                    kept.started += 1;
                    let failure = Failure::new(Code::Unavailable, "released");
                    self.settle(id, State::Dead, Outcome::Failure(failure));
                }
            }
            _ => {}
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        let ids: Vec<CallId> = self.calls.keys().copied().collect();
        for id in ids {
            let kept = self.calls.get_mut(&id).unwrap();
            if kept.state == State::Scheduled && kept.due <= now {
                kept.state = State::Ready;
            }
            let running = kept.lease.is_some();
            let expired = kept.deadline.is_some_and(|at| at <= now) && !kept.state.is_settled();
            let lost = kept.lease.as_ref().is_some_and(|held| held.ends.is_some_and(|ends| ends <= now));
            // Once only: the faulty broker below would expire the same call for ever.
            if expired && kept.outcome.is_none() {
                self.end(id, State::Expired, Code::DeadlineExceeded);
                if self.fault == Fault::RunExpired && !running {
                    self.calls.get_mut(&id).unwrap().state = State::Ready;
                }
            }
            if lost {
                self.lose_lease(id);
            }
        }
        self.dispatch();
    }

    fn lose_lease(&mut self, id: CallId) {
        let kept = self.calls.get_mut(&id).unwrap();
        kept.lease = None;
        if kept.state.is_settled() {
            return;
        }
        kept.state = State::Ready;
        if kept.call.route.at_most_once && self.fault != Fault::LeaseAgain {
            let failure = Failure::new(Code::Unknown, "its only lease was lost").may_have_run();
            self.settle(id, State::Dead, Outcome::Failure(failure));
        }
    }

    fn open_caller(&mut self, inbox: Inbox, sink: Arc<dyn Sink>) -> u32 {
        self.peers += 1;
        let peer = self.peers;
        if !self.has(Fault::NoFence) {
            self.callers.retain(|_, (found, sink)| {
                if *found == inbox {
                    sink.events(&mut vec![Event::Down { reason: "opened elsewhere".to_owned(), last: true }]);
                }
                *found != inbox
            });
        }
        sink.events(&mut vec![Event::Up { epoch: Epoch(self.epoch), kept: Vec::new() }]);
        self.callers.insert(peer, (inbox, sink));
        if !self.has(Fault::DeliverOnce) {
            for id in self.calls.keys() {
                self.deliver(*id, Some(peer));
            }
        }
        peer
    }

    fn open_worker(&mut self, offer: Offer, sink: Arc<dyn Sink>) -> u32 {
        self.peers += 1;
        let peer = self.peers;
        let mut kept = Vec::new();
        for held in &offer.held {
            let Some(found) = self.calls.get_mut(&held.call).and_then(|kept| kept.lease.as_mut()) else { continue };
            let current = found.tag == held.lease && found.incarnation == offer.incarnation;
            if current || self.fault == Fault::KeepAnyLease {
                (found.peer, found.ends, found.incarnation) = (peer, None, offer.incarnation);
                kept.push(held.lease);
            }
        }
        let free = i64::from(offer.slots) - i64::try_from(kept.len()).unwrap();
        sink.events(&mut vec![Event::Up { epoch: Epoch(self.epoch), kept }]);
        self.workers.insert(peer, Working { offer, free, draining: false, sink });
        self.dispatch();
        peer
    }

    fn close_worker(&mut self, peer: u32) {
        self.workers.remove(&peer);
        let fault = self.fault;
        for kept in self.calls.values_mut() {
            let Some(held) = kept.lease.as_mut().filter(|held| held.peer == peer) else { continue };
            held.ends = match fault {
                Fault::ForgetWhoWent => None,
                _ if kept.call.route.idempotent => Some(Instant::now()),
                _ => Some(Instant::now() + LEASE),
            };
        }
        self.tick();
    }
}
