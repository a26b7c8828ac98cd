//! One call before it is handed over: its arguments, its options, and the ways to hand it over.

use crate::awaited::AwaitedCall;
use crate::call_error::Ending;
use crate::context::AttemptState;
use crate::inbox::Inbox;
use crate::outgoing::Outgoing;
use crate::procedure::{Codec, Procedure};
use crate::session::{Crowded, Session};
use crate::stable::stable;
use crate::submitted::{SubmittedCall, Submitting};
use crate::{Antiphon, CallError, CallOutcome};
use antiphon_broker::Wants;
use antiphon_protocol::{
    Backoff, CallId, Callback, CallbackOn, Code, ContentType, Durability, Failure, Key, Keys, Name, Priority, Route,
    Start, Tag, defaults,
};
use std::future::{IntoFuture, poll_fn};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// A call that is not handed over yet. `.await` it, or end with [`submit`](Self::submit), [`send`](Self::send),
/// [`detach`](Self::detach) or [`deliver_to`](Self::deliver_to). Options that are wrong are reported there, as
/// [`CallError::Refused`] with `INVALID_ARGUMENT`.
#[must_use = "a call does nothing until it is awaited, submitted, sent or detached"]
pub struct CallBuilder<A, V, E> {
    session: Arc<Session>,
    codec: Codec<A, V, E>,
    route: Arc<Route>,
    arguments: A,
    content_type: ContentType,
    deadline: Option<Duration>,
    /// The deadline of the call on whose behalf this one is made.
    inherited: Option<Instant>,
    start: Start,
    keys: Option<Box<Keys>>,
    wrong: Option<Box<Failure>>,
}

impl<A, V, E> CallBuilder<A, V, E> {
    /// A call of `procedure` with the options that the procedure names. Clients that `#[antiphon::service]` makes
    /// call this; `route` is the procedure's, shared by all their calls.
    pub fn new(antiphon: &Antiphon, procedure: Procedure<A, V, E>, route: Arc<Route>, arguments: A) -> Self {
        let within = antiphon.within();
        let keys =
            within.map(|within| Keys { trace: within.trace.clone(), parent: Some(within.call), ..Keys::default() });
        Self {
            session: Arc::clone(antiphon.session()),
            codec: procedure.codec,
            route,
            arguments,
            content_type: procedure.codec.content_type,
            deadline: None,
            inherited: within.and_then(AttemptState::until),
            start: Start::Now,
            keys: keys.map(Box::new),
            wrong: None,
        }
    }

    /// Bounds the whole call, all attempts included, from now on. An awaited call has 30 s by default, a submitted one
    /// none. Expired work never starts; what runs is asked to stop.
    pub fn deadline_in(mut self, duration: Duration) -> Self {
        self.deadline = Some(duration);
        self
    }

    /// The class, 0 to 9; 9 goes first, 4 is the default.
    pub fn priority(mut self, class: u8) -> Self {
        match Priority::new(class) {
            Ok(priority) => self.route_mut().priority = priority,
            Err(error) => self.reject(&error),
        }
        self
    }

    /// The fairness unit it counts for.
    pub fn tenant(mut self, tenant: &str) -> Self {
        match Name::new(tenant) {
            Ok(tenant) => self.route_mut().tenant = Some(tenant),
            Err(error) => self.reject(&error),
        }
        self
    }

    /// How often it is tried, the first time included; 1 to 65,535.
    pub fn attempts(mut self, attempts: u16) -> Self {
        if attempts == 0 {
            self.reject(&"a call has at least one attempt");
        }
        self.route_mut().attempts = attempts;
        self
    }

