//! Connections that are no sockets: what simulations and other transports run a client on.

use core::fmt::Debug;
use core::task::{Context, Poll};
use std::io;
use std::sync::Arc;

/// Opens connections in place of the operating system.
pub trait Connect: Debug + Send + Sync {
    /// A new connection to the broker.
    ///
    /// # Errors
    /// As a socket would.
    fn connect(&self) -> io::Result<Arc<dyn Carrier>>;
}

/// One connection, used as a socket is; dropping it closes it.
pub trait Carrier: Send + Sync {
    /// Reads what is there, or has the task woken when something is; no bytes mean that the other side closed.
    fn poll_read(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes what fits now; [`io::ErrorKind::WouldBlock`] when nothing does.
    ///
    /// # Errors
    /// When the connection is broken.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Ready when something may fit, or has the task woken then.
    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
}
