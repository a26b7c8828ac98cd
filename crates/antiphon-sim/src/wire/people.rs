//! Callers and workers over the client's own code, and what they saw.

use super::pipe::{Dialler, Network, lock};
use antiphon_broker::{Broker, Caller, Event, Inbox, Report, Sink, Submission, Wants, Worker};
use antiphon_protocol::{
    Call, CallId, CallerId, Code, Durability, Failure, IncarnationId, LeaseTag, Offer, OfferedProcedure, Outcome,
    Payload, Route, Settlement, State, Tag,
};
use antiphon_wire::{Address, Remote, RemoteOptions};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Hears what the client tells.
#[derive(Default)]
pub(super) struct Ear(Mutex<Vec<Event>>);

impl Sink for Ear {
    fn events(&self, events: &mut Vec<Event>) {
        lock(&self.0).append(events);
    }
}

impl Ear {
    pub fn heard(&self) -> Vec<Event> {
        std::mem::take(&mut *lock(&self.0))
    }
}

pub(super) async fn remote(client: usize, network: Arc<Mutex<Network>>) -> Remote {
    let mut options = RemoteOptions::default();
    // Waiting before coming back is the world's to decide.
    (options.backoff_first, options.backoff_max) = (Duration::ZERO, Duration::ZERO);
    options.connect = Some(Arc::new(Dialler { client, network }));
    Remote::connect(Address::Tcp("simulated:7400".to_owned()), options).await.expect("nothing goes wrong yet")
}

/// A call that a caller waits for.
pub(super) struct Own {
    pub id: CallId,
    pub submission: Submission,
    pub accepted: u32,
    pub refused: Vec<Failure>,
    pub outcomes: Vec<(State, Outcome)>,
    /// The start of the broker that its caller knew of when it was handed over.
    pub epoch: u32,
}

/// A caller.
pub(super) struct Asking {
    _remote: Remote,
    caller: Box<dyn Caller>,
    ear: Arc<Ear>,
    pub calls: BTreeMap<Tag, Own>,
    pub unacknowledged: Vec<CallId>,
    pub cancelling: Vec<CallId>,
    /// What the client had no room for yet.
    waiting: Vec<Submission>,
    next: Tag,
    place: u8,
    epoch: u32,
}

impl Asking {
    pub async fn open(place: u8, client: usize, network: Arc<Mutex<Network>>) -> Self {
        let remote = remote(client, network).await;
        let ear = Arc::new(Ear::default());
        let inbox = Inbox::Anonymous(CallerId([place + 1; 16]));
        let caller = remote.open_caller(inbox, Arc::clone(&ear) as Arc<dyn Sink>).await;
        Self {
            caller: caller.unwrap_or_else(|_| panic!("nothing goes wrong yet")),
            _remote: remote,
            ear,
            calls: BTreeMap::new(),
            unacknowledged: Vec::new(),
            cancelling: Vec::new(),
            waiting: Vec::new(),
            next: 1,
            place,
            epoch: 1,
        }
    }

    pub fn submit(&mut self, count: u8, kind: u8, wall_ms: u64) {
        for _ in 0..count {
            let tag = self.next;
            self.next += 1;
            let mut random = [self.place; 10];
            // Behind the bits that say what kind of number it is.
            random[4..8].copy_from_slice(&(tag as u32).to_le_bytes());
            let id = CallId::new(wall_ms, random);
            let mut route = Route::new(crate::routes::procedure(kind % 2));
            route.idempotent = kind & 4 != 0;
            route.at_most_once = kind & 24 == 24;
            route.durability = (kind & 96 == 96).then_some(Durability::Volatile);
            let wants = match kind >> 6 {
                0 => Wants::Outcome,
                1 => Wants::Acceptance,
                _ => Wants::AcceptanceAndOutcome,
            };
            // Now and then one that goes in chunks.
            let filler = if kind == 7 { 80_000 } else { usize::from(kind) };
            let mut payload = format!("call {} of {} ", tag, self.place).into_bytes();
            payload.resize(payload.len() + filler, b'.');
            let call = Call::new(id, Arc::new(route), Payload::raw(payload));
            let submission = Submission { call, tag, wants, resent: false };
            let own = Own {
                id,
                submission: submission.clone(),
                accepted: 0,
                refused: Vec::new(),
                outcomes: Vec::new(),
                epoch: self.epoch,
            };
            self.calls.insert(tag, own);
            self.waiting.push(submission);
        }
        self.caller.submit(&mut self.waiting);
    }

