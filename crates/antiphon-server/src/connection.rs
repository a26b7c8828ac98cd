//! One connection: its socket, what came of a frame so far, what is to be sent, and how long it has been silent. An
//! idle one holds no buffers.

use crate::ServerOptions;
use crate::stream::Stream;
use antiphon_embedded::{PeerId, RouteRef};
use antiphon_protocol::{Code, Failure};
use antiphon_wire::{Inbound, Outbound};
use std::time::Instant;

/// Reading at most this much at a time keeps one connection from holding up the others; a few hundred calls.
pub(crate) const SCRATCH_BYTES: usize = 256 << 10;
/// How much is read at a time unless a large frame is on its way: what came is answered before more is read, so that
/// peers and broker work at the same time.
const PORTION_BYTES: usize = 32 << 10;
/// Less than this in front is the beginning of a small frame, or of one whose length is not known yet.
const SMALL_BYTES: usize = 4 << 10;
/// Writing at most this much at a time, likewise.
const WRITE_BYTES_MAX: usize = 1 << 20;
/// A peer with this much to read is closed at once: it has asked for more than it reads, and the bytes are the broker's
/// memory.
const UNSENT_BYTES_CEILING: usize = 256 << 20;

#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    pub(crate) inbound: Inbound,
    pub(crate) outbound: Outbound,
    /// The beginning of a frame whose rest has not come.
    partial: Vec<u8>,
    pub(crate) role: Role,
    /// A caller's routes by the index that it gave; one that the engine refused keeps its reason.
    pub(crate) routes: Vec<Option<Result<RouteRef, Failure>>>,
    /// The caller's id or the worker's incarnation, and the session, for fencing.
    pub(crate) session: Option<([u8; 16], u64)>,
    opened: Instant,
    heard: Instant,
    pinged: bool,
    /// Since when the socket has taken nothing.
    blocked: Option<Instant>,
    /// The socket may have more to read than was read.
    pub(crate) readable: bool,
    /// The peer has closed its side; what it sent before may still be unread.
    pub(crate) hung_up: bool,
    /// It stands in the turn's queue of connections to read.
    pub(crate) queued: bool,
    /// It stands in the turn's list of connections to flush.
    pub(crate) dirty: bool,
    /// Stands in the list of those whose sending is put off.
    pub(crate) put_off: bool,
    /// It is closed as soon as everything is sent.
    pub(crate) ending: bool,
}

/// What a connection is for, and how far it is.
#[derive(Debug)]
pub(crate) enum Role {
    /// No hello yet.
    Stranger,
    Caller {
        peer: PeerId,
    },
    /// A worker that has not offered yet, with its session.
    Applicant {
        session: u64,
    },
    Worker {
        peer: PeerId,
    },
    Inspector,
    /// A newer session has taken over from this peer.
    Fenced {
        peer: PeerId,
    },
}

impl Role {
    pub(crate) const fn peer(&self) -> Option<PeerId> {
        match self {
            Self::Caller { peer } | Self::Worker { peer } | Self::Fenced { peer } => Some(*peer),
            Self::Stranger | Self::Applicant { .. } | Self::Inspector => None,
        }
    }

    const fn is_greeting(&self) -> bool {
        matches!(self, Self::Stranger | Self::Applicant { .. })
    }
}

/// Why a connection is closed by this side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Its peer closed it, or it broke.
    Ended,
    /// Its handshake took too long.
    Late,
    /// It was silent for two heartbeats.
    Silent,
    /// It does not read what it asked for.
    Unread,
}

impl Connection {
    pub(crate) fn new(stream: Stream, now: Instant) -> Self {
        Self {
            stream,
            inbound: Inbound::new(),
            outbound: Outbound::new(),
            partial: Vec::new(),
            role: Role::Stranger,
            routes: Vec::new(),
            session: None,
            opened: now,
            heard: now,
            pinged: false,
            blocked: None,
            readable: false,
            hung_up: false,
            queued: false,
            dirty: false,
            put_off: false,
            ending: false,
        }
    }

