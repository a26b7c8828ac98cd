//! A disk in memory that forgets: what was not synced is lost, kept or torn, operations fail at a chosen
//! call, and space runs out. It judges nothing.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use antiphon_journal::{File, Lock, LockError, Storage};

const SECTOR: usize = 512;

/// What happens at the chosen call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The machine stops: the call is half done, all later ones fail.
    Crash,
    /// The call fails; a failed fsync has lost its pages for good, a failed write wrote half.
    Error(io::ErrorKind),
}

/// What a crash leaves of everything not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    Lost,
    Kept,
    /// Every sector and directory operation on its own, by this seed.
    Torn(u64),
    /// Whole writes, in any order: those whose bit is set; and the first so many directory operations.
    Subset {
        writes: u64,
        names: usize,
    },
}

#[derive(Clone, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone)]
enum DirectoryOp {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

#[derive(Default)]
struct Disk {
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    unsynced_names: Vec<DirectoryOp>,
    calls: u64,
    looks: Cell<u64>,
    syncs: Vec<u64>,
    fault: Option<(u64, Fault)>,
    blind_at: Option<u64>,
    crashed: bool,
    capacity: Option<usize>,
    locked: bool,
    random: u8,
}

/// The storage; clones are the same disk.
#[derive(Clone)]
pub struct FaultStorage {
    disk: Arc<Mutex<Disk>>,
}

enum Call {
    Normal,
    Half(io::Error),
}

fn apply(names: &mut BTreeMap<String, usize>, op: &DirectoryOp) {
    match op {
        DirectoryOp::Create(name, file) => {
            names.insert(name.clone(), *file);
        }
        DirectoryOp::Rename(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
        DirectoryOp::Remove(name) => {
            names.remove(name);
        }
    }
}

fn write(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if bytes.len() < offset + data.len() {
        bytes.resize(offset + data.len(), 0);
    }
    bytes[offset..offset + data.len()].copy_from_slice(data);
}

fn coin(seed: u64, a: usize, b: usize) -> bool {
    let mut x = seed ^ (a as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (b as u64).wrapping_mul(0xD1B5_4A32_D192_ED03);
    x ^= x >> 31;
    x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^= x >> 29;
    x & 1 == 0
}

impl Content {
    /// `first` is the number of this file's first unsynced write among those of all files.
    fn after(&self, crash: Crash, file: usize, first: usize) -> Vec<u8> {
        match crash {
            Crash::Lost => self.durable.clone(),
            Crash::Kept => self.now.clone(),
            Crash::Torn(seed) => {
                let mut bytes = self.durable.clone();
                for (number, (offset, data)) in self.unsynced.iter().enumerate() {
                    let mut at = 0;
                    while at < data.len() {
                        let end = ((offset + at) / SECTOR + 1) * SECTOR - offset;
                        let end = end.min(data.len());
                        if coin(seed, file * 1000 + number, offset + at) {
                            write(&mut bytes, offset + at, &data[at..end]);
                        }
                        at = end;
                    }
                }
                bytes
            }
            Crash::Subset { writes, .. } => {
                let mut bytes = self.durable.clone();
                for (number, (offset, data)) in self.unsynced.iter().enumerate() {
                    if writes >> (first + number).min(63) & 1 == 1 {
                        write(&mut bytes, *offset, data);
                    }
                }
                bytes
            }
        }
    }
}

impl Disk {
    /// Counts an operation that changes nothing, and fails the chosen one.
    fn look(&self) -> io::Result<()> {
        if self.crashed {
            return Err(io::Error::other("the machine is off"));
        }
        self.looks.set(self.looks.get() + 1);
        if self.blind_at == Some(self.looks.get()) {
            return Err(io::Error::other("a sector could not be read"));
        }
        Ok(())
    }

    fn call(&mut self) -> io::Result<Call> {
        if self.crashed {
            return Err(io::Error::other("the machine is off"));
        }
        self.calls += 1;
        match self.fault {
            Some((call, Fault::Crash)) if call == self.calls => {
                self.crashed = true;
                Ok(Call::Half(io::Error::other("the machine went off")))
            }
            Some((call, Fault::Error(kind))) if call == self.calls => Ok(Call::Half(io::Error::from(kind))),
            _ => Ok(Call::Normal),
        }
    }

    fn used(&self) -> usize {
        self.names.values().map(|file| self.files[*file].now.len()).sum()
    }

    fn change_names(&mut self, op: DirectoryOp) {
        apply(&mut self.names, &op);
        self.unsynced_names.push(op);
    }
}

impl FaultStorage {
    pub fn new() -> Self {
        Self { disk: Arc::new(Mutex::new(Disk { random: 1, ..Disk::default() })) }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }

    /// Calls that change the disk, so far.
    pub fn calls(&self) -> u64 {
        self.disk().calls
    }

    /// Numbers of the calls that were fsyncs of files.
    pub fn syncs(&self) -> Vec<u64> {
        self.disk().syncs.clone()
    }

    /// Lets the call with this number, counted from the first ever, go wrong.
    pub fn fault_at(&self, call: u64, fault: Fault) {
        self.disk().fault = Some((call, fault));
    }

    /// Operations that change nothing, so far.
    pub fn looks(&self) -> u64 {
        self.disk().looks.get()
    }

    /// Lets the operation that changes nothing with this number fail, once.
    pub fn blind_at(&self, look: u64) {
        self.disk().blind_at = Some(look);
    }

    /// How many writes and directory operations are not synced.
    pub fn unsynced(&self) -> (usize, usize) {
        let disk = self.disk();
        (disk.files.iter().map(|content| content.unsynced.len()).sum(), disk.unsynced_names.len())
    }

    pub fn limit(&self, capacity: Option<usize>) {
        self.disk().capacity = capacity;
    }

    pub fn used(&self) -> usize {
        self.disk().used()
    }

    /// Another machine's disk with what is left on this one after a crash now.
    pub fn after(&self, crash: Crash) -> Self {
        let disk = self.disk();
        let mut names = disk.durable_names.clone();
        let kept = match crash {
            Crash::Lost => 0,
            Crash::Kept => disk.unsynced_names.len(),
            // A journaling file system keeps a prefix of its operations.
            Crash::Torn(seed) => (0..disk.unsynced_names.len()).take_while(|n| coin(seed, *n, 7)).count(),
            Crash::Subset { names, .. } => names.min(disk.unsynced_names.len()),
        };
        disk.unsynced_names[..kept].iter().for_each(|op| apply(&mut names, op));
        let mut first = 0;
        let files = disk.files.iter().enumerate().map(|(number, content)| {
            let bytes = content.after(crash, number, first);
            first += content.unsynced.len();
            Content { now: bytes.clone(), durable: bytes, unsynced: Vec::new() }
        });
        let new = Disk { files: files.collect(), durable_names: names.clone(), names, random: 77, ..Disk::default() };
        Self { disk: Arc::new(Mutex::new(new)) }
    }

    /// The same disk after the process alone was killed: what is not synced is still in the page cache.
    pub fn after_kill(&self) -> Self {
        let disk = self.disk();
        let new = Disk {
            files: disk.files.clone(),
            names: disk.names.clone(),
            durable_names: disk.durable_names.clone(),
            unsynced_names: disk.unsynced_names.clone(),
            random: disk.random,
            ..Disk::default()
        };
        Self { disk: Arc::new(Mutex::new(new)) }
    }

    pub fn names(&self) -> Vec<String> {
        self.disk().names.keys().cloned().collect()
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let disk = self.disk();
        disk.files[disk.names[name]].now.clone()
    }

    /// Replaces a file's content behind the journal's back.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut disk = self.disk();
        let content = Content { now: bytes.clone(), durable: bytes, unsynced: Vec::new() };
        disk.files.push(content);
        let file = disk.files.len() - 1;
        disk.names.insert(name.to_owned(), file);
        disk.durable_names.insert(name.to_owned(), file);
    }

    pub fn delete(&self, name: &str) {
        let mut disk = self.disk();
        disk.names.remove(name);
        disk.durable_names.remove(name);
    }
}

struct FaultFile {
    disk: Arc<Mutex<Disk>>,
    file: usize,
}

impl File for FaultFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let disk = self.disk.lock().unwrap();
        disk.look()?;
        let bytes = &disk.files[self.file].now;
        let from = bytes.len().min(offset as usize);
        let read = buffer.len().min(bytes.len() - from);
        buffer[..read].copy_from_slice(&bytes[from..from + read]);
        Ok(read)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = self.disk.lock().unwrap();
        let (bytes, answer) = match disk.call()? {
            Call::Normal => (bytes, Ok(())),
            // The machine may go off when all is in the cache; a failing call wrote half.
            Call::Half(error) if disk.crashed => (bytes, Err(error)),
            Call::Half(error) => (&bytes[..bytes.len() / 2], Err(error)),
        };
        let offset = offset as usize;
        let grows = (offset + bytes.len()).saturating_sub(disk.files[self.file].now.len());
        if disk.capacity.is_some_and(|capacity| grows > 0 && disk.used() + grows > capacity) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let content = &mut disk.files[self.file];
        write(&mut content.now, offset, bytes);
        content.unsynced.push((offset, bytes.to_vec()));
        answer
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.disk.lock().unwrap();
        let call = disk.call()?;
        let number = disk.calls;
        disk.syncs.push(number);
        let crashed = disk.crashed;
        let content = &mut disk.files[self.file];
        match call {
            Call::Normal => {
                let writes = std::mem::take(&mut content.unsynced);
                writes.iter().for_each(|(offset, data)| write(&mut content.durable, *offset, data));
                Ok(())
            }
            Call::Half(error) => {
                if !crashed {
                    // Linux marks the pages clean: they stay readable and never reach the disk.
                    content.unsynced.clear();
                }
                Err(error)
            }
        }
    }

