//! Typed, durable, sub-millisecond asynchronous calls, answered exactly once: the outcome of a call is recorded exactly
//! once; its procedure runs at least once, or, where it or the call says so, at most once.
//!
//! ```
//! use antiphon::{Antiphon, Failure};
//!
//! #[antiphon::service]
//! pub trait Math {
//!     #[procedure(idempotent)]
//!     async fn sum(&self, ns: Vec<u32>) -> Result<u64, Failure>;
//! }
//!
//! struct Calculator;
//!
//! impl Math for Calculator {
//!     async fn sum(&self, ns: Vec<u32>) -> Result<u64, Failure> {
//!         Ok(ns.into_iter().map(u64::from).sum())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let antiphon = Antiphon::connect("memory:").await?;
//! let worker = antiphon.worker().service(MathService::new(Calculator)).start().await?;
//!
//! let math = MathClient::new(&antiphon);
//! assert_eq!(math.sum(vec![1, 2, 3]).await?, 6);
//!
//! worker.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The library needs a tokio runtime with time enabled (and I/O for `antiphon://`); a current-thread one will do. It
//! installs no signal handler, panic hook or other global state.

mod absence;
mod acknowledgements;
mod address;
mod antiphon;
mod attempt;
mod awaited;
mod call_builder;
mod call_error;
mod call_outcome;
mod cancellation;
mod context;
mod encoding;
mod event;
mod event_stream;
mod failure;
mod gathering;
mod group;
mod group_outcomes;
mod id;
mod inbox;
mod inspection;
mod launch;
mod leases;
mod outgoing;
mod overflow;
mod parking;
mod pending;
mod procedure;
mod progress;
mod renewal;
mod schedule;
mod service;
mod session;
mod stable;
mod submitted;
mod tidings;
mod waiting;
mod worker;

pub use crate::antiphon::{Antiphon, AntiphonBuilder};
pub use crate::attempt::Attempt;
pub use crate::awaited::AwaitedCall;
pub use crate::call_builder::CallBuilder;
pub use crate::call_error::{CallError, CallFailure, SettledCall};
pub use crate::call_outcome::CallOutcome;
pub use crate::context::Context;
pub use crate::event::Emit;
pub use crate::event_stream::{EmittedEvent, EventStream};
pub use crate::failure::ProcedureError;
pub use crate::group::{Group, GroupBuilder, GroupFailed, GroupOutcome, Sealing};
pub use crate::group_outcomes::GroupOutcomes;
pub use crate::inbox::{Delivery, Inbox};
pub use crate::inspection::Inspection;
pub use crate::procedure::Procedure;
pub use crate::progress::{Progress, ProgressStream};
pub use crate::renewal::Renewal;
pub use crate::service::{RawProcedureOptions, Service};
pub use crate::session::Acceptance;
pub use crate::submitted::{SubmittedCall, Submitting};
pub use crate::waiting::{AsCompleted, FirstFailure, Map, as_completed, map, wait_all, wait_any, wait_first_failure};
pub use crate::worker::{Worker, WorkerBuilder};

pub use antiphon_broker::{Broker, Capabilities, Driver, OpenError};
pub use antiphon_macros::{Failure, service};
pub use antiphon_protocol::{
    Answer, Backoff, BrokerStatus, CallFilter, CallId, CallStatus, Callback, CallbackOn, CallbackStatus, CancelAnswer,
    Cause, Change, ChildStatus, Code, ContentType, Durability, Explanation, Failure, GroupCounts, GroupKind,
    GroupStatus, Knowledge, Measured, Misfire, Name, Outcome, Overlap, Pattern, Payload, ProcedureStatus, Query,
    Recurrence, Route, Schedule, ScheduleStatus, Schema, SchemaParameter, Standing, State, Subscription, Topic,
    TopicError, WorkerStatus, defaults,
};
pub use bytes::Bytes;

/// What code made by the macros refers to; nothing here is for people.
#[doc(hidden)]
pub mod made {
    pub use crate::failure::{decode_error, encode_error};
    pub use antiphon_protocol::{OfferedProcedure, Route};
    pub use serde;
}
