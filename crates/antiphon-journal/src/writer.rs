//! Carries out commits: writes the batches, then fsyncs each file it wrote. Inline, or on its own thread so
//! that the next batch fills meanwhile. It decides nothing and remembers nothing but the one commit.

use crate::planted::planted;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Poisoned;
use crate::manifest::{META_NAME, Manifest};
use crate::position::{Lsn, Watermark};
use crate::segment::{SegmentFile, file_name};
use crate::storage::{File, Storage};
use crate::sync::{Builder, Condvar, JoinHandle, Mutex, MutexGuard};

/// What one commit writes into one segment: header if it is new, one batch, index if it ends.
pub(crate) struct Part {
    pub segment: Arc<SegmentFile>,
    /// Where `buffer` goes.
    pub offset: u32,
    pub buffer: Vec<u8>,
    /// Where in `buffer` the batch header stands.
    pub batch_at: usize,
    pub count: u32,
    pub first_lsn: Lsn,
    pub last_lsn: Lsn,
    /// Where in `buffer` the index begins, once the segment is sealed.
    pub index_at: Option<usize>,
}

impl Part {
    /// Bytes of the batch, from its header to where the next one may begin.
    pub fn batch_length(&self) -> u32 {
        (self.index_at.unwrap_or(self.buffer.len()) - self.batch_at) as u32
    }
}

/// One commit. Immutable once begun: the owner reads entries from it while it is under way.
pub(crate) struct Commit {
    pub parts: Vec<Part>,
    /// The new manifest, if segments came or went. Written first.
    pub manifest: Option<(Arc<dyn File>, Vec<u8>)>,
    /// What is durable once it succeeded.
    pub after: Watermark,
    /// Segments the manifest no longer lists; free once it is durable.
    pub retired: Vec<Arc<SegmentFile>>,
}

/// What a commit cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub sync: Duration,
    pub syncs: u32,
    pub bytes: u64,
}

impl Commit {
    /// Writes and fsyncs everything. The manifest goes first: a batch must not be acknowledged in a segment
    /// that is not listed. Until the entries are fsynced, a listed segment is only an empty one.
    pub fn run(&self, storage: &dyn Storage) -> Result<Cost, Poisoned> {
        let mut cost = Cost { sync: Duration::ZERO, syncs: 0, bytes: 0 };
        if let Some((file, copy)) = &self.manifest {
            Manifest::write(&**file, copy).map_err(|(op, source)| poison(storage, op, META_NAME, source))?;
            cost.syncs += 2;
            cost.bytes += 2 * copy.len() as u64;
        }
        for part in &self.parts {
            let written = part.segment.handle.write_all_at(&part.buffer, u64::from(part.offset));
            let written = if planted!("failed write ignored") { Ok(()) } else { written };
            written.map_err(|source| poison(storage, "write", &file_name(part.segment.file), source))?;
            cost.bytes += part.buffer.len() as u64;
        }
        let start = storage.monotonic();
        for part in &self.parts {
            let synced = if planted!("acknowledged before fsync") { Ok(()) } else { part.segment.handle.sync_data() };
            let synced = synced.or_else(|error| {
                if planted!("failed fsync tried again") { part.segment.handle.sync_data() } else { Err(error) }
            });
            synced.map_err(|source| poison(storage, "fsync", &file_name(part.segment.file), source))?;
            cost.syncs += 1;
        }
        cost.sync = storage.monotonic().saturating_sub(start);
        Ok(cost)
    }
}

fn poison(storage: &dyn Storage, op: &'static str, name: &str, source: io::Error) -> Poisoned {
    Poisoned { op, path: storage.path_of(name), source: Arc::new(source) }
}

/// Called when a commit on the writer thread has ended, well or not; it must be quick and not block.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

type Done = Result<Cost, Poisoned>;

#[derive(Default)]
struct Slot {
    /// Handed over, and not begun.
    next: Option<Arc<Commit>>,
    running: bool,
    done: Option<Done>,
    stop: bool,
}

struct Shared {
    storage: Arc<dyn Storage>,
    wake: Wake,
    slot: Mutex<Slot>,
    changed: Condvar,
}

/// The thread that carries out one commit at a time.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub fn start(storage: Arc<dyn Storage>, wake: Wake, threads: bool) -> io::Result<Self> {
        let shared = Arc::new(Shared { storage, wake, slot: Mutex::default(), changed: Condvar::new() });
        let thread = if threads {
            let shared = Arc::clone(&shared);
            let run = move || shared.run_for_ever();
            Some(Builder::new().name("antiphon-writer".to_owned()).spawn(run)?)
        } else {
            None
        };
        Ok(Self { shared, thread })
    }

    /// Hands a commit over. The caller collects it with `poll` or `wait` before it hands over another.
    pub fn begin(&self, commit: Arc<Commit>) {
        let mut slot = self.shared.lock();
        assert!(slot.next.is_none() && !slot.running && slot.done.is_none(), "one commit is under way at a time");
        slot.next = Some(commit);
        drop(slot);
        if self.thread.is_some() {
            self.shared.changed.notify_all();
        } else if self.shared.storage.is_prompt() {
            self.run_here();
        }
    }

    /// Carries out the commit that was handed over, on this thread.
    fn run_here(&self) {
        let commit = self.shared.lock().next.take();
        let Some(commit) = commit else { return };
        let done = commit.run(&*self.shared.storage);
        drop(commit);
        self.shared.lock().done = Some(done);
        (self.shared.wake)();
    }

    /// The end of the commit under way, if it has ended.
    pub fn poll(&self) -> Option<Done> {
        if self.thread.is_none() && self.shared.storage.is_prompt() {
            self.run_here();
        }
        self.shared.lock().done.take()
    }

    /// The end of the commit under way. One that the thread has not begun is carried out here: the thread may still be
    /// waking its owner from the one before, who may hold just what that wake-up waits for.
    pub fn wait(&self) -> Done {
        let mut slot = self.shared.lock();
        loop {
            if let Some(done) = slot.done.take() {
                return done;
            }
            if let Some(commit) = slot.next.take() {
                drop(slot);
                return commit.run(&*self.shared.storage);
            }
            assert!(slot.running, "only called while a commit is under way");
            slot = self.shared.wait(slot);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().expect("no code panics while it holds this lock")
    }

    fn wait<'a>(&self, slot: MutexGuard<'a, Slot>) -> MutexGuard<'a, Slot> {
        self.changed.wait(slot).expect("no code panics while it holds this lock")
    }

    fn run_for_ever(&self) {
        loop {
            let mut slot = self.lock();
            while slot.next.is_none() && !slot.stop {
                slot = self.wait(slot);
            }
            let Some(commit) = slot.next.take() else { return };
            slot.running = true;
            drop(slot);
            let done = commit.run(&*self.storage);
            // Before it is reported, so that the owner can reuse the buffers.
            drop(commit);
            let mut slot = self.lock();
            slot.running = false;
            slot.done = Some(done);
            drop(slot);
            self.changed.notify_all();
            (self.wake)();
        }
    }
}
