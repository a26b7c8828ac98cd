//! The seam between Antiphon's callers and workers and any broker: batches in, events out.
//!
//! It is small and dyn-compatible. Futures per call are not its business: a caller gives each call a tag, the broker
//! echoes it. What a broker cannot do it says in its [`Capabilities`].

mod capabilities;
mod driver;
mod event;
pub mod foreign;

pub use capabilities::{
    AcceptedMeans, Attach, Callbacks, CancelReach, Capabilities, Delay, Fencing, Idempotency, LeasesOf, Ordering,
    Questions, Support,
};
pub use driver::Driver;
pub use event::{Emission, Event, Lease, Progress};

use antiphon_protocol::{
    Answer, Call, CallId, CallerId, Failure, LeaseTag, Name, Offer, Pattern, Payload, Query, Settlement, Tag,
};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// A future of the seam's rare operations (opening, asking); nothing per call is boxed.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What keeps calls and schedules them: embedded, remote, or a foreign broker behind an adapter.
pub trait Broker: Send + Sync + 'static {
    /// What it can do; fixed once connected.
    fn capabilities(&self) -> &Capabilities;

    /// Opens a caller whose outcomes go to `inbox` and whose events go to `sink`.
    ///
    /// # Errors
    /// [`OpenError`] when the broker cannot be reached or refuses.
    fn open_caller(&self, inbox: Inbox, sink: Arc<dyn Sink>) -> BoxFuture<'_, Result<Box<dyn Caller>, OpenError>>;

    /// Opens a worker; its leases come to `sink`.
    ///
    /// # Errors
    /// [`OpenError`] when the broker cannot be reached or refuses the offer.
    fn open_worker(&self, offer: Offer, sink: Arc<dyn Sink>) -> BoxFuture<'_, Result<Box<dyn Worker>, OpenError>>;

    /// Questions about calls, queues and workers; `None` where the broker has no look-up.
    fn inspect(&self) -> Option<&dyn Inspect>;

    /// Lets go of the broker: flushes what was handed over and frees what it holds (a directory's lock, connections).
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Where a caller's outcomes are delivered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Inbox {
    /// One that ends a grace period after its caller's connection.
    Anonymous(CallerId),
    /// One that survives restarts and keeps what is not acknowledged; one consumer at a time, the last to open it.
    Named(Name),
}

/// A caller's side. Dropping it closes the caller; its calls go on.
pub trait Caller: Send + Sync {
    /// Hands calls over. Takes from the front what fits and leaves the rest; [`Event::Writable`] follows then.
    /// Each call is answered by [`Event::Accepted`], [`Event::Refused`] or, when it is awaited, by its outcome alone.
    fn submit(&self, calls: &mut Vec<Submission>);

    /// Asks for the outcomes of calls submitted elsewhere or earlier, to be delivered to this caller under the tags
    /// given. Answered by [`Event::Outcome`] when settled, or [`Event::Refused`] when the broker does not know it.
    fn attach(&self, calls: &[(CallId, Tag)]);

    /// These outcomes were handled and need not be delivered again.
    fn acknowledge(&self, outcomes: &[CallId]);

    /// Asks to cancel calls; each is answered by [`Event::CancelAnswered`].
    fn cancel(&self, calls: &[CallId]);

    /// Asks for what running calls tell of themselves, by [`Event::Progress`] under the tag given, after the sequence
    /// given (0 is from the beginning of what is kept). Of a call that is not under way, what is kept is told, then
    /// [`Event::ProgressEnded`]: asking once more when the outcome is there misses nothing. A broker without the
    /// capability tells nothing.
    fn follow(&self, _calls: &[(CallId, Tag, u64)]) {}

    /// Asks for events, in the order in which they were accepted: as soon as some match, [`Event::Emitted`] for each of a
    /// bounded number, the last of which says so; then ask again, after its number. So nobody is told faster than he reads. A broker without the capability tells nothing.
    fn watch(&self, _watches: &[Watch]) {}
}

/// A worker's side. Dropping it closes the worker: what it holds is leased again as each call allows.
pub trait Worker: Send + Sync {
    /// Slots that became free, beyond those offered and those given back by reports; negative takes slots away.
    /// A lease takes a slot, a report gives it back by itself.
    fn credit(&self, slots: i32);

