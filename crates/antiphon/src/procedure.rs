//! A procedure as both sides know it: its name, how its calls are treated unless they say otherwise, and how its
//! arguments, values and errors are converted.

use crate::encoding::{self, EncodingError};
use crate::{CallOutcome, GroupFailed, ProcedureError};
use antiphon_protocol::{Backoff, Callback, CallbackOn, ContentType, Failure, Name, Payload, Route, Shape};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A remote function: `A` is what it takes (`()`, its one parameter, or a struct of all), `V` its value, `E` its error.
///
/// `#[antiphon::service]` makes one constant per procedure, such as `MathClient::FIB`.
pub struct Procedure<A, V, E> {
    pub(crate) route: Route,
    pub(crate) codec: Codec<A, V, E>,
}

impl<A, V, E> Clone for Procedure<A, V, E> {
    fn clone(&self) -> Self {
        Self { route: self.route.clone(), codec: self.codec }
    }
}

impl<A, V, E> std::fmt::Debug for Procedure<A, V, E> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Procedure").field("route", &self.route).finish_non_exhaustive()
    }
}

impl<A, V, E> Procedure<A, V, E>
where
    A: Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
    E: ProcedureError,
{
    /// A procedure named `service.procedure` with every default.
    ///
    /// # Panics
    /// When the name is not one; in a constant that fails the build.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self::with(
            name,
            Codec {
                encode_arguments: encoding::encode::<A>,
                decode_arguments: encoding::decode::<A>,
                encode_value: encoding::encode::<V>,
                reading: Reading { value: encoding::decode::<V>, error: E::from_failure },
                encode_error: E::to_failure,
                is_retryable: E::is_retryable,
                content_type: ContentType::MessagePack,
            },
        )
    }
}

impl<V, E> Procedure<(), V, E>
where
    V: Serialize + DeserializeOwned,
    E: ProcedureError,
{
    /// A procedure without parameters: it is sent null, and takes whatever comes.
    ///
    /// # Panics
    /// When the name is not one; in a constant that fails the build.
    #[must_use]
    pub const fn without_parameters(name: &'static str) -> Self {
        let mut procedure = Self::new(name);
        procedure.codec.decode_arguments = encoding::decode_nothing::<()>;
        procedure
    }
}

impl<A, V, E> Procedure<A, V, E>
where
    A: Clone + Into<Bytes> + From<Bytes>,
    V: Clone + Into<Bytes> + From<Bytes>,
    E: ProcedureError,
{
    /// A procedure whose argument and value are bytes as they are: [`Bytes`] or `Vec<u8>`.
    ///
    /// # Panics
    /// When the name is not one; in a constant that fails the build.
    #[must_use]
    pub const fn raw(name: &'static str) -> Self {
        Self::with(
            name,
            Codec {
                encode_arguments: encoding::encode_raw::<A>,
                decode_arguments: encoding::decode_raw::<A>,
                encode_value: encoding::encode_raw::<V>,
                reading: Reading { value: encoding::decode_raw::<V>, error: E::from_failure },
                encode_error: E::to_failure,
                is_retryable: E::is_retryable,
                content_type: ContentType::Raw,
            },
        )
    }
}

impl Procedure<Payload, Payload, Failure> {
    /// A procedure known only by its name: payloads go in and come out as they are.
    #[must_use]
    pub const fn untyped(name: Name) -> Self {
        Self { route: Route::new(name), codec: Codec::UNTYPED }
    }
}

impl<A, V, E> Procedure<A, V, E> {
    /// The same with a procedure that is called with its outcome, whatever it is: for callbacks that have callbacks.
    #[must_use]
    pub fn callback<W, F>(mut self, next: Procedure<CallOutcome<V, E>, W, F>) -> Self {
        self.route.callbacks.push(Callback { on: CallbackOn::Outcome, route: next.route });
        self
    }

    /// The same with a procedure that is called with its value: for chains, as the argument of
    /// [`CallBuilder::then`](crate::CallBuilder::then).
    #[must_use]
    pub fn then<W, F>(mut self, next: Procedure<V, W, F>) -> Self {
        self.route.callbacks.push(Callback { on: CallbackOn::Value, route: next.route });
        self
    }

    const fn with(name: &'static str, codec: Codec<A, V, E>) -> Self {
        Self { route: Route::new(Name::from_static(name)), codec }
    }

    /// Running it twice does no harm: a first attempt may start before the submission is fsynced, and a call whose
    /// worker goes away is leased again at once.
    #[must_use]
    pub const fn idempotent(mut self) -> Self {
        self.route.idempotent = true;
        self
    }

