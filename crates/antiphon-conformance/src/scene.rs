//! What a rule plays on: a broker, callers and workers with recorders, and names that no other rule uses.

use crate::Harness;
use crate::recorder::{PATIENCE_FOR_A_LEASE, Recorder};
use antiphon_broker::{
    Broker, Caller, Capabilities, Event, Inbox, Lease, OpenError, Report, Submission, Wants, Worker,
};
use antiphon_protocol::{
    Call, CallId, CallerId, CancelAnswer, Epoch, Failure, HeldLease, IncarnationId, LeaseTag, Name, Offer,
    OfferedProcedure, Outcome, Payload, Route, Settlement, State, Tag,
};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A broker and a name for this one rule's procedures, so that rules may share a broker.
pub(crate) struct Scene {
    pub(crate) broker: Arc<dyn Broker>,
    name: String,
    grace: Duration,
}

impl Scene {
    pub(crate) async fn open(harness: &impl Harness) -> Self {
        let broker = harness.broker().await;
        let name = format!("conformance-{:016x}", u64::from_be_bytes(random()));
        Self { broker, name, grace: harness.grace() }
    }

    /// The same names on the broker as it is after a restart; `None` where it cannot be restarted.
    /// Callers and workers of before must be dropped by now.
    pub(crate) async fn restart(self, harness: &impl Harness) -> Option<Self> {
        let Self { broker, name, grace } = self;
        drop(broker);
        Some(Self { broker: harness.restart().await?, name, grace })
    }

    pub(crate) fn capabilities(&self) -> &Capabilities {
        self.broker.capabilities()
    }

    /// A name that only this rule uses.
    pub(crate) fn name(&self, which: &str) -> Name {
        Name::new(&format!("{}.{which}", self.name)).expect("the rule's name is a name")
    }

    /// A call of `procedure` with a fresh id, and a route as `edit` leaves it.
    pub(crate) fn call(&self, procedure: &str, edit: impl FnOnce(&mut Route)) -> Call {
        let mut route = Route::new(self.name(procedure));
        // Rules that retry do not want to wait.
        route.backoff.first_ms = 1;
        edit(&mut route);
        Call::new(call_id(), Arc::new(route), Payload::json("[1]"))
    }

    /// A caller with an anonymous inbox of its own.
    pub(crate) async fn caller(&self) -> CallerSide {
        self.caller_with(Inbox::Anonymous(CallerId(random()))).await
    }

    pub(crate) async fn caller_with(&self, inbox: Inbox) -> CallerSide {
        self.try_caller(inbox).await.unwrap_or_else(|error| panic!("opening a caller: {error}"))
    }

    pub(crate) async fn try_caller(&self, inbox: Inbox) -> Result<CallerSide, OpenError> {
        let recorder = Arc::new(Recorder::default());
        let caller = self.broker.open_caller(inbox.clone(), recorder.clone()).await?;
        recorder.next("Up", up).await;
        Ok(CallerSide { caller, recorder, inbox, grace: self.grace })
    }

    /// A worker that serves `procedures`, which are idempotent.
    pub(crate) async fn worker(&self, procedures: &[&str], slots: u32) -> WorkerSide {
        self.worker_with(procedures, slots, |_| {}).await
    }

    /// A worker with an offer as `edit` leaves it.
    pub(crate) async fn worker_with(
        &self,
        procedures: &[&str],
        slots: u32,
        edit: impl FnOnce(&mut Offer),
    ) -> WorkerSide {
        let procedures = procedures
            .iter()
            .map(|procedure| OfferedProcedure { name: self.name(procedure), idempotent: true, schema: None })
            .collect();
        let incarnation = IncarnationId(random());
        let mut offer =
            Offer { incarnation, name: self.name("worker"), procedures, slots, labels: Vec::new(), held: Vec::new() };
        edit(&mut offer);
        let recorder = Arc::new(Recorder::default());
        let incarnation = offer.incarnation;
        let opened = self.broker.open_worker(offer, recorder.clone()).await;
        let worker = opened.unwrap_or_else(|error| panic!("opening a worker: {error}"));
        let (epoch, kept) = recorder.next("Up", up).await;
        WorkerSide { worker, recorder, incarnation, epoch, kept, grace: self.grace }
    }
}

/// A caller and its events.
pub(crate) struct CallerSide {
    pub(crate) caller: Box<dyn Caller>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) inbox: Inbox,
    grace: Duration,
}

/// An outcome as it was delivered.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Delivered {
    pub(crate) tag: Tag,
    pub(crate) id: CallId,
    pub(crate) state: State,
    pub(crate) attempts: u16,
    pub(crate) outcome: Outcome,
}

