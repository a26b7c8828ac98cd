//! Antiphon's state machine: calls, leases, slots, inboxes and outcomes as one pure function.
//!
//! `handle` and `advance` take the time as an argument and tell an [`Effects`] what to record, keep and say. Nothing
//! here reads a clock, randomness, a file or a socket, or sees a payload's bytes.
#![no_std]

extern crate alloc;

mod admission;
mod audit;
mod budget;
mod call;
mod callback;
mod cancel;
mod codec;
mod compaction;
mod concurrency;
mod dedupe;
mod delivery;
mod dispatch;
mod door;
mod effect;
mod event;
mod explain;
mod fairness;
mod forgotten;
mod grant;
mod group;
mod inbox;
mod kind;
mod lane;
mod lease;
mod limits;
mod look;
mod meter;
mod parking;
mod planted;
mod procedure;
mod queue;
mod record;
mod recurring;
mod replay;
mod report;
mod retention;
mod route;
mod route_codec;
mod rule;
mod schedule;
mod section;
mod session;
mod settle;
mod spread;
mod subscription;
mod tail;
mod terms;
mod topic;
mod waiting;
mod worker;

pub use admission::Submit;
pub use call::Attempt;
pub use codec::Malformed;
pub use effect::{
    Body, Bound, Effect, Effects, Ending, Gate, Grant, Handle, Peer, Reason, Refusal, Role, Told, Urgency,
};
pub use event::Emitted;
pub use inbox::InboxKey;
pub use kind::Kind;
pub use limits::{Classes, Limits, Order};
pub use record::{Progress, Record, Settled, Submitted};
pub use recurring::{Scheduled, Ticked};
pub use replay::Replay;
pub use report::End;
pub use subscription::Subscribed;
pub use tail::Ties;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use antiphon_protocol::{CallId, Epoch, LeaseTag, Name, Offer, Tag};
use call::Calls;
use concurrency::ConcurrencyKeys;
use dedupe::Keyed;
use forgotten::Forgotten;
use inbox::Inboxes;
use lane::Lanes;
use lease::Leases;
use procedure::Procedures;
use route::Routes;
use schedule::Agenda;
use section::Sections;
use session::Session;
use waiting::Accounts;
use worker::Workers;

/// The time, as the shell reads it: leases, timeouts and delays go by the monotonic clock, retention by the wall
/// clock. An absolute start is turned into a monotonic one when its call is accepted, and again after a restart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Milliseconds of a clock that never goes back.
    pub monotonic_ms: u64,
    /// Milliseconds since 1970.
    pub wall_ms: u64,
}

/// Something that a peer asks for.
#[derive(Debug)]
pub enum Command<'a> {
    /// A caller has connected. An earlier peer of the same inbox is fenced.
    OpenCaller {
        /// The new peer.
        peer: Peer,
        /// Its inbox.
        inbox: InboxKey,
    },
    /// A worker has connected.
    OpenWorker {
        /// The new peer.
        peer: Peer,
        /// What it offers and holds.
        offer: &'a Offer,
    },
    /// A peer's connection has ended.
    Close {
        /// The peer.
        peer: Peer,
    },
    /// A caller hands over a call; its body is the arguments.
    Submit(Submit),
    /// A caller asks for the outcome of a call.
    Attach {
        /// Who.
        peer: Peer,
        /// The call.
        id: CallId,
        /// Echoed with the outcome.
        tag: Tag,
    },
    /// A caller has handled an outcome.
    Acknowledge {
        /// Who.
        peer: Peer,
        /// The call.
        id: CallId,
    },
    /// A caller asks to cancel a call.
    Cancel {
        /// Who.
        peer: Peer,
        /// The call.
        id: CallId,
    },
    /// A worker has more slots, or fewer.
    Credit {
        /// Who.
        peer: Peer,
        /// By how many.
        slots: i32,
    },
    /// A worker ends a lease; the body, if any, is the outcome or the failure.
    Report {
        /// Who.
        peer: Peer,
        /// Which lease.
        lease: LeaseTag,
        /// Of which call.
        call: CallId,
        /// How it ended.
        end: End<'a>,
    },
    /// A worker prolongs a lease.
    Extend {
        /// Who.
        peer: Peer,
        /// Which lease.
        lease: LeaseTag,
    },
    /// A procedure waits for a sub-call: its lease takes no slots meanwhile.
    Park {
        /// Who.
        peer: Peer,
        /// Which lease.
        lease: LeaseTag,
        /// The sub-call.
        awaits: Option<CallId>,
    },
    /// A procedure has waited, and goes on when it has its slots again.
    Resume {
        /// Who.
        peer: Peer,
        /// Which lease.
        lease: LeaseTag,
    },
    /// A worker takes no more leases.
    Drain {
        /// Who.
        peer: Peer,
    },
}

