//! The first frames of a connection: hello, and the welcome or refusal that answers it.

use crate::cursor::Cursor;
use crate::frame::code;
use crate::limits::{MAGIC, VERSION_MAX, VERSION_MIN};
use crate::{FrameError, Kind, Outbound};
use antiphon_protocol::{Code, Name};
use bytes::BufMut;

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Role {
    /// Submits calls and takes their outcomes.
    Caller = 1,
    /// Takes leases; an offer follows the handshake.
    Worker = 2,
    /// Asks questions.
    Inspector = 3,
}

/// The client's first frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// The oldest version it speaks.
    pub version_min: u16,
    /// The newest version it speaks.
    pub version_max: u16,
    /// What the connection is for.
    pub role: Role,
    /// How it proves who it is: 0 is not at all, the only method so far.
    pub auth: u8,
    /// 128 random bits that stay the same over reconnects: the caller's id; zeros for other roles.
    pub peer: [u8; 16],
    /// Grows by one with every connection of the same caller or worker; the newest fences the others.
    pub session: u64,
    /// A caller's named inbox; none is the anonymous inbox of its id.
    pub inbox: Option<Name>,
    /// The proof that the method asks for.
    pub credentials: Vec<u8>,
    /// Program and version, for people.
    pub agent: String,
}

impl Hello {
    pub(crate) fn decode(cursor: &mut Cursor<'_>) -> Result<Self, FrameError> {
        if cursor.array()? != MAGIC {
            return Err(FrameError::Field("magic"));
        }
        let (version_min, version_max) = (cursor.u16()?, cursor.u16()?);
        let role = match cursor.u8()? {
            1 => Role::Caller,
            2 => Role::Worker,
            3 => Role::Inspector,
            _ => return Err(FrameError::Field("role")),
        };
        let auth = cursor.u8()?;
        let (peer, session) = (cursor.array()?, cursor.u64()?);
        let inbox = cursor.name()?;
        let count = cursor.u16()?;
        let credentials = cursor.bytes(usize::from(count))?.to_vec();
        let agent = cursor.text()?.to_owned();
        Ok(Self { version_min, version_max, role, auth, peer, session, inbox, credentials, agent })
    }

    /// The newest version that both sides speak.
    #[must_use]
    pub fn version(&self) -> Option<u16> {
        let version = self.version_max.min(VERSION_MAX);
        (version >= self.version_min.max(VERSION_MIN)).then_some(version)
    }
}

/// The broker's answer to a hello that it takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Welcome {
    /// The version that both speak from now on.
    pub version: u16,
    /// What an acceptance of a durable call means: 0 memory, 1 fsynced, 2 replicated.
    pub accepted: u8,
    /// Features, a bit each: see [`feature`].
    pub features: u32,
    /// The broker's own id; zeros when it has none.
    pub broker: [u8; 16],
    /// The number of its start.
    pub epoch: u32,
    /// Its wall clock, in milliseconds since 1970.
    pub wall_ms: u64,
    /// The largest payload it takes and sends.
    pub payload_bytes_max: u32,
    /// A side that heard nothing for this long pings; after twice this long it closes.
    pub heartbeat_ms: u32,
    /// How long a lease lasts without being extended.
    pub lease_ms: u32,
    /// Program and version, for people.
    pub agent: String,
}

/// The bits of [`Welcome::features`].
pub mod feature {
    /// Calls are durable when they do not say.
    pub const DURABLE_BY_DEFAULT: u32 = 1;
    /// Inboxes with names.
    pub const NAMED_INBOXES: u32 = 1 << 1;
    /// Submissions with one idempotency key are one call.
    pub const IDEMPOTENCY_KEYS: u32 = 1 << 2;
    /// Classes of priority are heeded.
    pub const PRIORITIES: u32 = 1 << 3;
    /// Serial order by key.
    pub const LANES: u32 = 1 << 4;
    /// Callbacks in the settlement's record.
    pub const CALLBACKS: u32 = 1 << 5;
    /// Calls that settle together.
    pub const GROUPS: u32 = 1 << 6;
    /// What running calls tell of themselves.
    pub const PROGRESS: u32 = 1 << 7;
    /// Events, and subscriptions that call a procedure for each.
    pub const EVENTS: u32 = 1 << 8;
    /// Recurring calls.
    pub const SCHEDULES: u32 = 1 << 9;
    /// At most so many calls with one concurrency key run at a time.
    pub const CONCURRENCY_KEYS: u32 = 1 << 10;
    /// Labels that calls require and slots that they take are heeded.
    pub const NEEDS: u32 = 1 << 11;
    /// Procedures that wait for sub-calls can give their slots back.
    pub const PARKING: u32 = 1 << 12;
}

impl Welcome {
    pub(crate) fn decode(cursor: &mut Cursor<'_>) -> Result<Self, FrameError> {
        Ok(Self {
            version: cursor.u16()?,
            accepted: cursor.u8()?,
            features: cursor.u32()?,
            broker: cursor.array()?,
            epoch: cursor.u32()?,
            wall_ms: cursor.u64()?,
            payload_bytes_max: cursor.u32()?,
            heartbeat_ms: cursor.u32()?,
            lease_ms: cursor.u32()?,
            agent: cursor.text()?.to_owned(),
        })
    }
}

