//! Antiphon's frames, handshake, and the remote broker over TCP and Unix sockets.
//!
//! The layouts are in `docs/wire-format.md`, which is enough to write a client in another language. Frames of the hot
//! path are fixed little-endian layouts written by hand; what is rare and for the other side itself (a route, an offer, a
//! query, an answer) is MessagePack.

mod cursor;
mod error;
mod frame;
mod handshake;
mod inbound;
mod kind;
pub mod limits;
mod outbound;
mod pipe;
mod remote;

pub use error::FrameError;
pub use frame::{Accepted, Entries, Entry, Frame, Parked, Submitted};
pub use handshake::{Hello, Refusal, Role, Stranger, Welcome, feature};
pub use inbound::{Arrival, Inbound};
pub use kind::Kind;
pub use outbound::Outbound;
pub use pipe::{Inside, Pipe};
pub use remote::{Address, AddressError, Carrier, Connect, Remote, RemoteOptions};

/// What a report becomes whose payload is above the limit: trying the call again would give the same.
#[must_use]
pub fn oversized_settlement(bytes: usize, max: usize) -> antiphon_protocol::Settlement {
    let text = format!("the procedure's value has {bytes} bytes and the broker takes at most {max}");
    let failure = antiphon_protocol::Failure::new(antiphon_protocol::Code::ResourceExhausted, text);
    antiphon_protocol::Settlement::Fail(failure.may_have_run())
}
