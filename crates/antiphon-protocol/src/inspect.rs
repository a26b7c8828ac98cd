//! Questions that operators and late callers ask a broker, and its answers.

use crate::{
    Bulk, BulkAnswer, CallId, Callback, CallbackOn, Change, Code, Epoch, Explanation, Group, GroupCounts, Name,
    Schedule, ScheduleStatus, Setting, Settings, State, Subscription, Topic,
};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A question to the broker. Questions change nothing, but for those that say so.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Query {
    /// Where a call stands.
    Status(CallId),
    /// Why a call stands where it stands.
    Explain(CallId),
    /// Calls that match, newest first; answered by [`Answer::Calls`].
    Calls(CallFilter),
    /// All procedures with calls or workers.
    Procedures,
    /// All workers.
    Workers,
    /// The broker itself.
    Broker,
    /// Ask a worker, by its name or all of that name, to drain.
    Drain(Name),
    /// Submit a dead letter anew, under the given new id.
    Revive {
        /// The dead letter.
        dead: CallId,
        /// The id of the new call.
        id: CallId,
    },
    /// Forget a dead letter.
    Purge(CallId),
    /// Change the calls that match.
    Bulk(Bulk),
    /// Add a callback to a call, settled or not; the same one again changes nothing.
    AddCallback {
        /// The call.
        call: CallId,
        /// The callback.
        callback: Box<Callback>,
    },
    /// Where a group stands, and some of its children by place, from `from` on.
    Group {
        /// The group.
        id: CallId,
        /// The first place.
        from: u32,
        /// At most this many; 0 is 1,000.
        limit: u32,
        /// While there is none and there may be one yet, how long to wait for one, in milliseconds; at most
        /// [`GROUP_WAIT_MS_MAX`]. A broker that many wait for answers at once.
        #[serde(default)]
        wait_ms: u32,
    },
    /// A group gets no more children; again it changes nothing.
    Seal(CallId),
    /// Make a call that is there a child of a group; again it changes nothing.
    Join {
        /// The group.
        group: CallId,
        /// The call.
        call: CallId,
    },
    /// Set something for a procedure; answered by [`Answer::Settings`]. No changes ask what is set.
    Configure {
        /// The procedure.
        procedure: Name,
        /// What to set; `None` leaves it to the broker again.
        changes: Vec<(Setting, Option<u64>)>,
    },
    /// Call a procedure for each event that matches; one of the same name is replaced.
    Subscribe(Box<Subscription>),
    /// Have no subscription of this name. Events that were accepted before still make their calls.
    Unsubscribe(Name),
    /// Call a procedure at each tick; one of the same name is replaced.
    Schedule(Box<Schedule>),
    /// Have no schedule of this name. Calls that it made go on.
    Unschedule(Name),
    /// Let a schedule's ticks pass, or not any more.
    PauseSchedule {
        /// Its name.
        name: Name,
        /// Whether they pass.
        paused: bool,
    },
    /// All schedules.
    Schedules,
    /// Subscriptions by name, at most [`SUBSCRIPTIONS_MAX`] of them.
    Subscriptions {
        /// Only those whose pattern matches.
        topic: Option<Topic>,
        /// Only those whose names come after this one.
        after: Option<Name>,
    },
}

/// How long a question about a group waits for a child at most: shorter than what a connection may be silent for.
pub const GROUP_WAIT_MS_MAX: u32 = 10_000;

/// How many subscriptions one answer lists.
pub const SUBSCRIPTIONS_MAX: usize = 1_000;

/// Which calls.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CallFilter {
    /// Only in this state.
    pub state: Option<State>,
    /// Only of this procedure.
    pub procedure: Option<Name>,
    /// Only of this tenant.
    pub tenant: Option<Name>,
    /// Only submitted at or after this wall-clock time, in milliseconds since 1970.
    pub since_ms: u64,
    /// Only submitted before this wall-clock time, in milliseconds since 1970; 0 is any time.
    pub until_ms: u64,
    /// Only those that require this label of their worker.
    pub label: Option<Name>,
    /// At most this many; 0 is 100.
    pub limit: u32,
}

