//! A route: everything about a call that many calls share, so that it is sent, kept and looked up once.

use crate::callback::NO_CALLBACKS;
use crate::{Callback, Group, Name, Shape, defaults};
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Where calls go and how they are to be treated: what all calls made by one client with one set of options share.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Route {
    /// The procedure, as `service.procedure`.
    pub procedure: Name,
    /// The fairness unit; `None` is the tenant without a name.
    pub tenant: Option<Name>,
    /// The class; 0 to 9, 9 first.
    #[serde(default)]
    pub priority: Priority,
    /// Whether the call outlives the broker's memory; `None` takes the broker's class.
    pub durability: Option<Durability>,
    /// How often the procedure is tried, the first time included; 1 to 65,535.
    #[serde(default = "attempts")]
    pub attempts: u16,
    /// How long to wait before each further attempt.
    #[serde(default)]
    pub backoff: Backoff,
    /// Bound on one attempt in milliseconds; 0 is none. Running out of it is a retryable failure.
    #[serde(default)]
    pub attempt_timeout_ms: u32,
    /// Running it twice does no harm, so a first attempt may start before the submission is fsynced.
    #[serde(default)]
    pub idempotent: bool,
    /// Leased once and never again: losing that lease makes the call dead with `UNKNOWN`.
    #[serde(default)]
    pub at_most_once: bool,
    /// The shape of its arguments: it goes only to workers that take it. `None` goes to any.
    #[serde(default)]
    pub shape: Option<Shape>,
    /// The ordering lane of calls with an ordering key; `None` is the procedure's own. Lanes cross procedures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<Name>,
    /// How many calls with one concurrency key run at a time; 1 by default.
    #[serde(default = "concurrency", skip_serializing_if = "is_default_concurrency")]
    pub concurrency: u32,
    /// Labels that a worker must have to run it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Name>,
    /// How many slots of its worker it takes; 1 to 64.
    #[serde(default = "slots", skip_serializing_if = "is_default_slots")]
    pub slots: u8,
    /// What is called with the outcome.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub callbacks: Vec<Callback>,
    /// What makes it a group: then no procedure runs, and the name is for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    /// What is submitted is an event, and the name its topic: it is no call itself, subscriptions make calls of it.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub event: bool,
}

impl Route {
    /// The route to `procedure` with every default.
    #[must_use]
    pub const fn new(procedure: Name) -> Self {
        Self {
            procedure,
            tenant: None,
            priority: Priority::DEFAULT,
            durability: None,
            attempts: defaults::ATTEMPTS,
            backoff: Backoff::DEFAULT,
            attempt_timeout_ms: 0,
            idempotent: false,
            at_most_once: false,
            shape: None,
            lane: None,
            concurrency: defaults::CONCURRENCY,
            labels: Vec::new(),
            slots: defaults::CALL_SLOTS,
            callbacks: NO_CALLBACKS,
            group: None,
            event: false,
        }
    }

    /// The name of the lane that an ordering key of its calls belongs to.
    #[must_use]
    pub fn lane(&self) -> &Name {
        self.lane.as_ref().unwrap_or(&self.procedure)
    }
}

const fn concurrency() -> u32 {
    defaults::CONCURRENCY
}

const fn slots() -> u8 {
    defaults::CALL_SLOTS
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
const fn is_default_concurrency(concurrency: &u32) -> bool {
    *concurrency == defaults::CONCURRENCY
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
const fn is_default_slots(slots: &u8) -> bool {
    *slots == defaults::CALL_SLOTS
}

/// How often a route that says nothing is tried.
const fn attempts() -> u16 {
    defaults::ATTEMPTS
}

/// Whether a call outlives the broker's memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Kept in memory: it dies with the broker.
    Volatile,
    /// Fsynced before it is acknowledged.
    Durable,
}

/// A class of urgency, 0 to 9; 9 goes first, 4 is the default. Classes are weighted, so none starves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(transparent)]
pub struct Priority(u8);

impl Default for Priority {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Priority {
    /// The class of a call that names none.
    pub const DEFAULT: Self = Self(defaults::PRIORITY);
    /// How many classes there are.
    pub const CLASSES: usize = 10;

    /// Checks and takes a class.
    ///
    /// # Errors
    /// When it is above 9.
    pub const fn new(class: u8) -> Result<Self, PriorityError> {
        if class < 10 { Ok(Self(class)) } else { Err(PriorityError(class)) }
    }

    /// The class as a number, 0 to 9.
    #[must_use]
    pub const fn class(self) -> u8 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Priority {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let class = <u8 as Deserialize>::deserialize(deserializer)?;
        Self::new(class).map_err(serde::de::Error::custom)
    }
}

/// The priority is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriorityError(pub u8);

impl fmt::Display for PriorityError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "priority {} is out of range: it is 0 to 9, 9 first", self.0)
    }
}

impl core::error::Error for PriorityError {}

/// The wait before attempt n+1: `first × factor^(n−1)`, at most `max`, then a random part of it (full jitter).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Backoff {
    /// Bound of the first wait, in milliseconds.
    pub first_ms: u32,
    /// What each further bound is multiplied by, in tenths (20 is ×2).
    pub factor_tenths: u16,
    /// The largest bound, in milliseconds.
    pub max_ms: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Backoff {
    /// 0.2 s × 2, at most one minute.
    pub const DEFAULT: Self = Self {
        first_ms: defaults::BACKOFF_FIRST_MS,
        factor_tenths: defaults::BACKOFF_FACTOR_TENTHS,
        max_ms: defaults::BACKOFF_MAX_MS,
    };

    /// The bound of the wait after the `failed`-th failed attempt (counted from 1), in milliseconds.
    #[must_use]
    pub fn bound_ms(&self, failed: u16) -> u64 {
        let max = u64::from(self.max_ms);
        let mut bound = u64::from(self.first_ms).min(max);
        for _ in 1..failed {
            if bound >= max || self.factor_tenths <= 10 {
                break;
            }
            bound = (bound.saturating_mul(u64::from(self.factor_tenths)) / 10).min(max);
        }
        bound
    }
}
