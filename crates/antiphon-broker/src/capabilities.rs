//! What a broker can do, as enums rather than booleans, so that callers can be told exactly what they get.

/// What a broker can do. What it lacks is emulated by its adapter or refused before anything is sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Capabilities {
    /// What an acceptance of a durable call means.
    pub accepted: AcceptedMeans,
    /// Whether calls are durable when they do not say.
    pub durable_by_default: bool,
    /// Where a late settlement of a lost lease is rejected.
    pub fencing: Fencing,
    /// Which calls a cancellation reaches.
    pub cancel: CancelReach,
    /// How an outcome is found again.
    pub attach: Attach,
    /// Serial order by key.
    pub ordering: Ordering,
    /// Submissions with one key are one call.
    pub idempotency: Idempotency,
    /// Calls that start later.
    pub delay: Delay,
    /// Procedures called with an outcome.
    pub callbacks: Callbacks,
    /// Calls that settle together.
    pub groups: Support,
    /// Whether a call stays in the broker until a slot is free.
    pub late_binding: Support,
    /// Whether classes of priority are heeded.
    pub priorities: Support,
    /// Whether tenants are a unit of fairness.
    pub tenants: Support,
    /// Whose the leases are.
    pub leases: LeasesOf,
    /// Which questions are answered.
    pub questions: Questions,
    /// Whether at most so many calls with one concurrency key run at a time.
    pub concurrency_keys: Support,
    /// Whether labels that calls require and the slots that they take are heeded.
    pub needs: Support,
    /// Whether a procedure that waits for a sub-call can give its slots back meanwhile.
    pub parking: Support,
    /// Inboxes with names.
    pub named_inboxes: Support,
    /// What running calls tell of themselves.
    pub progress: Support,
    /// Events, and subscriptions that call a procedure for each.
    pub events: Support,
    /// Recurring calls.
    pub schedules: Support,
    /// The largest payload, in bytes.
    pub payload_bytes_max: u32,
}

/// What an acceptance of a durable call means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AcceptedMeans {
    /// Its record was fsynced.
    Fsynced,
    /// A majority of servers has it.
    Replicated,
    /// It is in memory: durable calls are refused.
    Memory,
}

/// Where a late settlement of a lost lease is rejected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fencing {
    /// At the broker, when it settles.
    AtSettle,
    /// At the caller, which surfaces one outcome.
    AtCaller,
    /// Nowhere.
    None,
}

/// Which calls a cancellation reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CancelReach {
    /// Waiting and running calls.
    Running,
    /// Waiting calls only.
    Queued,
    /// Running calls only: one that waits goes on as if nobody had asked.
    Started,
    /// None.
    None,
}

/// Whose leases are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeasesOf {
    /// The worker incarnation's: one that connects again brings its leases along.
    Incarnation,
    /// The connection's: they end with it.
    Connection,
}

/// Which questions a broker answers; the others are refused with `UNIMPLEMENTED`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Questions {
    /// All of them.
    All,
    /// Those about dead letters: [`Query::Calls`](antiphon_protocol::Query::Calls) in the state dead,
    /// [`Query::Status`](antiphon_protocol::Query::Status) of a dead letter, revive, purge.
    DeadLetters,
    /// None.
    None,
}

/// How an outcome is found again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attach {
    /// By the call's id.
    ById,
    /// Only by its inbox.
    InboxOnly,
}

/// Serial order by key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ordering {
    /// By ordering lane, over procedures.
    Lanes,
    /// By partition of the key.
    Partitions,
    /// None.
    None,
}

/// Submissions with one key are one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Idempotency {
    /// By idempotency key, with the stored outcome.
    ByKey,
    /// By call id only.
    ById,
}

/// Calls that start later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delay {
    /// At the millisecond.
    Exact,
    /// In steps.
    Stepped,
    /// Not at all.
    None,
}

/// Procedures called with an outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Callbacks {
    /// In the settlement's record.
    Atomic,
    /// At least once.
    AtLeastOnce,
    /// Not at all.
    None,
}

/// Whether there is such a thing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Support {
    /// There is.
    Native,
    /// The adapter makes it.
    Emulated,
    /// There is not.
    Refused,
}
