//! The kinds of frames and their flags, by number. The layouts are in `docs/wire-format.md`.

/// The kind of a frame. Numbers never change their meaning; kinds from 0x80 may be skipped by who does not know them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Kind {
    Hello = 0x01,
    Welcome = 0x02,
    Refusal = 0x03,
    Goodbye = 0x04,
    Ping = 0x05,
    Pong = 0x06,
    Chunk = 0x07,
    Route = 0x10,
    Submit = 0x11,
    Attach = 0x12,
    Acknowledge = 0x13,
    Cancel = 0x14,
    Follow = 0x18,
    Watch = 0x19,
    Accepted = 0x20,
    Refused = 0x21,
    Outcome = 0x22,
    CancelAnswered = 0x23,
    Progress = 0x28,
    ProgressEnded = 0x29,
    Emitted = 0x2a,
    Watched = 0x2b,
    Offer = 0x30,
    Credit = 0x31,
    Report = 0x32,
    Extend = 0x33,
    Drain = 0x34,
    ProgressReport = 0x38,
    Park = 0x35,
    Resume = 0x36,
    Up = 0x40,
    Lease = 0x41,
    CancelAsked = 0x42,
    Settled = 0x43,
    Stale = 0x44,
    DrainAsked = 0x45,
    Resumed = 0x46,
    Query = 0x50,
    Answer = 0x51,
}

impl Kind {
    /// All kinds, by number.
    pub const ALL: [Self; 39] = [
        Self::Hello,
        Self::Welcome,
        Self::Refusal,
        Self::Goodbye,
        Self::Ping,
        Self::Pong,
        Self::Chunk,
        Self::Route,
        Self::Submit,
        Self::Attach,
        Self::Acknowledge,
        Self::Cancel,
        Self::Follow,
        Self::Watch,
        Self::Accepted,
        Self::Refused,
        Self::Outcome,
        Self::CancelAnswered,
        Self::Progress,
        Self::ProgressEnded,
        Self::Emitted,
        Self::Watched,
        Self::Offer,
        Self::Credit,
        Self::Report,
        Self::Extend,
        Self::Drain,
        Self::ProgressReport,
        Self::Park,
        Self::Resume,
        Self::Up,
        Self::Lease,
        Self::CancelAsked,
        Self::Settled,
        Self::Stale,
        Self::DrainAsked,
        Self::Resumed,
        Self::Query,
        Self::Answer,
    ];

    /// The kind with this number, if there is one.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0x01 => Self::Hello,
            0x02 => Self::Welcome,
            0x03 => Self::Refusal,
            0x04 => Self::Goodbye,
            0x05 => Self::Ping,
            0x06 => Self::Pong,
            0x07 => Self::Chunk,
            0x10 => Self::Route,
            0x11 => Self::Submit,
            0x12 => Self::Attach,
            0x13 => Self::Acknowledge,
            0x14 => Self::Cancel,
            0x18 => Self::Follow,
            0x19 => Self::Watch,
            0x20 => Self::Accepted,
            0x21 => Self::Refused,
            0x22 => Self::Outcome,
            0x23 => Self::CancelAnswered,
            0x28 => Self::Progress,
            0x29 => Self::ProgressEnded,
            0x2a => Self::Emitted,
            0x2b => Self::Watched,
            0x30 => Self::Offer,
            0x31 => Self::Credit,
            0x32 => Self::Report,
            0x33 => Self::Extend,
            0x34 => Self::Drain,
            0x38 => Self::ProgressReport,
            0x35 => Self::Park,
            0x36 => Self::Resume,
            0x40 => Self::Up,
            0x41 => Self::Lease,
            0x42 => Self::CancelAsked,
            0x43 => Self::Settled,
            0x44 => Self::Stale,
            0x45 => Self::DrainAsked,
            0x46 => Self::Resumed,
            0x50 => Self::Query,
            0x51 => Self::Answer,
            _ => return None,
        })
    }

    /// Whether the frame ends in a payload, which may travel in chunks.
    #[must_use]
    pub const fn has_payload(self) -> bool {
        use Kind::{Answer, Lease, Offer, Outcome, Query, Refused, Report, Route, Submit, Up};
        matches!(self, Route | Submit | Refused | Outcome | Offer | Report | Up | Lease | Query | Answer)
            || matches!(self, Self::Progress | Self::ProgressReport | Self::Emitted)
    }

    /// Whether the payload is for the other side itself rather than for a program behind it.
    #[must_use]
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Route | Self::Offer | Self::Up | Self::Query | Self::Answer)
    }
}

/// On a frame with a payload: the payload follows in [`Kind::Chunk`] frames.
pub const CHUNKED: u8 = 0x80;
/// On a chunk: the payload is given up, and the frame it belongs to with it.
pub const ABANDONED: u8 = 0x01;
/// On a goodbye: do not come back.
pub const LAST: u8 = 0x01;
/// On a submission: the two bits of what the caller waits for.
pub const WANTS: u8 = 0x03;
/// On a submission: sent before, on a connection that broke.
pub const RESENT: u8 = 0x04;
/// On a submission: keys follow the fixed fields.
pub const KEYED: u8 = 0x08;
/// On a submission: a delay follows, in milliseconds.
pub const START_IN: u8 = 0x10;
/// On a submission: a wall-clock time follows, in milliseconds since 1970.
pub const START_AT: u8 = 0x20;
/// On a submission with keys: a byte says what else follows them.
pub const MORE_KEYS: u8 = 0x40;
/// Of that byte: an ordering key.
pub const ORDERED: u8 = 0x02;
/// Of that byte: a concurrency key.
pub const CONCURRENT: u8 = 0x04;
/// Of that byte: the call within which this one was made.
pub const CHILD: u8 = 0x08;
/// Of that byte: the id of a group.
pub const GROUPED: u8 = 0x01;
/// On an event: it is not journaled.
pub const VOLATILE: u8 = 0x01;
/// On an event: it is the last of its part.
pub const LAST_OF_PART: u8 = 0x02;
/// On an outcome, and on the end of a watch: a failure rather than a reply.
pub const FAILED: u8 = 0x01;
/// In an acceptance: the broker cannot tell how long the call will wait.
pub const WAIT_UNKNOWN: u32 = u32::MAX;
/// On a lease: a trace context follows the fixed fields.
pub const TRACED: u8 = 0x01;
