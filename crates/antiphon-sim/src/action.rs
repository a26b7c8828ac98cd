//! What can happen in a simulated world. A run is a list of these; each carries its own chance, so that any part of a
//! list can be run by itself, and what does not apply is passed over.

use crate::disk::DiskFault;

/// Who is at the far end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Client {
    Caller(u8),
    Worker(u8),
}

/// One step of the world.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Time passes, in milliseconds; the broker wakes.
    Advance(u64),
    /// The broker does what is due, says what it may, and commits if somebody waits.
    Turn,
    /// The same without the commit: what waits for no fsync leaves before the batch is written.
    Say,
    /// A client without a connection opens one.
    Connect(Client),
    /// The next bytes of a client's connection, counted from its oldest, reach the broker.
    ToBroker(Client, u8),
    /// Likewise, the client.
    ToClient(Client, u8),
    /// The client gives its connection up; what is on its way to the broker still arrives.
    GiveUp(Client),
    /// The broker finds a connection of this client gone.
    NoticeGone(Client, u8),
    /// The network loses all that is on its way over this connection from now on, one way (up) or the other.
    Blackhole(Client, u8, bool),
    /// A new call, with its number.
    Submit {
        caller: u8,
        call: u32,
        shape: Shape,
    },
    /// The same call is submitted once more on the same connection.
    SubmitAgain {
        caller: u8,
        call: u32,
    },
    /// A caller asks for the outcome of any call.
    Attach {
        caller: u8,
        call: u32,
    },
    /// A caller is done with the oldest outcome it has.
    Acknowledge(u8),
    Cancel {
        caller: u8,
        call: u32,
    },
    /// Somebody asks for the status of a call.
    Ask {
        caller: u8,
        call: u32,
    },
    /// An operator revives a dead letter as the call with this number.
    Revive {
        caller: u8,
        dead: u32,
        call: u32,
    },
    /// An operator purges a dead letter.
    Purge {
        caller: u8,
        dead: u32,
    },
    /// A worker ends the attempt of this call.
    Finish {
        worker: u8,
        call: u32,
        how: How,
    },
    /// A worker prolongs the lease of this call.
    Extend {
        worker: u8,
        call: u32,
    },
    /// A worker has more slots, or fewer.
    Credit {
        worker: u8,
        slots: i8,
    },
    /// A worker takes no more leases, on this connection.
    Drain(u8),
    /// The procedure of this call waits for something: its slots are free meanwhile.
    Park {
        worker: u8,
        call: u32,
    },
    /// It has waited, and wants to go on.
    GoOn {
        worker: u8,
        call: u32,
    },
    /// A running call tells how far it is.
    Tell {
        worker: u8,
        call: u32,
    },
    /// A caller wants to hear what a call tells.
    Follow {
        caller: u8,
        call: u32,
    },
    /// An operator does something.
    Operate {
        caller: u8,
        deed: Deed,
    },
    /// The broker's process is killed.
    KillBroker,
    /// The broker's machine loses power; the seed says what its disk keeps.
    PowerLoss(u64),
    /// The broker is told to stop, and does so in order.
    StopBroker,
    /// The broker starts.
    Start,
    /// A caller's program dies; another takes its place.
    KillCaller(u8),
    KillWorker(u8),
    /// A worker hangs: it neither sends nor takes anything.
    Pause(u8),
    Resume(u8),
    /// The call that is this many calls from now goes wrong on the disk.
    DiskFault {
        after: u32,
        fault: DiskFault,
    },
    DiskFull(bool),
    DiskSlow(bool),
    /// A bit of the journal flips while the broker is down.
    BitRot(u64),
    /// The broker's wall clock is set forward or back, in milliseconds.
    WallJump(i64),
}

/// What is particular about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Shape {
    pub procedure: u8,
    /// 0 is none.
    pub tenant: u8,
    pub class: u8,
    pub volatile: bool,
    pub attempts: u8,
    pub idempotent: bool,
    pub at_most_once: bool,
    /// 0 is none.
    pub deadline_ms: u32,
    /// Before the first attempt.
    pub delay_ms: u32,
    /// Whether the delay is given as a time of day.
    pub delay_is_wall: bool,
    /// 0 is none.
    pub key: u8,
    /// Tells apart arguments under one key.
    pub variant: u8,
    pub wants: Want,
    /// Bytes of filler in the arguments.
    pub filler: u16,
    /// The ordering key; 0 is none.
    pub order: u8,
    /// Whether that is in a lane that crosses procedures.
    pub shared_lane: bool,
    /// The concurrency key; 0 is none.
    pub together: u8,
    /// The label that its worker must have; 0 is none.
    pub label: u8,
    /// Slots beside the first.
    pub more_slots: u8,
    /// Which callbacks it has, as bits: outcome, success, failure, value, and a callback of a callback.
    pub callbacks: u8,
    /// What kind of group it is; 0 is none.
    pub group: u8,
    /// The group that it is a child of, by its number, with one added; 0 is none.
    pub child_of: u32,
    /// The topic, if it is an event; 0 is none.
    pub topic: u8,
}

/// What an operator does, or a program in that role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// So many calls of a procedure may run at a time; 0 is any number.
    Cap(u8, u8),
    Pause(u8, bool),
    /// So many starts a second; 0 is any number.
    Rate(u8, u8),
    /// So many calls may wait; 0 is as many as the broker takes.
    QueuedMax(u8, u8),
    Subscribe(u8),
    Unsubscribe(u8),
    Schedule(u8),
    Unschedule(u8),
    PauseSchedule(u8, bool),
    Seal(u32),
    /// A call becomes a child of a group.
    Join(u32, u32),
    AddCallback(u32),
    /// Everything of a procedure is cancelled.
    CancelAll(u8),
}

/// What the caller waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Want {
    #[default]
    Both,
    Outcome,
    Acceptance,
}

/// How an attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Succeed,
    Fail,
    Retry,
    /// Retry after this many milliseconds.
    RetryAfter(u16),
    Bury,
    Release,
    Stop,
}