    /// How long to wait before further attempts.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.route_mut().backoff = backoff;
        self
    }

    /// Bounds each attempt; running out of it is a failure that is tried again. At most 49 days.
    pub fn attempt_timeout(mut self, duration: Duration) -> Self {
        match u32::try_from(whole_ms(duration)) {
            Ok(ms) => self.route_mut().attempt_timeout_ms = ms.max(1),
            Err(_) => self.reject(&"an attempt timeout is at most 49 days"),
        }
        self
    }

    /// Submissions of this procedure with this key are one call, and get its stored outcome; other arguments are
    /// refused as a conflict. 1 to 255 bytes.
    ///
    /// Arguments are compared as encoded, with the entries of maps in order (but for JSON with fractions, which is left
    /// as it is). A `HashSet` is a sequence whose order differs from one to the next: use a `BTreeSet` there.
    pub fn idempotency_key(mut self, key: impl AsRef<str>) -> Self {
        match Key::new(key.as_ref()) {
            Ok(key) => self.keys.get_or_insert_default().idempotency = Some(key),
            Err(error) => self.reject(&error),
        }
        self
    }

    /// Calls with one ordering key start one after the other, in the order in which they became ready, and never overlap:
    /// each when the one before is settled and has stopped, a retry before those behind it. The key is scoped to the tenant
    /// and to the procedure, or to the `lane` that procedures name in common. 1 to 255 bytes.
    pub fn ordering_key(mut self, key: impl AsRef<str>) -> Self {
        match Key::new(key.as_ref()) {
            Ok(key) => self.keys.get_or_insert_default().ordering = Some(key),
            Err(error) => self.reject(&error),
        }
        self
    }

    /// The lane of its ordering key, whatever its procedure says: 1 to 255 characters out of `a-z 0-9 _ . -`.
    pub fn lane(mut self, lane: &str) -> Self {
        match Name::new(lane) {
            Ok(lane) => self.route_mut().lane = Some(lane),
            Err(error) => self.reject(&error),
        }
        self
    }

    /// Of calls with one concurrency key, scoped to the tenant and the procedure, only as many run at a time as the
    /// procedure says (`concurrency`, 1 by default); the others wait aside. 1 to 255 bytes.
    pub fn concurrency_key(mut self, key: impl AsRef<str>) -> Self {
        match Key::new(key.as_ref()) {
            Ok(key) => self.keys.get_or_insert_default().concurrency = Some(key),
            Err(error) => self.reject(&error),
        }
        self
    }

    /// Only a worker with this label runs it; may be given up to 8 times. A name of `a-z 0-9 _ . -`.
    pub fn label(mut self, label: &str) -> Self {
        match Name::new(label) {
            Ok(label) if self.route.labels.len() < defaults::CALL_LABELS_MAX => {
                let labels = &mut self.route_mut().labels;
                if !labels.contains(&label) {
                    labels.push(label);
                    labels.sort_unstable();
                }
            }
            Ok(_) => self.reject(&"a call requires at most 8 labels"),
            Err(error) => self.reject(&error),
        }
        self
    }

    /// How many slots of its worker it takes, 1 to 64, whatever its procedure says.
    pub fn slots(mut self, slots: u8) -> Self {
        if slots == 0 || slots > defaults::CALL_SLOTS_MAX {
            self.reject(&"a call takes 1 to 64 slots");
        }
        self.route_mut().slots = slots;
        self
    }

    /// The first attempt starts after this long. The default deadline of an awaited call counts from then.
    pub fn delay(mut self, duration: Duration) -> Self {
        self.start = Start::In(whole_ms(duration));
        self
    }

    /// The first attempt starts at this wall-clock time, or at once if that has passed.
    pub fn not_before(mut self, time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.start = Start::At(whole_ms(since));
        self
    }

    /// Leased once and never again: losing that lease makes it dead with `UNKNOWN`, may have run.
    pub fn at_most_once(mut self) -> Self {
        let route = self.route_mut();
        route.at_most_once = true;
        route.attempts = 1;
        self
    }

    /// Running it twice does no harm, whatever its procedure says.
    pub fn idempotent(mut self) -> Self {
        self.route_mut().idempotent = true;
        self
    }

    /// Kept in the broker's memory only: it dies with the broker.
    pub fn volatile(mut self) -> Self {
        self.route_mut().durability = Some(Durability::Volatile);
        self
    }

    /// Fsynced before it is acknowledged. A broker that keeps calls in memory refuses it.
    pub fn durable(mut self) -> Self {
        self.route_mut().durability = Some(Durability::Durable);
        self
    }

    /// What arguments are encoded as; the value comes back as the same. MessagePack by default. Without effect for
    /// untyped calls, whose payload says what it is.
    pub fn content_type(mut self, content_type: ContentType) -> Self {
        self.content_type = content_type;
        self
    }

    /// Encodes as JSON.
    pub fn json(self) -> Self {
        self.content_type(ContentType::Json)
    }

    /// The W3C trace context that the procedure gets; one made within a [`Context`](crate::Context) has that call's.
    pub fn trace(mut self, trace: &str) -> Self {
        self.keys.get_or_insert_default().trace = Some(trace.into());
        self
    }

    /// What is called with the outcome, whatever it is: once, recorded with the settlement, also when this program is
    /// gone by then. A callback is a call of its own, with the attempts and options of its procedure; at most 16 of
    /// them, theirs included, at most 8 deep.
    pub fn callback<W, F>(self, procedure: Procedure<CallOutcome<V, E>, W, F>) -> Self {
        self.called_back(CallbackOn::Outcome, procedure.route)
    }

    /// The same, only after success.
    pub fn on_success<W, F>(self, procedure: Procedure<CallOutcome<V, E>, W, F>) -> Self {
        self.called_back(CallbackOn::Success, procedure.route)
    }

    /// The same, only after anything else: failed, cancelled, expired, dead.
    pub fn on_failure<W, F>(self, procedure: Procedure<CallOutcome<V, E>, W, F>) -> Self {
        self.called_back(CallbackOn::Failure, procedure.route)
    }

    /// What is called with the value after success: a chain, carried out by the broker.
    /// [`SubmittedCall::followed_by`] waits for its end.
    pub fn then<W, F>(self, procedure: Procedure<V, W, F>) -> Self {
        self.called_back(CallbackOn::Value, procedure.route)
    }

    /// A callback to a procedure that is known only by its name.
    pub fn callback_raw(self, on: CallbackOn, procedure: &str) -> Self {
        match Name::new(procedure) {
            Ok(name) => self.called_back(on, Route::new(name)),
            Err(error) => self.rejected(&error),
        }
    }

    fn called_back(self, on: CallbackOn, route: Route) -> Self {
        self.change_route(|own| own.callbacks.push(Callback { on, route }))
    }

    /// A child of this group. [`Group::submit`](crate::Group::submit) says so by itself.
    pub fn group(mut self, group: CallId) -> Self {
        self.keys.get_or_insert_default().group = Some(group);
        self
    }

    pub(crate) fn change_route(mut self, change: impl FnOnce(&mut Route)) -> Self {
        change(self.route_mut());
        self
    }

    fn route_mut(&mut self) -> &mut Route {
        Arc::make_mut(&mut self.route)
    }

    /// Remembers the first wrong option.
    fn reject(&mut self, error: &dyn std::fmt::Display) {
        if self.wrong.is_none() {
            self.wrong = Some(Box::new(Failure::new(Code::InvalidArgument, error.to_string())));
        }
    }

    pub(crate) fn rejected(mut self, error: &dyn std::fmt::Display) -> Self {
        self.reject(error);
        self
    }

    /// Submits it. The future is done when the broker has the call, durably if it is durable; dropping it or the
    /// [`SubmittedCall`] never cancels.
    pub fn submit(self) -> Submitting<V, E> {
        let (session, reading) = (Arc::clone(&self.session), self.codec.reading);
        Submitting::new(session, reading, self.outgoing(None))
    }

    /// Submits it without waiting for the broker to have it: [`SubmittedCall::accepted`] tells. Never waits: when the
    /// broker takes no more, calls queue up in this process, and from 4,096 of them on they are refused with
    /// `RESOURCE_EXHAUSTED`.
    pub fn send(self) -> SubmittedCall<V, E> {
        let (session, reading) = (Arc::clone(&self.session), self.codec.reading);
        let sent = session.send(self.outgoing(None), Wants::AcceptanceAndOutcome, Crowded::Refuse);
        SubmittedCall::new(session, reading, sent)
    }

    /// Submits it for its effect: no outcome is sent to anybody, and it stays readable by id for the retention.
    ///
    /// # Errors
    /// [`CallError::Refused`], or [`CallError::Unknown`] when the broker went away before it answered.
    pub async fn detach(self) -> Result<CallId, CallError<E>> {
        let session = Arc::clone(&self.session);
        accepted(&session, self.outgoing(None), Wants::Acceptance).await
    }

    /// Submits it so that its outcome waits in a named inbox until that is read, even by a later process.
    ///
    /// # Errors
    /// [`CallError::Refused`], or [`CallError::Unknown`] when the broker went away before it answered.
    pub async fn deliver_to(self, inbox: &Inbox) -> Result<CallId, CallError<E>> {
        let outgoing = self.outgoing(None);
        accepted(inbox.session(), outgoing, Wants::AcceptanceAndOutcome).await
    }

    pub(crate) fn into_parts(self) -> (Arc<Session>, crate::procedure::Reading<V, E>, Outgoing) {
        let (session, reading) = (Arc::clone(&self.session), self.codec.reading);
        (session, reading, self.outgoing(None))
    }

    fn outgoing(self, default_deadline_ms: Option<u64>) -> Outgoing {
        let own = match self.deadline {
            Some(duration) => Some(whole_ms(duration)),
            None => default_deadline_ms.map(|ms| ms.saturating_add(wait_ms(self.start))),
        };
        let now = (own.is_some() || self.inherited.is_some()).then(Instant::now);
        let inherited = self.inherited.zip(now).map(|(until, now)| whole_ms(until.saturating_duration_since(now)));
        let deadline_ms = match (own, inherited) {
            (Some(own), Some(inherited)) => Some(own.min(inherited)),
            (own, inherited) => own.or(inherited),
        };
        let payload = match self.wrong {
            Some(failure) => Err(*failure),
            None if deadline_ms == Some(0) => {
                Err(Failure::new(Code::DeadlineExceeded, "the deadline had passed before the call was sent"))
            }
            None => (self.codec.encode_arguments)(&self.arguments, self.content_type).map_err(|error| {
                Failure::new(Code::InvalidArgument, format!("the arguments cannot be encoded: {error}"))
            }),
        };
        let keyed = self.keys.as_ref().is_some_and(|keys| keys.idempotency.is_some());
        let payload = if keyed { payload.map(stable) } else { payload };
        let mut outgoing = Outgoing {
            route: self.route,
            payload,
            deadline_ms: deadline_ms.unwrap_or(0),
            deadline_at: deadline_ms.zip(now).and_then(|(ms, now)| now.checked_add(Duration::from_millis(ms))),
            start: self.start,
            keys: self.keys,
            id: None,
        };
        outgoing.check(self.session.broker.capabilities());
        outgoing
    }
}

