//! A connection of the simulated network: bytes on their way, bytes that have arrived, and what may happen to them.

use antiphon_wire::{Carrier, Connect};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// One way of a connection.
#[derive(Default)]
pub(super) struct Way {
    /// Said, and on its way.
    pub flying: VecDeque<u8>,
    /// There, and not read.
    pub arrived: VecDeque<u8>,
    /// Nothing more is said; the other side learns it when everything has arrived.
    pub ended: bool,
    /// What is said from now on is lost, and nobody is told.
    pub swallows: bool,
}

impl Way {
    pub fn say(&mut self, bytes: &[u8]) {
        if !self.swallows {
            self.flying.extend(bytes);
        }
    }

    /// So many bytes arrive.
    pub fn arrive(&mut self, count: usize) {
        let count = count.min(self.flying.len());
        self.arrived.extend(self.flying.drain(..count));
    }

    /// Whether who reads has come to the end.
    pub fn is_over(&self) -> bool {
        self.ended && self.flying.is_empty() && self.arrived.is_empty() && !self.swallows
    }

    /// Everything stays away that has not been read.
    pub fn swallow(&mut self) {
        self.swallows = true;
        self.flying.clear();
    }
}

/// A connection, as the network has it.
pub(super) struct Link {
    pub up: Way,
    pub down: Way,
    /// Both sides find it reset.
    pub cut: bool,
    /// The client has let go of it.
    pub left: bool,
    /// The broker has.
    pub closed: bool,
    /// How much the client may have on its way.
    pub window: usize,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Link {
    pub fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }

    /// Whether anything can still come of it.
    pub fn is_over(&self) -> bool {
        self.left && self.closed
    }
}

/// All connections, in the order in which they were opened.
#[derive(Default)]
pub(super) struct Network {
    pub links: Vec<Arc<Mutex<Link>>>,
    /// Whether the broker listens.
    pub listens: bool,
    pub window: usize,
}

pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How one client reaches the network.
pub(super) struct Dialler {
    pub client: usize,
    pub network: Arc<Mutex<Network>>,
}

impl std::fmt::Debug for Dialler {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "client {}", self.client)
    }
}

impl Connect for Dialler {
    fn connect(&self) -> io::Result<Arc<dyn Carrier>> {
        let mut network = lock(&self.network);
        if !network.listens {
            return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
        }
        let link = Arc::new(Mutex::new(Link {
            up: Way::default(),
            down: Way::default(),
            cut: false,
            left: false,
            closed: false,
            window: network.window,
            reader: None,
            writer: None,
        }));
        network.links.push(Arc::clone(&link));
        Ok(Arc::new(End(link)))
    }
}

/// The client's end.
struct End(Arc<Mutex<Link>>);

fn reset() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionReset)
}

impl Carrier for End {
    fn poll_read(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut link = lock(&self.0);
        if link.cut {
            return Poll::Ready(Err(reset()));
        }
        if link.down.arrived.is_empty() && !link.down.is_over() {
            link.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = buffer.len().min(link.down.arrived.len());
        buffer.iter_mut().zip(link.down.arrived.drain(..count)).for_each(|(place, byte)| *place = byte);
        Poll::Ready(Ok(count))
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut link = lock(&self.0);
        if link.cut {
            return Err(reset());
        }
        let room = link.window.saturating_sub(link.up.flying.len());
        if room == 0 {
            return Err(io::Error::from(io::ErrorKind::WouldBlock));
        }
        let count = room.min(bytes.len());
        link.up.say(bytes.get(..count).unwrap_or(&[]));
        Ok(count)
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut link = lock(&self.0);
        if link.cut || link.up.flying.len() < link.window {
            return Poll::Ready(Ok(()));
        }
        link.writer = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut link = lock(&self.0);
        (link.left, link.up.ended) = (true, true);
    }
}
