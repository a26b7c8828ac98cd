//! Engine and journal in this process: the driver that joins them, and the embedded broker behind the seam.

mod bodies;
mod clock;
mod driver;
mod embedded;
mod events;
mod opening;
mod outlet;
mod output;
mod questions;
mod sweeping;
mod tombs;
mod turn;

pub use clock::{Clock, SystemClock};
pub use driver::{Commit, Driver, DriverOptions, PeerId, RouteRef, Submit};
pub use embedded::{Embedded, EmbeddedOptions};
pub use outlet::Outlet;
