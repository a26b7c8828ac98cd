//! Callbacks: procedures that are called with how a call ended.

use crate::{CallId, Route, defaults};
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// A procedure to be called with how a call ended: once, recorded with the settlement, also when the caller is gone.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Callback {
    /// After which outcomes, and with what argument.
    pub on: CallbackOn,
    /// Where it goes and how it is treated: a callback is a call, with attempts and callbacks of its own. Its
    /// durability is that of its cause, whatever is said here; without a tenant it has that of its cause.
    pub route: Route,
}

/// After which outcomes a callback is made, and with what argument.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
#[serde(rename_all = "snake_case")]
pub enum CallbackOn {
    /// After any; its argument is the outcome: `{id, procedure, state, attempts, value | failure}`.
    Outcome = 0,
    /// After success; its argument is the outcome.
    Success = 1,
    /// After anything else: failed, cancelled, expired or dead. Its argument is the outcome.
    Failure = 2,
    /// After success; its argument is the value itself. This is how calls are chained.
    Value = 3,
}

impl CallbackOn {
    /// The one with this number, if there is one.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Outcome,
            1 => Self::Success,
            2 => Self::Failure,
            3 => Self::Value,
            _ => return None,
        })
    }

    /// Whether a callback is made after a call that ended so.
    #[must_use]
    pub const fn follows(self, succeeded: bool) -> bool {
        match self {
            Self::Outcome => true,
            Self::Success | Self::Value => succeeded,
            Self::Failure => !succeeded,
        }
    }
}

impl Route {
    /// How many unsettled calls a call of this route stands for, those that its callbacks may become included: as
    /// many are reserved when it is accepted, so that no callback finds the broker full.
    #[must_use]
    pub fn calls(&self) -> u32 {
        let after = |succeeded: bool| {
            let follow = self.callbacks.iter().filter(|callback| callback.on.follows(succeeded));
            follow.fold(0_u32, |sum, callback| sum.saturating_add(callback.route.calls()))
        };
        after(true).max(after(false)).saturating_add(1)
    }

    /// Visits this route, those of its callbacks, and theirs.
    pub fn visit(&self, see: &mut dyn FnMut(&Self)) {
        see(self);
        for callback in &self.callbacks {
            callback.route.visit(see);
        }
    }

    /// Whether the callbacks, and theirs, are within bounds.
    ///
    /// # Errors
    /// When there are more than [`defaults::CALLBACKS_MAX`] in all, they follow each other more than
    /// [`defaults::CALLBACK_DEPTH_MAX`] deep, or one is there twice.
    pub fn check_callbacks(&self) -> Result<(), CallbackError> {
        let mut left = defaults::CALLBACKS_MAX;
        self.check_within(defaults::CALLBACK_DEPTH_MAX, &mut left)
    }

    fn check_within(&self, depth: u8, left: &mut u8) -> Result<(), CallbackError> {
        for (place, callback) in self.callbacks.iter().enumerate() {
            if depth == 0 {
                return Err(CallbackError::TooDeep);
            }
            *left = left.checked_sub(1).ok_or(CallbackError::TooMany)?;
            if self.callbacks.iter().take(place).any(|other| other.is_same(callback)) {
                return Err(CallbackError::Twice);
            }
            if callback.route.group.is_some() {
                return Err(CallbackError::Group);
            }
            callback.route.check_within(depth - 1, left)?;
        }
        Ok(())
    }
}

impl Callback {
    /// Whether the two are one: a call has each procedure at most once for each [`CallbackOn`].
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.on == other.on && self.route.procedure == other.route.procedure
    }

    /// The id of the call of `procedure` that a callback of `cause` becomes: always the same, so that there is one.
    #[must_use]
    pub fn id(on: CallbackOn, procedure: &str, cause: CallId) -> CallId {
        let mut salt = Vec::with_capacity(1 + procedure.len());
        salt.push(on as u8);
        salt.extend_from_slice(procedure.as_bytes());
        cause.derived(&salt)
    }
}

/// The callbacks of a call are not within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallbackError {
    /// More than [`defaults::CALLBACKS_MAX`].
    TooMany,
    /// They follow each other more than [`defaults::CALLBACK_DEPTH_MAX`] deep.
    TooDeep,
    /// One procedure twice for the same outcomes.
    Twice,
    /// A callback is a group.
    Group,
}

impl fmt::Display for CallbackError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => {
                let max = defaults::CALLBACKS_MAX;
                write!(formatter, "a call has more than {max} callbacks, theirs included: call fewer procedures")
            }
            Self::TooDeep => {
                let max = defaults::CALLBACK_DEPTH_MAX;
                write!(formatter, "callbacks follow each other more than {max} deep: submit the rest from a procedure")
            }
            Self::Group => formatter.write_str("a callback cannot be a group: open one from a procedure"),
            Self::Twice => formatter.write_str("a callback is given twice for the same outcomes: give it once"),
        }
    }
}

impl core::error::Error for CallbackError {}

/// No callbacks, as a constant.
pub(crate) const NO_CALLBACKS: Vec<Callback> = Vec::new();
