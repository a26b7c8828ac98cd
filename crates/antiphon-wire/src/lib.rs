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

pub use error::FrameError;
pub use frame::{Accepted, Entries, Entry, Frame, Submitted};
pub use handshake::{Hello, Refusal, Role, Stranger, Welcome, feature};
pub use inbound::{Arrival, Inbound};
pub use kind::Kind;
pub use outbound::Outbound;
