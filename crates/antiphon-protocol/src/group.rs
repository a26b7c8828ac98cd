//! Groups: calls that settle together.

use crate::defaults;
use core::fmt;
use serde::{Deserialize, Serialize};

/// What makes a call a group: it runs no procedure, but settles when enough of its children have.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Group {
    /// When it is decided.
    pub kind: GroupKind,
    /// Whether children that have not settled when it is decided are cancelled.
    #[serde(default)]
    pub cancel_rest: bool,
    /// How long it may stay unsealed, in milliseconds; then it expires. 1 hour by default.
    #[serde(default = "unsealed_ms")]
    pub unsealed_ms: u64,
}

impl Group {
    /// A group of this kind with every default.
    #[must_use]
    pub const fn new(kind: GroupKind) -> Self {
        Self { kind, cancel_rest: false, unsealed_ms: defaults::GROUP_UNSEALED_MS }
    }
}

const fn unsealed_ms() -> u64 {
    defaults::GROUP_UNSEALED_MS
}

/// When a group is decided. Only succeeded children count towards it; failed, cancelled, expired and dead ones do not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupKind {
    /// Succeeds when it is sealed and all children have succeeded; fails with the first that ends otherwise.
    All,
    /// Succeeds when this many children have; fails when it is sealed and so many can not any more. Any is 1.
    First(u32),
    /// Succeeds when it is sealed and all children have settled, however.
    Settled,
}

/// Where a group stands, from its children alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GroupCounts {
    /// Children added.
    pub children: u32,
    /// Of them not settled.
    pub open: u32,
    /// Of them succeeded.
    pub succeeded: u32,
}

impl GroupKind {
    /// Whether the group has succeeded (`Some(true)`), failed (`Some(false)`), or is open yet.
    #[must_use]
    pub const fn decide(self, sealed: bool, counts: GroupCounts) -> Option<bool> {
        let GroupCounts { children, open, succeeded } = counts;
        match self {
            Self::All if children - open > succeeded => Some(false),
            Self::All | Self::Settled if sealed && open == 0 => Some(true),
            Self::All | Self::Settled => None,
            Self::First(count) if succeeded >= count => Some(true),
            Self::First(count) if sealed && succeeded + open < count => Some(false),
            Self::First(_) => None,
        }
    }
}

impl fmt::Display for GroupKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => formatter.write_str("all"),
            Self::First(1) => formatter.write_str("any"),
            Self::First(count) => write!(formatter, "first {count}"),
            Self::Settled => formatter.write_str("settled"),
        }
    }
}