impl<A, V, E> IntoFuture for CallBuilder<A, V, E> {
    type Output = Result<V, CallError<E>>;
    type IntoFuture = AwaitedCall<V, E>;

    fn into_future(self) -> AwaitedCall<V, E> {
        let (session, reading) = (Arc::clone(&self.session), self.codec.reading);
        AwaitedCall::new(session, reading, self.outgoing(Some(defaults::AWAITED_DEADLINE_MS)))
    }
}

/// Submits a call whose outcome nobody here waits for.
pub(crate) async fn accepted<E>(
    session: &Arc<Session>,
    outgoing: Outgoing,
    wants: Wants,
) -> Result<CallId, CallError<E>> {
    poll_fn(|context| session.poll_room(context)).await;
    let sent = session.send(outgoing, wants, Crowded::Keep);
    let waited = Waited { session, tag: sent.tag };
    let accepted = poll_fn(|context| session.poll_accepted(sent.tag, context)).await;
    drop(waited);
    match accepted {
        Ok(acceptance) => Ok(acceptance.id),
        Err(Ending::Settled(settled)) => Ok(settled.id),
        Err(Ending::Refused(failure)) => Err(CallError::Refused(failure)),
        Err(Ending::Unknown(failure)) => Err(CallError::Unknown(failure)),
    }
}

/// Frees a call's place among those that are waited for, also when waiting is given up. Never cancels.
struct Waited<'a> {
    session: &'a Arc<Session>,
    tag: Tag,
}

impl Drop for Waited<'_> {
    fn drop(&mut self) {
        self.session.abandon(self.tag, false);
    }
}

/// In milliseconds, begun ones counted whole: a positive duration never becomes none.
pub(crate) fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn wait_ms(start: Start) -> u64 {
    match start {
        Start::Now => 0,
        Start::In(ms) => ms,
        Start::At(ms) => ms.saturating_sub(crate::id::unix_ms()),
    }
}