/// What the engine counts; all start at zero with the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls accepted.
    pub accepted: u64,
    /// Events accepted.
    pub emitted: u64,
    /// Submissions refused.
    pub refused: u64,
    /// Submissions that were a call already known.
    pub duplicates: u64,
    /// Leases granted.
    pub leased: u64,
    /// Leases lost.
    pub lost_leases: u64,
    /// Reports and extensions refused because their lease was not current.
    pub stale: u64,
    /// Calls settled.
    pub settled: u64,
    /// Outcomes that came for a call that had one, and were rejected.
    pub outcomes_rejected: u64,
}

/// The state machine.
pub struct Engine {
    limits: Limits,
    now: Now,
    epoch: Epoch,
    tokens: u64,
    stamp: u32,
    random: u64,
    calls: Calls,
    routes: Routes,
    procedures: Procedures,
    accounts: Accounts,
    sections: Sections,
    lanes: Lanes,
    /// The highest number under which a call joined its lane.
    lane_turns: u64,
    concurrency: ConcurrencyKeys,
    /// Unsettled calls that are tied to others.
    tied_calls: u32,
    workers: Workers,
    leases: Leases,
    inboxes: Inboxes,
    keyed: Keyed,
    forgotten: Forgotten,
    sessions: Vec<Option<Session>>,
    scheduled: Agenda,
    deadlines: Agenda,
    /// Procedures whose held retries are to be looked at.
    budgets: Agenda,
    graces: Agenda,
    /// When procedures with a rate may start their next call.
    tokens_due: Agenda,
    /// Calls that an inbox or worker left behind, to be dealt with a few at a time.
    leftovers: VecDeque<session::Leftover>,
    busy_sections: VecDeque<u32>,
    busy_workers: VecDeque<u32>,
    /// The newest id time among forgotten calls: an id that is older may have been a call.
    horizon_ms: u64,
    /// The same, of calls that their callers may send again.
    resend_horizon_ms: u64,
    /// Where the horizon is recorded, and as what.
    horizon_record: (Handle, u64),
    next_retention_ms: u64,
    started: Handle,
    unsettled: u32,
    /// Groups that are not done, by the call that each is.
    groups: BTreeMap<u32, group::Children>,
    /// Groups with work to do, one after the other.
    deciding: VecDeque<u32>,
    /// Calls that the callbacks of unsettled ones may become.
    reserved: u64,
    /// Lines of all queues.
    lines: u32,
    events: event::Events,
    subscriptions: subscription::Subscriptions,
    schedules: recurring::Schedules,
    /// The last number given to an event or a change of subscriptions.
    order: u64,
    counters: Counters,
}

impl Engine {
    /// An engine without calls. `seed` decides hashes and jitter: random in production, fixed in tests.
    #[must_use]
    pub fn new(limits: Limits, seed: u64, now: Now) -> Self {
        Self {
            limits,
            now,
            epoch: Epoch(1),
            tokens: 0,
            stamp: 0,
            random: seed | 1,
            calls: Calls::new(seed),
            routes: Routes::default(),
            procedures: Procedures::default(),
            accounts: Accounts::default(),
            sections: Sections::default(),
            lanes: Lanes::default(),
            lane_turns: 0,
            concurrency: ConcurrencyKeys::default(),
            tied_calls: 0,
            workers: Workers::default(),
            leases: Leases::new(),
            inboxes: Inboxes::default(),
            keyed: Keyed::default(),
            forgotten: Forgotten::default(),
            sessions: Vec::new(),
            scheduled: Agenda::default(),
            deadlines: Agenda::default(),
            budgets: Agenda::default(),
            graces: Agenda::default(),
            tokens_due: Agenda::default(),
            leftovers: VecDeque::new(),
            busy_sections: VecDeque::new(),
            busy_workers: VecDeque::new(),
            horizon_ms: 0,
            resend_horizon_ms: 0,
            horizon_record: (Handle::NONE, 0),
            next_retention_ms: 0,
            started: Handle::NONE,
            unsettled: 0,
            groups: BTreeMap::new(),
            deciding: VecDeque::new(),
            reserved: 0,
            lines: 0,
            events: event::Events::default(),
            subscriptions: subscription::Subscriptions::default(),
            schedules: recurring::Schedules::default(),
            order: 0,
            counters: Counters::default(),
        }
    }

