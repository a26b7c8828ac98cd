//! The defaults of the product, each in one place; `docs/defaults.md` lists them and a test holds the two together.

/// How often a call is tried, the first time included.
pub const ATTEMPTS: u16 = 3;
/// Bound of the wait before the second attempt.
pub const BACKOFF_FIRST_MS: u32 = 200;
/// What each further bound is multiplied by, in tenths.
pub const BACKOFF_FACTOR_TENTHS: u16 = 20;
/// The largest wait between two attempts.
pub const BACKOFF_MAX_MS: u32 = 60_000;
/// How long a lease lasts without being extended.
pub const LEASE_MS: u32 = 10_000;
/// A worker extends its leases after this part of their length.
pub const LEASE_RENEWALS: u32 = 3;
/// How long an anonymous inbox outlives its connection.
pub const INBOX_GRACE_MS: u64 = 30_000;
/// Deadline of a call that is awaited directly; a submitted one has none.
pub const AWAITED_DEADLINE_MS: u64 = 30_000;
/// The class of a call that names none.
pub const PRIORITY: u8 = 4;
/// How long an outcome stays readable.
pub const OUTCOME_RETENTION_MS: u64 = 24 * 3_600_000;
/// How many bytes of outcomes a procedure may keep; the oldest go first.
pub const OUTCOME_RETENTION_BYTES: u64 = 256 << 20;
/// How long a dead letter is kept.
pub const DEAD_LETTER_RETENTION_MS: u64 = 30 * 24 * 3_600_000;
/// How long an idempotency key is remembered after its call has settled.
pub const IDEMPOTENCY_WINDOW_MS: u64 = 24 * 3_600_000;
/// The largest payload, in bytes.
pub const PAYLOAD_BYTES_MAX: u32 = 16 << 20;
/// How many things that a running call told of itself are kept, and what a slow reader has of them: the newest.
pub const PROGRESS_ITEMS_MAX: usize = 64;
/// How many bytes of them; also the most that one may have.
pub const PROGRESS_BYTES_MAX: usize = 64 << 10;
/// A tick of a schedule that starts later than this was missed: its policy says whether it still counts.
pub const SCHEDULE_LATE_MS: u64 = 10_000;
/// The largest arguments of a schedule, in bytes.
pub const SCHEDULE_BYTES_MAX: usize = 64 << 10;
/// How many leases a call may lose as the only suspect before it is dead.
pub const LOST_LEASES_MAX: u8 = 3;
/// How many unsettled calls a broker holds.
pub const CALLS_MAX: u32 = 10_000_000;
/// How many retries of a procedure there may be, in percent of its new calls.
pub const RETRY_PERCENT: u32 = 20;
/// How many retries of a procedure there may be in ten seconds, however few new calls it has.
pub const RETRIES_MIN: u32 = 100;
/// How much of the disk a broker fills, in percent.
pub const DISK_PERCENT_MAX: u8 = 80;
/// How long a draining worker waits for what runs.
pub const DRAIN_MS: u64 = 30_000;
/// How many calls with one concurrency key run at a time.
pub const CONCURRENCY: u32 = 1;
/// How many slots of its worker a call takes.
pub const CALL_SLOTS: u8 = 1;
/// The most slots a call may take.
pub const CALL_SLOTS_MAX: u8 = 64;
/// The most labels a call may require.
pub const CALL_LABELS_MAX: usize = 8;
/// The most labels a worker may have.
pub const WORKER_LABELS_MAX: usize = 64;
/// How many calls in a chain, each made within the one before, are looked at for what they hold.
pub const ANCESTORS_MAX: u32 = 64;
/// How many calls of one worker may have given their slots back while they wait for sub-calls.
pub const PARKED_MAX: u32 = 1_000;
/// How many calls a worker runs at a time.
pub const SLOTS: u32 = 16;
/// How often a foreign broker hands a call to a worker that goes without settling it, before the call is dead.
pub const LOST_DELIVERIES_MAX: u32 = 10;
/// How often RabbitMQ itself hands a call out before it dead-letters it, should no worker live long enough to do so.
pub const DELIVERY_LIMIT: u32 = 20;
/// How long RabbitMQ waits for a delivery to be settled, unless the URL says otherwise.
pub const CONSUMER_TIMEOUT_MS: u64 = 30 * 60_000;
/// Where a broker listens.
pub const LISTEN: &str = "127.0.0.1:7400";
/// Where a broker serves probes and metrics.
pub const HTTP: &str = "127.0.0.1:7401";
/// The directory of a broker that is given none.
pub const DATA_DIRECTORY: &str = "./antiphon-data";
/// A connection that sends nothing for this long is pinged; after twice this long it is closed.
pub const HEARTBEAT_MS: u32 = 15_000;
/// How many callbacks a call may have, theirs included.
pub const CALLBACKS_MAX: u8 = 16;
/// How deep callbacks may follow each other.
pub const CALLBACK_DEPTH_MAX: u8 = 8;
/// How many children a group may have.
pub const GROUP_CHILDREN_MAX: u32 = 100_000;
/// How long a group may stay unsealed.
pub const GROUP_UNSEALED_MS: u64 = 3_600_000;
