//! Why a call stands where it stands: for any id exactly one true answer.

use crate::{AttemptRecord, CallId, GroupCounts, Key, Name, State};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The answer to "why does my call not run?".
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Explanation {
    /// The call.
    pub id: CallId,
    /// Its procedure, if the call is kept.
    pub procedure: Option<Name>,
    /// The one thing that is true of it now.
    pub standing: Standing,
}

/// Where a call stands. Times are wall-clock times in milliseconds since 1970.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Standing {
    /// The broker has never seen this id.
    NeverSeen,
    /// The id is older than what the broker remembers: it may have been a call, or not.
    TooOldToSay,
    /// It was a call; it settled, and its time to be kept is over or it was purged.
    Forgotten,
    /// It waits.
    Waiting {
        /// For what.
        cause: Cause,
        /// When it should start, roughly; `None` where that cannot be computed.
        starts_ms: Option<u64>,
    },
    /// An attempt of it runs.
    Running {
        /// Which attempt, counted from 1.
        attempt: u16,
        /// Where.
        worker: Name,
        /// Since when.
        since_ms: u64,
        /// Whether its worker is not connected: it may come back until the lease ends.
        worker_away: bool,
    },
    /// An attempt of it has given its slot back while it waits for a sub-call.
    Parked {
        /// Which attempt, counted from 1.
        attempt: u16,
        /// Where.
        worker: Name,
        /// Since when.
        since_ms: u64,
        /// The sub-call.
        awaits: Option<CallId>,
    },
    /// It is settled, and its attempt was asked to stop but has not yet.
    Stopping {
        /// What it settled as.
        state: State,
        /// Where the attempt runs.
        worker: Name,
        /// Since when.
        since_ms: u64,
    },
    /// It is settled, and nothing of it runs.
    Settled {
        /// As what.
        state: State,
        /// When.
        at_ms: u64,
    },
}

/// What a call waits for: of several causes, the one that must go first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// It is not due yet: its caller delayed it.
    NotBefore {
        /// When it is due.
        at_ms: u64,
    },
    /// It is a group: its children, and whoever seals it, decide it.
    Children {
        /// Its children by how they stand.
        counts: GroupCounts,
        /// It is not sealed, and expires then.
        unsealed_until_ms: Option<u64>,
    },
    /// It failed and waits for its next attempt.
    Retry {
        /// When that may start.
        at_ms: u64,
        /// How the last attempt ended.
        after: Option<AttemptRecord>,
    },
    /// It failed, and its procedure has used up its budget of retries.
    RetryBudget {
        /// When it is looked at again.
        at_ms: u64,
        /// How the last attempt ended.
        after: Option<AttemptRecord>,
    },
    /// Its procedure, or its queue, is paused.
    Paused,
    /// No connected worker serves its procedure.
    NoWorker,
    /// Workers serve its procedure, but none with a schema that takes its arguments.
    NoSchema {
        /// How many serve it with another schema.
        workers: u32,
    },
    /// Workers serve its procedure, but none has all the labels it requires.
    NoLabels {
        /// The labels it requires.
        required: Vec<Name>,
        /// How many serve its procedure without them.
        workers: u32,
    },
    /// No worker that serves it has as many slots as it takes.
    TooFewSlots {
        /// The slots it takes.
        needed: u32,
        /// The slots of the largest worker.
        largest: u32,
    },
    /// All workers that serve it are draining.
    Draining {
        /// How many.
        workers: u32,
    },
    /// All slots are busy.
    SlotsBusy {
        /// How many calls of its procedure should start before it, roughly.
        ahead: u64,
        /// How many workers could run it.
        workers: u32,
        /// How many slots those have.
        slots: u32,
    },
    /// The slots that are free are kept for a call that takes more of them and whose turn it is.
    SlotsKept {
        /// How many calls of its procedure should start before it, roughly.
        ahead: u64,
        /// How many slots that call takes.
        needed: u32,
    },
    /// It lost a lease to a dying worker, and every worker already runs one such call.
    Suspect {
        /// How many of them are ahead of it.
        ahead: u64,
    },
    /// Its ordering lane has an earlier call that is not settled.
    LaneHeld {
        /// That call.
        by: CallId,
        /// The ordering key.
        key: Key,
    },
    /// As many calls with its concurrency key run as may.
    KeyHeld {
        /// The concurrency key.
        key: Key,
        /// How many run.
        running: u32,
    },
    /// As many calls of its procedure run as may.
    CapReached {
        /// How many may.
        cap: u32,
    },
    /// Its procedure may not start more calls yet.
    RateLimited {
        /// When it may start the next.
        until_ms: u64,
    },
    /// It could start now: the next free slot is being handed out.
    Starting,
}