/// An answer to a [`Query`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Query::Status`].
    Status(Knowledge),
    /// To [`Query::Explain`].
    Explained(Explanation),
    /// To [`Query::Calls`].
    Calls(Vec<CallStatus>),
    /// To [`Query::Procedures`].
    Procedures(Vec<ProcedureStatus>),
    /// To [`Query::Workers`].
    Workers(Vec<WorkerStatus>),
    /// To [`Query::Broker`].
    Broker(BrokerStatus),
    /// To [`Query::Drain`]: how many workers were asked.
    Asked(u32),
    /// To [`Query::Revive`]: the new call.
    Revived(CallId),
    /// To [`Query::Purge`].
    Purged,
    /// To [`Query::Bulk`].
    Bulk(BulkAnswer),
    /// To [`Query::AddCallback`]: the call that it is or becomes.
    CallbackAdded(CallId),
    /// To [`Query::Group`].
    Group(GroupStatus),
    /// To [`Query::Seal`].
    Sealed,
    /// To [`Query::Join`].
    Joined,
    /// To [`Query::Configure`]: what is set then.
    Settings(Settings),
    /// To [`Query::Subscribe`] and [`Query::Unsubscribe`].
    Changed(Change),
    /// To [`Query::Schedules`].
    Schedules(Vec<ScheduleStatus>),
    /// To [`Query::Subscriptions`].
    Subscriptions(Vec<Subscription>),
    /// The question could not be carried out.
    Refused {
        /// Why, as a code.
        code: Code,
        /// Why, in words.
        message: String,
    },
}

/// What a broker knows of an id.
#[allow(clippy::large_enum_variant, reason = "asked by people and once a question: a box would only be in the way")]
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Knowledge {
    /// The call is kept.
    Known(CallStatus),
    /// The broker has never seen this id.
    NeverSeen,
    /// The id is older than what the broker remembers: it may have been a call, or not.
    TooOldToSay,
    /// It was a call; its time to be kept is over, or it was purged.
    Forgotten,
}

/// Where a call stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CallStatus {
    /// The call.
    pub id: CallId,
    /// Its procedure.
    pub procedure: Name,
    /// Its tenant.
    pub tenant: Option<Name>,
    /// Its state.
    pub state: State,
    /// Its class.
    pub priority: u8,
    /// Whether it is durable.
    pub durable: bool,
    /// When it was accepted, in milliseconds since 1970.
    pub submitted_ms: u64,
    /// When it settled, becomes due, or was leased, by its state; 0 for a ready call.
    pub since_ms: u64,
    /// When its deadline passes, in milliseconds since 1970; 0 is none.
    pub deadline_ms: u64,
    /// How many attempts were started.
    pub attempts: u16,
    /// How many attempts it may have.
    pub attempts_max: u16,
    /// How many leases were lost, which are not failed attempts.
    pub lost_leases: u8,
    /// The bytes of its arguments, or of its outcome when it is settled.
    pub payload_bytes: u32,
    /// The worker that runs it.
    pub worker: Option<Name>,
    /// Whether a settled call's attempt has not stopped yet.
    pub stopping: bool,
    /// What happened to its attempts, oldest first; the newest few are kept.
    pub history: Vec<AttemptRecord>,
    /// The call whose callback it is.
    #[serde(default)]
    pub cause: Option<CallId>,
    /// What is or was called with its outcome.
    #[serde(default)]
    pub callbacks: Vec<CallbackStatus>,
    /// The groups that it is a child of and that are not done.
    #[serde(default)]
    pub groups: Vec<CallId>,
    /// Whether it is a group itself.
    #[serde(default)]
    pub is_group: bool,
}

/// A callback of a call.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CallbackStatus {
    /// After which outcomes.
    pub on: CallbackOn,
    /// What is called.
    pub procedure: Name,
    /// The call that it is once the outcome is there.
    pub id: CallId,
}

/// Where a group stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupStatus {
    /// The group.
    pub id: CallId,
    /// Its state, as that of any call; `scheduled` until it is decided.
    pub state: State,
    /// When it is decided.
    pub group: Group,
    /// Whether it gets no more children.
    pub sealed: bool,
    /// Its children by how they stand; none once it has settled: they are in its outcome.
    pub counts: GroupCounts,
    /// Some of them, by place.
    pub children: Vec<ChildStatus>,
}

/// A child of a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChildStatus {
    /// Its place among the children, counted from 0.
    pub place: u32,
    /// The call.
    pub id: CallId,
    /// Its procedure.
    pub procedure: Name,
    /// Its state.
    pub state: State,
}

/// How one attempt ended, when it did not settle the call.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// Which attempt, counted from 1.
    pub attempt: u16,
    /// When it ended, in milliseconds since 1970.
    pub ended_ms: u64,
    /// With what.
    pub code: Code,
    /// In words, at most 512 bytes.
    pub message: String,
    /// Where it ran.
    pub worker: Option<Name>,
    /// Whether the lease was lost, rather than the attempt failed.
    pub lost: bool,
}