    /// Its calls are leased once and never again: losing that lease makes a call dead with `UNKNOWN`.
    #[must_use]
    pub const fn at_most_once(mut self) -> Self {
        self.route.at_most_once = true;
        self.route.attempts = 1;
        self
    }

    /// How often it is tried, the first time included; 1 to 65,535, 3 by default.
    #[must_use]
    pub const fn attempts(mut self, attempts: u16) -> Self {
        self.route.attempts = attempts;
        self
    }

    /// Bound on one attempt, in milliseconds; 0 is none, the default.
    #[must_use]
    pub const fn attempt_timeout_ms(mut self, ms: u32) -> Self {
        self.route.attempt_timeout_ms = ms;
        self
    }

    /// How long to wait before further attempts; 0.2 s × 2, at most one minute, by default.
    #[must_use]
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.route.backoff = backoff;
        self
    }

    /// The lane that ordering keys of its calls belong to, which other procedures may share; by default its own name.
    ///
    /// # Panics
    /// When the name is not one; in a constant that fails the build.
    #[must_use]
    pub const fn lane(mut self, lane: &'static str) -> Self {
        // Not dropped here, which a constant cannot: it holds nothing yet that would have to be.
        std::mem::forget(self.route.lane.replace(Name::from_static(lane)));
        self
    }

    /// How many calls with one concurrency key run at a time; 1 by default.
    #[must_use]
    pub const fn concurrency(mut self, limit: u32) -> Self {
        self.route.concurrency = limit;
        self
    }

    /// How many slots of its worker a call takes; 1 to 64, 1 by default.
    #[must_use]
    pub const fn slots(mut self, slots: u8) -> Self {
        self.route.slots = slots;
        self
    }

    /// Its name, as `service.procedure`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.route.procedure.as_str()
    }

    /// The same route for callers that send these parameters, each with its name and whether it may be missing.
    #[doc(hidden)]
    #[must_use]
    pub fn route_with(&self, parameters: &[(&str, bool)]) -> Route {
        Route { shape: Shape::of(parameters.iter().copied()), ..self.route.clone() }
    }

    /// How its calls are treated unless they say otherwise.
    #[must_use]
    pub const fn route(&self) -> &Route {
        &self.route
    }
}

/// How a procedure's arguments, values and errors are converted. Functions, so that futures need no bounds.
pub(crate) struct Codec<A, V, E> {
    pub(crate) encode_arguments: fn(&A, ContentType) -> Result<Payload, EncodingError>,
    pub(crate) decode_arguments: fn(&Payload) -> Result<A, EncodingError>,
    pub(crate) encode_value: fn(&V, ContentType) -> Result<Payload, EncodingError>,
    pub(crate) encode_error: fn(&E, ContentType) -> Failure,
    pub(crate) is_retryable: fn(&E) -> bool,
    pub(crate) reading: Reading<V, E>,
    /// What requests are sent as unless they say otherwise.
    pub(crate) content_type: ContentType,
}

impl Codec<Payload, Payload, Failure> {
    pub(crate) const UNTYPED: Self = Self {
        encode_arguments: encoding::pass_on,
        decode_arguments: encoding::pass_back,
        encode_value: encoding::pass_on,
        encode_error: <Failure as ProcedureError>::to_failure,
        is_retryable: <Failure as ProcedureError>::is_retryable,
        reading: Reading { value: encoding::pass_back, error: <Failure as ProcedureError>::from_failure },
        content_type: ContentType::MessagePack,
    };
}

impl<V: DeserializeOwned + Send + 'static, E: 'static> Codec<(), Vec<CallOutcome<V, E>>, GroupFailed<V, E>> {
    /// That of groups, which no worker serves.
    pub(crate) const fn of_groups() -> Self {
        Self {
            encode_arguments: encoding::encode::<()>,
            decode_arguments: encoding::decode_nothing::<()>,
            encode_value: |_, _| Err("a group is the broker's: no procedure gives its value".to_owned()),
            encode_error: GroupFailed::to_failure,
            is_retryable: GroupFailed::is_retryable,
            reading: Reading { value: encoding::decode::<Vec<CallOutcome<V, E>>>, error: GroupFailed::from_failure },
            content_type: ContentType::Json,
        }
    }
}

impl<A, V, E> Clone for Codec<A, V, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A, V, E> Copy for Codec<A, V, E> {}

/// How a caller reads an outcome.
pub(crate) struct Reading<V, E> {
    pub(crate) value: fn(&Payload) -> Result<V, EncodingError>,
    pub(crate) error: fn(Failure) -> Result<E, Failure>,
}

impl<V, E> Clone for Reading<V, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V, E> Copy for Reading<V, E> {}