    pub fn cancel(&mut self, nth: u8) -> bool {
        let own = self.calls.values().rev().take(12).nth(usize::from(nth) % 12);
        let Some(id) = own.map(|own| own.id).filter(|id| !self.cancelling.contains(id)) else { return false };
        self.cancelling.push(id);
        self.caller.cancel(&[id]);
        true
    }

    pub fn acknowledge(&mut self) -> bool {
        if self.unacknowledged.is_empty() {
            return false;
        }
        let id = self.unacknowledged.remove(0);
        self.caller.acknowledge(&[id]);
        true
    }

    pub fn listen(&mut self, wrong: &mut Vec<String>, note: &mut impl FnMut(&str)) {
        for event in self.ear.heard() {
            note(&format!("caller {} {event:?}", self.place));
            match event {
                Event::Accepted { tag, .. } => match self.calls.get_mut(&tag) {
                    Some(own) => own.accepted += 1,
                    None => wrong.push(format!("caller {}: accepted under the tag {tag}", self.place)),
                },
                Event::Refused { tag, failure } => match self.calls.get_mut(&tag) {
                    Some(own) => own.refused.push(failure),
                    None => wrong.push(format!("caller {}: refused under the tag {tag}", self.place)),
                },
                Event::Outcome { tag, id, state, outcome, .. } => match self.calls.get_mut(&tag) {
                    Some(own) if own.id == id => {
                        own.outcomes.push((state, outcome));
                        self.unacknowledged.push(id);
                    }
                    _ => wrong.push(format!("caller {}: the outcome of {id} under the tag {tag}", self.place)),
                },
                Event::CancelAnswered { id, .. } => self.cancelling.retain(|other| *other != id),
                Event::Up { epoch, .. } => self.epoch = epoch.0,
                Event::Writable => self.caller.submit(&mut self.waiting),
                Event::Down { last: true, reason } => wrong.push(format!("caller {} ended: {reason}", self.place)),
                _ => {}
            }
        }
    }

    /// Whether an answer is missing.
    pub fn waits(&self) -> bool {
        !self.cancelling.is_empty() || self.calls.values().any(|own| !own.is_done())
    }
}

impl Own {
    fn is_done(&self) -> bool {
        match self.submission.wants {
            Wants::Acceptance => self.accepted + self.refused.len() as u32 > 0,
            _ => self.outcomes.len() + self.refused.len() > 0,
        }
    }

    /// What cannot be, of what its caller saw.
    pub fn judge(&self, reported: &BTreeMap<CallId, Vec<Reported>>, epoch: u32) -> Option<String> {
        let (accepted, refused, outcomes) = (self.accepted, self.refused.len(), self.outcomes.len());
        let volatile = self.submission.call.route.durability.is_some();
        if accepted > 1 || refused > 1 || outcomes > 1 || (refused > 0 && outcomes > 0) {
            return Some(format!("accepted {accepted}, refused {refused}, settled {outcomes} times"));
        }
        let wants = self.submission.wants;
        if (wants == Wants::Outcome && accepted > 0) || (wants == Wants::Acceptance && outcomes > 0) {
            return Some(format!("it wants {wants:?} and was accepted {accepted} and settled {outcomes} times"));
        }
        for failure in &self.refused {
            let restarted = epoch > self.epoch;
            if !(volatile && restarted && failure.code == Code::Unavailable && failure.may_have_run) {
                return Some(format!("refused: {failure}"));
            }
        }
        let reports = reported.get(&self.id).map_or(&[][..], Vec::as_slice);
        let (state, outcome) = self.outcomes.first()?;
        let told = match outcome {
            Outcome::Reply(payload) => String::from_utf8_lossy(&payload.bytes).into_owned(),
            Outcome::Failure(failure) => failure.message.clone(),
        };
        let by_a_worker = matches!(state, State::Succeeded | State::Failed);
        if by_a_worker && !reports.iter().any(|report| report.text == told) {
            return Some(format!("it is {state} with {told:?}, which no worker reported"));
        }
        let taken = reports.iter().find(|report| report.settled && report.ends);
        let other = taken.filter(|report| report.text != told && !volatile);
        other.map(|report| format!("its worker was told that {:?} is recorded, its caller got {told:?}", report.text))
    }
}

/// What a worker reported.
#[derive(Clone, Debug)]
pub(super) struct Reported {
    pub lease: LeaseTag,
    pub text: String,
    pub settled: bool,
    pub ends: bool,
}

