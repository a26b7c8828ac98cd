//! Every bound and default of the engine, as one set of options.

use antiphon_protocol::defaults;

/// In which order the ready calls of one tenant and class are leased.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Order {
    /// By their due times: their deadline, or a patience of their class.
    #[default]
    Due,
    /// As they became ready.
    Submitted,
}

/// How classes share a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Classes {
    /// Each by its weight, so that none waits for ever.
    #[default]
    Weighted,
    /// The most urgent first: the others wait as long as it takes.
    Strict,
}

/// What an engine may hold and how long it waits.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Whether calls are durable when they do not say, and may be durable at all.
    pub durable: bool,
    /// Unsettled calls.
    pub calls_max: u32,
    /// Waiting calls of one procedure, scheduled ones included, unless it is set otherwise.
    pub queued_max: u32,
    /// Bytes of their arguments.
    pub queued_bytes_max: u64,
    /// Waiting calls of one tenant of one procedure, unless it is set otherwise.
    pub tenant_queued_max: u32,
    /// Bytes of their arguments.
    pub tenant_queued_bytes_max: u64,
    /// Whether a call that would start after its deadline, as far as can be told, is refused at once.
    pub predict: bool,
    /// Retries of one procedure, in percent of its new calls, unless it is set otherwise.
    pub retry_percent: u32,
    /// Retries of one procedure in ten seconds, however few new calls it has, unless it is set otherwise.
    pub retries_min: u32,
    /// Different routes in use: each costs about 200 bytes.
    pub routes_max: u32,
    /// Unacknowledged calls of one named inbox.
    pub inbox_calls_max: u32,
    /// Remembered idempotency keys: each costs about 400 bytes.
    pub keys_max: u32,
    /// How long a lease lasts without being extended, in milliseconds.
    pub lease_ms: u32,
    /// How many leases a call may lose as the only suspect before it is dead.
    pub lost_leases_max: u8,
    /// How long an anonymous inbox outlives its connection, in milliseconds.
    pub inbox_grace_ms: u64,
    /// How long an outcome stays readable, in milliseconds.
    pub outcome_ms: u64,
    /// How many bytes of outcomes one procedure keeps.
    pub outcome_bytes: u64,
    /// Dead letters of one procedure; the oldest goes first. Each costs about 500 bytes beside its arguments on disk.
    pub dead_letters_max: u32,
    /// Different procedures, in routes and offers: they are not forgotten.
    pub procedures_max: u32,
    /// Children of one group: each costs about 300 bytes beside its call.
    pub group_children_max: u32,
    /// Unsettled calls with an ordering key, a concurrency key or a parent: each costs about 500 bytes more.
    pub tied_calls_max: u32,
    /// Sections of all queues (procedure, labels, slots): each costs about 1 KiB and is not forgotten.
    pub sections_max: u32,
    /// Calls of one worker that have given their slots back while they wait for sub-calls.
    pub parked_max: u32,
    /// Named inboxes: they are not forgotten.
    pub inboxes_max: u32,
    /// Subscriptions: each costs about 400 bytes.
    pub subscriptions_max: u32,
    /// Schedules: each costs about 500 bytes, and is looked at after each restart.
    pub schedules_max: u32,
    /// Events that have not made all their calls yet.
    pub events_open_max: u32,
    /// Events that are remembered, each about 150 bytes beside its payload on disk.
    pub events_max: u32,
    /// Of them, those that have made all their calls; the oldest goes first, and so when they have more bytes than
    /// the outcomes of a procedure may.
    pub events_done_max: u32,
    /// How long an event is remembered, in milliseconds: until then the same one again makes no call.
    pub event_ms: u64,
    /// How long a dead letter is kept, in milliseconds.
    pub dead_letter_ms: u64,
    /// How long a key is remembered after its call has settled, in milliseconds.
    pub idempotency_ms: u64,
    /// The order within a tenant and class. Brokers take the default; experiments compare.
    pub order: Order,
    /// How classes share. Brokers take the default; experiments compare.
    pub classes: Classes,
}

impl Limits {
    /// The defaults of a broker that journals, or of one in memory.
    #[must_use]
    pub const fn new(durable: bool) -> Self {
        Self {
            durable,
            calls_max: defaults::CALLS_MAX,
            queued_max: u32::MAX,
            queued_bytes_max: u64::MAX,
            tenant_queued_max: u32::MAX,
            tenant_queued_bytes_max: u64::MAX,
            predict: true,
            retry_percent: defaults::RETRY_PERCENT,
            retries_min: defaults::RETRIES_MIN,
            routes_max: 65_536,
            inbox_calls_max: 1_000_000,
            keys_max: 1_000_000,
            lease_ms: defaults::LEASE_MS,
            lost_leases_max: defaults::LOST_LEASES_MAX,
            inbox_grace_ms: defaults::INBOX_GRACE_MS,
            outcome_ms: defaults::OUTCOME_RETENTION_MS,
            outcome_bytes: defaults::OUTCOME_RETENTION_BYTES,
            dead_letters_max: 1_000_000,
            procedures_max: 65_536,
            group_children_max: defaults::GROUP_CHILDREN_MAX,
            tied_calls_max: 1_000_000,
            sections_max: 131_072,
            parked_max: defaults::PARKED_MAX,
            inboxes_max: 100_000,
            subscriptions_max: 1_000_000,
            schedules_max: 10_000,
            events_open_max: 100_000,
            events_max: 1_000_000,
            events_done_max: 100_000,
            event_ms: defaults::IDEMPOTENCY_WINDOW_MS,
            dead_letter_ms: defaults::DEAD_LETTER_RETENTION_MS,
            idempotency_ms: defaults::IDEMPOTENCY_WINDOW_MS,
            order: Order::Due,
            classes: Classes::Weighted,
        }
    }
}

/// The longest delay or deadline, in milliseconds: a hundred years, so that sums of times never overflow.
pub(crate) const TIME_MS_MAX: u64 = 100 * 365 * 24 * 3_600_000;
/// The most slots one worker may offer: more than any machine runs, so that sums of slots never overflow.
pub(crate) const SLOTS_MAX: u32 = 1_000_000;
/// The most lines (procedure, class, tenant) of all queues: each costs about 150 bytes and is not forgotten.
pub(crate) const LINES_MAX: u32 = 1_000_000;
/// The most sections of one queue: different sets of labels and costs in slots. A program has a few.
pub(crate) const SECTIONS_OF_ONE_MAX: usize = 64;
/// What a kept outcome counts beside its bytes: its place in memory and the frame of its record.
pub(crate) const OUTCOME_OVERHEAD_BYTES: u64 = 160;
/// How many attempts' ends are kept: enough to see a pattern, small enough to keep for every failing call.
pub(crate) const HISTORY_MAX: usize = 8;
/// How many bytes of a failure's text the history keeps.
pub(crate) const HISTORY_TEXT_MAX: usize = 512;
