//! Sockets straight onto the driver: one thread takes what all connections sent, turns it over to the engine, commits,
//! and writes once to every peer that has something coming. There is no thread and no channel per session.

mod connection;
mod counters;
mod handle;
mod here;
mod inside;
mod listener;
mod options;
mod peers;
mod server;
mod session;
mod spin;
mod stream;
mod turn;

pub use antiphon_wire::Address;
pub use counters::Counters;
pub use handle::{Phase, ServerHandle};
pub use options::{ListenOptions, ServerOptions};
pub use server::{Hosted, Running, ServeError, Server, StartError};
