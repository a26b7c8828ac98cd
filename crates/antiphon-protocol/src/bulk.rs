//! Changing many calls at once: those that match, a bounded number for each question.

use crate::{CallFilter, CallId, CancelAnswer, Code, Name, State};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// How many calls one question changes at most; its answer says where the next one goes on.
pub const BULK_CALLS_MAX: u32 = 1_000;

/// What is done to the calls that match.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// Cancel those that are not settled.
    Cancel,
    /// Submit dead letters anew, as new calls.
    Revive,
    /// Forget dead letters.
    Purge,
}

impl Deed {
    /// Whether it can be done to calls in this state.
    #[must_use]
    pub const fn suits(self, state: State) -> bool {
        match self {
            Self::Cancel => !state.is_settled(),
            Self::Revive | Self::Purge => matches!(state, State::Dead),
        }
    }
}

/// A change of many calls.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bulk {
    /// What to do.
    pub deed: Deed,
    /// To which calls; a limit of 0, or above [`BULK_CALLS_MAX`], is that.
    pub filter: CallFilter,
    /// Only say to which.
    pub dry_run: bool,
    /// Where to go on, as the answer before has said; `None` is from the start.
    pub cursor: Option<u32>,
}

/// What came of a [`Bulk`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct BulkAnswer {
    /// Each call that matched.
    pub calls: Vec<Changed>,
    /// Where the next question goes on; `None` when every call was looked at.
    pub next: Option<u32>,
}

/// A call that matched.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Changed {
    /// The call.
    pub id: CallId,
    /// Its procedure.
    pub procedure: Name,
    /// What was done to it; `None` in a dry run.
    pub fate: Option<Fate>,
}

/// What was done to a call.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It was cancelled, or was to be.
    Cancelled(CancelAnswer),
    /// It was submitted anew, as this call.
    Revived(CallId),
    /// It is forgotten.
    Purged,
    /// It could not be done.
    Refused {
        /// Why, as a code.
        code: Code,
        /// Why, in words.
        message: String,
    },
}
