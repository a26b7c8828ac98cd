//! HTTP for operators: `/livez`, `/readyz`, `/metrics` and `/version`. It reads and never changes anything, and it is
//! no part of the way of a call.

mod gateway;
mod metrics;
mod page;
mod request;

pub use gateway::{Gateway, GatewayOptions};
