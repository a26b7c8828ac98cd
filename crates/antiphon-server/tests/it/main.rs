//! The server's tests, over loopback sockets with the remote broker or with bare bytes.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

mod calls;
mod conformance;
mod hostile;
mod limits;
mod stalled;
mod world;
