//! What a caller gets in place of a value, and whether the procedure may have run.

use crate::ProcedureError;
use crate::encoding::EncodingError;
use crate::procedure::Reading;
use antiphon_protocol::{CallId, Code, Failure, Outcome, State};
use std::fmt;
use std::ops::Deref;
use std::time::Duration;

/// Why a call gave no value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError<E> {
    /// The procedure returned its own error, and no further attempt was to be made.
    Failed(E),
    /// The call ended otherwise: cancelled, expired, or dead (attempts used up, a panic, undecodable arguments).
    Settled(CallFailure),
    /// The broker, or this client, did not take the call: it never runs.
    Refused(CallFailure),
    /// What became of the call is not known. A durable one may still run: ask by its id.
    Unknown(CallFailure),
}

impl<E> CallError<E> {
    /// The call; `None` for [`CallError::Failed`], which holds the procedure's own error and nothing else.
    #[must_use]
    pub const fn call_id(&self) -> Option<CallId> {
        match self {
            Self::Failed(_) => None,
            Self::Settled(failure) | Self::Refused(failure) | Self::Unknown(failure) => Some(failure.call),
        }
    }

    /// When trying again makes sense, if anybody said.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let failure = self.failure()?;
        failure.retry_after_ms.map(|ms| Duration::from_millis(u64::from(ms)))
    }

    /// Whether the procedure may have run, in part or whole.
    #[must_use]
    pub const fn may_have_run(&self) -> bool {
        match self {
            Self::Failed(_) | Self::Unknown(_) => true,
            Self::Settled(failure) => failure.failure.may_have_run,
            Self::Refused(_) => false,
        }
    }

    /// The failure; `None` for [`CallError::Failed`].
    #[must_use]
    pub const fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed(_) => None,
            Self::Settled(failure) | Self::Refused(failure) | Self::Unknown(failure) => Some(&failure.failure),
        }
    }
}

impl<E: ProcedureError> CallError<E> {
    /// What kind of failure.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Failed(error) => error.code(),
            Self::Settled(failure) | Self::Refused(failure) | Self::Unknown(failure) => failure.code,
        }
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(formatter),
            Self::Settled(failure) => write!(formatter, "call {} settled: {}", failure.call, failure.failure),
            Self::Refused(failure) => write!(formatter, "call {} was refused: {}", failure.call, failure.failure),
            Self::Unknown(failure) => write!(formatter, "call {} is in doubt: {}", failure.call, failure.failure),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for CallError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            Self::Settled(failure) | Self::Refused(failure) | Self::Unknown(failure) => Some(&failure.failure),
        }
    }
}

/// A failure, and of which call; reads like the [`Failure`] it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallFailure {
    /// The call.
    pub call: CallId,
    /// What became of it.
    pub failure: Failure,
}

impl CallFailure {
    pub(crate) const fn new(call: CallId, failure: Failure) -> Self {
        Self { call, failure }
    }
}

impl Deref for CallFailure {
    type Target = Failure;

    fn deref(&self) -> &Failure {
        &self.failure
    }
}

impl From<CallFailure> for Failure {
    fn from(failure: CallFailure) -> Self {
        failure.failure
    }
}

impl fmt::Display for CallFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(formatter)
    }
}

/// A call that has settled, with everything the broker says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SettledCall {
    /// The call.
    pub id: CallId,
    /// The terminal state.
    pub state: State,
    /// How many attempts were started.
    pub attempts: u16,
    /// What it ended with, not decoded.
    pub outcome: Outcome,
}

impl SettledCall {
    pub(crate) fn read<V, E>(self, reading: Reading<V, E>) -> Result<V, CallError<E>> {
        let failure = match self.outcome {
            Outcome::Reply(payload) => match (reading.value)(&payload) {
                Ok(value) => return Ok(value),
                Err(error) => unreadable(&error),
            },
            Outcome::Failure(failure) if self.state == State::Failed => match (reading.error)(failure) {
                Ok(error) => return Err(CallError::Failed(error)),
                Err(failure) => failure,
            },
            Outcome::Failure(failure) => failure,
        };
        Err(CallError::Settled(CallFailure::new(self.id, failure)))
    }
}

/// The procedure ran, and its value is not of the type asked for.
pub(crate) fn unreadable(error: &EncodingError) -> Failure {
    Failure::new(Code::Internal, format!("the value cannot be read: {error}")).may_have_run()
}

/// How a call ended for its caller.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    Settled(SettledCall),
    Refused(CallFailure),
    Unknown(CallFailure),
}

impl Ending {
    pub(crate) fn read<V, E>(self, reading: Reading<V, E>) -> Result<V, CallError<E>> {
        self.settled()?.read(reading)
    }

    pub(crate) fn settled<E>(self) -> Result<SettledCall, CallError<E>> {
        match self {
            Self::Settled(settled) => Ok(settled),
            Self::Refused(failure) => Err(CallError::Refused(failure)),
            Self::Unknown(failure) => Err(CallError::Unknown(failure)),
        }
    }
}
