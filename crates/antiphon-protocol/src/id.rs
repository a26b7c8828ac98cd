//! The identities that travel: of a call, a caller, a worker's incarnation, a lease.

use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// The identity of one call, from submission to its outcome: a version 7 UUID (RFC 9562) made by the client and
/// kept over all attempts, reconnects and restarts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallId(uuid::Uuid);

impl CallId {
    /// The id for `unix_ms` (milliseconds since 1970) and ten random bytes.
    #[must_use]
    pub fn new(unix_ms: u64, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid())
    }

    /// The id with exactly these bytes; any 16 bytes are taken, so that foreign ids survive a round trip.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(uuid::Uuid::from_bytes(bytes))
    }

    /// The id that follows from this one and `salt`, always the same, with this one's time.
    #[must_use]
    pub fn derived(self, salt: &[u8]) -> Self {
        // FNV-1a, 128 bits (Fowler, Noll, Vo; RFC 9923). Never to be changed: replay derives ids again.
        let bytes = self.to_bytes();
        let hash = bytes.iter().chain(salt).fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
            (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
        });
        let folded = (hash ^ (hash >> 80)).to_le_bytes();
        let mut random = [0; 10];
        random.iter_mut().zip(folded).for_each(|(to, from)| *to = from);
        Self::new(self.unix_ms(), random)
    }

    /// The 16 bytes of this id, in network order.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        *self.0.as_bytes()
    }

    /// When the client made this id, in milliseconds since 1970: its first 48 bits.
    #[must_use]
    pub fn unix_ms(self) -> u64 {
        let [a, b, c, d, e, f, ..] = self.to_bytes();
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.as_hyphenated(), formatter)
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// The text is not a call id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseCallIdError;

impl fmt::Display for ParseCallIdError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("not a call id: expected a UUID such as 0190a5c2-7b1e-7c3d-8e4f-001122334455")
    }
}

impl core::error::Error for ParseCallIdError {}

impl FromStr for CallId {
    type Err = ParseCallIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        uuid::Uuid::try_parse(text).map(Self).map_err(|_| ParseCallIdError)
    }
}

/// One life of one caller program, 128 random bits: the identity of its anonymous inbox and of its sessions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct CallerId(pub [u8; 16]);

/// One life of one worker, 128 random bits and a secret: who presents it may speak for the worker's leases.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct IncarnationId(pub [u8; 16]);

/// The number of this start of the broker; it grows by one at every start and is fsynced before the broker serves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Epoch(pub u32);

/// What a caller chooses to recognise a call by; the broker echoes it and never reads it.
pub type Tag = u64;

/// Names one lease: the broker's slot for it, and its lease token (`epoch << 40 | counter`), which fences it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct LeaseTag {
    /// Where the broker keeps the lease; meaningful only together with the token.
    pub slot: u32,
    /// The fence: strictly increasing for every call, never issued twice, also across restarts.
    pub token: u64,
}
