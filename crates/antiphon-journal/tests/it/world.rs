//! An owner as the journal expects one: keys with a value, a base and deltas each; sweeping, releasing,
//! and replaying after a crash. Beside it the record of what should be there after every lsn.

use std::collections::BTreeMap;
use std::sync::Arc;

use antiphon_journal::{
    AppendError, Entry, Generation, Journal, Lsn, OpenError, Options, Position, ReadError, Recovered, Reserve, Role,
};

use crate::fault::FaultStorage;

pub const BASE: u8 = 1;
pub const DELTA: u8 = 2;
pub const FORGET: u8 = 3;

pub type Values = BTreeMap<u32, u64>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A new thing, with a body of this many bytes.
    Add(usize),
    /// A change of the oldest thing.
    Change,
    /// The oldest thing is no more.
    Forget,
    Commit,
    /// Empty one segment, if one is worth it.
    Sweep,
    /// Put the oldest thing into the cold log.
    Cool,
    /// Stop without closing and open anew; the page cache survives.
    Reopen,
}

#[derive(Clone, Copy, Debug)]
struct Thing {
    value: u64,
    base: Position,
    generation: Generation,
}

/// What an owner would have after every lsn; survives crashes, like a client's memory.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub values_after: BTreeMap<u64, Values>,
    pub durable: u64,
    next_key: u32,
    next_value: u64,
}

impl History {
    fn latest(&self) -> Values {
        self.values_after.last_key_value().map(|(_, values)| values.clone()).unwrap_or_default()
    }

    fn at(&self, lsn: u64) -> Values {
        self.values_after.range(..=lsn).next_back().map(|(_, values)| values.clone()).unwrap_or_default()
    }
}

pub struct World {
    pub journal: Option<Journal>,
    pub storage: FaultStorage,
    options: Options,
    things: BTreeMap<u32, Thing>,
    pub history: History,
}

pub fn small_options() -> Options {
    let mut options = Options::new();
    options.segment_bytes = 4 << 10;
    options.reserve = 0;
    options.ahead = 1;
    options.young_bytes = 8 << 10;
    options.threads = false;
    options
}

fn head(value: u64) -> Vec<u8> {
    [value.to_le_bytes(), value.wrapping_mul(31).to_le_bytes()].concat()
}

pub fn key_bytes(key: u32) -> [u8; 16] {
    let mut bytes = [0xA5; 16];
    bytes[..4].copy_from_slice(&key.to_le_bytes());
    bytes
}

pub fn key_in(bytes: &[u8; 16]) -> u32 {
    u32::from_le_bytes(bytes[..4].try_into().unwrap())
}

pub fn body(key: u32, len: usize) -> Vec<u8> {
    (0..len).map(|n| (n as u8) ^ (key as u8)).collect()
}

/// What recovery showed of one key.
#[derive(Default)]
struct Replayed {
    things: BTreeMap<u32, Thing>,
    pins: BTreeMap<u32, Vec<Position>>,
    last_lsn: u64,
}

impl Replayed {
    fn visit(&mut self, entry: &Recovered<'_>) {
        assert!(entry.lsn.as_u64() > self.last_lsn, "recovered in lsn order");
        self.last_lsn = entry.lsn.as_u64();
        let key = key_in(&entry.key);
        assert_eq!(entry.key, key_bytes(key));
        let value = u64::from_le_bytes(entry.head[..8].try_into().unwrap());
        assert_eq!(entry.head, head(value), "a head is as it was written");
        match entry.kind {
            BASE => {
                assert_eq!(entry.role, Role::Base);
                let thing = Thing { value, base: entry.position, generation: entry.generation };
                self.things.insert(key, thing);
                self.pins.remove(&key);
            }
            DELTA => {
                if let Some(thing) = self.things.get_mut(&key) {
                    thing.value = value;
                    if entry.role == Role::PinnedDelta {
                        self.pins.entry(key).or_default().push(entry.position);
                    }
                }
            }
            FORGET => {
                self.things.remove(&key);
                // The cold base it forgets is still on disk: without this entry it would live again.
                if entry.role == Role::PinnedDelta {
                    self.pins.entry(key).or_default().push(entry.position);
                }
            }
            other => panic!("no kind {other} was written"),
        }
    }
}

impl World {
    pub fn open(storage: &FaultStorage, options: &Options, history: History) -> Result<Self, OpenError> {
        let (journal, replayed) = Self::replay(storage, options)?;
        let mut world = Self {
            journal: Some(journal),
            storage: storage.clone(),
            options: options.clone(),
            things: BTreeMap::new(),
            history,
        };
        world.adopt(replayed);
        Ok(world)
    }

    fn replay(storage: &FaultStorage, options: &Options) -> Result<(Journal, Replayed), OpenError> {
        let mut replayed = Replayed::default();
        let storage = Arc::new(storage.clone());
        let visit = &mut |entry: Recovered<'_>| replayed.visit(&entry);
        let journal = Journal::open(storage, options.clone(), Arc::new(|| {}), visit)?;
        Ok((journal, replayed))
    }

