//! Engine and journal in this process: the driver that joins them, and the embedded broker behind the seam.

mod bodies;
mod bulk;
mod clock;
mod commit;
mod cron;
mod driver;
mod embedded;
mod events;
mod opening;
mod outlet;
mod output;
mod planted;
mod progress;
mod questions;
mod reporting;
mod sweeping;
mod sync;
mod timetable;
mod told;
mod tombs;
mod topics;
mod turn;
mod watching;

pub use clock::{Clock, SystemClock};
pub use commit::Commit;
pub use driver::{Driver, DriverOptions, RouteRef, Submit};
pub use embedded::{Embedded, EmbeddedOptions};
pub use outlet::{Outlet, PeerId};
