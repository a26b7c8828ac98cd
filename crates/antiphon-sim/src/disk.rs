//! A disk in memory that forgets. What was not synced is lost, kept or torn by sector when the power goes; operations
//! fail at a chosen call; space runs out; bits rot. It judges nothing.

mod content;

use crate::random::{Random, blend};
use antiphon_journal::{File, Lock, LockError, Storage};
use content::Content;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What goes wrong at the chosen call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// The call fails. A failed fsync has lost its pages for good, a failed write wrote half.
    Error,
    /// The power goes: the call is half done, all later ones fail.
    PowerLoss,
}

/// What a call does to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    WriteMeta,
    WriteSegment,
    SyncMeta,
    SyncSegment,
    Create,
    Rename,
    Remove,
    SyncDirectory,
}

impl Op {
    pub const ALL: [Self; 8] = [
        Self::WriteMeta,
        Self::WriteSegment,
        Self::SyncMeta,
        Self::SyncSegment,
        Self::Create,
        Self::Rename,
        Self::Remove,
        Self::SyncDirectory,
    ];
}

#[derive(Clone)]
enum Renaming {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

#[derive(Default)]
struct State {
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    unsynced_names: Vec<Renaming>,
    calls: u64,
    fault: Option<(u64, DiskFault)>,
    off: bool,
    full: bool,
    slow: bool,
    locked: bool,
    /// The bit that rotted: file, byte, mask.
    rotten: Option<(usize, usize, u8)>,
    fired: BTreeMap<(Op, bool), u64>,
    /// Something failed since the journal was last opened.
    took_fault: bool,
}

/// The disk; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

enum Called {
    Normal,
    Half(io::Error),
}

fn off() -> io::Error {
    io::Error::other("the machine is off")
}

fn apply(names: &mut BTreeMap<String, usize>, change: &Renaming) {
    match change {
        Renaming::Create(name, file) => {
            names.insert(name.clone(), *file);
        }
        Renaming::Rename(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
        Renaming::Remove(name) => {
            names.remove(name);
        }
    }
}

impl State {
    fn call(&mut self, op: Op) -> io::Result<Called> {
        if self.off {
            return Err(off());
        }
        self.calls += 1;
        match self.fault {
            Some((at, fault)) if at <= self.calls => {
                self.fault = None;
                self.took_fault = true;
                *self.fired.entry((op, fault == DiskFault::PowerLoss)).or_default() += 1;
                self.off = fault == DiskFault::PowerLoss;
                Ok(Called::Half(if self.off { off() } else { io::Error::other("an I/O error, on purpose") }))
            }
            _ => Ok(Called::Normal),
        }
    }

    fn rename(&mut self, change: Renaming) {
        apply(&mut self.names, &change);
        self.unsynced_names.push(change);
    }
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of the code under test is a finding of its own; the disk stays usable to report it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the call that is `after` calls from now go wrong.
    pub fn fail_after(&self, after: u32, fault: DiskFault) {
        let mut state = self.state();
        state.fault = Some((state.calls + 1 + u64::from(after), fault));
    }

    /// No fault is planned any more.
    pub fn heal(&self) {
        let mut state = self.state();
        (state.fault, state.full, state.slow) = (None, false, false);
    }

    pub fn fill(&self, full: bool) {
        self.state().full = full;
    }

    pub fn slow(&self, slow: bool) {
        self.state().slow = slow;
    }

    pub fn is_slow(&self) -> bool {
        self.state().slow
    }

    pub fn is_full(&self) -> bool {
        self.state().full
    }

    /// Whether something failed since this was last asked for good.
    pub fn took_fault(&self) -> bool {
        self.state().took_fault
    }

    /// What failed so far is dealt with.
    pub fn forgive(&self) {
        self.state().took_fault = false;
    }

    pub fn is_off(&self) -> bool {
        self.state().off
    }

    /// The power goes, and comes back: by the seed, each sector that was not synced is lost or kept, and of what
    /// happened to names a prefix is kept, as journaling file systems do.
    pub fn power_cycle(&self, seed: u64) {
        let mut random = Random::new(seed);
        // What rotted may not be on the disk any more.
        self.repair();
        let state = &mut *self.state();
        // A quarter of power losses keep nothing, and a quarter everything: the extremes find most.
        let keep = match random.below(4) {
            0 => 0,
            1 => 100,
            _ => random.between(5, 95),
        };
        let kept = state.unsynced_names.iter().take_while(|_| random.percent(keep)).count();
        let changes: Vec<_> = state.unsynced_names.drain(..).take(kept).collect();
        changes.iter().for_each(|change| apply(&mut state.durable_names, change));
        state.names = state.durable_names.clone();
        state.files.iter_mut().for_each(|file| file.settle(&mut random, keep));
        (state.off, state.fault) = (false, None);
    }

    /// The process ends, the machine does not: everything written stays, as the page cache has it.
    pub fn process_ends(&self) {
        self.state().fault = None;
    }

    /// The bytes of a file as the next process finds them.
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(name).and_then(|file| state.files.get(*file)).map(|file| file.now.clone())
    }

    /// Flips a bit of a file at rest.
    pub fn rot(&self, name: &str, offset: usize, bit: u8) {
        let state = &mut *self.state();
        let Some(file) = state.names.get(name).copied() else { return };
        let mask = 1 << (bit % 8);
        if state.files.get_mut(file).is_some_and(|content| content.flip(offset, mask)) {
            state.rotten = Some((file, offset, mask));
        }
    }

    /// Puts the rotten bit right, as from a copy.
    pub fn repair(&self) {
        self.toggle_rot();
        self.state().rotten = None;
    }

    /// Flips the rotten bit, if there is one, to what it was, or back.
    pub fn toggle_rot(&self) {
        let state = &mut *self.state();
        if let Some((file, offset, mask)) = state.rotten
            && let Some(content) = state.files.get_mut(file)
        {
            content.flip(offset, mask);
        }
    }

    /// How often a planned fault fired, by kind of call and whether it was a power loss.
    pub fn fired(&self) -> BTreeMap<(Op, bool), u64> {
        self.state().fired.clone()
    }

    fn change(&self, op: Op, change: Renaming, name: &str) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(name) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        match state.call(op)? {
            Called::Normal => {
                state.rename(change);
                Ok(())
            }
            Called::Half(error) => {
                if state.off {
                    state.rename(change);
                }
                Err(error)
            }
        }
    }
}

