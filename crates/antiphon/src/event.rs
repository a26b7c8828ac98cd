//! Events: facts that are told to a broker, which calls a procedure for each subscription that matches.

use crate::call_builder::accepted;
use crate::encoding::{EncodingError, encode};
use crate::outgoing::Outgoing;
use crate::session::Session;
use crate::{Antiphon, CallError};
use antiphon_broker::{Support, Wants};
use antiphon_protocol::{
    Answer, CallId, Change, Code, ContentType, Durability, Failure, Keys, Name, Pattern, Payload, Query, Route, Start,
    Subscription, Topic,
};
use serde::Serialize;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;

/// An event that is not handed over yet. `.await` it: the broker then has it, durably if it is durable, and calls each
/// matching subscription exactly once, whatever crashes in between.
#[must_use = "an event is handed over when it is awaited"]
pub struct Emit<T> {
    session: Arc<Session>,
    topic: Result<Topic, Failure>,
    value: T,
    encode: fn(&T, ContentType) -> Result<Payload, EncodingError>,
    content_type: ContentType,
    durability: Option<Durability>,
    id: Option<CallId>,
    trace: Option<Box<str>>,
}

impl Antiphon {
    /// An event about `topic`: 1 to 16 tokens of `a-z 0-9 _ -` separated by dots, such as `orders.created`. Procedures
    /// of subscriptions that match get `value` as their argument. Subscriptions are those there are when the broker
    /// accepts the event; without any, nothing happens.
    pub fn emit<T: Serialize>(&self, topic: &str, value: T) -> Emit<T> {
        Emit::new(self, topic, value, encode::<T>)
    }

    /// The same with a payload as it is.
    pub fn emit_raw(&self, topic: &str, payload: Payload) -> Emit<Payload> {
        Emit::new(self, topic, payload, crate::encoding::pass_on)
    }

    /// Has a subscription be: `route` says which procedure is called for each event whose topic matches the pattern, and
    /// how its calls are treated. One of the same name is replaced. Patterns have tokens as topics do, or `*` for any one
    /// token, or `>` at the end for all that follow. It stays until it is removed, also over restarts of a broker that
    /// journals.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a malformed name or pattern, `UNIMPLEMENTED` when the broker has no events, else as the
    /// broker has it.
    pub async fn subscribe(&self, name: &str, pattern: &str, route: &Route) -> Result<Change, Failure> {
        let invalid = |text: String| Failure::new(Code::InvalidArgument, text);
        let name = Name::new(name).map_err(|error| invalid(error.to_string()))?;
        let pattern = Pattern::new(pattern).map_err(|error| invalid(error.to_string()))?;
        let subscription = Subscription { name, pattern, route: route.clone() };
        self.has_events()?;
        self.change(Query::Subscribe(Box::new(subscription))).await
    }

    /// Removes a subscription. Events that were accepted before still make their calls.
    ///
    /// # Errors
    /// `NOT_FOUND` when there is none of this name, else as [`subscribe`](Self::subscribe).
    pub async fn unsubscribe(&self, name: &str) -> Result<Change, Failure> {
        let name = Name::new(name).map_err(|error| Failure::new(Code::InvalidArgument, error.to_string()))?;
        self.has_events()?;
        self.change(Query::Unsubscribe(name)).await
    }

    /// All subscriptions by name; with a topic, those that match it.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub async fn subscriptions(&self, topic: Option<&Topic>) -> Result<Vec<Subscription>, Failure> {
        self.has_events()?;
        let mut all: Vec<Subscription> = Vec::new();
        loop {
            let after = all.last().map(|last| last.name.clone());
            match self.inspect().ask(Query::Subscriptions { topic: topic.cloned(), after }).await? {
                Answer::Subscriptions(more) if more.is_empty() => return Ok(all),
                Answer::Subscriptions(more) => all.extend(more),
                other => return Err(crate::inspection::unexpected(&other)),
            }
        }
    }

    /// Refuses what this broker does not have, before anything is sent.
    pub(crate) fn has_events(&self) -> Result<(), Failure> {
        if self.session().broker.capabilities().events != Support::Refused {
            return Ok(());
        }
        let text = "this broker has no events: call the procedures that should know";
        Err(Failure::new(Code::Unimplemented, text))
    }

    pub(crate) async fn change(&self, query: Query) -> Result<Change, Failure> {
        match self.inspect().ask(query).await? {
            Answer::Changed(change) => Ok(change),
            other => Err(crate::inspection::unexpected(&other)),
        }
    }
}

impl<T> Emit<T> {
    fn new(
        antiphon: &Antiphon,
        topic: &str,
        value: T,
        encode: fn(&T, ContentType) -> Result<Payload, EncodingError>,
    ) -> Self {
        Self {
            session: Arc::clone(antiphon.session()),
            topic: Topic::new(topic).map_err(|error| Failure::new(Code::InvalidArgument, error.to_string())),
            value,
            encode,
            content_type: ContentType::MessagePack,
            durability: None,
            id: None,
            trace: antiphon.within().and_then(|within| within.trace.clone()),
        }
    }

    /// Its id, instead of a new one: the same id emitted again, within 24 h or until many later ones, is the same event
    /// and makes no further calls.
    pub fn id(mut self, id: CallId) -> Self {
        self.id = Some(id);
        self
    }

    /// Encodes as JSON rather than MessagePack. Without effect for a payload as it is.
    pub fn json(mut self) -> Self {
        self.content_type = ContentType::Json;
        self
    }

    /// Kept in the broker's memory only, and its calls with it.
    pub fn volatile(mut self) -> Self {
        self.durability = Some(Durability::Volatile);
        self
    }

    fn outgoing(self) -> (Arc<Session>, Outgoing) {
        let nowhere = Name::from_static("-");
        let mut route = Route::new(self.topic.as_ref().map_or(nowhere, |topic| topic.name().clone()));
        route.event = true;
        route.durability = self.durability;
        let payload = self.topic.and_then(|_| {
            (self.encode)(&self.value, self.content_type)
                .map_err(|error| Failure::new(Code::InvalidArgument, format!("the event cannot be encoded: {error}")))
        });
        let keys = self.trace.map(|trace| Box::new(Keys { trace: Some(trace), ..Keys::default() }));
        let mut outgoing = Outgoing {
            route: Arc::new(route),
            payload,
            deadline_ms: 0,
            deadline_at: None,
            start: Start::Now,
            keys,
            id: self.id,
        };
        outgoing.check(self.session.broker.capabilities());
        (self.session, outgoing)
    }
}

impl<T> IntoFuture for Emit<T> {
    type Output = Result<CallId, CallError<Failure>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let (session, outgoing) = self.outgoing();
        Box::pin(async move { accepted(&session, outgoing, Wants::Acceptance).await })
    }
}
