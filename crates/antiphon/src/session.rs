//! One caller of a broker, shared by every client of a connection: hands calls over, keeps those that wait, and
//! gathers acknowledgements. What the broker tells is in `tidings.rs`.

use crate::CallFailure;
use crate::acknowledgements::Acknowledgements;
use crate::call_error::{Ending, SettledCall};
use crate::event_stream::Watching;
use crate::id::{IdSource, random};
use crate::inbox::Deliveries;
use crate::outgoing::Outgoing;
use crate::overflow::Overflow;
use crate::pending::{Pending, PendingCall};
use crate::progress::Source;
use antiphon_broker::{Broker, Caller, Inbox, Sink, Submission, Wants};
use antiphon_protocol::{Call, CallId, CallerId, CancelAnswer, Code, Failure, Tag};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

thread_local! {
    /// The batch of a single call, kept for its capacity.
    static BATCH: Cell<Vec<Submission>> = const { Cell::new(Vec::new()) };
}

/// One caller of a broker.
pub(crate) struct Session {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) runtime: Handle,
    inbox: Inbox,
    state: Mutex<State>,
}

/// What a session's lock guards. The broker is never called under it.
pub(crate) struct State {
    pub(crate) link: Link,
    pub(crate) pending: Pending,
    pub(crate) ids: IdSource,
    pub(crate) overflow: Overflow,
    /// The kept calls are only gathered, to be handed over in one batch that is due.
    pub(crate) gathering: bool,
    /// How many threads offer kept calls to the broker now: calls that are in neither place.
    pub(crate) offering: usize,
    /// Attachments from before the caller was open.
    attachments: Vec<(CallId, Tag)>,
    /// Where what followed calls tell of themselves goes, by the calls' tags.
    pub(crate) sources: HashMap<Tag, Source>,
    /// Calls that are followed from before the caller was open.
    pub(crate) follows: Vec<(CallId, Tag)>,
    /// Events that are watched: each has a feed, and is asked for when the caller is open.
    pub(crate) watches: Watching,
    /// Cancellations from before the caller was open, or while kept calls are offered.
    pub(crate) cancellations: Vec<CallId>,
    pub(crate) acknowledgements: Acknowledgements,
    pub(crate) cancels: HashMap<CallId, Vec<oneshot::Sender<CancelAnswer>>>,
    /// How often the broker said that it takes more.
    pub(crate) writable: u64,
    /// Whether deadlines are watched here, because no broker does now.
    pub(crate) watching: bool,
    /// Where outcomes go in a named inbox; elsewhere they end pending calls.
    pub(crate) deliveries: Option<Deliveries>,
}

/// Where the caller stands.
pub(crate) enum Link {
    /// Not opened yet, or opening failed: the next use opens it.
    Closed,
    Opening,
    Open(Arc<dyn Caller>),
    /// The broker is away and reconnects by itself; it still takes calls.
    Away(Arc<dyn Caller>),
    /// Given up: nothing is taken any more.
    Ended(String),
}

impl Link {
    pub(crate) fn caller(&self) -> Option<Arc<dyn Caller>> {
        match self {
            Self::Open(caller) | Self::Away(caller) => Some(Arc::clone(caller)),
            Self::Closed | Self::Opening | Self::Ended(_) => None,
        }
    }
}

/// What to do with a call when the broker takes no more and too many are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crowded {
    /// Refuse it: whoever sends it cannot wait.
    Refuse,
    /// Keep it: its sender has waited for room.
    Keep,
}

/// A call that was handed over.
#[derive(Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) tag: Tag,
    pub(crate) id: CallId,
}

/// A broker has a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Acceptance {
    /// The call; another than the one submitted when an idempotency key found an earlier one.
    pub id: CallId,
    /// Whether the broker had it before.
    pub duplicate: bool,
    /// How long it should wait for its start, from its acceptance on, where the broker can tell; zero when a slot is free.
    pub expected_wait: Option<Duration>,
}

impl Acceptance {
    /// Of a call that has been there already, or is settled.
    pub(crate) const fn of(id: CallId) -> Self {
        Self { id, duplicate: false, expected_wait: None }
    }
}

impl Session {
    pub(crate) fn anonymous(broker: Arc<dyn Broker>, runtime: Handle) -> Arc<Self> {
        Arc::new(Self::new(broker, runtime, Inbox::Anonymous(CallerId(random()))))
    }

