//! The table of calls: what is kept of each, found by index or by id. How calls change is in the files of the verbs.
//!
//! ```text
//!             submit                        lease                    settle
//!   caller ───────────► SCHEDULED/READY ───────────► LEASED ───────────────────► SUCCEEDED
//!                         ▲   │  │ deadline            │ │ │                      FAILED
//!                         │   │  └──────► EXPIRED ◄────┘ │ └─ cancel ──────────►  CANCELLED
//!                         │   └─ cancel ─► CANCELLED     │                        DEAD
//!                         └──── retry(at) / release / lease lost ◄┘
//! ```

use crate::Now;
use crate::callback::Planned;
use crate::effect::{Gate, Handle};
use crate::group::Membership;
use crate::lane::Serial;
use crate::tail::Ties;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use antiphon_protocol::{CallId, Code, Key, Name, State, Tag};
use hashbrown::HashTable;

/// No index.
pub(crate) const NONE: u32 = u32::MAX;

/// The call is durable.
pub(crate) const DURABLE: u8 = 1;
/// It lost a lease to a dying worker.
pub(crate) const SUSPECT: u8 = 2;
/// Its retention has ended; it is kept only until its inbox acknowledges it.
pub(crate) const OVERDUE: u8 = 4;
/// It stands in its inbox's list of unacknowledged outcomes.
pub(crate) const OUTSTANDING: u8 = 8;
/// One of its bases was written to the journal's cold log, where it may be found again after the call is forgotten.
pub(crate) const COLD: u8 = 32;
/// Its inbox has had its outcome: its caller will not send it again.
pub(crate) const ACKNOWLEDGED: u8 = 64;
/// Its outcome is with the consumer of its named inbox, which has not acknowledged it.
pub(crate) const DELIVERED: u8 = 128;
/// Its submission waits for no acceptance.
pub(crate) const AWAITED: u8 = 16;

/// One call: 96 bytes, whatever its arguments.
#[derive(Debug)]
pub(crate) struct Call {
    pub id: CallId,
    /// The arguments, or the outcome once settled.
    pub handle: Handle,
    /// Scheduled: due, monotonic. Ready: since when, monotonic. Leased: since when, wall. Settled: when, wall.
    pub at_ms: u64,
    /// When the deadline passes, monotonic; 0 is none.
    pub deadline_ms: u64,
    /// When it was accepted, wall.
    pub submitted_ms: u64,
    pub tag: Tag,
    pub route: u32,
    /// Where its outcome goes.
    pub inbox: u32,
    /// Its place in the inbox's list while `OUTSTANDING`.
    pub place: u32,
    /// Its lease, also while a settled call's attempt has not stopped.
    pub lease: u32,
    /// Bytes of the arguments, or of the outcome once settled.
    pub bytes: u32,
    pub extra: u32,
    /// Changes whenever it enters a queue or the schedule: older entries there are void.
    pub stamp: u32,
    /// Changes whenever this place is reused.
    pub generation: u32,
    /// Attempts started and not given back.
    pub started: u16,
    /// Attempts failed.
    pub failed: u16,
    pub state: State,
    pub flags: u8,
    /// Leases lost as the only suspect.
    pub lost: u8,
    /// Why the engine settled it; 0 when the outcome is stored.
    pub reason: u8,
}

impl Call {
    /// A call that the broker makes itself: nobody waits for it under a tag or in an inbox. It is ready, and has no deadline.
    pub fn made(id: CallId, route: u32, bytes: u32, durable: bool, now: Now) -> Self {
        Self {
            id,
            handle: Handle::NONE,
            at_ms: now.monotonic_ms,
            deadline_ms: 0,
            submitted_ms: now.wall_ms,
            tag: 0,
            route,
            inbox: NONE,
            place: NONE,
            lease: NONE,
            bytes,
            extra: NONE,
            stamp: 0,
            generation: 0,
            started: 0,
            failed: 0,
            state: State::Ready,
            flags: if durable { DURABLE } else { 0 },
            lost: 0,
            reason: 0,
        }
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub fn set(&mut self, flag: u8, on: bool) {
        if on {
            self.flags |= flag;
        } else {
            self.flags &= !flag;
        }
    }
}

/// What an answer about this call waits for.
pub(crate) fn gate_of(call: &Call) -> Gate {
    if call.has(DURABLE) { Gate::Recorded } else { Gate::Open }
}

/// What few calls have.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    /// Its idempotency key and the hash of its arguments.
    pub key: Option<(Key, u64)>,
    pub history: Vec<Attempt>,
    /// Who else asked for the outcome.
    pub watchers: Vec<Watcher>,
    /// The arguments of a dead letter, kept so that it can be revived.
    pub arguments: Handle,
    /// The dead letter it revives.
    pub revives: Option<CallId>,
    /// Whether it waits for its procedure's budget of retries.
    pub held: bool,
    /// What it hangs together with.
    pub ties: Option<Box<Ties>>,
    /// Where it stands in its lane and under its concurrency key, if it has one of those.
    pub serial: Option<Box<Serial>>,
    /// Callbacks beside those of its route.
    pub callbacks: Vec<Planned>,
    /// The groups that it is a child of and is kept for.
    pub groups: Vec<Membership>,
}

/// An inbox that asked for the outcome of another's call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watcher {
    pub inbox: u32,
    /// The inbox's stamp: its place may be another's by the time the call settles.
    pub stamp: u32,
    pub tag: Tag,
}

