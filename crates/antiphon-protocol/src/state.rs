//! The states of a call, as everyone sees them.

use core::fmt;
use serde::{Deserialize, Serialize};

/// Where a call stands. The last five are terminal and never change.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not due yet: delayed, or waiting for its next attempt.
    Scheduled = 0,
    /// Waiting for a free slot.
    Ready = 1,
    /// An attempt is running under a lease.
    Leased = 2,
    /// The procedure returned a value.
    Succeeded = 3,
    /// The procedure returned its own, final error.
    Failed = 4,
    /// Cancelled by its owner.
    Cancelled = 5,
    /// The deadline passed first.
    Expired = 6,
    /// Attempts used up, a panic, undecodable arguments, or too many lost leases: kept as a dead letter.
    Dead = 7,
}

impl State {
    /// All states, by number.
    pub const ALL: [Self; 8] = [
        Self::Scheduled,
        Self::Ready,
        Self::Leased,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
        Self::Dead,
    ];

    /// The state with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Whether this state never changes any more.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        !matches!(self, Self::Scheduled | Self::Ready | Self::Leased)
    }

    /// The lower-case word for this state.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Ready => "ready",
            Self::Leased => "leased",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Dead => "dead",
        }
    }

    /// The state with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}
