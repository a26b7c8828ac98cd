//! The numbers of the wire: versions, sizes and counts that both sides hold each other to.

/// The first four bytes of a hello's body: they tell an Antiphon peer from anything else that found the port.
pub const MAGIC: [u8; 4] = *b"ANTP";
/// The oldest version of the wire that this build speaks.
pub const VERSION_MIN: u16 = 1;
/// The newest version of the wire that this build speaks.
pub const VERSION_MAX: u16 = 1;
/// Length (u32), kind (u8) and flags (u8).
pub const HEADER_BYTES: usize = 6;
/// The longest frame before the handshake is done: a hello with a name, credentials and an agent fits four times, and a
/// thousand strangers cost 4 MiB.
pub const HANDSHAKE_BYTES_MAX: usize = 4 << 10;
/// The longest payload within one frame, and the longest chunk: long enough that the header does not count, short enough
/// that a heartbeat behind it waits for less than a millisecond at 1 Gbit/s.
pub const INLINE_BYTES_MAX: usize = 64 << 10;
/// The longest frame after the handshake: an inline payload and 16 KiB for keys, texts and names before it.
pub const FRAME_BYTES_MAX: usize = INLINE_BYTES_MAX + (16 << 10);
/// The longest MessagePack body (offer, query, answer): 10,000 call statuses fit.
pub const CONTROL_BYTES_MAX: u32 = 4 << 20;
/// The largest payload a client takes, whatever the broker says: one frame may not take the memory of a small machine.
pub const PAYLOAD_BYTES_CEILING: u32 = 256 << 20;
/// The most entries in one frame: 25 bytes each, so that a batch is no longer than half an inline payload.
pub const BATCH_MAX: usize = 1024;
/// How many routes a connection may define; further ones redefine an index. A program has a few per procedure.
pub const ROUTES_MAX: u32 = 4096;
/// The longest text of a failure or refusal; longer ones are cut. Texts are for people.
pub const TEXT_BYTES_MAX: usize = 8 << 10;
/// The longest trace context that travels (W3C asks for 512 bytes at least); a longer one is left out.
pub const TRACE_BYTES_MAX: usize = 4 << 10;
/// How deep MessagePack may nest: our deepest structure has 7 levels.
pub const DEPTH_MAX: usize = 32;
