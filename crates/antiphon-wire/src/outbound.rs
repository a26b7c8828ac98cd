//! The sending side of a connection: frames laid end to end in one buffer, small ones of a kind joined in one frame,
//! and large payloads cut in chunks that small frames overtake. It owns no socket.

mod broker;
mod client;

use crate::Kind;
use crate::kind::{CHUNKED, LAST};
use crate::limits::{BATCH_MAX, HEADER_BYTES, INLINE_BYTES_MAX, TEXT_BYTES_MAX};
use antiphon_protocol::{Code, Failure, Payload};
use bytes::{Buf, BufMut, Bytes};
use serde::Serialize;
use std::collections::VecDeque;

/// A buffer that stays this large is given back when it is empty: an idle connection should cost nothing.
const CAPACITY_KEPT_MAX: usize = 256 << 10;
/// A new chunk is laid down when less than this is unsent: what a small frame at most waits behind.
const AHEAD_BYTES: usize = 128 << 10;

/// Frames to be sent.
#[derive(Debug, Default)]
pub struct Outbound {
    buffer: Vec<u8>,
    sent: usize,
    batch: Option<Batch>,
    /// What is left of the payload whose head was laid down last.
    chunked: Bytes,
    /// Heads of chunked frames that wait for that to end, and their payloads.
    waiting: VecDeque<(Vec<u8>, Bytes)>,
    waiting_bytes: usize,
}

/// The array frame at the end of the buffer, which more entries may join.
#[derive(Debug)]
struct Batch {
    kind: Kind,
    at: usize,
    entries: usize,
}

