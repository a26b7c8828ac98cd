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

    /// Writes what fits now, or has the task woken when something fits.
    ///
    /// # Errors
    /// When the connection is broken.
    fn poll_write(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self.poll_writable(context) {
                    Poll::Ready(Ok(())) => (),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                },
                written => return Poll::Ready(written),
            }
        }
    }
}
