//! A directory whose fsyncs take so much longer, as on a disk that is slower than this machine's.

use antiphon_journal::{Directory, File, Lock, LockError, Storage};
use std::io;
use std::sync::Arc;
use std::time::Duration;

pub struct SlowDisk {
    directory: Arc<Directory>,
    sync: Duration,
}

impl SlowDisk {
    pub fn new(directory: Arc<Directory>, sync: Duration) -> Self {
        Self { directory, sync }
    }

    fn slowed(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(SlowFile { file, sync: self.sync })
    }
}

struct SlowFile {
    file: Arc<dyn File>,
    sync: Duration,
}

impl File for SlowFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        std::thread::sleep(self.sync);
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

impl Storage for SlowDisk {
    fn lock(&self) -> Result<Box<dyn Lock>, LockError> {
        self.directory.lock()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.directory.list()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(self.slowed(self.directory.create(name)?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(self.slowed(self.directory.open(name)?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.directory.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.directory.rename(from, to)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.directory.sync_dir()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.directory.free_bytes()
    }

    fn total_bytes(&self) -> io::Result<u64> {
        self.directory.total_bytes()
    }

    fn monotonic(&self) -> Duration {
        self.directory.monotonic()
    }

    fn random_id(&self) -> io::Result<[u8; 16]> {
        self.directory.random_id()
    }
}