    /// Carries out one command. Bounded work: whatever grows with the number of calls goes on in `advance`.
    pub fn handle(&mut self, now: Now, command: Command<'_>, effects: &mut impl Effects) {
        self.tick(now);
        match command {
            Command::OpenCaller { peer, inbox } => self.open_caller(peer, inbox, effects),
            Command::OpenWorker { peer, offer } => self.open_worker(peer, offer, effects),
            Command::Close { peer } => self.close(peer, effects),
            Command::Submit(submit) => self.submit(submit, effects),
            Command::Attach { peer, id, tag } => self.attach(peer, id, tag, effects),
            Command::Acknowledge { peer, id } => self.acknowledge(peer, id, effects),
            Command::Cancel { peer, id } => self.cancel(peer, id, effects),
            Command::Credit { peer, slots } => self.credit(peer, slots),
            Command::Report { peer, lease, call, end } => self.report(peer, lease, call, end, effects),
            Command::Extend { peer, lease } => self.extend(peer, lease, effects),
            Command::Park { peer, lease, awaits } => self.park(peer, lease, awaits, effects),
            Command::Resume { peer, lease } => self.resume(peer, lease, effects),
            Command::Drain { peer } => self.drain(peer),
        }
    }

    /// Does what is due at `now`, at most about `budget` steps of it, then hands ready calls to free slots.
    pub fn advance(&mut self, now: Now, budget: u32, effects: &mut impl Effects) {
        self.tick(now);
        self.end_graces();
        self.clear_leftovers(budget, effects);
        self.start_due(budget, effects);
        self.release_retries(budget);
        self.expire_calls(budget, effects);
        self.expire_leases(budget, effects);
        self.settle_groups(budget, effects);
        self.retain(budget, effects);
        self.distribute(budget, effects);
        self.launch_queued(effects);
        self.bring_tokens();
        self.dispatch(budget, effects);
    }

    /// When `advance` must be called at the latest, on the monotonic clock; in the past when work is left over.
    #[must_use]
    pub fn next_wake(&self) -> Option<u64> {
        if !self.deciding.is_empty()
            || !self.leftovers.is_empty()
            || !self.busy_sections.is_empty()
            || !self.busy_workers.is_empty()
        {
            return Some(0);
        }
        let lease = self.leases.first().map(|(_, ends_ms)| ends_ms);
        let kept = self.calls.len() > self.unsettled as usize || self.events.has_done();
        let retention = kept.then_some(self.next_retention_ms);
        let events = self.events.next_wake(self.now.monotonic_ms);
        let agendas =
            [&self.scheduled, &self.deadlines, &self.budgets, &self.graces, &self.tokens_due].map(Agenda::next);
        agendas.into_iter().chain([lease, retention, events]).flatten().min()
    }

    /// Time never goes back, whatever the clocks say.
    fn tick(&mut self, now: Now) {
        let passed_ms = now.monotonic_ms.saturating_sub(self.now.monotonic_ms);
        self.now.monotonic_ms += passed_ms;
        // A wall clock that was ahead and has been set right must not stand still until the true time catches up.
        self.now.wall_ms = self.now.wall_ms.saturating_add(passed_ms).max(now.wall_ms);
    }

    /// The wall-clock time of a monotonic instant; 0 stays 0.
    fn wall_of(&self, monotonic_ms: u64) -> u64 {
        if monotonic_ms == 0 {
            return 0;
        }
        self.now.wall_ms.saturating_add(monotonic_ms).saturating_sub(self.now.monotonic_ms)
    }

    /// The monotonic instant of a wall-clock time, at the earliest 1; 0 stays 0.
    fn monotonic_of(&self, wall_ms: u64) -> u64 {
        if wall_ms == 0 {
            return 0;
        }
        self.now.monotonic_ms.saturating_add(wall_ms).saturating_sub(self.now.wall_ms).max(1)
    }

    fn next_stamp(&mut self) -> u32 {
        self.stamp = self.stamp.wrapping_add(1);
        self.stamp
    }

    /// The engine as started in this epoch: what is numbered in it comes after what was numbered in lower ones.
    #[must_use]
    pub const fn in_epoch(mut self, epoch: Epoch) -> Self {
        self.epoch = epoch;
        self.order = (epoch.0 as u64) << 40;
        self
    }

    /// Lease tokens strictly increase: the epoch is fsynced before the broker serves, and is the upper part.
    fn next_token(&mut self) -> u64 {
        self.tokens += 1;
        assert!(self.tokens < 1 << 40, "a broker is restarted before it grants 2^40 leases");
        u64::from(self.epoch.0) << 40 | self.tokens
    }

    /// A number below `bound` (xorshift64*; Vigna, 2016).
    fn random_below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let drawn = self.random.wrapping_mul(0x2545_F491_4F6C_DD1D);
        if bound == 0 { 0 } else { drawn % bound }
    }

    /// The name of a worker, for histories.
    fn worker_name(&self, place: u32) -> Option<Name> {
        self.workers.get(place).map(|worker| worker.name.clone())
    }

    /// The number of this start.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The time as the engine has it: neither of its clocks ever goes back.
    #[must_use]
    pub const fn time(&self) -> Now {
        self.now
    }

    /// What was counted since the start.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }
}
