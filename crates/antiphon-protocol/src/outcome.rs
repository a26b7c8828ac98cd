//! How calls end, and how attempts end.

use crate::{Code, Payload};
use alloc::string::String;
use core::fmt;

/// What a call ended with, recorded once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The procedure's value.
    Reply(Payload),
    /// Why there is no value.
    Failure(Failure),
}

/// Why a call has no value, or why it was not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What kind of failure.
    pub code: Code,
    /// For people: what was tried and what would help.
    pub message: String,
    /// The procedure's own error, encoded like a reply.
    pub details: Option<Payload>,
    /// When trying again makes sense, in milliseconds from now.
    pub retry_after_ms: Option<u32>,
    /// Whether the procedure may have run, in part or whole.
    pub may_have_run: bool,
}

impl Failure {
    /// A failure of a call that did not run.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: None, retry_after_ms: None, may_have_run: false }
    }

    /// The same, of a call that may have run.
    #[must_use]
    pub fn may_have_run(mut self) -> Self {
        self.may_have_run = true;
        self
    }

    /// The same, with a hint when to try again.
    #[must_use]
    pub fn retry_after_ms(mut self, ms: u32) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }

    /// The same, with the procedure's own error.
    #[must_use]
    pub fn details(mut self, details: Payload) -> Self {
        self.details = Some(details);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code, self.message)
    }
}

impl core::error::Error for Failure {}

/// How a worker ends a lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Settlement {
    /// The procedure returned a value: the call succeeded.
    Succeed(Payload),
    /// The procedure returned its own final error: the call failed.
    Fail(Failure),
    /// The attempt failed and another may work; `retry_after_ms` of the failure overrides the backoff.
    Retry(Failure),
    /// The attempt cannot be judged by trying again (a panic, undecodable arguments): the call is dead.
    Bury(Failure),
    /// The worker gives the call back unharmed (a drain): it is ready again and no attempt is counted.
    Release,
    /// The procedure has stopped, as a cancellation asked.
    Stop,
}
