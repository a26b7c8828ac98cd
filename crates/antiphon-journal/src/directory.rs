//! The real `Storage`: one directory of a local file system, through std and rustix.
//! It owns descriptors and the lock file; it knows no file formats.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags};

use crate::storage::{File, Lock, LockError, Storage};

const LOCK_NAME: &str = "lock";

/// A directory of the local file system. Files are made 0600, the directory 0700; links are not followed.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    started: Instant,
}

impl Directory {
    /// The directory at `path`, made (mode 0700, with its parents) if it is not there.
    ///
    /// # Errors
    /// Any error of making it.
    pub fn create(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            // The directory's own name must survive a crash too.
            sync_directory(parent)?;
        }
        Self::existing(path)
    }

    /// The directory at `path`, which must be there. For `verify` and `dump`.
    ///
    /// # Errors
    /// `NotFound`, or `NotADirectory`.
    pub fn existing(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        if !fs::metadata(&path)?.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        }
        Ok(Self { path, started: Instant::now() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn options() -> fs::OpenOptions {
        let mut options = fs::OpenOptions::new();
        options.read(true).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        options
    }

    fn lock_file(&self) -> io::Result<fs::File> {
        let path = self.path.join(LOCK_NAME);
        match Self::options().write(true).create(true).truncate(false).open(&path) {
            Ok(file) => Ok(file),
            // A reader of a read-only copy locks what is there.
            Err(error) => Self::options().open(&path).map_err(|_| error),
        }
    }
}

struct Held {
    _file: fs::File,
}

impl Lock for Held {}

struct OpenFile(fs::File);

impl File for OpenFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.0.read_at(rest, offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        sync_file(&self.0)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

/// On macOS only F_FULLFSYNC empties the drive's cache.
#[cfg(target_vendor = "apple")]
fn sync_file(file: &fs::File) -> io::Result<()> {
    Ok(rustix::fs::fcntl_fullfsync(file)?)
}

#[cfg(not(target_vendor = "apple"))]
fn sync_file(file: &fs::File) -> io::Result<()> {
    file.sync_data()
}

fn sync_directory(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

impl Storage for Directory {
    fn lock(&self) -> Result<Box<dyn Lock>, LockError> {
        let mut file = self.lock_file().map_err(LockError::Io)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let text = fs::read_to_string(self.path.join(LOCK_NAME)).unwrap_or_default();
                return Err(LockError::Held { pid: text.trim().parse().unwrap_or(0) });
            }
            Err(error) => return Err(LockError::Io(error.into())),
        }
        // The text only tells a second opener whom to look for; the lock itself does not depend on it.
        drop(file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())));
        Ok(Box::new(Held { _file: file }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = Self::options().write(true).create_new(true).open(self.path.join(name))?;
        Ok(Arc::new(OpenFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(OpenFile(Self::options().write(true).open(self.path.join(name))?)))
    }

    fn open_read_only(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(OpenFile(Self::options().open(self.path.join(name))?)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn sync_dir(&self) -> io::Result<()> {
        sync_directory(&self.path)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn total_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.path)?;
        Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn random_id(&self) -> io::Result<[u8; 16]> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(id)
    }

    fn path_of(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }
}