    pub(crate) const fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Reads once into `scratch`, behind what is left of a frame; `None` when nothing is there.
    pub(crate) fn read(&mut self, scratch: &mut [u8], now: Instant) -> Result<Option<usize>, Fault> {
        let kept = self.partial.len();
        let (head, free) = scratch.split_at_mut(kept);
        head.copy_from_slice(&self.partial);
        let portion = if kept < SMALL_BYTES { PORTION_BYTES.min(free.len()) } else { free.len() };
        let free = free.get_mut(..portion).unwrap_or(&mut []);
        match self.stream.read(free) {
            Ok(Some(0)) | Err(_) => Err(Fault::Ended),
            Ok(Some(count)) => {
                // Less than asked for is all there was (epoll(7)); a hang-up that came with it is remembered.
                self.readable = count == free.len() || self.hung_up;
                self.heard = now;
                self.pinged = false;
                Ok(Some(kept + count))
            }
            Ok(None) => {
                self.readable = false;
                Ok(None)
            }
        }
    }

    /// Keeps what is left of a frame.
    pub(crate) fn keep(&mut self, rest: &[u8]) {
        self.partial.clear();
        self.partial.extend_from_slice(rest);
    }

    /// It is no socket, and its peer may be on this very thread.
    pub(crate) const fn is_inside(&self) -> bool {
        matches!(self.stream, Stream::Inside(..))
    }

    /// Writes what the socket takes, up to a bound; whether there is more that it may take. Returns the bytes written.
    pub(crate) fn flush(&mut self, now: Instant) -> Result<(usize, bool), Fault> {
        let mut written = 0;
        while written < WRITE_BYTES_MAX {
            let unsent = self.outbound.unsent();
            if unsent.is_empty() {
                self.blocked = None;
                return if self.ending { Err(Fault::Ended) } else { Ok((written, false)) };
            }
            match self.stream.write(unsent) {
                Ok(Some(count)) => {
                    self.outbound.advance(count);
                    self.blocked = None;
                    written += count;
                }
                Ok(None) => {
                    self.blocked.get_or_insert(now);
                    return Ok((written, false));
                }
                Err(_) => return Err(Fault::Ended),
            }
        }
        Ok((written, true))
    }

    /// Whether the peer has so much to read that nothing more is taken from it.
    pub(crate) fn is_held_back(&self, options: &ServerOptions) -> bool {
        self.outbound.bytes() > options.unsent_bytes_max
    }

    /// Whether it may be read again after it was held back.
    pub(crate) fn is_relieved(&self, options: &ServerOptions) -> bool {
        self.readable && !self.queued && self.outbound.bytes() <= options.unsent_bytes_max / 2
    }

    /// Says goodbye; the connection is closed when that is sent.
    pub(crate) fn end(&mut self, code: Code, last: bool, text: &str) {
        if !self.ending {
            self.outbound.goodbye(code, last, text);
            self.ending = true;
        }
    }

    /// The peer takes no further part.
    pub(crate) const fn fence(&mut self, peer: PeerId) {
        self.role = Role::Fenced { peer };
    }

    /// Looks at the clock: pings a silent peer, gives up one that is late, dead or does not read.
    pub(crate) fn watch(&mut self, options: &ServerOptions, now: Instant) -> Result<bool, Fault> {
        if self.role.is_greeting() && now.duration_since(self.opened) >= options.handshake_timeout {
            return Err(Fault::Late);
        }
        let unsent = self.outbound.bytes();
        let blocked = self.blocked.is_some_and(|since| now.duration_since(since) >= options.write_timeout);
        if unsent > UNSENT_BYTES_CEILING || blocked && (self.ending || unsent > options.unsent_bytes_max) {
            return Err(Fault::Unread);
        }
        // One that is held back is not silent: nobody listens. And whoever is inside is as silent as this thread is busy; its
        // end shows by itself.
        if self.readable || self.is_inside() {
            return Ok(false);
        }
        let silent = now.duration_since(self.heard);
        if silent >= 2 * options.heartbeat {
            return Err(Fault::Silent);
        }
        if self.partial.is_empty() {
            self.partial = Vec::new();
        }
        let ping = silent >= options.heartbeat && !self.pinged && !self.role.is_greeting();
        if ping {
            self.pinged = true;
            self.outbound.ping(0);
        }
        Ok(ping)
    }

    /// Whether its handshake is still under way.
    pub(crate) const fn is_greeting(&self) -> bool {
        self.role.is_greeting()
    }

    /// Whether it has not even said hello.
    pub(crate) const fn is_stranger(&self) -> bool {
        matches!(self.role, Role::Stranger)
    }
}