impl Outbound {
    /// Nothing to be sent.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing is to be sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes() == 0
    }

    /// How many bytes are to be sent.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.buffer.len() - self.sent + self.chunked.len() + self.waiting_bytes
    }

    /// The next bytes to send; tell [`Outbound::advance`] how many of them went.
    pub fn unsent(&mut self) -> &[u8] {
        self.lay_chunks();
        self.buffer.get(self.sent..).unwrap_or(&[])
    }

    /// That many of [`Outbound::unsent`] were sent.
    pub fn advance(&mut self, count: usize) {
        // The frame at the end may be on its way already: nothing can join it any more.
        self.batch = None;
        self.sent = (self.sent + count).min(self.buffer.len());
        if self.sent == self.buffer.len() {
            self.buffer.clear();
            self.sent = 0;
            if self.buffer.capacity() > CAPACITY_KEPT_MAX {
                self.buffer = Vec::new();
            }
        } else if self.sent > CAPACITY_KEPT_MAX {
            self.buffer.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Swaps what is to be sent now for `spare`, which must be empty.
    pub fn take(&mut self, spare: &mut Vec<u8>) {
        debug_assert!(spare.is_empty());
        // A part may have gone by `unsent` and `advance`.
        self.buffer.drain(..self.sent);
        self.sent = 0;
        self.lay_chunks();
        self.batch = None;
        if spare.capacity() > CAPACITY_KEPT_MAX {
            *spare = Vec::new();
        }
        core::mem::swap(&mut self.buffer, spare);
    }

    /// Forgets everything: the connection is gone.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn lay_chunks(&mut self) {
        while self.buffer.len() - self.sent < AHEAD_BYTES {
            if self.chunked.is_empty() {
                let Some((head, payload)) = self.waiting.pop_front() else { return };
                self.waiting_bytes -= head.len() + payload.len();
                self.batch = None;
                self.buffer.extend_from_slice(&head);
                self.chunked = payload;
            }
            let chunk = self.chunked.slice(..self.chunked.len().min(INLINE_BYTES_MAX));
            self.chunked.advance(chunk.len());
            self.frame(Kind::Chunk, 0, |out| out.put_slice(&chunk));
        }
    }

    /// Lays down bytes that are no frame.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.batch = None;
        self.buffer.extend_from_slice(bytes);
    }

    /// Lays down one frame.
    pub(crate) fn frame(&mut self, kind: Kind, flags: u8, body: impl FnOnce(&mut Vec<u8>)) {
        self.batch = None;
        lay(&mut self.buffer, kind, flags, body);
    }

    /// Lays down one frame that ends in a payload, in chunks if that is large.
    pub(crate) fn frame_with_payload(
        &mut self,
        kind: Kind,
        flags: u8,
        payload: Option<&Payload>,
        body: impl FnOnce(&mut Vec<u8>),
    ) {
        let length = payload.map_or(0, |payload| payload.bytes.len());
        let large = length > INLINE_BYTES_MAX;
        let flags = if large { flags | CHUNKED } else { flags };
        let body = |out: &mut Vec<u8>| {
            body(out);
            out.put_u8(payload.map_or(0, |payload| payload.content_type as u8));
            // Limits far below 4 GiB are checked before anything is sent.
            out.put_u32_le(u32::try_from(length).unwrap_or(u32::MAX));
            if let Some(payload) = payload
                && !large
            {
                out.put_slice(&payload.bytes);
            }
        };
        let bytes = payload.filter(|_| large).map(|payload| payload.bytes.clone());
        match bytes {
            None => self.frame(kind, flags, body),
            Some(bytes) if self.chunked.is_empty() && self.waiting.is_empty() => {
                self.frame(kind, flags, body);
                self.chunked = bytes;
            }
            Some(bytes) => {
                let mut head = Vec::new();
                lay(&mut head, kind, flags, body);
                self.waiting_bytes += head.len() + bytes.len();
                self.waiting.push_back((head, bytes));
            }
        }
    }

    /// Lays down a frame that ends in MessagePack.
    pub(crate) fn frame_with_control(&mut self, kind: Kind, control: &impl Serialize, body: impl FnOnce(&mut Vec<u8>)) {
        let payload = self::control(control);
        self.frame_with_payload(kind, 0, Some(&payload), body);
    }

    /// Lays down one entry of an array frame; it joins the frame before it if that is of the same kind.
    pub(crate) fn entry(&mut self, kind: Kind, entry: &[u8]) {
        match &mut self.batch {
            Some(batch) if batch.kind == kind && batch.entries < BATCH_MAX => {
                self.buffer.put_slice(entry);
                batch.entries += 1;
                let at = batch.at;
                set_length(&mut self.buffer, at);
            }
            _ => {
                let at = self.buffer.len();
                self.frame(kind, 0, |out| out.put_slice(entry));
                self.batch = Some(Batch { kind, at, entries: 1 });
            }
        }
    }

    /// A sign of life is asked for.
    pub fn ping(&mut self, opaque: u64) {
        self.frame(Kind::Ping, 0, |out| out.put_u64_le(opaque));
    }

    /// A sign of life, with what the ping said.
    pub fn pong(&mut self, opaque: u64) {
        self.frame(Kind::Pong, 0, |out| out.put_u64_le(opaque));
    }

    /// The connection is about to be closed by this side; with `last`, the other should not come back.
    pub fn goodbye(&mut self, code: Code, last: bool, text: &str) {
        self.frame(Kind::Goodbye, if last { LAST } else { 0 }, |out| {
            out.put_u8(code as u8);
            crate::handshake::put_text(out, text, TEXT_BYTES_MAX);
        });
    }
}

/// MessagePack, structures as maps by name.
fn control(control: &impl Serialize) -> Payload {
    let bytes = rmp_serde::to_vec_named(control).expect("plain data without maps of odd keys encodes");
    Payload::new(antiphon_protocol::ContentType::MessagePack, bytes)
}

fn lay(buffer: &mut Vec<u8>, kind: Kind, flags: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let at = buffer.len();
    buffer.put_slice(&[0, 0, 0, 0, kind as u8, flags]);
    body(buffer);
    set_length(buffer, at);
}

fn set_length(buffer: &mut [u8], at: usize) {
    let length = u32::try_from(buffer.len() - at - 4).unwrap_or(u32::MAX);
    if HEADER_BYTES <= buffer.len() - at
        && let Some(place) = buffer.get_mut(at..at + 4)
    {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

/// The fields of a failure but for its details, which are the frame's payload.
pub(crate) fn put_failure(out: &mut Vec<u8>, failure: &Failure) {
    out.put_u8(failure.code as u8);
    out.put_u8(u8::from(failure.may_have_run) | u8::from(failure.retry_after_ms.is_some()) << 1);
    out.put_u32_le(failure.retry_after_ms.unwrap_or(0));
    crate::handshake::put_text(out, &failure.message, TEXT_BYTES_MAX);
}