    /// Ends leases. Takes from the front what fits and leaves the rest; [`Event::Writable`] follows then. Each is
    /// answered by [`Event::Settled`] or [`Event::Stale`].
    fn report(&self, reports: &mut Vec<Report>);

    /// Prolongs leases by their length from now; one that is not current is answered by [`Event::Stale`].
    fn extend(&self, leases: &[LeaseTag]);

    /// The procedure under this lease waits for a sub-call: the lease takes no slots meanwhile, and is still extended. The
    /// broker may decline without a word, where as many wait as may. To be said again after [`Event::Up`]. Only where
    /// [`Capabilities::parking`] is native; a broker that has no such thing need not implement it.
    fn park(&self, lease: LeaseTag, awaits: Option<CallId>) {
        let _ = (lease, awaits);
    }

    /// The procedure wants to go on: answered by [`Event::Resumed`] when the lease has its slots, which is at once if they
    /// were never given back. To be said again after [`Event::Up`].
    fn resume(&self, lease: LeaseTag) {
        let _ = lease;
    }

    /// Takes no more leases; those held go on.
    fn drain(&self);

    /// Tells what running calls tell of themselves. All are taken; what cannot be passed on soon is dropped, oldest
    /// first. A broker without the capability drops them all.
    fn progress(&self, told: &mut Vec<ProgressReport>) {
        told.clear();
    }
}

/// Questions to a broker.
pub trait Inspect: Send + Sync {
    /// Asks.
    ///
    /// # Errors
    /// [`Failure`] with `UNAVAILABLE` when the broker cannot be reached.
    fn ask(&self, query: Query) -> BoxFuture<'_, Result<Answer, Failure>>;
}

/// Where a broker's events go. Called on the broker's threads: it must not block, and may call back into the broker.
pub trait Sink: Send + Sync {
    /// Takes all events, leaving `events` empty for reuse.
    fn events(&self, events: &mut Vec<Event>);
}

/// A call on its way to the broker.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The call.
    pub call: Call,
    /// Echoed in every event about the call.
    pub tag: Tag,
    /// What the caller waits for.
    pub wants: Wants,
    /// Whether it was sent before, on a connection that broke: only then may the broker find it too old to say.
    pub resent: bool,
}

/// Which events a caller wants to hear of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Watch {
    /// Echoed in what is told; a second watch under the same tag takes the place of the first.
    pub tag: Tag,
    /// Which topics.
    pub pattern: Pattern,
    /// After which number; 0 is from the oldest that is kept. [`Watch::FROM_NOW`] is answered at once, by the number of
    /// the newest.
    pub after: u64,
}

impl Watch {
    /// After the newest event.
    pub const FROM_NOW: u64 = u64::MAX;
}

/// What a caller waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wants {
    /// Only the outcome: acceptance is not answered, and its fsync may be shared with the settlement's.
    Outcome,
    /// The acceptance, then the outcome.
    AcceptanceAndOutcome,
    /// The acceptance alone: the outcome goes to no inbox and stays readable by id.
    Acceptance,
}

/// The end of a lease.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which lease.
    pub lease: LeaseTag,
    /// Which call it was for.
    pub call: CallId,
    /// How it ended.
    pub settlement: Settlement,
}

/// What a running procedure tells of itself.
#[derive(Clone, Debug)]
pub struct ProgressReport {
    /// Under which lease.
    pub lease: LeaseTag,
    /// Of which call.
    pub call: CallId,
    /// What it tells, at most [`antiphon_protocol::defaults::PROGRESS_BYTES_MAX`].
    pub payload: Payload,
}

/// Why a broker could not be opened. Printed with `{:?}`, as by a `main` that returns it, it is the same text.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Not reachable now; trying again may work.
    #[error("{0}")]
    Unreachable(String),
    /// Reached, and it refuses: a version, an offer, a missing capability. Trying again does not help.
    #[error("{0}")]
    Refused(Failure),
    /// The data directory is held by another process.
    #[error(
        "the directory {directory} is in use by process {pid}: to share it between processes, run `antiphon serve --data {directory}` and connect to that"
    )]
    InUse {
        /// The directory.
        directory: String,
        /// Who holds it.
        pid: u32,
    },
    /// The data directory cannot be used: unreadable, damaged, of a newer format, full.
    #[error("{0}")]
    Storage(String),
}

impl std::fmt::Debug for OpenError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, formatter)
    }
}
