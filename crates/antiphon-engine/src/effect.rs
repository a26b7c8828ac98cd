//! What the engine wants done: records to append, bodies to keep or let go, and things to tell peers.

use crate::record::Record;
use antiphon_protocol::{
    CallId, CallbackError, CallbackOn, CancelAnswer, GroupCounts, Key, LeaseTag, Name, State, Tag,
};

/// Where a body is kept: a journal position or a place in memory, as the driver knows it. Zero is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Handle(pub u64);

impl Handle {
    /// No body.
    pub const NONE: Self = Self(0);
}

/// A connected caller or worker, numbered by the driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct Peer(pub u32);

/// The body that goes with a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// None.
    None,
    /// The one that came with the command being handled.
    Command,
    /// One that is kept already.
    Stored(Handle),
    /// The arguments of a callback, made from how its cause ended.
    Told {
        /// Which argument it takes.
        on: CallbackOn,
        /// How its cause ended.
        told: Told,
    },
    /// The outcome of a group: what was gathered of its children since gathering began.
    Gathered {
        /// Whether the group succeeded.
        met: bool,
        /// What it counted.
        counts: GroupCounts,
    },
}

/// How a call ended, as its callbacks are told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// The call.
    pub id: CallId,
    /// Its procedure.
    pub procedure: Name,
    /// Its state.
    pub state: State,
    /// How many attempts were started.
    pub attempts: u16,
    /// What it ended with; `None` of a child that has not settled.
    pub ending: Option<Ending>,
}

/// What a record is to the space it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Self-contained: live until released.
    Base,
    /// Changes what the base at this handle says; needed as long as that base is the newest.
    Delta(Handle),
}

/// How soon a record must be on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Urgency {
    /// Nobody waits for it.
    Lazy,
    /// Somebody waits, but for a later record, too: it may wait about one fsync for that one.
    Shared,
    /// Somebody waits.
    Now,
}

/// What an effect waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gate {
    /// Nothing.
    Open,
    /// The fsync of every record appended so far.
    Recorded,
}

/// Takes what the engine wants done, in order, at once.
pub trait Effects {
    /// Appends a record with its body and says where that is.
    fn record(&mut self, record: &Record<'_>, body: Body, role: Role, urgency: Urgency) -> Handle;

    /// Keeps a body in memory.
    fn store(&mut self, body: Body) -> Handle;

    /// The base record or body at `handle` is not needed any more.
    fn release(&mut self, handle: Handle);

    /// What is gathered from here on is the outcome of one group; whatever was gathered before is dropped.
    fn begin_gathering(&mut self);

    /// The next child of that group.
    fn gather(&mut self, told: Told);

    /// A call is forgotten whose older records may outlive its newest in the journal: leaves word that it is.
    fn entomb(&mut self, id: CallId);

    /// Tells a peer something, once `gate` allows.
    fn emit(&mut self, gate: Gate, effect: Effect);
}

/// Something to tell a peer.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Effect {
    /// The call is taken, and should start after about so many milliseconds.
    Accepted { peer: Peer, tag: Tag, id: CallId, duplicate: bool, wait_ms: Option<u64> },
    /// The call is not taken.
    Refused { peer: Peer, tag: Tag, refusal: Refusal },
    /// The call has settled.
    Outcome { peer: Peer, tag: Tag, id: CallId, state: State, attempts: u16, ending: Ending },
    /// What came of a cancellation.
    CancelAnswered { peer: Peer, id: CallId, answer: CancelAnswer },
    /// Run this.
    Lease { peer: Peer, grant: Grant },
    /// Stop this.
    CancelAsked { peer: Peer, lease: LeaseTag },
    /// The report is recorded.
    Settled { peer: Peer, lease: LeaseTag },
    /// That lease is not current.
    Stale { peer: Peer, lease: LeaseTag },
    /// A worker is connected; of the leases it brought along it still holds these.
    Opened { peer: Peer, kept: alloc::vec::Vec<LeaseTag> },
    /// The lease has its slots again.
    Resumed { peer: Peer, lease: LeaseTag },
    /// An operator asks the worker to drain.
    DrainAsked { peer: Peer },
    /// A newer session of the same inbox or worker has taken over.
    Fenced { peer: Peer },
}

/// The right to run one attempt, with what the worker must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Names the lease.
    pub lease: LeaseTag,
    /// The call.
    pub call: CallId,
    /// The place of the procedure in the worker's offer.
    pub procedure: u32,
    /// Which attempt, counted from 1.
    pub attempt: u16,
    /// How many there may be.
    pub attempts_max: u16,
    /// How long the lease lasts, in milliseconds.
    pub lease_ms: u32,
    /// Bound on the attempt, in milliseconds; 0 is none.
    pub attempt_timeout_ms: u32,
    /// What remains until the deadline, in milliseconds; 0 is none.
    pub deadline_ms: u64,
    /// The arguments.
    pub arguments: Handle,
}

