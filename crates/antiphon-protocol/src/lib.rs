//! What all sides of Antiphon agree on: calls, outcomes, ids, names, status codes, defaults.
//!
//! This crate holds plain data. It does no I/O, reads no clock and no randomness, and knows neither the wire's
//! bytes nor the journal's.
#![no_std]

extern crate alloc;

mod bulk;
mod call;
mod callback;
mod code;
pub mod defaults;
mod explain;
mod group;
mod id;
mod inspect;
mod name;
mod offer;
mod outcome;
mod payload;
mod rate;
mod recurring;
mod route;
mod setting;
mod shape;
mod state;
mod topic;

pub use bulk::{BULK_CALLS_MAX, Bulk, BulkAnswer, Changed, Deed, Fate};
pub use call::{Call, Keys, Start};
pub use callback::{Callback, CallbackError, CallbackOn};
pub use code::Code;
pub use explain::{Cause, Explanation, Standing};
pub use group::{Group, GroupCounts, GroupKind};
pub use id::{CallId, CallerId, Epoch, IncarnationId, LeaseTag, ParseCallIdError, Tag};
pub use inspect::{
    Answer, AttemptRecord, BrokerStatus, CallFilter, CallStatus, CallbackStatus, CancelAnswer, ChildStatus,
    GROUP_WAIT_MS_MAX, GroupStatus, Knowledge, Measured, ProcedureStatus, Quantiles, Query, SUBSCRIPTIONS_MAX,
    WorkerStatus,
};
pub use name::{Key, NAME_BYTES_MAX, Name, NameError};
pub use offer::{HeldLease, Offer, OfferedProcedure, Schema, SchemaParameter};
pub use outcome::{Failure, Outcome, Settlement};
pub use payload::{ContentType, Payload};
pub use rate::{Rate, RateError};
pub use recurring::{Misfire, Overlap, Recurrence, Schedule, ScheduleStatus};
pub use route::{Backoff, Durability, Priority, PriorityError, Route};
pub use setting::{Setting, Settings};
pub use shape::{SHAPE_PARAMETERS_MAX, Shape};
pub use state::State;
pub use topic::{Change, Pattern, Subscription, Topic, TopicError};
