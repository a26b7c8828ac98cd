//! Segment files that hold nothing: the free pool with its reserve, and the thread that fills it ahead of
//! need. A file is written full of zeros and fsynced before it is offered, so that a commit into it changes
//! no metadata. Which segment a file becomes is `roll.rs`'s business.

use crate::planted::planted;
use std::io;
use std::sync::Arc;

use crate::options::Options;
use crate::segment::{file_id, file_name};
use crate::storage::{File, Storage};
use crate::sync::{Builder, Condvar, JoinHandle, Mutex, MutexGuard};

/// Zeros are written in pieces of this size: large enough for full disk speed, small enough to hold.
const ZEROS: usize = 1 << 20;

/// A zero-filled or formerly used file, open, with its directory entry on disk.
pub(crate) struct Spare {
    pub file: u32,
    pub length: u32,
    pub handle: Arc<dyn File>,
}

/// No segment for this request.
#[derive(Debug)]
pub(crate) struct NoSpare {
    pub free: u64,
    pub needed: u64,
}

struct State {
    ready: Vec<Spare>,
    next_file: u32,
    /// Bytes of all segment files there are, in use or free.
    bytes: u64,
    /// The last attempt found no room; cleared by `poke`.
    failed: bool,
    stop: bool,
}

struct Shared {
    storage: Arc<dyn Storage>,
    options: Options,
    state: Mutex<State>,
    changed: Condvar,
}

/// The free pool.
pub(crate) struct Space {
    shared: Arc<Shared>,
    started: bool,
    thread: Option<JoinHandle<()>>,
}

impl Space {
    /// `ready` are the usable files found on disk, `bytes` the length of all, `next_file` an unused id.
    pub fn new(storage: Arc<dyn Storage>, options: Options, ready: Vec<Spare>, bytes: u64, next_file: u32) -> Self {
        let state = State { ready, next_file, bytes, failed: false, stop: false };
        let shared = Arc::new(Shared { storage, options, state: Mutex::new(state), changed: Condvar::new() });
        Self { shared, started: false, thread: None }
    }

    /// Starts to fill the pool, on a thread if the options want one.
    pub fn start(&mut self) -> io::Result<()> {
        if self.shared.options.threads {
            let shared = Arc::clone(&self.shared);
            let run = move || shared.fill_for_ever();
            self.thread = Some(Builder::new().name("antiphon-space".to_owned()).spawn(run)?);
        }
        self.started = true;
        self.poke();
        Ok(())
    }

    /// A standard segment, leaving `floor` in the pool. Waits for one being made rather than refuse it.
    pub fn take(&self, floor: usize) -> Result<Spare, NoSpare> {
        let mut state = self.when_ready(floor + 1, floor)?;
        let spare = state.ready.pop().expect("longer than the floor");
        self.shared.changed.notify_all();
        Ok(spare)
    }

    /// Waits until `floor` standard segments are ready, unless there is no room for them.
    pub fn wait_for(&self, floor: usize) -> Result<(), NoSpare> {
        self.when_ready(floor, floor).map(drop)
    }