    pub(crate) fn new(broker: Arc<dyn Broker>, runtime: Handle, inbox: Inbox) -> Self {
        let deliveries = matches!(inbox, Inbox::Named(_)).then(Deliveries::default);
        let state = State {
            link: Link::Closed,
            pending: Pending::default(),
            ids: IdSource::new(),
            overflow: Overflow::default(),
            gathering: false,
            offering: 0,
            attachments: Vec::new(),
            sources: HashMap::new(),
            follows: Vec::new(),
            watches: Watching::default(),
            cancellations: Vec::new(),
            acknowledgements: Acknowledgements::default(),
            cancels: HashMap::new(),
            writable: 0,
            watching: false,
            deliveries,
        };
        Self { broker, runtime, inbox, state: Mutex::new(state) }
    }

    /// A panic under the lock is a bug that the panicking thread reports; the others go on.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands one call over, or keeps it until the broker takes it.
    pub(crate) fn send(self: &Arc<Self>, outgoing: Outgoing, wants: Wants, crowded: Crowded) -> Sent {
        let mut state = self.lock();
        let (sent, submission) = self.enter(&mut state, outgoing, wants);
        let Some(submission) = submission else { return sent };
        let Some((caller, seen)) = self.ready(&mut state) else {
            if crowded == Crowded::Refuse && !state.overflow.has_room() {
                state.refuse_crowded(sent);
            } else {
                state.overflow.keep(submission);
            }
            return sent;
        };
        drop(state);
        self.hand_over(&*caller, submission, seen);
        sent
    }

    pub(crate) fn hand_over(&self, caller: &dyn Caller, submission: Submission, seen: u64) {
        let mut batch = BATCH.take();
        batch.push(submission);
        caller.submit(&mut batch);
        self.keep_rest(caller, &mut batch, seen);
        BATCH.set(batch);
    }

    /// Hands calls over in one batch.
    pub(crate) fn send_all(self: &Arc<Self>, outgoing: Vec<Outgoing>, wants: Wants) -> Vec<Sent> {
        let mut batch = Vec::with_capacity(outgoing.len());
        let mut all = Vec::with_capacity(outgoing.len());
        let mut state = self.lock();
        for outgoing in outgoing {
            let (sent, submission) = self.enter(&mut state, outgoing, wants);
            all.push(sent);
            batch.extend(submission);
        }
        let Some((caller, seen)) = self.ready(&mut state) else {
            batch.into_iter().for_each(|submission| state.overflow.keep(submission));
            return all;
        };
        drop(state);
        if !batch.is_empty() {
            caller.submit(&mut batch);
            self.keep_rest(&*caller, &mut batch, seen);
        }
        all
    }

    /// Gives the call an id and a place to wait. A call that cannot be sent has ended already.
    pub(crate) fn enter(&self, state: &mut State, outgoing: Outgoing, wants: Wants) -> (Sent, Option<Submission>) {
        let id = outgoing.id.unwrap_or_else(|| match state.gathering {
            true => state.ids.next_id_with_the_last(),
            false => state.ids.next_id(),
        });
        let mut pending = PendingCall::new(id, outgoing.deadline_at);
        let refused = match (&state.link, outgoing.payload) {
            (Link::Ended(reason), _) => Err(Failure::new(Code::Unavailable, reason.clone())),
            (_, payload) => payload,
        };
        let payload = match refused {
            Ok(payload) => payload,
            Err(failure) => {
                pending.ending = Some(Ending::Refused(CallFailure::new(id, failure)));
                return (Sent { tag: state.pending.insert(pending), id }, None);
            }
        };
        let tag = state.pending.insert(pending);
        if outgoing.id.is_some() || outgoing.keys.as_ref().is_some_and(|keys| keys.idempotency.is_some()) {
            state.pending.share(tag);
        }
        let mut call = Call::new(id, outgoing.route, payload);
        call.deadline_ms = outgoing.deadline_ms;
        call.start = outgoing.start;
        call.keys = outgoing.keys;
        (Sent { tag, id }, Some(Submission { call, tag, wants, resent: false }))
    }

    /// The caller to submit to at once, and how often it was writable. `None` when calls have to be kept first.
    pub(crate) fn ready(self: &Arc<Self>, state: &mut State) -> Option<(Arc<dyn Caller>, u64)> {
        if matches!(state.link, Link::Closed) {
            self.open(state);
        }
        if !state.overflow.is_empty() {
            return None;
        }
        state.link.caller().map(|caller| (caller, state.writable))
    }

