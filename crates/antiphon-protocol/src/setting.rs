//! What an operator sets for one procedure, kept over restarts.

use alloc::collections::BTreeMap;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Something that can be set for a procedure. All are whole numbers; what is not set is as the broker has it.
///
/// The numbers are journaled: to add a setting give it a new one, and never give one a new meaning.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Setting {
    /// Calls that wait, scheduled ones included: over it a submission is refused.
    QueuedMax = 1,
    /// Bytes of their arguments.
    QueuedBytesMax = 2,
    /// Calls of one tenant that wait.
    TenantQueuedMax = 3,
    /// Bytes of their arguments.
    TenantQueuedBytesMax = 4,
    /// How long an outcome stays readable, in milliseconds.
    OutcomeMs = 5,
    /// How many bytes of outcomes are kept; the oldest go first.
    OutcomeBytes = 6,
    /// How long a dead letter is kept, in milliseconds.
    DeadLetterMs = 7,
    /// How many dead letters are kept; the oldest go first.
    DeadLettersMax = 8,
    /// How many retries there may be, in percent of new calls.
    RetryPercent = 9,
    /// How many retries there may be in ten seconds, however few new calls there are.
    RetriesMin = 10,
    /// 1: no call of it starts; what runs goes on.
    Paused = 11,
    /// How many of its calls run at a time; 0 is any number. One that has given its slot back while it waits for a sub-call
    /// does not count.
    RunningMax = 12,
    /// How many of its calls start in the period, every attempt counted; 0 is any number. Up to a million.
    RateCount = 13,
    /// That period, in milliseconds; a second if it is not set.
    RatePeriodMs = 14,
    /// How many start at once after a pause; a tenth of a second's worth if it is not set.
    RateBurst = 15,
}

impl Setting {
    /// All settings, by number.
    pub const ALL: [Self; 15] = [
        Self::QueuedMax,
        Self::QueuedBytesMax,
        Self::TenantQueuedMax,
        Self::TenantQueuedBytesMax,
        Self::OutcomeMs,
        Self::OutcomeBytes,
        Self::DeadLetterMs,
        Self::DeadLettersMax,
        Self::RetryPercent,
        Self::RetriesMin,
        Self::Paused,
        Self::RunningMax,
        Self::RateCount,
        Self::RatePeriodMs,
        Self::RateBurst,
    ];

    /// The setting with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|setting| *setting as u8 == number)
    }

    /// The lower-case words for this setting.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueuedMax => "queued_max",
            Self::QueuedBytesMax => "queued_bytes_max",
            Self::TenantQueuedMax => "tenant_queued_max",
            Self::TenantQueuedBytesMax => "tenant_queued_bytes_max",
            Self::OutcomeMs => "outcome_ms",
            Self::OutcomeBytes => "outcome_bytes",
            Self::DeadLetterMs => "dead_letter_ms",
            Self::DeadLettersMax => "dead_letters_max",
            Self::RetryPercent => "retry_percent",
            Self::RetriesMin => "retries_min",
            Self::Paused => "paused",
            Self::RunningMax => "running_max",
            Self::RateCount => "rate_count",
            Self::RatePeriodMs => "rate_period_ms",
            Self::RateBurst => "rate_burst",
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// What is set for one procedure.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Settings(pub BTreeMap<Setting, u64>);

impl Settings {
    /// The value of a setting, if it is set.
    #[must_use]
    pub fn get(&self, setting: Setting) -> Option<u64> {
        self.0.get(&setting).copied()
    }

    /// Sets, or leaves to the broker.
    pub fn set(&mut self, setting: Setting, value: Option<u64>) {
        match value {
            Some(value) => drop(self.0.insert(setting, value)),
            None => drop(self.0.remove(&setting)),
        }
    }
}
