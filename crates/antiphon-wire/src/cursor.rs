//! Reads fields off a frame's body. Every read is checked: no bytes make it panic or allocate more than they are.

use crate::FrameError;
use antiphon_protocol::{CallId, LeaseTag, Name};

/// What is left of a frame's body.
pub(crate) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) const fn new(body: &'a [u8]) -> Self {
        Self(body)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (first, rest) = self.0.split_first_chunk().ok_or(FrameError::Short)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], FrameError> {
        let (first, rest) = self.0.split_at_checked(count).ok_or(FrameError::Short)?;
        self.0 = rest;
        Ok(first)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, FrameError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, FrameError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FrameError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, FrameError> {
        self.array().map(i32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, FrameError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn call_id(&mut self) -> Result<CallId, FrameError> {
        self.array().map(CallId::from_bytes)
    }

    pub(crate) fn lease_tag(&mut self) -> Result<LeaseTag, FrameError> {
        Ok(LeaseTag { slot: self.u32()?, token: self.u64()? })
    }

    /// Text behind a length of one byte.
    pub(crate) fn short_text(&mut self) -> Result<&'a str, FrameError> {
        let count = self.u8()?;
        text(self.bytes(usize::from(count))?)
    }

    /// Text behind a length of two bytes.
    pub(crate) fn text(&mut self) -> Result<&'a str, FrameError> {
        let count = self.u16()?;
        text(self.bytes(usize::from(count))?)
    }

    /// A name behind a length of one byte; no bytes are no name.
    pub(crate) fn name(&mut self) -> Result<Option<Name>, FrameError> {
        match self.short_text()? {
            "" => Ok(None),
            text => Name::new(text).map(Some).map_err(|_| FrameError::Field("name")),
        }
    }

    /// The body must be used up: trailing bytes are a peer that means something else.
    pub(crate) const fn end(self) -> Result<(), FrameError> {
        if self.0.is_empty() { Ok(()) } else { Err(FrameError::Trailing) }
    }
}

fn text(bytes: &[u8]) -> Result<&str, FrameError> {
    core::str::from_utf8(bytes).map_err(|_| FrameError::Field("text"))
}
