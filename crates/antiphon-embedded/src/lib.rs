//! Engine and journal in this process, behind the broker seam.

mod driver;
mod outlet;

pub use driver::{Commit, Driver, DriverOptions, PeerId, RouteRef, Submit};
pub use outlet::Outlet;