/// A procedure's queue and who serves it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProcedureStatus {
    /// `service.procedure`.
    pub procedure: Name,
    /// Calls by state, in the order of [`State::ALL`].
    pub calls: [u64; 8],
    /// How many workers serve it.
    pub workers: u32,
    /// How many slots those have.
    pub slots: u32,
    /// How long its oldest ready call has waited, in milliseconds.
    pub oldest_ready_ms: u64,
    /// Calls settled since the broker started.
    pub settled: u64,
    /// Calls that run and take slots.
    #[serde(default)]
    pub running: u32,
    /// Whether no call of it starts until it is resumed.
    #[serde(default)]
    pub paused: bool,
    /// What is measured of it.
    #[serde(default)]
    pub measured: Measured,
}

/// What is measured of a procedure since the broker started; newer samples weigh more.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    /// New calls accepted in the last ten seconds.
    pub arrived: u64,
    /// The mean time between two starts while calls wait, with the slots there are now, in microseconds; `None` until a
    /// call has waited or an attempt has ended, and while there are no slots.
    pub start_interval_us: Option<u64>,
    /// How many attempts the next two figures are of; at most 512, the newest.
    pub attempts: u64,
    /// The mean time from lease to end of an attempt, in microseconds.
    pub service_mean_us: u64,
    /// Its variance, in square milliseconds.
    pub service_variance_ms2: u64,
    /// How the times of attempts are spread. Newer ones weigh more: of 8,192 counted, each weighs half.
    #[serde(default)]
    pub service: Option<Quantiles>,
    /// How long calls waited from being ready to their first start, likewise.
    #[serde(default)]
    pub wait: Option<Quantiles>,
    /// How many predicted waits the next figure is of; at most 256, the newest.
    pub predictions: u64,
    /// The mean error of predicted waits, in thousandths of the predicted wait.
    pub prediction_error_permille: Option<u64>,
}

/// Times that half, nine tenths and ninety-nine hundredths of all are at most as long as, in microseconds; measured in
/// milliseconds up to 16 ms and in steps of an eighth above.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Quantiles {
    /// The median.
    pub p50_us: u64,
    /// The 90th percentile.
    pub p90_us: u64,
    /// The 99th percentile.
    pub p99_us: u64,
}

/// A connected worker.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its name.
    pub name: Name,
    /// What it serves.
    pub procedures: Vec<Name>,
    /// How many calls it runs at a time.
    pub slots: u32,
    /// How many it runs now.
    pub leased: u32,
    /// Whether it is connected; one that is not may come back for its leases.
    pub connected: bool,
    /// Whether it takes no more calls.
    pub draining: bool,
    /// What it is or has.
    #[serde(default)]
    pub labels: Vec<Name>,
    /// How many of its calls have given their slots back while they wait for sub-calls.
    #[serde(default)]
    pub parked: u32,
    /// Calls it settled since it connected.
    pub settled: u64,
    /// Attempts of it that failed since it connected.
    pub failed: u64,
}

/// The broker as a whole. Counters start at zero with the broker.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct BrokerStatus {
    /// The number of this start.
    pub epoch: Epoch,
    /// The broker's version.
    pub version: String,
    /// Whether calls are durable when they do not say.
    pub durable: bool,
    /// Calls by state, in the order of [`State::ALL`].
    pub calls: [u64; 8],
    /// Calls accepted.
    pub accepted: u64,
    /// Submissions refused.
    pub refused: u64,
    /// Submissions that were a call already known.
    pub duplicates: u64,
    /// Leases granted.
    pub leased: u64,
    /// Leases lost.
    pub lost_leases: u64,
    /// Settlements and extensions refused because their lease was not current.
    pub stale: u64,
    /// Calls settled.
    pub settled: u64,
    /// Attempts to record a second outcome of a call, all rejected.
    pub outcomes_rejected: u64,
    /// Fsyncs of the journal.
    pub syncs: u64,
    /// Records appended to the journal.
    pub records: u64,
    /// Bytes appended to the journal.
    pub journal_bytes: u64,
    /// A running average of one fsync, in microseconds.
    pub sync_us: u64,
    /// Open connections.
    pub connections: u64,
}

/// What came of asking to cancel a call.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelAnswer {
    /// It had not started and never will.
    NeverRan,
    /// It waited for a further attempt, which will not come.
    BetweenAttempts,
    /// It is a group, and recorded as cancelled; its children are being cancelled.
    Children,
    /// It is recorded as cancelled; the attempt on this worker was asked to stop.
    Stopping {
        /// Where it runs.
        worker: Name,
    },
    /// It had settled before, in this state.
    AlreadySettled(State),
    /// The broker does not know this call.
    NotFound,
    /// The call goes on: it waits, or runs where nobody answered, and this broker can only reach calls that run.
    NotReached,
}
