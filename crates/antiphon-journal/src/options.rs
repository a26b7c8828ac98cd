//! What the opener may choose. Every number has its unit in its name or its description.

/// How a journal is laid out and how much disk it may take.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Bytes of a segment file; default 64 MiB, at least 4 KiB. Large enough that rolling is rare, small enough
    /// that one live entry does not hold much. Segments made with another value are read as well.
    pub segment_bytes: u32,
    /// Segments that only `Reserve::Yes` may use; default 2: one to settle into, one to compact into.
    pub reserve: usize,
    /// Free segments that are kept ready above the reserve; default 1, at least 1.
    pub ahead: usize,
    /// Young bytes above which [`crate::Journal::sweep`] offers the oldest segment; default 1 GiB.
    pub young_bytes: u64,
    /// Most bytes of all segment files together; default no limit (the disk is the limit).
    pub bytes_max: u64,
    /// Bytes of the disk that are left to others; default 0.
    pub free_bytes_min: u64,
    /// Whether commits and new files are made on threads of the journal; default true. With false,
    /// `begin_commit` commits before it returns (unless the storage is not prompt) and files are made inside the call
    /// that needs them: for simulations, which must not depend on a scheduler.
    pub threads: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            reserve: 2,
            ahead: 1,
            young_bytes: 1 << 30,
            bytes_max: u64::MAX,
            free_bytes_min: 0,
            threads: true,
        }
    }
}

impl Options {
    /// The defaults, to be changed field by field.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bounds that the formats need.
    pub(crate) fn checked(mut self) -> Self {
        self.segment_bytes = self.segment_bytes.clamp(4 << 10, 1 << 30) / 8 * 8;
        self.ahead = self.ahead.max(1);
        self
    }
}