    /// Keeps what the broker did not take, unless it became writable meanwhile: then it is offered again.
    fn keep_rest(&self, caller: &dyn Caller, batch: &mut Vec<Submission>, mut seen: u64) {
        while !batch.is_empty() {
            let mut state = self.lock();
            if state.writable == seen || !state.overflow.is_empty() {
                batch.drain(..).for_each(|submission| state.overflow.keep(submission));
                return;
            }
            seen = state.writable;
            drop(state);
            caller.submit(batch);
        }
    }

    /// Offers the kept calls again. Called when the caller opened or said that it takes more.
    pub(crate) fn flush(&self) {
        loop {
            let mut state = self.lock();
            state.gathering = false;
            let Some(caller) = state.link.caller() else { return };
            let seen = state.writable;
            let mut wakers = state.expire_kept(Instant::now());
            let mut batch = state.overflow.take_all();
            state.offering += 1;
            drop(state);
            if !batch.is_empty() {
                caller.submit(&mut batch);
            }
            let mut state = self.lock();
            let again = !batch.is_empty() && state.writable != seen;
            state.overflow.put_back(batch);
            state.offering -= 1;
            let (cancellations, cancelled) = state.take_cancellations();
            wakers.extend(cancelled);
            if !again {
                wakers.extend(state.overflow.take_waiting());
            }
            drop(state);
            if !cancellations.is_empty() {
                caller.cancel(&cancellations);
            }
            wakers.into_iter().for_each(Waker::wake);
            if !again {
                return;
            }
        }
    }

    /// The open caller, if there is one.
    pub(crate) fn caller(&self) -> Option<Arc<dyn Caller>> {
        self.lock().link.caller()
    }

    /// Waits until one more call may be kept here.
    pub(crate) fn poll_room(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.overflow.has_room() || matches!(state.link, Link::Ended(_)) {
            return Poll::Ready(());
        }
        state.overflow.wait(context.waker());
        Poll::Pending
    }

    /// Opens the caller on the runtime; what comes meanwhile is kept.
    pub(crate) fn open(self: &Arc<Self>, state: &mut State) {
        state.link = Link::Opening;
        let session = Arc::clone(self);
        drop(self.runtime.spawn(async move {
            let opened = session.open_now().await;
            if let Err(error) = opened {
                session.fail_opening(&error.to_string());
            }
        }));
    }

    /// Opens the caller and hands over what was kept.
    pub(crate) async fn open_now(self: &Arc<Self>) -> Result<(), antiphon_broker::OpenError> {
        let sink: Arc<dyn Sink> = Arc::new(SessionSink(Arc::downgrade(self)));
        let caller: Arc<dyn Caller> = Arc::from(self.broker.open_caller(self.inbox.clone(), sink).await?);
        let (attachments, follows, watches, cancellations) = {
            let mut state = self.lock();
            if !matches!(state.link, Link::Ended(_)) {
                state.link = Link::Open(Arc::clone(&caller));
            }
            let follows = std::mem::take(&mut state.follows).into_iter().map(|(id, tag)| (id, tag, 0));
            let follows: Vec<_> = follows.collect();
            let watches = state.watches.take_unasked();
            (std::mem::take(&mut state.attachments), follows, watches, std::mem::take(&mut state.cancellations))
        };
        self.flush();
        if !attachments.is_empty() {
            caller.attach(&attachments);
        }
        if !follows.is_empty() {
            caller.follow(&follows);
        }
        if !watches.is_empty() {
            caller.watch(&watches);
        }
        if !cancellations.is_empty() {
            caller.cancel(&cancellations);
        }
        Ok(())
    }

