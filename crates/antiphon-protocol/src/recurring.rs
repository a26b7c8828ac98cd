//! Recurring calls: when a schedule calls its procedure, and what it does when a call takes long or the broker was down.

use crate::{CallId, ContentType, Name, Route};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// When a schedule's ticks are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recurrence {
    /// Every so many milliseconds, counted from when the schedule was added; at least 1,000.
    Every(u64),
    /// At the times of a cron expression: minute, hour, day of month, month, day of week.
    Cron {
        /// The five fields, such as `0 9 * * MON-FRI`.
        expression: String,
        /// Whose wall clock counts: a name of the IANA time zone database, such as `Europe/Berlin`.
        zone: String,
    },
}

/// What a tick does while the call of an earlier one has not settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// Calls at once, however many run.
    Allow = 1,
    /// Does nothing.
    Skip = 2,
    /// Calls when that has settled; further ticks until then do nothing.
    #[default]
    Queue = 3,
    /// Cancels that, and calls at once: its attempt may still be stopping.
    Cancel = 4,
}

/// What becomes of ticks that the broker missed: it was down, or had no room, for more than 10 s.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misfire {
    /// The latest of them makes a call, the others do not.
    #[default]
    Once,
    /// The latest so many of them make a call each.
    All(u16),
    /// None of them makes a call.
    Skip,
}

/// Calls a procedure at each tick. It outlives the broker's restarts if the broker journals.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Schedule {
    /// What it is called.
    pub name: Name,
    /// When.
    pub recurrence: Recurrence,
    /// Which procedure, and how its calls are treated.
    pub route: Route,
    /// How the arguments are encoded.
    pub content_type: ContentType,
    /// The arguments, at most 64 KiB.
    pub arguments: Vec<u8>,
    /// What a tick does while an earlier call has not settled.
    pub overlap: Overlap,
    /// What becomes of missed ticks.
    pub misfire: Misfire,
}

/// Where a schedule stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ScheduleStatus {
    /// The schedule, without its arguments.
    pub schedule: Schedule,
    /// Whether it is paused: then its ticks pass.
    pub paused: bool,
    /// The tick of its latest call, in milliseconds since 1970; 0 is none yet.
    pub last_ms: u64,
    /// The call of that tick.
    pub last_call: Option<CallId>,
    /// A tick that waits for that call to settle; 0 is none.
    pub queued_ms: u64,
    /// Its next ticks, in milliseconds since 1970.
    pub next_ms: Vec<u64>,
}