    /// Compares what was recovered with the history, and goes on from there.
    fn adopt(&mut self, replayed: Replayed) {
        let journal = self.journal.as_mut().unwrap();
        let reached = replayed.last_lsn.max(self.history.durable);
        let values: Values = replayed.things.iter().map(|(key, thing)| (*key, thing.value)).collect();
        let durable = self.history.durable;
        assert_eq!(values, self.history.at(reached), "state after {reached}, durable {durable}");
        self.history.values_after.retain(|lsn, _| *lsn <= reached);
        self.history.durable = journal.durable().as_u64();
        assert!(journal.durable() == journal.tip() && journal.tip() >= Lsn::from_u64(reached));
        for (key, thing) in &replayed.things {
            journal.retain(thing.base);
            match journal.read(thing.base) {
                Ok(entry) => assert_eq!(entry.body, body(*key, entry.body.len())),
                // The machine may go off in between.
                Err(error) => assert!(matches!(error, ReadError::Io { .. }), "a durable base is read back: {error}"),
            }
        }
        replayed.pins.values().flatten().for_each(|position| journal.pin(*position));
        journal.start_recycling();
        self.things = replayed.things;
    }

    fn append(
        &mut self,
        generation: Generation,
        role: Role,
        kind: u8,
        key: u32,
        value: u64,
        body: &[u8],
    ) -> Option<Position> {
        let journal = self.journal.as_mut().unwrap();
        let entry = Entry { key: key_bytes(key), kind, head: &head(value), body: &[body] };
        let mut values = self.history.latest();
        match journal.append(generation, role, &entry, Reserve::Yes) {
            Ok(position) => {
                if kind == FORGET {
                    values.remove(&key);
                } else {
                    values.insert(key, value);
                }
                self.history.values_after.insert(journal.tip().as_u64(), values);
                Some(position)
            }
            Err(AppendError::Full { .. } | AppendError::Poisoned(_)) => None,
            Err(other) => panic!("{other}"),
        }
    }

    fn oldest(&self) -> Option<(u32, Thing)> {
        self.things.first_key_value().map(|(key, thing)| (*key, *thing))
    }

    pub fn add(&mut self, len: usize) {
        let (key, value) = (self.history.next_key, self.history.next_value);
        self.history.next_key += 1;
        self.history.next_value += 1;
        if let Some(base) = self.append(Generation::Young, Role::Base, BASE, key, value, &body(key, len)) {
            self.things.insert(key, Thing { value, base, generation: Generation::Young });
        }
    }

    /// A delta of a cold thing is pinned; one of a young thing needs nothing.
    fn delta(&mut self, kind: u8) {
        let Some((key, thing)) = self.oldest() else { return };
        let role = if thing.generation == Generation::Cold { Role::PinnedDelta } else { Role::Delta };
        let value = self.history.next_value;
        self.history.next_value += 1;
        if self.append(Generation::Young, role, kind, key, value, b"").is_none() {
            return;
        }
        if kind == FORGET {
            self.journal.as_mut().unwrap().release(thing.base);
            self.things.remove(&key);
        } else {
            self.things.get_mut(&key).unwrap().value = value;
        }
    }

    /// Writes a thing's whole state anew, into the cold log.
    fn cool(&mut self, key: u32) -> bool {
        let Some(thing) = self.things.get(&key).copied() else { return true };
        let body = self.journal.as_ref().unwrap().read(thing.base).map(|entry| entry.body);
        let Ok(body) = body else { return false };
        let Some(base) = self.append(Generation::Cold, Role::Base, BASE, key, thing.value, &body) else { return false };
        self.journal.as_mut().unwrap().release(thing.base);
        self.things.insert(key, Thing { base, generation: Generation::Cold, ..thing });
        true
    }

    /// True if there was a segment to empty.
    pub fn sweep(&mut self) -> bool {
        let Some(mut sweep) = self.journal.as_mut().unwrap().sweep() else { return false };
        while let Ok(entries) = sweep.next_batch(3) {
            if entries.is_empty() {
                self.journal.as_mut().unwrap().retire(sweep);
                return true;
            }
            for entry in entries {
                let key = key_in(&entry.key);
                let current = self.things.get(&key).is_some_and(|thing| thing.base == entry.position);
                // A pinned delta's thing is written whole, so that the delta is no longer needed; and a
                // forgotten cold thing is forgotten once more, because its base may still be on disk.
                let moved = match (entry.kind, entry.role) {
                    (BASE, _) => !current || self.cool(key),
                    (DELTA, Role::PinnedDelta) => self.cool(key),
                    (FORGET, Role::PinnedDelta) => self.forget_again(key),
                    _ => true,
                };
                if !moved {
                    return true;
                }
            }
        }
        true
    }

    fn forget_again(&mut self, key: u32) -> bool {
        if self.journal.as_ref().unwrap().oldest(Generation::Cold).is_none() {
            return true;
        }
        self.append(Generation::Cold, Role::PinnedDelta, FORGET, key, 0, b"").is_some()
    }

    pub fn commit(&mut self) -> bool {
        match self.journal.as_mut().unwrap().commit() {
            Ok(durable) => {
                self.history.durable = durable.as_u64();
                true
            }
            Err(_) => false,
        }
    }

    pub fn step(&mut self, step: Step) -> Result<(), OpenError> {
        match step {
            Step::Add(len) => self.add(len),
            Step::Change => self.delta(DELTA),
            Step::Forget => self.delta(FORGET),
            Step::Commit => {
                self.commit();
            }
            Step::Sweep => {
                self.sweep();
            }
            Step::Cool => {
                if let Some((key, _)) = self.oldest() {
                    self.cool(key);
                }
            }
            Step::Reopen => {
                self.journal = None;
                let (journal, replayed) = Self::replay(&self.storage, &self.options)?;
                self.journal = Some(journal);
                self.adopt(replayed);
            }
        }
        Ok(())
    }
}