struct OpenFile {
    disk: Disk,
    file: usize,
    is_meta: bool,
}

impl File for OpenFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        if state.off {
            return Err(off());
        }
        Ok(state.files[self.file].read(buffer, offset as usize))
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let state = &mut *self.disk.state();
        let op = if self.is_meta { Op::WriteMeta } else { Op::WriteSegment };
        let called = state.call(op)?;
        let content = &mut state.files[self.file];
        if state.full && content.now.len() < offset as usize + bytes.len() {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let (bytes, answer) = match called {
            Called::Normal => (bytes, Ok(())),
            // When the power goes all of it may be in the cache; a failing call wrote half.
            Called::Half(error) if state.off => (bytes, Err(error)),
            Called::Half(error) => (&bytes[..bytes.len() / 2], Err(error)),
        };
        content.write(offset as usize, bytes);
        answer
    }

    fn sync_data(&self) -> io::Result<()> {
        let state = &mut *self.disk.state();
        let called = state.call(if self.is_meta { Op::SyncMeta } else { Op::SyncSegment })?;
        let content = &mut state.files[self.file];
        match called {
            Called::Normal => {
                content.sync();
                Ok(())
            }
            Called::Half(error) => {
                if !state.off {
                    content.forget_dirty();
                }
                Err(error)
            }
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.file].now.len() as u64)
    }
}

struct Held(Disk);

impl Lock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.state().locked = false;
    }
}

impl Storage for Disk {
    fn lock(&self) -> Result<Box<dyn Lock>, LockError> {
        if std::mem::replace(&mut self.state().locked, true) {
            return Err(LockError::Held { pid: 4711 });
        }
        Ok(Box::new(Held(self.clone())))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let state = &mut *self.state();
        if state.names.contains_key(name) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let called = state.call(Op::Create)?;
        if state.full {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        if let Called::Half(error) = called {
            return Err(error);
        }
        state.files.push(Content::default());
        let file = state.files.len() - 1;
        state.rename(Renaming::Create(name.to_owned(), file));
        Ok(Arc::new(OpenFile { disk: self.clone(), file, is_meta: name.starts_with("meta") }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = *self.state().names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(OpenFile { disk: self.clone(), file, is_meta: name.starts_with("meta") }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(Op::Remove, Renaming::Remove(name.to_owned()), name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(Op::Rename, Renaming::Rename(from.to_owned(), to.to_owned()), from)
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.state();
        if let Called::Half(error) = state.call(Op::SyncDirectory)? {
            return Err(error);
        }
        state.unsynced_names.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(if self.state().full { 0 } else { 1 << 40 })
    }

    fn total_bytes(&self) -> io::Result<u64> {
        Ok(1 << 40)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.state().calls * 100)
    }

    fn random_id(&self) -> io::Result<[u8; 16]> {
        Ok(u128::from(blend(7, self.state().calls)).to_le_bytes())
    }

    fn is_prompt(&self) -> bool {
        !self.state().slow
    }
}
