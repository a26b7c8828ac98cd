//! The connection to a broker that programs hold: opens it, and hands out calls, inboxes, workers and questions.

use crate::address;
use crate::call_builder::CallBuilder;
use crate::context::AttemptState;
use crate::inbox::{CLOSED, Inbox};
use crate::inspection::Inspection;
use crate::outgoing::Outgoing;
use crate::procedure::{Codec, Procedure};
use crate::session::Session;
use crate::submitted::SubmittedCall;
use crate::worker::WorkerBuilder;
use crate::{CallError, OpenError};
use antiphon_broker::{Broker, Capabilities, Driver, Wants};
use antiphon_protocol::{CallId, CancelAnswer, Code, Failure, Name, Payload, Route};
use std::sync::Arc;
use tokio::runtime::Handle;

/// A connection to a broker; cloning it is cheap and shares the connection. When the last clone and the last call that
/// is waited for are dropped, the connection closes; submitted calls go on.
#[derive(Clone)]
pub struct Antiphon {
    shared: Arc<Shared>,
    /// The attempt on whose behalf calls are made.
    within: Option<Arc<AttemptState>>,
}

struct Shared {
    broker: Arc<dyn Broker>,
    session: Arc<Session>,
    runtime: Handle,
}

/// A connection to be made, from [`Antiphon::builder`].
pub struct AntiphonBuilder {
    url: String,
    drivers: Vec<Box<dyn Driver>>,
}

impl AntiphonBuilder {
    /// Adds a driver for foreign brokers; one that is given earlier goes first, also before built-in schemes.
    #[must_use]
    pub fn driver(mut self, driver: impl Driver) -> Self {
        self.drivers.push(Box::new(driver));
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// As [`Antiphon::connect`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn connect(self) -> Result<Antiphon, OpenError> {
        Ok(Antiphon::from_broker(address::open(&self.url, &self.drivers).await?))
    }
}

impl Antiphon {
    /// Connects to the broker at `url`: `memory:` and `file:DIR` are brokers inside this process,
    /// `antiphon://host[:port]` (port 7400) and `antiphon+unix:///path` are reached over a socket.
    ///
    /// # Errors
    /// [`OpenError::Refused`] with `INVALID_ARGUMENT` for a malformed URL and `UNIMPLEMENTED` for a scheme that no driver
    /// opens; [`OpenError::Unreachable`], [`OpenError::InUse`] or [`OpenError::Storage`] as the broker has it.
    ///
    /// # Panics
    /// Outside a tokio runtime; a current-thread one will do.
    pub async fn connect(url: &str) -> Result<Self, OpenError> {
        Self::builder(url).connect().await
    }

    /// A connection to `url`, to be made with drivers of foreign brokers.
    #[must_use]
    pub fn builder(url: &str) -> AntiphonBuilder {
        AntiphonBuilder { url: url.to_owned(), drivers: Vec::new() }
    }