impl Delivered {
    /// The failure it must be.
    #[track_caller]
    pub(crate) fn failure(&self) -> &Failure {
        match &self.outcome {
            Outcome::Failure(failure) => failure,
            Outcome::Reply(_) => panic!("a failure was expected, not a reply"),
        }
    }
}

impl CallerSide {
    /// Submits one call and waits for nothing.
    pub(crate) async fn submit(&self, call: &Call, tag: Tag) {
        self.submit_wanting(call, tag, Wants::AcceptanceAndOutcome).await;
    }

    pub(crate) async fn submit_wanting(&self, call: &Call, tag: Tag, wants: Wants) {
        self.submit_all(vec![Submission { call: call.clone(), tag, wants, resent: false }]).await;
    }

    /// Submits a batch, the rest of it each time the broker takes more.
    pub(crate) async fn submit_all(&self, mut submissions: Vec<Submission>) {
        self.caller.submit(&mut submissions);
        while !submissions.is_empty() {
            self.recorder.next("room for the rest of a batch", writable).await;
            self.caller.submit(&mut submissions);
        }
    }

    /// Submits one call and waits until the broker has it.
    pub(crate) async fn accepted(&self, call: &Call, tag: Tag) {
        self.submit(call, tag).await;
        let (id, duplicate) = self.acceptance(tag).await;
        assert_eq!((id, duplicate), (call.id, false), "a new call is accepted under its own id");
    }

    /// Submits one call that must be refused.
    pub(crate) async fn refused(&self, call: &Call, tag: Tag) -> Failure {
        self.submit(call, tag).await;
        self.refusal(tag).await
    }

    /// The answer `Accepted` for a tag: the id, and whether it was a duplicate.
    pub(crate) async fn acceptance(&self, tag: Tag) -> (CallId, bool) {
        let what = format!("Accepted with tag {tag}");
        let pick = |event: &Event| match event {
            Event::Accepted { tag: found, id, duplicate, .. } if *found == tag => Some((*id, *duplicate)),
            _ => None,
        };
        self.recorder.next(&what, pick).await
    }

    pub(crate) async fn refusal(&self, tag: Tag) -> Failure {
        let what = format!("Refused with tag {tag}");
        self.recorder.next(&what, |event| refusal(event, tag)).await
    }

    pub(crate) async fn outcome(&self, tag: Tag) -> Delivered {
        let what = format!("Outcome with tag {tag}");
        self.recorder.next(&what, |event| outcome(event).filter(|found| found.tag == tag)).await
    }

    /// The outcome of a call, whatever its tag.
    pub(crate) async fn delivery(&self, id: CallId) -> Delivered {
        let what = format!("Outcome of {id}");
        self.recorder.next(&what, |event| outcome(event).filter(|found| found.id == id)).await
    }

    /// The outcome of a call that arrives only after a lease has ended by itself.
    pub(crate) async fn outcome_after_a_lease(&self, tag: Tag) -> Delivered {
        let what = format!("Outcome with tag {tag}, after its lease ended");
        let bound = PATIENCE_FOR_A_LEASE;
        self.recorder.next_within(bound, &what, |event| outcome(event).filter(|found| found.tag == tag)).await
    }

    pub(crate) async fn cancel(&self, id: CallId) -> CancelAnswer {
        self.caller.cancel(&[id]);
        let pick = |event: &Event| match event {
            Event::CancelAnswered { id: found, answer } if *found == id => Some(answer.clone()),
            _ => None,
        };
        self.recorder.next("CancelAnswered", pick).await
    }

    /// Waits until the broker has handled everything this caller sent before: it answers in order.
    pub(crate) async fn round_trip(&self) {
        let answer = self.cancel(call_id()).await;
        assert_eq!(answer, CancelAnswer::NotFound, "nobody knows a call that was never submitted");
        tokio::time::sleep(self.grace).await;
    }

    /// Whether an outcome is here for this tag. Ask after a [`Self::round_trip`].
    pub(crate) fn has_outcome(&self, id: CallId) -> bool {
        self.recorder.take(|event| outcome(event).filter(|found| found.id == id)).is_some()
    }

    /// Whether an acceptance is here for this tag. Ask after a [`Self::round_trip`].
    pub(crate) fn has_acceptance(&self, tag: Tag) -> bool {
        let pick = |event: &Event| matches!(event, Event::Accepted { tag: found, .. } if *found == tag).then_some(());
        self.recorder.take(pick).is_some()
    }
}

