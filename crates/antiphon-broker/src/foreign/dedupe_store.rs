//! A file of the outcomes that a caller has handled, so that it handles none twice after a restart.

use super::Ledger;
use super::ledger::REMEMBERED;
use crate::OpenError;
use antiphon_protocol::CallId;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const ID_BYTES: usize = 16;

/// Remembers handled outcomes over restarts of a caller: the ids of its calls, 16 bytes each, oldest first. One caller at a
/// time has it open. A torn last id is cut off: its outcome was not let go at the server and comes again.
#[derive(Debug)]
pub struct DedupeStore {
    file: File,
    /// Held as long as the store is open; it is a file of its own because the other is put in place anew.
    _lock: File,
}

impl DedupeStore {
    /// Opens the file at `path`, making it if it is new, and gives back the newest 65,536 ids, oldest first. Older ones
    /// are forgotten.
    ///
    /// # Errors
    /// When it cannot be read or written, or another caller has it open (`WouldBlock`).
    pub fn open(path: &Path) -> io::Result<(Self, Vec<CallId>)> {
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(beside(path, "lock"))?;
        lock.try_lock()?;
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        let (ids, _torn) = bytes.as_chunks::<ID_BYTES>();
        let newest = ids.get(ids.len().saturating_sub(REMEMBERED)..).unwrap_or_default();
        // Written anew beside it and put in its place, so that a crash leaves one or the other.
        let new = beside(path, "new");
        let mut file = File::create(&new)?;
        file.write_all(newest.as_flattened())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?
            .sync_all()?;
        Ok((Self { file, _lock: lock }, newest.iter().map(|id| CallId::from_bytes(*id)).collect()))
    }

    /// Opens the file, if a caller has one, and tells its ledger what was handled.
    ///
    /// # Errors
    /// [`OpenError::Storage`] when it cannot be used.
    pub fn open_for<H>(ledger: &mut Ledger<H>, path: Option<&Path>) -> Result<Option<Self>, OpenError> {
        let Some(path) = path else { return Ok(None) };
        let (store, handled) = Self::open(path).map_err(|error| {
            OpenError::Storage(format!("the handled outcomes in {} cannot be used: {error}", path.display()))
        })?;
        handled.into_iter().for_each(|call| ledger.remember(call));
        Ok(Some(store))
    }

    /// Remembers handled outcomes; they are on disk when it returns. Let them go at the server after that.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn append(&mut self, calls: &[CallId]) -> io::Result<()> {
        let bytes: Vec<u8> = calls.iter().flat_map(|id| id.to_bytes()).collect();
        self.file.write_all(&bytes)?;
        self.file.sync_data()
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}
