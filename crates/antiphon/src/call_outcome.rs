//! How a call ended, as callbacks and the outcomes of groups tell it.

use crate::call_error::{CallFailure, SettledCall, unreadable};
use crate::{CallError, ProcedureError};
use antiphon_protocol::{CallId, Code, Failure, Name, Outcome, Payload, State};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;

/// How a call ended: the argument of a callback, or one child in the outcome of a group. On the wire it is
/// `{id, procedure, state, attempts, value | failure}`, with neither when there is none to tell.
///
/// `V` and `E` are the value and the error of the call's procedure.
#[non_exhaustive]
pub struct CallOutcome<V, E = Failure> {
    /// The call.
    pub id: CallId,
    /// Its procedure.
    pub procedure: Name,
    /// Its state: of a child that had not settled when its group was decided, the one it had then.
    pub state: State,
    /// How many attempts were started.
    pub attempts: u16,
    outcome: Option<Result<V, Failure>>,
    error: PhantomData<fn() -> E>,
}

impl<V, E> CallOutcome<V, E> {
    /// That of a call that was waited for; a value that is no `V` is a failure.
    pub(crate) fn of(settled: SettledCall, procedure: Name) -> Self
    where
        V: DeserializeOwned,
    {
        let SettledCall { id, state, attempts, outcome } = settled;
        let outcome = Some(match outcome {
            Outcome::Reply(payload) => crate::encoding::decode(&payload).map_err(|error| unreadable(&error)),
            Outcome::Failure(failure) => Err(failure),
        });
        Self { id, procedure, state, attempts, outcome, error: PhantomData }
    }

    /// Whether it is the whole: of a call that had not settled, or whose value was too large to be told, it is not.
    pub(crate) const fn is_whole(&self) -> bool {
        self.outcome.is_some()
    }

    /// The value, if it succeeded; `None` also when the value was too large to be told: read it by its id.
    #[must_use]
    pub const fn value(&self) -> Option<&V> {
        match &self.outcome {
            Some(Ok(value)) => Some(value),
            _ => None,
        }
    }

    /// Why there is no value, not decoded.
    #[must_use]
    pub const fn failure(&self) -> Option<&Failure> {
        match &self.outcome {
            Some(Err(failure)) => Some(failure),
            _ => None,
        }
    }

    /// The result, as awaiting the call gives it. `None` when it has not settled, or was too large to be told.
    #[must_use]
    pub fn result(self) -> Option<Result<V, CallError<E>>>
    where
        E: ProcedureError,
    {
        let failure = match self.outcome? {
            Ok(value) => return Some(Ok(value)),
            Err(failure) if self.state == State::Failed => match E::from_failure(failure) {
                Ok(error) => return Some(Err(CallError::Failed(error))),
                Err(failure) => failure,
            },
            Err(failure) => failure,
        };
        Some(Err(CallError::Settled(CallFailure::new(self.id, failure))))
    }
}

impl<V: Clone, E> Clone for CallOutcome<V, E> {
    fn clone(&self) -> Self {
        Self {
            id: self.id,
            procedure: self.procedure.clone(),
            state: self.state,
            attempts: self.attempts,
            outcome: self.outcome.clone(),
            error: PhantomData,
        }
    }
}

impl<V: fmt::Debug, E> fmt::Debug for CallOutcome<V, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, procedure, state, attempts, outcome, .. } = self;
        let mut fields = formatter.debug_struct("CallOutcome");
        fields.field("id", id).field("procedure", procedure).field("state", state).field("attempts", attempts);
        fields.field("outcome", outcome).finish()
    }
}

/// The same as it is told.
#[derive(Serialize, Deserialize)]
#[serde(bound(deserialize = "V: Deserialize<'de>"))]
struct Told<V> {
    id: String,
    procedure: Name,
    state: State,
    #[serde(default)]
    attempts: u16,
    // A value may be null, which is not the same as none.
    #[serde(default = "none", deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    value: Option<V>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<ToldFailure>,
}

#[derive(Serialize, Deserialize)]
struct ToldFailure {
    code: Code,
    message: String,
    #[serde(default)]
    may_have_run: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    details: Option<ToldDetails>,
}

/// Details of a failure in a list: of any shape, or bytes of which nobody knows the shape.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ToldDetails {
    Shaped(serde_json::Value),
    Raw(RawBytes),
}

struct RawBytes(Vec<u8>);

impl Serialize for RawBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for RawBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl serde::de::Visitor<'_> for Bytes {
            type Value = RawBytes;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<RawBytes, E> {
                Ok(RawBytes(bytes.to_vec()))
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

impl From<ToldDetails> for Payload {
    fn from(told: ToldDetails) -> Self {
        match told {
            ToldDetails::Shaped(value) => Self::json(value.to_string()),
            ToldDetails::Raw(RawBytes(bytes)) => Self::raw(bytes),
        }
    }
}

impl From<&Payload> for ToldDetails {
    fn from(details: &Payload) -> Self {
        crate::encoding::decode(details).map_or_else(|_| Self::Raw(RawBytes(details.bytes.to_vec())), Self::Shaped)
    }
}

const fn none<V>() -> Option<V> {
    None
}

fn some<'de, D: Deserializer<'de>, V: Deserialize<'de>>(deserializer: D) -> Result<Option<V>, D::Error> {
    V::deserialize(deserializer).map(Some)
}

impl From<ToldFailure> for Failure {
    fn from(told: ToldFailure) -> Self {
        let mut failure = Self::new(told.code, told.message);
        failure.may_have_run = told.may_have_run;
        failure.retry_after_ms = told.retry_after_ms;
        failure.details = told.details.map(Payload::from);
        failure
    }
}

impl From<&Failure> for ToldFailure {
    fn from(failure: &Failure) -> Self {
        Self {
            code: failure.code,
            message: failure.message.clone(),
            may_have_run: failure.may_have_run,
            retry_after_ms: failure.retry_after_ms,
            details: failure.details.as_ref().map(ToldDetails::from),
        }
    }
}

impl<V: Serialize, E> Serialize for CallOutcome<V, E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let told = Told {
            id: self.id.to_string(),
            procedure: self.procedure.clone(),
            state: self.state,
            attempts: self.attempts,
            value: self.value(),
            failure: self.failure().map(ToldFailure::from),
        };
        told.serialize(serializer)
    }
}

impl<'de, V: Deserialize<'de>, E> Deserialize<'de> for CallOutcome<V, E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Told { id, procedure, state, attempts, value, failure } = Told::deserialize(deserializer)?;
        let id = id.parse().map_err(D::Error::custom)?;
        let outcome = match (value, failure) {
            (Some(value), _) => Some(Ok(value)),
            (None, failure) => failure.map(|failure| Err(failure.into())),
        };
        Ok(Self { id, procedure, state, attempts, outcome, error: PhantomData })
    }
}
