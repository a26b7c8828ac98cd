//! Opening a driver: the data directory, the journal, and the engine rebuilt from its records.

use crate::bodies::Bodies;
use crate::driver::{Driver, DriverOptions};
use crate::output::{Outbox, Output, Scratch};
use crate::planted::planted;
use crate::told::Gathering;
use crate::tombs::Tombs;
use antiphon_broker::OpenError;
use antiphon_engine::{Engine, Handle, Limits, Now, Record, Replay};
use antiphon_journal::{Directory, Generation, Journal, Position, Recovered, Storage};
use antiphon_protocol::{CallId, Epoch, defaults};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

/// What `wake` is: called from the journal's writer thread when a commit has ended.
pub(crate) type Wake = Arc<dyn Fn() + Send + Sync>;

impl Driver {
    /// Opens the directory, if there is one, and recovers. The owner must pump whenever `wake` was called.
    ///
    /// # Errors
    /// [`OpenError`] when the directory is in use, cannot be written, is damaged, or is of a newer format.
    pub fn open(options: DriverOptions, wake: Wake) -> Result<Self, OpenError> {
        let procedures = options.procedures.clone();
        let mut driver = match (options.storage.clone(), options.directory.clone()) {
            (Some(storage), _) => Self::recover(options, storage, wake),
            (None, None) => Ok(Self::in_memory(options)),
            (None, Some(path)) => {
                let directory = Directory::create(&path).map_err(|error| unusable(&path, &error))?;
                Self::recover(options, Arc::new(directory), wake)
            }
        }?;
        driver.configure_all(&procedures)?;
        Ok(driver)
    }

    fn in_memory(options: DriverOptions) -> Self {
        let limits = Limits { durable: false, ..options.limits.clone() };
        let now = options.clock.now();
        let engine = Engine::new(limits, options.seed.unwrap_or_else(random), now).in_epoch(epoch_in_memory(now));
        Self::assemble(options, engine, None)
    }

    /// Recovers from any storage; the simulator brings its own.
    ///
    /// # Errors
    /// As [`Driver::open`].
    pub fn recover(options: DriverOptions, storage: Arc<dyn Storage>, wake: Wake) -> Result<Self, OpenError> {
        let limits = Limits { durable: true, ..options.limits.clone() };
        let now = options.clock.now();
        let mut found = Found::new(limits, options.seed.unwrap_or_else(random));
        let within = within_disk(&options, &*storage);
        let journal = Journal::open(storage, within, wake, &mut |entry| found.visit(&entry));
        let mut journal = journal.map_err(|error| opening(&options, error))?;
        found.check()?;
        let (engine, cold, tombs) = found.rebuild(now, &options, &mut journal)?;
        // The new epoch is on disk before anything is served: no lease token is ever issued twice.
        if !planted!("epoch served before fsync") {
            journal.commit().map_err(|error| OpenError::Storage(error.to_string()))?;
        }
        let mut driver = Self::assemble(options, engine, Some(journal));
        driver.cold = cold;
        driver.tombs = tombs;
        Ok(driver)
    }
}

/// What a recovery found in the journal.
struct Found {
    replay: Replay,
    cold: HashSet<u32>,
    pinned: Vec<Position>,
    tombs: Tombs,
    /// The first record that could not be read, if any.
    wrong: Option<(Position, u8)>,
}

impl Found {
    fn new(limits: Limits, seed: u64) -> Self {
        // Replay must not push the wall clock ahead of what is journaled, so it starts at zero.
        let replay = Replay::new(limits, seed, Now::default());
        Self { replay, cold: HashSet::new(), pinned: Vec::new(), tombs: Tombs::default(), wrong: None }
    }

    fn visit(&mut self, entry: &Recovered<'_>) {
        let cold = entry.generation == Generation::Cold;
        if cold {
            self.cold.insert(entry.position.segment());
        }
        if entry.role == antiphon_journal::Role::PinnedDelta {
            self.pinned.push(entry.position);
        }
        let Ok(record) = self.replay.decode(entry.kind, entry.key, entry.head) else {
            self.wrong = self.wrong.or(Some((entry.position, entry.kind)));
            return;
        };
        let at = Handle(entry.position.as_u64());
        if let Record::Entombed { id, until } = record {
            self.tombs.insert(at, id, until);
        }
        self.replay.apply(record, at, cold);
    }

    fn check(&self) -> Result<(), OpenError> {
        let Some((position, kind)) = self.wrong else { return Ok(()) };
        Err(OpenError::Storage(format!(
            "the journal has a record of kind {kind} at {position:?} that this program cannot read: use a newer program"
        )))
    }