    /// What was kept never runs; the next call tries to open again.
    fn fail_opening(&self, reason: &str) {
        let mut state = self.lock();
        if matches!(state.link, Link::Opening) {
            state.link = Link::Closed;
        }
        state.attachments.clear();
        state.follows.clear();
        state.sources.clear();
        state.cancellations.clear();
        state.cancels.clear();
        let mut wakers = state.overflow.clear();
        wakers.extend(state.watches.end_all(reason));
        for call in state.pending.waiting() {
            let failure = CallFailure::new(call.id, Failure::new(Code::Unavailable, reason.to_owned()));
            let attached = call.accepted.is_some();
            call.ending = Some(if attached { Ending::Unknown(failure) } else { Ending::Refused(failure) });
            wakers.extend(call.waker.take());
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Asks for the outcome of a call submitted elsewhere or earlier.
    pub(crate) fn attach(self: &Arc<Self>, id: CallId) -> Sent {
        let mut state = self.lock();
        let mut pending = PendingCall::new(id, None);
        pending.accepted = Some(Acceptance { duplicate: true, ..Acceptance::of(id) });
        if let Link::Ended(reason) = &state.link {
            let failure = Failure::new(Code::Unavailable, reason.clone());
            pending.ending = Some(Ending::Unknown(CallFailure::new(id, failure)));
        }
        let tag = state.pending.insert(pending);
        state.pending.share_with_all(tag);
        if matches!(state.link, Link::Closed) {
            self.open(&mut state);
        }
        match state.link.caller() {
            Some(caller) => {
                drop(state);
                caller.attach(&[(id, tag)]);
            }
            None => state.attachments.push((id, tag)),
        }
        Sent { tag, id }
    }

    /// Takes how a call ended, if it has, and owes an acknowledgement for its outcome.
    pub(crate) fn poll_ending(&self, tag: Tag, context: &Context<'_>) -> Poll<Ending> {
        let mut state = self.lock();
        let call = state.pending.find(tag).expect("a call that is polled is pending until its ending is taken");
        if call.ending.is_none() {
            if !call.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                call.waker = Some(context.waker().clone());
            }
            return Poll::Pending;
        }
        let ending = state.pending.remove(tag).and_then(|call| call.ending).expect("looked at under this lock");
        let due = if let Ending::Settled(settled) = &ending { state.owe(settled) } else { None };
        drop(state);
        acknowledge(due);
        Poll::Ready(ending)
    }

    /// Waits until the broker has the call, or it has ended.
    pub(crate) fn poll_accepted(&self, tag: Tag, context: &Context<'_>) -> Poll<Result<Acceptance, Ending>> {
        let mut state = self.lock();
        let call = state.pending.find(tag).expect("a call that is polled is pending until its ending is taken");
        if let Some(acceptance) = call.accepted {
            return Poll::Ready(Ok(acceptance));
        }
        match &call.ending {
            Some(Ending::Settled(settled)) => Poll::Ready(Ok(Acceptance::of(settled.id))),
            Some(ending) => Poll::Ready(Err(ending.clone())),
            None => {
                call.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Whether its outcome, or its failure, is here.
    pub(crate) fn has_ended(&self, tag: Tag) -> bool {
        self.lock().pending.find(tag).is_none_or(|call| call.ending.is_some())
    }

    /// The call's id as the broker knows it.
    pub(crate) fn id_of(&self, tag: Tag) -> Option<CallId> {
        self.lock().pending.find(tag).map(|call| call.id)
    }

    /// Sends the acknowledgements that were gathered.
    pub(crate) fn acknowledge_all(&self) {
        let due = self.lock().take_owed();
        acknowledge(due);
    }
}

impl State {
    /// A call that can neither be kept nor wait.
    fn refuse_crowded(&mut self, sent: Sent) {
        let text = "the broker takes no more calls now, and too many wait in this process: use submit, which waits";
        let failure = CallFailure::new(sent.id, Failure::new(Code::ResourceExhausted, text));
        if let Some(call) = self.pending.find(sent.tag) {
            call.ending = Some(Ending::Refused(failure));
        }
    }

    /// Notes that an outcome is handled. Gives back what is to be acknowledged now, and by whom.
    pub(crate) fn owe(&mut self, settled: &SettledCall) -> Option<(Arc<dyn Caller>, Vec<CallId>)> {
        if self.acknowledgements.owe(settled) { self.take_owed() } else { None }
    }

    fn take_owed(&mut self) -> Option<(Arc<dyn Caller>, Vec<CallId>)> {
        let caller = self.link.caller()?;
        let owed = self.acknowledgements.take();
        (!owed.is_empty()).then_some((caller, owed))
    }

    /// Forgets everything that is on its way, because the session has ended; gives back whom to wake.
    pub(crate) fn clear(&mut self) -> Vec<Waker> {
        self.attachments.clear();
        self.follows.clear();
        self.sources.clear();
        self.cancellations.clear();
        drop(self.acknowledgements.take());
        self.cancels.clear();
        let mut wakers = self.watches.end_all("the connection was closed");
        wakers.extend(self.overflow.clear());
        wakers
    }
}

pub(crate) fn acknowledge(due: Option<(Arc<dyn Caller>, Vec<CallId>)>) {
    if let Some((caller, ids)) = due {
        caller.acknowledge(&ids);
    }
}

/// What the broker holds of a session: not the session itself, so that dropping it closes the caller.
struct SessionSink(Weak<Session>);

impl Sink for SessionSink {
    fn events(&self, events: &mut Vec<antiphon_broker::Event>) {
        match self.0.upgrade() {
            Some(session) => session.take(events),
            None => events.clear(),
        }
    }
}