/// A worker and its events.
pub(crate) struct WorkerSide {
    pub(crate) worker: Box<dyn Worker>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) incarnation: IncarnationId,
    /// The broker's start that it is connected to.
    pub(crate) epoch: Epoch,
    /// The leases it brought along and still holds.
    pub(crate) kept: Vec<LeaseTag>,
    grace: Duration,
}

impl WorkerSide {
    /// The next lease, whatever it is for.
    pub(crate) async fn lease(&self) -> Lease {
        self.recorder.next("a lease", lease).await
    }

    /// The next lease, which must be for this call.
    pub(crate) async fn lease_of(&self, call: &Call) -> Lease {
        let lease = self.lease().await;
        assert_eq!(lease.call, call.id, "the lease is for the call that was submitted");
        lease
    }

    /// The next lease, of something that may have to wait until another lease has ended by itself.
    pub(crate) async fn lease_after_a_lease(&self) -> Lease {
        self.recorder.next_within(PATIENCE_FOR_A_LEASE, "a lease, after another has ended", lease).await
    }

    /// A lease if one is here. Ask after a [`Self::round_trip`].
    pub(crate) fn has_lease(&self) -> Option<Lease> {
        self.recorder.take(lease)
    }

    /// Reports and waits until it is recorded.
    pub(crate) async fn settle(&self, lease: &Lease, settlement: Settlement) {
        self.report(lease, settlement).await;
        assert!(self.answer(lease.lease).await, "a report with a current lease is recorded");
    }

    /// Answers a call with its own arguments.
    pub(crate) async fn echo(&self, lease: &Lease) {
        self.settle(lease, Settlement::Succeed(lease.payload.clone())).await;
    }

    pub(crate) async fn report(&self, lease: &Lease, settlement: Settlement) {
        let mut reports = vec![Report { lease: lease.lease, call: lease.call, settlement }];
        self.worker.report(&mut reports);
        while !reports.is_empty() {
            self.recorder.next("room for the rest of a batch", writable).await;
            self.worker.report(&mut reports);
        }
    }

    /// Whether what was sent for this lease was recorded (`Settled`), rather than refused (`Stale`).
    pub(crate) async fn answer(&self, tag: LeaseTag) -> bool {
        let pick = |event: &Event| match event {
            Event::Settled { lease } if *lease == tag => Some(true),
            Event::Stale { lease } if *lease == tag => Some(false),
            _ => None,
        };
        self.recorder.next("Settled or Stale", pick).await
    }

    /// Waits for `CancelAsked` for this lease.
    pub(crate) async fn asked_to_stop(&self, tag: LeaseTag) {
        let pick = |event: &Event| matches!(event, Event::CancelAsked { lease } if *lease == tag).then_some(());
        self.recorder.next("CancelAsked", pick).await;
    }

    /// Waits until the broker has handled everything this worker sent before: it answers in order, and a lease that
    /// nobody ever had is stale.
    pub(crate) async fn round_trip(&self) {
        let nobodys = LeaseTag { slot: u32::MAX, token: u64::from_be_bytes(random()) };
        self.worker.extend(&[nobodys]);
        assert!(!self.answer(nobodys).await, "a lease that nobody ever had is stale");
        tokio::time::sleep(self.grace).await;
    }
}

/// What a worker says of a lease it brings along.
pub(crate) fn held(lease: &Lease) -> HeldLease {
    HeldLease { call: lease.call, lease: lease.lease }
}

fn up(event: &Event) -> Option<(Epoch, Vec<LeaseTag>)> {
    match event {
        Event::Up { epoch, kept } => Some((*epoch, kept.clone())),
        _ => None,
    }
}

fn lease(event: &Event) -> Option<Lease> {
    match event {
        Event::Lease(lease) => Some(lease.clone()),
        _ => None,
    }
}

fn outcome(event: &Event) -> Option<Delivered> {
    match event {
        Event::Outcome { tag, id, state, attempts, outcome } => {
            Some(Delivered { tag: *tag, id: *id, state: *state, attempts: *attempts, outcome: outcome.clone() })
        }
        _ => None,
    }
}

fn refusal(event: &Event, tag: Tag) -> Option<Failure> {
    match event {
        Event::Refused { tag: found, failure } if *found == tag => Some(failure.clone()),
        _ => None,
    }
}

fn writable(event: &Event) -> Option<()> {
    matches!(event, Event::Writable).then_some(())
}

/// A fresh call id.
pub(crate) fn call_id() -> CallId {
    CallId::new(wall_ms(), random())
}

/// Wall time in milliseconds since 1970.
pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    u64::try_from(since.as_millis()).expect("the clock is before the year 500 million")
}

/// Random bytes.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}