    /// A connection to a broker that is open already.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn from_broker(broker: Arc<dyn Broker>) -> Self {
        let runtime = Handle::current();
        let session = Session::anonymous(Arc::clone(&broker), runtime.clone());
        Self { shared: Arc::new(Shared { broker, session, runtime }), within: None }
    }

    /// What the broker can do.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        self.shared.broker.capabilities()
    }

    /// Questions to the broker: where calls, procedures and workers stand.
    #[must_use]
    pub fn inspect(&self) -> Inspection<'_> {
        Inspection::new(&*self.shared.broker)
    }

    /// A call of a procedure that is known only by its name: its arguments and value are payloads, its error is a
    /// [`Failure`].
    pub fn call_raw(&self, procedure: &str, arguments: Payload) -> CallBuilder<Payload, Payload, Failure> {
        match Name::new(procedure) {
            Ok(name) => {
                let route = Arc::new(Route::new(name.clone()));
                CallBuilder::new(self, Procedure::untyped(name), route, arguments)
            }
            Err(error) => {
                let nowhere = Name::from_static("-");
                let route = Arc::new(Route::new(nowhere.clone()));
                CallBuilder::new(self, Procedure::untyped(nowhere), route, arguments).rejected(&error)
            }
        }
    }

    /// A call of `procedure`; what the methods of clients do that `#[antiphon::service]` makes.
    pub fn call<A, V, E>(&self, procedure: Procedure<A, V, E>, arguments: A) -> CallBuilder<A, V, E> {
        let route = Arc::new(procedure.route.clone());
        CallBuilder::new(self, procedure, route, arguments)
    }

    /// The outcome of a call that was submitted earlier, here or by anybody of the same owner. Attaching never consumes:
    /// many may wait for one call. An unknown id gives [`CallError::Unknown`] with `NOT_FOUND`.
    pub fn attach<A, V, E>(&self, procedure: Procedure<A, V, E>, id: CallId) -> SubmittedCall<V, E> {
        let sent = self.shared.session.attach(id);
        SubmittedCall::new(Arc::clone(&self.shared.session), procedure.codec.reading, sent)
    }

    /// The same, for a call whose procedure is not known here: the value comes as it is.
    pub fn attach_raw(&self, id: CallId) -> SubmittedCall<Payload, Failure> {
        let sent = self.shared.session.attach(id);
        SubmittedCall::new(Arc::clone(&self.shared.session), Codec::UNTYPED.reading, sent)
    }

    /// Asks to cancel a call by its id, and tells what came of it.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the broker went away before it answered.
    pub async fn cancel(&self, id: CallId) -> Result<CancelAnswer, Failure> {
        self.shared.session.cancel(id).await
    }

    /// Submits calls in one batch and waits until the broker has them; the results are in the order of the calls.
    pub async fn submit_all<A, V, E>(
        &self,
        calls: impl IntoIterator<Item = CallBuilder<A, V, E>>,
    ) -> Vec<Result<SubmittedCall<V, E>, CallError<E>>> {
        let (mut readings, mut outgoing) = (Vec::new(), Vec::<Outgoing>::new());
        for call in calls {
            let (_, reading, ready) = call.into_parts();
            readings.push(reading);
            outgoing.push(ready);
        }
        let session = &self.shared.session;
        std::future::poll_fn(|context| session.poll_room(context)).await;
        let sent = session.send_all(outgoing, Wants::AcceptanceAndOutcome);
        let calls: Vec<_> = readings
            .into_iter()
            .zip(sent)
            .map(|(reading, sent)| SubmittedCall::new(Arc::clone(session), reading, sent))
            .collect();
        let mut results = Vec::with_capacity(calls.len());
        for mut call in calls {
            results.push(call.accepted().await.map(|_| call));
        }
        results
    }

    /// Opens a named inbox: 1 to 255 characters out of `a-z 0-9 _ . -`. Whoever had it open loses it.
    ///
    /// # Errors
    /// [`OpenError::Refused`] when the name is not one or the broker has no named inboxes.
    pub async fn inbox(&self, name: &str) -> Result<Inbox, OpenError> {
        let refuse = |code, text: String| OpenError::Refused(Failure::new(code, text));
        let name = Name::new(name).map_err(|error| refuse(Code::InvalidArgument, error.to_string()))?;
        if self.capabilities().named_inboxes == antiphon_broker::Support::Refused {
            return Err(refuse(Code::Unimplemented, "this broker has no named inboxes".to_owned()));
        }
        let inbox = antiphon_broker::Inbox::Named(name);
        let session = Session::new(Arc::clone(&self.shared.broker), self.shared.runtime.clone(), inbox);
        let session = Arc::new(session);
        session.open_now().await?;
        Ok(Inbox::new(session, self.clone()))
    }

    /// A worker, to be given services and started.
    pub fn worker(&self) -> WorkerBuilder {
        WorkerBuilder::new(self.clone())
    }

    /// Closes the connection for all clones: sends what was handed over, frees a data directory. Calls that are waited
    /// for end as [`CallError::Unknown`], and go on if the broker does. Workers should be drained before.
    pub async fn close(&self) {
        self.shared.session.flush();
        self.shared.session.acknowledge_all();
        self.shared.session.end(CLOSED);
        self.shared.broker.close().await;
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.shared.session
    }

    pub(crate) fn broker(&self) -> &Arc<dyn Broker> {
        &self.shared.broker
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.shared.runtime
    }

    pub(crate) fn within(&self) -> Option<&AttemptState> {
        self.within.as_deref()
    }

    /// The same connection, for calls made on behalf of another call.
    pub(crate) fn for_calls_within(&self, attempt: Arc<AttemptState>) -> Self {
        Self { shared: Arc::clone(&self.shared), within: Some(attempt) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.session.acknowledge_all();
    }
}

impl std::fmt::Debug for Antiphon {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Antiphon").finish_non_exhaustive()
    }
}