    /// The engine that the records describe, with the journal told what of it is still needed.
    fn rebuild(
        self,
        now: Now,
        options: &DriverOptions,
        journal: &mut Journal,
    ) -> Result<(Engine, HashSet<u32>, Tombs), OpenError> {
        let Self { replay, mut cold, pinned, mut tombs, .. } = self;
        let mut live: Vec<_> = tombs.positions().map(|position| Handle(position.as_u64())).collect();
        let mut bodies = Bodies::new(options.cache_bytes);
        let (mut outbox, mut poisoned, mut scratch) = (Outbox::default(), None, Scratch::default());
        let mut gathering = Gathering::default();
        let output = Output {
            journal: Some(&mut *journal),
            bodies: &mut bodies,
            outbox: &mut outbox,
            cold: &mut cold,
            tombs: &mut tombs,
            poisoned: &mut poisoned,
            scratch: &mut scratch,
            gathering: &mut gathering,
            body: None,
            body_at: Handle::NONE,
            epoch: Epoch::default(),
            payload_bytes_max: options.payload_bytes_max as usize,
            generation: Generation::Young,
        };
        let mut deferred = Deferred { output, released: Vec::new() };
        let engine = replay.finish(now, &mut deferred, |handle| live.push(handle));
        let released = deferred.released;
        claim(journal, &live, &pinned, &released);
        tombs.clear(journal);
        match poisoned {
            Some(failure) => Err(OpenError::Storage(failure.message)),
            None => Ok((engine, cold, tombs)),
        }
    }
}

/// Nothing counts the starts of a broker in memory. Those who connect again must see that it is another one, so the
/// clock does: in steps of 16 ms, as far as the upper part of a lease token goes.
fn epoch_in_memory(now: Now) -> Epoch {
    const EPOCHS: u64 = (1 << 24) - 1;
    Epoch(u32::try_from((now.wall_ms >> 4) % EPOCHS).unwrap_or(0) + 1)
}

/// The journal's options, with its bytes bound to a part of the disk unless they are bound already.
fn within_disk(options: &DriverOptions, storage: &dyn Storage) -> antiphon_journal::Options {
    let mut journal = options.journal.clone();
    if journal.bytes_max == u64::MAX
        && let Ok(total) = storage.total_bytes()
    {
        journal.bytes_max = total / 100 * u64::from(defaults::DISK_PERCENT_MAX);
    }
    journal
}

/// Tells the journal which of the recovered entries are still needed.
fn claim(journal: &mut Journal, live: &[Handle], pinned: &[Position], released: &[Handle]) {
    for position in live.iter().filter_map(|handle| Position::from_u64(handle.0)) {
        journal.retain(position);
    }
    for position in pinned {
        journal.pin(*position);
    }
    journal.start_recycling();
    for position in released.iter().filter_map(|handle| Position::from_u64(handle.0)) {
        journal.release(position);
    }
}

/// Effects of a recovery: nothing is released before everything live was claimed.
struct Deferred<'a> {
    output: Output<'a>,
    released: Vec<Handle>,
}

impl antiphon_engine::Effects for Deferred<'_> {
    fn record(
        &mut self,
        record: &Record<'_>,
        body: antiphon_engine::Body,
        role: antiphon_engine::Role,
        urgency: antiphon_engine::Urgency,
    ) -> Handle {
        self.output.record(record, body, role, urgency)
    }

    fn store(&mut self, body: antiphon_engine::Body) -> Handle {
        self.output.store(body)
    }

    fn release(&mut self, handle: Handle) {
        self.released.push(handle);
    }

    fn begin_gathering(&mut self) {
        self.output.begin_gathering();
    }

    fn gather(&mut self, told: antiphon_engine::Told) {
        self.output.gather(told);
    }

    fn entomb(&mut self, id: CallId) {
        self.output.entomb(id);
    }

    fn emit(&mut self, gate: antiphon_engine::Gate, effect: antiphon_engine::Effect) {
        self.output.emit(gate, effect);
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> OpenError {
    OpenError::Storage(format!(
        "cannot use the data directory {}: {error}; give a directory that this user may write to",
        path.display()
    ))
}

fn opening(options: &DriverOptions, error: antiphon_journal::OpenError) -> OpenError {
    let directory = options.directory.as_ref().map_or_else(String::new, |path| path.display().to_string());
    match error {
        antiphon_journal::OpenError::InUse { pid } => OpenError::InUse { directory, pid },
        other => OpenError::Storage(other.to_string()),
    }
}

/// Random bits for hashes and jitter.
fn random() -> u64 {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        // Without randomness the broker still works; only crafted ids could then slow its look-ups.
        Err(_) => u64::from(std::process::id()) << 32 | 0x5EED,
    }
}