    fn len(&self) -> io::Result<u64> {
        let disk = self.disk.lock().unwrap();
        disk.look()?;
        Ok(disk.files[self.file].now.len() as u64)
    }
}

struct Held(Arc<Mutex<Disk>>);

impl Lock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.lock().unwrap().locked = false;
    }
}

impl Storage for FaultStorage {
    fn lock(&self) -> Result<Box<dyn Lock>, LockError> {
        let mut disk = self.disk();
        if std::mem::replace(&mut disk.locked, true) {
            return Err(LockError::Held { pid: 4711 });
        }
        Ok(Box::new(Held(Arc::clone(&self.disk))))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk().look()?;
        Ok(self.names())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut disk = self.disk();
        if disk.names.contains_key(name) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let call = disk.call()?;
        if let (Call::Half(error), false) = (&call, disk.crashed) {
            return Err(io::Error::from(error.kind()));
        }
        disk.files.push(Content::default());
        let file = disk.files.len() - 1;
        disk.change_names(DirectoryOp::Create(name.to_owned(), file));
        match call {
            Call::Normal => Ok(Arc::new(FaultFile { disk: Arc::clone(&self.disk), file })),
            Call::Half(error) => Err(error),
        }
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let disk = self.disk();
        disk.look()?;
        let file = *disk.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(FaultFile { disk: Arc::clone(&self.disk), file }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(DirectoryOp::Remove(name.to_owned()), name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(DirectoryOp::Rename(from.to_owned(), to.to_owned()), from)
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut disk = self.disk();
        if let Call::Half(error) = disk.call()? {
            return Err(error);
        }
        disk.unsynced_names.clear();
        disk.durable_names = disk.names.clone();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let disk = self.disk();
        disk.look()?;
        Ok(disk.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(disk.used()) as u64))
    }

    fn total_bytes(&self) -> io::Result<u64> {
        let disk = self.disk();
        disk.look()?;
        Ok(disk.capacity.unwrap_or(usize::MAX) as u64)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.disk().calls)
    }

    fn random_id(&self) -> io::Result<[u8; 16]> {
        let disk = self.disk();
        disk.look()?;
        Ok([disk.random; 16])
    }
}

impl FaultStorage {
    fn change(&self, op: DirectoryOp, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        if !disk.names.contains_key(name) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        match disk.call()? {
            Call::Normal => {
                disk.change_names(op);
                Ok(())
            }
            Call::Half(error) => {
                if disk.crashed {
                    disk.change_names(op);
                }
                Err(error)
            }
        }
    }
}