/// What a settled call ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The outcome kept at this handle.
    Stored(Handle),
    /// What the engine itself decided.
    Decided(Reason),
}

/// Why the engine ended a call by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// Its owner cancelled it before it ran.
    CancelledQueued = 1,
    /// Its owner cancelled it while it ran.
    CancelledRunning = 2,
    /// The deadline passed before it started.
    ExpiredQueued = 3,
    /// The deadline passed while it ran.
    ExpiredRunning = 4,
    /// It lost too many leases as the only suspect.
    LostLeases = 5,
    /// It may run once only, and its lease was lost.
    AtMostOnceLost = 6,
    /// The deadline passed between two attempts.
    ExpiredRetrying = 7,
    /// Its owner cancelled it between two attempts.
    CancelledRetrying = 8,
    /// A group that its owner cancelled.
    GroupCancelled = 9,
    /// A group that was not decided when its deadline passed.
    GroupExpired = 10,
    /// A group that was not sealed in time.
    GroupUnsealed = 11,
    /// It failed, is volatile, and its procedure had used up its budget of retries.
    RetryBudget = 12,
}

impl Reason {
    /// The reason with this number, if there is one.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::CancelledQueued,
            2 => Self::CancelledRunning,
            3 => Self::ExpiredQueued,
            4 => Self::ExpiredRunning,
            5 => Self::LostLeases,
            6 => Self::AtMostOnceLost,
            7 => Self::ExpiredRetrying,
            8 => Self::CancelledRetrying,
            9 => Self::GroupCancelled,
            10 => Self::GroupExpired,
            11 => Self::GroupUnsealed,
            12 => Self::RetryBudget,
            _ => return None,
        })
    }

    /// Whether the procedure may have run.
    #[must_use]
    pub const fn may_have_run(self) -> bool {
        !matches!(self, Self::CancelledQueued | Self::ExpiredQueued)
    }
}

/// What a full queue has as many of as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Calls that wait.
    Calls,
    /// Bytes of their arguments.
    Bytes,
    /// Calls of one tenant that wait.
    TenantCalls,
    /// Bytes of their arguments.
    TenantBytes,
}

/// Why a submission or an attach is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Refusal {
    /// The broker holds as many unsettled calls as it may.
    CallsFull { limit: u32 },
    /// As much of the procedure waits as may.
    QueueFull { procedure: Name, bound: Bound, limit: u64, retry_after_ms: u64 },
    /// It would end after its deadline.
    TooLate { procedure: Name, wait_ms: u64, service_ms: u64, deadline_ms: u64, retry_after_ms: u64 },
    /// The broker knows as many different routes as it may.
    RoutesFull { limit: u32 },
    /// A newer session of the same inbox has taken over.
    Fenced,
    /// What was to be set as a rate is none.
    Rate,
    /// The broker knows as many different procedures as it may.
    ProceduresFull { limit: u32 },
    /// The inbox holds as many unacknowledged calls as it may.
    InboxFull { inbox: Option<Name>, limit: u32 },
    /// As many idempotency keys are remembered as may be.
    KeysFull { limit: u32 },
    /// The idempotency key belongs to a call with other arguments.
    KeyConflict { id: CallId },
    /// The call id belongs to a call of another procedure.
    IdConflict,
    /// It was sent before, and the broker cannot say any more what became of it.
    TooOldToSay,
    /// As many calls are tied to others as may be.
    TiedFull { limit: u32 },
    /// The procedure has as many different sets of labels and costs in slots as it may.
    SectionsFull { limit: usize },
    /// The route asks for too many labels, or for no slots or too many.
    Needs,
    /// A call that this one was made within holds its lane.
    LaneHeld { by: CallId, lane: Name, key: Key },
    /// Calls that this one was made within hold all places of its concurrency key.
    KeyHeld { by: CallId, key: Key },
    /// It was made within more calls than are looked at for what they hold.
    TooDeep { limit: u32 },
    /// Attach: the broker does not know this call.
    NotFound,
    /// Durable was asked of a broker that keeps calls in memory.
    NotDurable,
    /// A burst would be set, and no rate.
    BurstWithoutRate,
    /// There are as many subscriptions as may be.
    SubscriptionsFull { limit: u32 },
    /// There are as many schedules as may be.
    SchedulesFull { limit: u32 },
    /// As many events wait to be distributed, or are remembered, as may be.
    EventsFull { limit: u32 },
    /// The callbacks are not within bounds.
    Callbacks(CallbackError),
    /// There is no such group.
    NoGroup { id: CallId },
    /// A group would be its own child.
    GroupOfItself { id: CallId },
    /// The call is a child of as many groups as it may be.
    GroupsOfCallFull { limit: u32 },
    /// The group has settled.
    GroupSettled { id: CallId, state: State },
    /// The group gets no more children.
    GroupSealed { id: CallId },
    /// The group has as many children as it may.
    GroupFull { id: CallId, limit: u32 },
    /// The group is durable and the call is not.
    GroupDurable { id: CallId },
}
