//! One call as its caller hands it over.

use crate::{CallId, Key, Payload, Route};
use alloc::boxed::Box;
use alloc::sync::Arc;
use serde::{Deserialize, Serialize};

/// One request with identity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// Its identity, over all attempts.
    pub id: CallId,
    /// Where it goes and how it is treated; shared by many calls.
    pub route: Arc<Route>,
    /// The encoded arguments.
    pub payload: Payload,
    /// How long the whole call may take from now on, in milliseconds; 0 is no deadline.
    pub deadline_ms: u64,
    /// When its first attempt may start.
    pub start: Start,
    /// What few calls have: keys, the trace context, and the call they were made within.
    pub keys: Option<Box<Keys>>,
}

impl Call {
    /// A call with no deadline, no keys, to be started at once.
    #[must_use]
    pub const fn new(id: CallId, route: Arc<Route>, payload: Payload) -> Self {
        Self { id, route, payload, deadline_ms: 0, start: Start::Now, keys: None }
    }
}

/// When the first attempt may start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// At once.
    #[default]
    Now,
    /// After this many milliseconds of the broker's monotonic clock.
    In(u64),
    /// At this wall-clock time, in milliseconds since 1970.
    At(u64),
}

/// What few calls have.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Keys {
    /// Submissions of one procedure with the same key are one call.
    pub idempotency: Option<Key>,
    /// W3C trace context, `traceparent` then `tracestate`, handed to the procedure as it came.
    pub trace: Option<Box<str>>,
    /// Calls with one ordering key start one after the other, in the order they became ready, and never overlap.
    #[serde(default)]
    pub ordering: Option<Key>,
    /// At most as many calls of one procedure with one concurrency key run at a time as the route says.
    #[serde(default)]
    pub concurrency: Option<Key>,
    /// The call within which this one was made.
    #[serde(default)]
    pub parent: Option<CallId>,
    /// The group that it is a child of.
    #[serde(default)]
    pub group: Option<CallId>,
}

impl Keys {
    /// Whether it is tied to other calls: by an ordering key, a concurrency key, a parent or a group.
    #[must_use]
    pub const fn is_tied(&self) -> bool {
        self.ordering.is_some() || self.concurrency.is_some() || self.parent.is_some() || self.group.is_some()
    }
}
