//! A connected socket, or a pipe, in two halves: reading belongs to the connection's task, writing is shared with submitters.

use super::Address;
use super::carrier::{Carrier, Connect};
use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

pub(super) enum Reader {
    Tcp(tcp::OwnedReadHalf),
    Unix(unix::OwnedReadHalf),
    Carried(Arc<dyn Carrier>),
}

pub(super) enum Writer {
    Tcp(tcp::OwnedWriteHalf),
    Unix(unix::OwnedWriteHalf),
    Carried(Arc<dyn Carrier>),
}

pub(super) async fn connect(address: &Address, by: Option<&dyn Connect>) -> io::Result<(Reader, Writer)> {
    if let Some(by) = by {
        return Ok(carried(by.connect()?));
    }
    match address {
        Address::Tcp(host) => {
            let stream = TcpStream::connect(host.as_str()).await?;
            stream.set_nodelay(true)?;
            let (reader, writer) = stream.into_split();
            Ok((Reader::Tcp(reader), Writer::Tcp(writer)))
        }
        Address::Unix(path) => {
            let (reader, writer) = UnixStream::connect(path).await?.into_split();
            Ok((Reader::Unix(reader), Writer::Unix(writer)))
        }
        Address::Inside(inside) => Ok(carried(Arc::new(inside.connect()?))),
    }
}

fn carried(carrier: Arc<dyn Carrier>) -> (Reader, Writer) {
    (Reader::Carried(Arc::clone(&carrier)), Writer::Carried(carrier))
}

impl Reader {
    /// Reads what is there; no bytes mean that the other side closed.
    pub(super) fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        let polled = match self {
            Self::Tcp(half) => Pin::new(half).poll_read(context, &mut buffer),
            Self::Unix(half) => Pin::new(half).poll_read(context, &mut buffer),
            Self::Carried(carrier) => return carrier.poll_read(context, buffer.initialize_unfilled()),
        };
        polled.map_ok(|()| buffer.filled().len())
    }
}

impl Writer {
    /// Writes what fits now.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(half) => half.try_write(bytes),
            Self::Unix(half) => half.try_write(bytes),
            Self::Carried(carrier) => carrier.try_write(bytes),
        }
    }

    /// Writes what fits now, or has the task woken when something fits.
    pub(super) fn poll_write(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let ready = match self {
                        Self::Tcp(half) => half.as_ref().poll_write_ready(context),
                        Self::Unix(half) => half.as_ref().poll_write_ready(context),
                        Self::Carried(carrier) => carrier.poll_writable(context),
                    };
                    match ready {
                        Poll::Ready(Ok(())) => (),
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                        Poll::Pending => return Poll::Pending,
                    }
                }
                written => return Poll::Ready(written),
            }
        }
    }
}
