//! Cuts a connection's bytes into frames, holds them to the limits, and puts payloads that came in chunks together.
//! It owns no socket and no read buffer.

use crate::kind::{ABANDONED, CHUNKED};
use crate::limits::{CONTROL_BYTES_MAX, FRAME_BYTES_MAX, HANDSHAKE_BYTES_MAX, HEADER_BYTES};
use crate::{Frame, FrameError, Kind};
use bytes::Bytes;

/// What came in.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub enum Arrival<'a> {
    /// A whole frame.
    Frame(Frame<'a>),
    /// A frame whose payload is above the limit: the frame without it, and how many bytes it had. The payload is
    /// skipped, the connection goes on.
    Oversized(Frame<'a>, u32),
}

/// The receiving side of a connection.
#[derive(Debug)]
pub struct Inbound {
    payload_bytes_max: u32,
    greeted: bool,
    transfer: Option<Transfer>,
}

/// A payload on its way in chunks; there is at most one in each direction of a connection.
#[derive(Debug)]
struct Transfer {
    kind: Kind,
    flags: u8,
    head: Vec<u8>,
    payload: Vec<u8>,
    left: usize,
    total: usize,
    skipped: bool,
}

impl Inbound {
    /// A connection before its handshake: only frames of the handshake, of at most 4 KiB.
    #[must_use]
    pub const fn new() -> Self {
        Self { payload_bytes_max: 0, greeted: false, transfer: None }
    }

    /// The handshake is done: all frames, with payloads up to this many bytes.
    pub const fn greeted(&mut self, payload_bytes_max: u32) {
        self.payload_bytes_max = payload_bytes_max;
        self.greeted = true;
    }

    /// Takes the next frame off the front of `input`; `None` when it needs more bytes.
    ///
    /// # Errors
    /// [`FrameError`] when the bytes are not a frame that is allowed here: the connection cannot go on.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Arrival<'a>>, FrameError> {
        while let Some((kind, flags, body)) = self.cut(input)? {
            let arrival = match kind {
                // Kinds from 0x80 are for peers of the same version that know more; others skip them.
                Err(_) => None,
                Ok(Kind::Chunk) => self.chunk(flags, body)?,
                Ok(kind) if flags & CHUNKED != 0 && kind.has_payload() => self.begin(kind, flags, body)?,
                Ok(kind) => Some(self.whole(kind, flags, body)?),
            };
            if arrival.is_some() {
                return Ok(arrival);
            }
        }
        Ok(None)
    }

    /// Cuts one frame off: its kind (or a number that may be skipped), its flags and its body.
    #[allow(clippy::type_complexity)]
    fn cut<'a>(&self, input: &mut &'a [u8]) -> Result<Option<(Result<Kind, u8>, u8, &'a [u8])>, FrameError> {
        let Some((length, rest)) = input.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length);
        let max = if self.greeted { FRAME_BYTES_MAX } else { HANDSHAKE_BYTES_MAX } - 4;
        let count = usize::try_from(length).unwrap_or(usize::MAX);
        if count > max {
            return Err(FrameError::TooLong { bytes: length, max: u32::try_from(max).unwrap_or(u32::MAX) });
        }
        if count < HEADER_BYTES - 4 {
            return Err(FrameError::Short);
        }
        let Some((frame, after)) = rest.split_at_checked(count) else { return Ok(None) };
        let [number, flags, body @ ..] = frame else { return Err(FrameError::Short) };
        *input = after;
        let kind = match Kind::from_number(*number) {
            Some(kind) if !self.greeted && !is_handshake(kind) => return Err(FrameError::OutOfPlace(kind)),
            Some(kind) if self.greeted && is_greeting(kind) => return Err(FrameError::OutOfPlace(kind)),
            Some(kind) => Ok(kind),
            None if *number >= 0x80 && self.greeted => Err(*number),
            None => return Err(FrameError::Kind(*number)),
        };
        Ok(Some((kind, *flags, body)))
    }

    fn whole<'a>(&self, kind: Kind, flags: u8, body: &'a [u8]) -> Result<Arrival<'a>, FrameError> {
        let frame = Frame::decode(kind, flags, body, None)?;
        let bytes = frame.payload_bytes();
        // Only a limit below an inline payload is exceeded here; what is larger comes in chunks.
        match u32::try_from(bytes) {
            Ok(bytes) if bytes > self.payload_bytes_max => Ok(Arrival::Oversized(frame, bytes)),
            _ => Ok(Arrival::Frame(frame)),
        }
    }

    fn begin<'a>(&mut self, kind: Kind, flags: u8, body: &'a [u8]) -> Result<Option<Arrival<'a>>, FrameError> {
        if self.transfer.is_some() {
            return Err(FrameError::Chunk);
        }
        // The payload's length ends the head, whatever the kind.
        let length = body.last_chunk::<4>().ok_or(FrameError::Short)?;
        let bytes = u32::from_le_bytes(*length);
        let total = usize::try_from(bytes).map_err(|_| FrameError::Short)?;
        if total == 0 {
            return Err(FrameError::Chunk);
        }
        if kind.is_control() && bytes > CONTROL_BYTES_MAX {
            return Err(FrameError::TooLong { bytes, max: CONTROL_BYTES_MAX });
        }
        let skipped = !kind.is_control() && bytes > self.payload_bytes_max;
        let head = if skipped { Vec::new() } else { body.to_vec() };
        self.transfer = Some(Transfer { kind, flags, head, payload: Vec::new(), left: total, total, skipped });
        if !skipped {
            return Ok(None);
        }
        let frame = Frame::decode_with_payload(kind, flags, body, Some(Bytes::new()))?;
        Ok(Some(Arrival::Oversized(frame, bytes)))
    }

    fn chunk(&mut self, flags: u8, bytes: &[u8]) -> Result<Option<Arrival<'static>>, FrameError> {
        let transfer = self.transfer.as_mut().ok_or(FrameError::Chunk)?;
        if flags & ABANDONED != 0 {
            self.transfer = None;
            return Ok(None);
        }
        // An empty chunk would be a way to be busy without getting on.
        if bytes.is_empty() || bytes.len() > transfer.left {
            return Err(FrameError::Chunk);
        }
        transfer.take(bytes);
        if transfer.left > 0 {
            return Ok(None);
        }
        let Some(Transfer { kind, flags, head, payload, skipped, .. }) = self.transfer.take() else { return Ok(None) };
        if skipped {
            return Ok(None);
        }
        let frame = Frame::decode_with_payload(kind, flags, &head, Some(Bytes::from(payload)))?;
        Ok(Some(Arrival::Frame(frame)))
    }
}

impl Default for Inbound {
    fn default() -> Self {
        Self::new()
    }
}

impl Transfer {
    fn take(&mut self, bytes: &[u8]) {
        self.left -= bytes.len();
        if self.skipped {
            return;
        }
        let needed = self.payload.len() + bytes.len();
        if needed > self.payload.capacity() {
            // Grows with what came, never to what was announced; and ends exactly at the total.
            let capacity = needed.saturating_mul(2).min(self.total);
            self.payload.reserve_exact(capacity - self.payload.len());
        }
        self.payload.extend_from_slice(bytes);
    }
}

const fn is_handshake(kind: Kind) -> bool {
    is_greeting(kind) || matches!(kind, Kind::Goodbye)
}

const fn is_greeting(kind: Kind) -> bool {
    matches!(kind, Kind::Hello | Kind::Welcome | Kind::Refusal)
}