/// The broker's answer to a hello that it does not take; it closes the connection behind it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Why, as a code: `UNIMPLEMENTED` for a version, `UNAUTHENTICATED`, `RESOURCE_EXHAUSTED`, `UNAVAILABLE`.
    pub code: Code,
    /// The oldest version the broker speaks.
    pub version_min: u16,
    /// The newest version the broker speaks.
    pub version_max: u16,
    /// Why, in words.
    pub text: String,
}

impl Refusal {
    /// A refusal with this build's versions.
    #[must_use]
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, version_min: VERSION_MIN, version_max: VERSION_MAX, text: text.into() }
    }

    /// The refusal of a peer whose versions do not meet ours.
    #[must_use]
    pub fn version(hello: &Hello) -> Self {
        let Hello { version_min, version_max, .. } = hello;
        Self::new(
            Code::Unimplemented,
            format!(
                "the client speaks wire versions {version_min} to {version_max} and this broker {VERSION_MIN} to \
                 {VERSION_MAX}: upgrade the older of the two"
            ),
        )
    }

    pub(crate) fn decode(cursor: &mut Cursor<'_>) -> Result<Self, FrameError> {
        let code = code(cursor.u8()?)?;
        let (version_min, version_max) = (cursor.u16()?, cursor.u16()?);
        Ok(Self { code, version_min, version_max, text: cursor.text()?.to_owned() })
    }
}

impl Outbound {
    /// The client's first frame.
    pub fn hello(&mut self, hello: &Hello) {
        self.frame(Kind::Hello, 0, |out| {
            out.put_slice(&MAGIC);
            out.put_u16_le(hello.version_min);
            out.put_u16_le(hello.version_max);
            out.put_u8(hello.role as u8);
            out.put_u8(hello.auth);
            out.put_slice(&hello.peer);
            out.put_u64_le(hello.session);
            put_short_text(out, hello.inbox.as_deref().unwrap_or(""));
            put_bytes(out, &hello.credentials, usize::from(u16::MAX));
            put_text(out, &hello.agent, 255);
        });
    }

    /// The broker's answer to a hello that it takes.
    pub fn welcome(&mut self, welcome: &Welcome) {
        self.frame(Kind::Welcome, 0, |out| {
            out.put_u16_le(welcome.version);
            out.put_u8(welcome.accepted);
            out.put_u32_le(welcome.features);
            out.put_slice(&welcome.broker);
            out.put_u32_le(welcome.epoch);
            out.put_u64_le(welcome.wall_ms);
            out.put_u32_le(welcome.payload_bytes_max);
            out.put_u32_le(welcome.heartbeat_ms);
            out.put_u32_le(welcome.lease_ms);
            put_text(out, &welcome.agent, 255);
        });
    }

    /// What a stranger is told, in its own language; nothing may follow.
    pub fn stranger(&mut self, stranger: Stranger) {
        self.raw(stranger.farewell());
    }

    /// The broker's answer to a hello that it does not take.
    pub fn refusal(&mut self, refusal: &Refusal) {
        self.frame(Kind::Refusal, 0, |out| {
            out.put_u8(refusal.code as u8);
            out.put_u16_le(refusal.version_min);
            out.put_u16_le(refusal.version_max);
            // A refusal must fit the client's limit before the handshake is done.
            put_text(out, &refusal.text, 1024);
        });
    }
}

pub(crate) fn put_short_text(out: &mut Vec<u8>, text: &str) {
    let text = cut(text, usize::from(u8::MAX));
    // `cut` keeps it within one byte.
    out.put_u8(u8::try_from(text.len()).unwrap_or(0));
    out.put_slice(text.as_bytes());
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str, max: usize) {
    put_bytes(out, cut(text, max).as_bytes(), max);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8], max: usize) {
    let bytes = bytes.get(..max.min(usize::from(u16::MAX))).unwrap_or(bytes);
    out.put_u16_le(u16::try_from(bytes.len()).unwrap_or(0));
    out.put_slice(bytes);
}

/// The longest beginning of `text` that has at most `max` bytes and ends between characters.
fn cut(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or("")
}

/// What found the port by mistake, told by its first bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stranger {
    /// It speaks HTTP.
    Http,
    /// It speaks TLS.
    Tls,
}

impl Stranger {
    /// Looks at the first bytes of a connection; `None` is an Antiphon peer, or something unknown.
    #[must_use]
    pub fn recognise(first: &[u8]) -> Option<Self> {
        const METHODS: [&[u8]; 9] = [b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"OPTI", b"PATC", b"PRI ", b"HTTP"];
        match first {
            // A handshake record of TLS 1.x. As a length it would be above the limit before the handshake.
            [0x16, 0x03, 0..=4, ..] => Some(Self::Tls),
            _ if METHODS.iter().any(|method| first.starts_with(method)) => Some(Self::Http),
            _ => None,
        }
    }

    /// What a broker tells it before closing, in its own language.
    #[must_use]
    pub const fn farewell(self) -> &'static [u8] {
        match self {
            Self::Http => {
                b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 83\r\nconnection: close\r\n\r\n\
                  this port speaks the Antiphon protocol, not HTTP; probes and metrics are elsewhere\n"
            }
            // A fatal alert: handshake_failure (RFC 8446, 6.2).
            Self::Tls => &[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x28],
        }
    }
}
