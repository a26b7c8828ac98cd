//! A disk that stalls holds up what waits for it, and nothing else.

use crate::world::{caller, connect, echo, options, start, submission, worker};
use antiphon_broker::{Broker, Event, Wants};
use antiphon_journal::{Directory, File, Lock, LockError, Storage};
use antiphon_protocol::Start;
use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Whether fsyncs return; who is in one while it is shut waits.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    /// Shuts it until what is given back is dropped.
    fn shut(&self) -> Shut<'_> {
        *self.0.lock().unwrap() = true;
        Shut(self)
    }

    fn pass(&self) {
        drop(self.1.wait_while(self.0.lock().unwrap(), |shut| *shut).unwrap());
    }
}

struct Shut<'a>(&'a Gate);

impl Drop for Shut<'_> {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap() = false;
        self.0.1.notify_all();
    }
}

struct Stalling {
    directory: Arc<Directory>,
    gate: Arc<Gate>,
}

struct StallingFile {
    file: Arc<dyn File>,
    gate: Arc<Gate>,
}

impl File for StallingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.gate.pass();
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

impl Stalling {
    fn file(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(StallingFile { file, gate: Arc::clone(&self.gate) })
    }
}

impl Storage for Stalling {
    fn lock(&self) -> Result<Box<dyn Lock>, LockError> {
        self.directory.lock()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.directory.list()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(self.file(self.directory.create(name)?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(self.file(self.directory.open(name)?))
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

/// Calls of an idempotent procedure that fall due, one each millisecond: their leases wait for no record.
#[tokio::test]
async fn calls_that_are_due_start_while_the_disk_stalls() {
    const CALLS: u64 = 1_000;
    const FIRST_MS: u64 = 1_000;
    let place = tempfile::tempdir().unwrap();
    let gate = Arc::new(Gate::default());
    let directory = Arc::new(Directory::create(place.path()).unwrap());
    let mut options = options(None);
    options.driver.storage = Some(Arc::new(Stalling { directory, gate: Arc::clone(&gate) }));
    let server = start(options);
    let remote = connect(server.local_address().unwrap()).await;
    let (worker, mut leases) = worker(&remote, u32::try_from(CALLS).unwrap()).await;
    let (caller, mut events) = caller(&remote).await;
    let mut calls: Vec<_> = (0..CALLS).map(|tag| submission(tag, Wants::Acceptance, "later")).collect();
    for (number, submission) in (0..).zip(&mut calls) {
        submission.call.start = Start::In(FIRST_MS + number);
    }
    caller.submit(&mut calls);
    for _ in 0..CALLS {
        events.find(|event| matches!(event, Event::Accepted { .. }).then_some(())).await;
    }
    worker.report(&mut vec![echo(&leases.lease().await)]);
    let shut = gate.shut();
    for _ in 1..CALLS {
        let lease = leases.lease().await;
        worker.report(&mut vec![echo(&lease)]);
    }
    drop((shut, worker, caller));
    remote.close().await;
    server.stop().unwrap();
}