    /// Waits until `count` standard segments are ready; a refusal says what there is above `floor`.
    fn when_ready(&self, count: usize, floor: usize) -> Result<MutexGuard<'_, State>, NoSpare> {
        let mut state = self.shared.lock();
        while state.ready.len() < count {
            if self.thread.is_none() {
                drop(state);
                if self.shared.make_one().is_err() {
                    return Err(self.shared.no_spare(floor));
                }
                state = self.shared.lock();
            } else if state.failed {
                // The next attempt finds out whether space has returned meanwhile.
                state.failed = false;
                self.shared.changed.notify_all();
                drop(state);
                return Err(self.shared.no_spare(floor));
            } else {
                state = self.shared.wait(state);
            }
        }
        Ok(state)
    }

    /// A standard segment, if one is ready.
    pub fn take_ready(&self) -> Option<Spare> {
        self.shared.lock().ready.pop()
    }

    /// A file of another length, made now.
    pub fn make(&self, length: u32) -> io::Result<Spare> {
        self.shared.make(length)
    }

    /// Takes a retired file back. One of another length than the options want is removed.
    pub fn give(&self, spare: Spare) {
        let keep = spare.length == self.shared.options.segment_bytes;
        if keep {
            self.shared.lock().ready.push(spare);
        } else if self.shared.storage.remove(&file_name(spare.file)).is_ok() {
            self.shared.lock().bytes -= u64::from(spare.length);
        }
        self.poke();
    }

    /// Lets a pool that found no room try again.
    pub fn poke(&self) {
        if self.thread.is_some() {
            self.shared.lock().failed = false;
            self.shared.changed.notify_all();
        } else if self.started {
            while self.shared.wants_more(&self.shared.lock()) {
                if self.shared.make_one().is_err() {
                    break;
                }
            }
        }
    }

    /// Lets a pool that is not full try again: what was missing may have come back.
    pub fn refill(&self) {
        if self.shared.wants_more(&self.shared.lock()) {
            self.poke();
        }
    }

    /// Files ready, and bytes of all segment files.
    pub fn figures(&self) -> (usize, u64) {
        let state = self.shared.lock();
        (state.ready.len(), state.bytes)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).expect("no code panics while it holds this lock")
    }

    fn wants_more(&self, state: &State) -> bool {
        state.ready.len() < self.options.reserve + self.options.ahead
    }

    fn fill_for_ever(&self) {
        loop {
            let mut state = self.lock();
            while !state.stop && (state.failed || !self.wants_more(&state)) {
                state = self.wait(state);
            }
            if state.stop {
                return;
            }
            drop(state);
            let made = self.make_one();
            let mut state = self.lock();
            state.failed = made.is_err();
            drop(state);
            self.changed.notify_all();
        }
    }

    fn make_one(&self) -> io::Result<()> {
        let spare = self.make(self.options.segment_bytes)?;
        self.lock().ready.push(spare);
        Ok(())
    }

    /// Makes a file of zeros under a temporary name, then names it; a crash leaves at most the former.
    fn make(&self, length: u32) -> io::Result<Spare> {
        let file = {
            let mut state = self.lock();
            if state.bytes.saturating_add(u64::from(length)) > self.options.bytes_max {
                return Err(io::Error::from(io::ErrorKind::QuotaExceeded));
            }
            state.bytes += u64::from(length);
            state.next_file += 1;
            state.next_file - 1
        };
        let made = self.make_file(file, length);
        if made.is_err() {
            drop(self.storage.remove(&making_name(file)));
            drop(self.storage.remove(&file_name(file)));
            self.lock().bytes -= u64::from(length);
        }
        made
    }

    fn make_file(&self, file: u32, length: u32) -> io::Result<Spare> {
        let needed = u64::from(length).saturating_add(self.options.free_bytes_min);
        if self.storage.free_bytes()? < needed {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let handle = self.storage.create(&making_name(file))?;
        let zeros = vec![0; ZEROS.min(length as usize)];
        let mut offset = 0;
        while offset < length as usize {
            let piece = zeros.get(..zeros.len().min(length as usize - offset)).expect("shorter than the zeros");
            handle.write_all_at(piece, offset as u64)?;
            offset += piece.len();
            if self.lock().stop {
                return Err(io::Error::from(io::ErrorKind::Interrupted));
            }
        }
        handle.sync_data()?;
        self.storage.rename(&making_name(file), &file_name(file))?;
        if !planted!("directory not synced") {
            self.storage.sync_dir()?;
        }
        Ok(Spare { file, length, handle })
    }

    fn no_spare(&self, floor: usize) -> NoSpare {
        let usable = self.lock().ready.len().saturating_sub(floor) as u64;
        let segment = u64::from(self.options.segment_bytes);
        NoSpare { free: usable * segment, needed: segment }
    }
}

/// Name of a file that is not yet full of zeros.
pub(crate) fn making_name(file: u32) -> String {
    format!("making-{file:08}")
}

/// Removes what interrupted makings left and returns the ids of the segment files there are.
pub(crate) fn tidy(storage: &dyn Storage, names: &[String]) -> io::Result<Vec<u32>> {
    for name in names.iter().filter(|name| name.starts_with("making-")) {
        storage.remove(name)?;
    }
    Ok(names.iter().filter_map(|name| file_id(name)).collect())
}