struct Held {
    lease: LeaseTag,
    call: CallId,
    reported: bool,
}

/// A worker.
pub(super) struct Serving {
    _remote: Remote,
    worker: Box<dyn Worker>,
    ear: Arc<Ear>,
    held: Vec<Held>,
    place: u8,
    /// How often each call began here, with the tokens.
    pub began: BTreeMap<CallId, Vec<u64>>,
}

impl Serving {
    pub async fn open(place: u8, client: usize, network: Arc<Mutex<Network>>) -> Self {
        let remote = remote(client, network).await;
        let ear = Arc::new(Ear::default());
        let offered =
            |number| OfferedProcedure { name: crate::routes::procedure(number), idempotent: number == 0, schema: None };
        let offer = Offer {
            incarnation: IncarnationId([place + 101; 16]),
            name: crate::routes::name(&format!("w{place}")),
            procedures: (0..2).map(offered).collect(),
            slots: 3,
            labels: Vec::new(),
            held: Vec::new(),
        };
        let worker = remote.open_worker(offer, Arc::clone(&ear) as Arc<dyn Sink>).await;
        Self {
            worker: worker.unwrap_or_else(|_| panic!("nothing goes wrong yet")),
            _remote: remote,
            ear,
            held: Vec::new(),
            place,
            began: BTreeMap::new(),
        }
    }

    fn running(&self) -> impl Iterator<Item = (usize, &Held)> {
        self.held.iter().enumerate().filter(|(_, held)| !held.reported)
    }

    pub fn finish(&mut self, nth: u8, how: u8, reported: &mut BTreeMap<CallId, Vec<Reported>>) -> bool {
        let count = self.running().count();
        let Some(at) = self.running().nth(usize::from(nth) % count.max(1)).map(|(at, _)| at) else { return false };
        let held = &mut self.held[at];
        held.reported = true;
        let text = format!("{} by {} of {}", held.call, held.lease.token, self.place);
        let failure = || Failure::new(Code::InvalidArgument, text.clone());
        let (settlement, ends) = match how % 16 {
            0 => (Settlement::Fail(failure()), true),
            1 => (Settlement::Retry(failure().retry_after_ms(u32::from(how))), false),
            2 => (Settlement::Release, false),
            _ => (Settlement::Succeed(Payload::raw(text.clone())), true),
        };
        let (lease, call) = (held.lease, held.call);
        reported.entry(call).or_default().push(Reported { lease, text, settled: false, ends });
        self.worker.report(&mut vec![Report { lease, call, settlement }]);
        true
    }

    pub fn extend(&self, nth: u8) -> bool {
        let count = self.running().count();
        let Some((_, held)) = self.running().nth(usize::from(nth) % count.max(1)) else { return false };
        self.worker.extend(&[held.lease]);
        true
    }

    pub fn listen(
        &mut self,
        reported: &mut BTreeMap<CallId, Vec<Reported>>,
        wrong: &mut Vec<String>,
        note: &mut impl FnMut(&str),
    ) {
        for event in self.ear.heard() {
            note(&format!("worker {} {event:?}", self.place));
            match event {
                Event::Up { kept, .. } => {
                    // What runs under a lease that was not kept runs for nothing.
                    self.held.retain(|held| held.reported || kept.contains(&held.lease));
                }
                Event::Lease(lease) => {
                    self.began.entry(lease.call).or_default().push(lease.lease.token);
                    self.held.push(Held { lease: lease.lease, call: lease.call, reported: false });
                }
                Event::Settled { lease } => {
                    if let Some(held) = self.let_go(lease) {
                        let all = reported.get_mut(&held.call).into_iter().flatten();
                        all.filter(|report| report.lease == lease).for_each(|report| report.settled = true);
                    } else {
                        wrong.push(format!("worker {}: {lease:?} was settled, which it does not hold", self.place));
                    }
                }
                Event::Stale { lease } => {
                    self.let_go(lease);
                }
                Event::Down { last: true, reason } => wrong.push(format!("worker {} ended: {reason}", self.place)),
                _ => {}
            }
        }
    }

    fn let_go(&mut self, lease: LeaseTag) -> Option<Held> {
        let at = self.held.iter().position(|held| held.lease == lease)?;
        Some(self.held.remove(at))
    }

    /// What it runs, or has reported without an answer.
    pub fn holds(&self) -> usize {
        self.held.len()
    }

    pub fn runs(&self) -> bool {
        self.running().next().is_some()
    }
}
