//! The mathematics of waiting: formulas, plans made with them, and experiments that hold both against the engine.
//!
//! Units everywhere: rates are per second, times are seconds, loads are in erlangs (arrival rate × mean service time:
//! how many servers the work keeps busy). A queue that grows without end is a [`QueueingError::Unstable`], which says
//! the load and the capacity.

mod batch_plan;
mod bounded;
mod closed;
mod erlang;
mod error;
pub mod experiment;
mod group_commit;
mod little;
mod makespan;
mod markov;
mod multi;
mod plan;
mod priority;
mod quantile;
mod quantity;
mod service;
mod single;

pub use batch_plan::{BatchPlan, BatchRow};
pub use bounded::Bounded;
pub use closed::Closed;
pub use erlang::{erlang_b, erlang_c};
pub use error::QueueingError;
pub use group_commit::GroupCommit;
pub use little::{number_in_system, sojourn_s, throughput_per_s};
pub use makespan::{Makespan, graham_bound_s, list_schedule_s, longest_first_s, lower_bound_s};
pub use markov::{Markov, Unqueued};
pub use multi::General;
pub use plan::{Outlook, Plan, Prediction, Quantiles, Station, Target};
pub use priority::{Priorities, PriorityClass};
pub use quantity::{PerSecond, Seconds};
pub use service::Service;
pub use single::PollaczekKhinchine;
