//! The seam to the outside: every file, directory, clock and random byte the journal uses.
//! It owns no policy; `directory.rs` is the real one, simulators and fault tests bring their own.

use std::io;
use std::sync::Arc;
use std::time::Duration;

/// One open file. Offsets and lengths are bytes. Used from several threads at once.
pub trait File: Send + Sync {
    /// Reads up to `buffer.len()` bytes at `offset`; fewer only at the end of the file.
    ///
    /// # Errors
    /// Any error of the operating system.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`. A crash before `sync_data` may keep any part of them.
    ///
    /// # Errors
    /// Any error; afterwards any part of the bytes may have been written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Returns only when everything written so far, and the length, survives a power cut.
    ///
    /// # Errors
    /// Any error; the journal never calls it again on that file.
    fn sync_data(&self) -> io::Result<()>;

    /// Length of the file in bytes.
    ///
    /// # Errors
    /// Any error of the operating system.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// Any error of the operating system.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Why the directory could not be locked.
#[derive(Debug)]
pub enum LockError {
    /// Another process (or another journal in this one) holds it; 0 when its id could not be read.
    Held {
        /// Process id of the holder.
        pid: u32,
    },
    /// The lock file could not be opened or locked.
    Io(io::Error),
}

/// What keeps the directory locked; dropping it unlocks.
pub trait Lock: Send + Sync {}

/// A flat directory of files with plain names, a clock and a source of random bytes.
///
/// `create`, `rename` and `remove` survive a crash only after `sync_dir`.
pub trait Storage: Send + Sync + 'static {
    /// Locks the directory against every other journal until the guard is dropped.
    ///
    /// # Errors
    /// `Held` when someone else has it.
    fn lock(&self) -> Result<Box<dyn Lock>, LockError>;

    /// Names of all files.
    ///
    /// # Errors
    /// Any error of the operating system.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes a new, empty file.
    ///
    /// # Errors
    /// `AlreadyExists`, `StorageFull`, or any other error.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// `NotFound` or any other error.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Opens a file for reading only; used by `verify` and `dump`.
    ///
    /// # Errors
    /// `NotFound` or any other error.
    fn open_read_only(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.open(name)
    }

    /// Removes a file.
    ///
    /// # Errors
    /// `NotFound` or any other error.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Renames a file, replacing one of the new name.
    ///
    /// # Errors
    /// `NotFound` or any other error.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Returns only when all creations, renames and removals so far survive a power cut.
    ///
    /// # Errors
    /// Any error of the operating system.
    fn sync_dir(&self) -> io::Result<()>;

    /// Bytes this process may still use on the disk.
    ///
    /// # Errors
    /// Any error of the operating system.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Size of the disk in bytes.
    ///
    /// # Errors
    /// Any error of the operating system.
    fn total_bytes(&self) -> io::Result<u64>;

    /// Time since some fixed moment; never goes back. Only measured, never waited for.
    fn monotonic(&self) -> Duration;

    /// 128 unpredictable bits, asked for once, when a journal is made.
    ///
    /// # Errors
    /// Any error of the source.
    fn random_id(&self) -> io::Result<[u8; 16]>;

    /// Whether a commit that was handed over without a writer thread is carried out now. While this is false it stays
    /// under way, as on a slow disk, and is asked about again at every `poll`. For simulations.
    fn is_prompt(&self) -> bool {
        true
    }

    /// How messages should name this file, usually its path.
    fn path_of(&self, name: &str) -> String {
        name.to_owned()
    }
}