/// How one attempt ended, when it did not settle the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Which attempt.
    pub attempt: u16,
    /// When it ended, wall.
    pub ended_ms: u64,
    /// With what code.
    pub code: Code,
    /// In words.
    pub text: String,
    /// Where it ran.
    pub worker: Option<Name>,
    /// Whether the lease was lost.
    pub lost: bool,
}

/// How many calls stand together in memory: 4096 × 96 bytes, so that the table grows without moving.
const CHUNK: usize = 4096;

type Chunk = Box<[Option<Call>; CHUNK]>;

/// All calls.
pub(crate) struct Calls {
    chunks: Vec<Chunk>,
    free: Vec<u32>,
    next: u32,
    index: HashTable<u32>,
    seed: u64,
    extras: Vec<Option<Box<Extra>>>,
    extras_free: Vec<u32>,
    generation: u32,
}

impl Calls {
    pub fn new(seed: u64) -> Self {
        Self {
            chunks: Vec::new(),
            free: Vec::new(),
            next: 0,
            index: HashTable::new(),
            seed,
            extras: Vec::new(),
            extras_free: Vec::new(),
            generation: 0,
        }
    }

    pub fn find(&self, id: CallId) -> Option<u32> {
        self.index.find(hash(self.seed, id), |&index| self.get(index).id == id).copied()
    }

    /// Puts a call in; its generation is set here.
    pub fn insert(&mut self, mut call: Call) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        call.generation = self.generation;
        let id = call.id;
        let index = self.free.pop().unwrap_or_else(|| self.grow());
        *self.place(index) = Some(call);
        let Self { index: table, chunks, seed, .. } = self;
        table.insert_unique(hash(*seed, id), index, |&other| hash(*seed, peek(chunks, other).id));
        index
    }

    fn grow(&mut self) -> u32 {
        let index = self.next;
        self.next += 1;
        if (index as usize) / CHUNK == self.chunks.len() {
            self.chunks.push(empty_chunk());
        }
        index
    }

    fn place(&mut self, index: u32) -> &mut Option<Call> {
        let at = index as usize;
        self.chunks
            .get_mut(at / CHUNK)
            .and_then(|chunk| chunk.get_mut(at % CHUNK))
            .expect("indices are given out by this table")
    }

    pub fn remove(&mut self, index: u32) -> Call {
        let call = self.place(index).take().expect("a call is removed once");
        if let Ok(entry) = self.index.find_entry(hash(self.seed, call.id), |&other| other == index) {
            entry.remove();
        }
        if call.extra != NONE {
            self.drop_extra(call.extra);
        }
        self.free.push(index);
        call
    }

    pub fn get(&self, index: u32) -> &Call {
        peek(&self.chunks, index)
    }

    pub fn get_mut(&mut self, index: u32) -> &mut Call {
        self.place(index).as_mut().expect("a live call")
    }

    /// The call at this place, if it still is the one of this generation.
    pub fn live(&self, index: u32, generation: u32) -> Option<&Call> {
        self.slot(index).filter(|call| call.generation == generation)
    }

    /// The call at this place, if there is one.
    pub fn slot(&self, index: u32) -> Option<&Call> {
        let at = index as usize;
        self.chunks.get(at / CHUNK).and_then(|chunk| chunk.get(at % CHUNK)).and_then(Option::as_ref)
    }

    pub fn extra(&self, index: u32) -> Option<&Extra> {
        self.extras.get(self.get(index).extra as usize).and_then(Option::as_deref)
    }

    /// The call's extra, made if it has none.
    pub fn extra_mut(&mut self, index: u32) -> &mut Extra {
        if self.get(index).extra == NONE {
            let place = self.extras_free.pop().unwrap_or_else(|| {
                self.extras.push(None);
                u32::try_from(self.extras.len() - 1).expect("fewer extras than calls")
            });
            if let Some(extra) = self.extras.get_mut(place as usize) {
                *extra = Some(Box::default());
            }
            self.get_mut(index).extra = place;
        }
        let place = self.get(index).extra as usize;
        self.extras.get_mut(place).and_then(Option::as_deref_mut).expect("a call's extra lives as long as the call")
    }

    fn drop_extra(&mut self, place: u32) {
        if let Some(extra) = self.extras.get_mut(place as usize) {
            *extra = None;
            self.extras_free.push(place);
        }
    }

    /// One past the highest index ever used.
    pub fn end(&self) -> u32 {
        self.next
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }
}

fn empty_chunk() -> Chunk {
    let empty: Vec<Option<Call>> = (0..CHUNK).map(|_| None).collect();
    empty.try_into().expect("as many as a chunk has")
}

fn peek(chunks: &[Chunk], index: u32) -> &Call {
    let at = index as usize;
    chunks.get(at / CHUNK).and_then(|chunk| chunk.get(at % CHUNK)).and_then(Option::as_ref).expect("a live call")
}

/// Seeded, because clients choose ids: without the seed they could make them collide.
fn hash(seed: u64, id: CallId) -> u64 {
    let bytes = u128::from_le_bytes(id.to_bytes());
    let (low, high) = (bytes as u64, (bytes >> 64) as u64);
    let mixed = u128::from(low ^ seed) * u128::from(high ^ seed.rotate_left(32) | 1);
    let folded = (mixed as u64) ^ ((mixed >> 64) as u64);
    let again = u128::from(folded ^ seed) * 0x9E37_79B9_7F4A_7C15_u128;
    (again as u64) ^ ((again >> 64) as u64)
}
