//! What can be wrong with the bytes of a peer. All of it ends the connection.

/// Why bytes are not a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// The length is above the limit.
    #[error("a frame of {bytes} bytes is announced, and at most {max} are allowed here")]
    TooLong {
        /// What was announced.
        bytes: u32,
        /// What is allowed.
        max: u32,
    },
    /// No such kind.
    #[error("frame kind {0:#04x} is not known")]
    Kind(u8),
    /// The body ends before its fields do.
    #[error("a frame ends before its fields do")]
    Short,
    /// The body goes on behind its fields.
    #[error("a frame goes on behind its fields")]
    Trailing,
    /// A field's value is not allowed.
    #[error("a frame's {0} is not valid")]
    Field(&'static str),
    /// A chunk without a frame to belong to, or too many of them, or another chunked frame in between.
    #[error("a chunk is out of place")]
    Chunk,
    /// A frame at a time or from a role that it does not fit.
    #[error("a frame of kind {0:?} is out of place")]
    OutOfPlace(crate::Kind),
}
