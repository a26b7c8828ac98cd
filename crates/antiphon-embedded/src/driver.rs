//! The driver: one engine and one journal, joined. It has no thread and no socket of its own; whoever owns it hands
//! it batches of commands, pumps it, and sees to its commits.

use crate::bodies::{Bodies, Body};
use crate::clock::{Clock, SystemClock};
use crate::events;
use crate::outlet::{Outlet, PeerId};
use crate::output::{Outbox, Output, Scratch};
use crate::planted::planted;
use crate::progress::Told;
use crate::questions::Question;
use crate::timetable::Timetable;
use crate::told::Gathering;
use crate::tombs::Tombs;
use crate::topics::check_attempts;
use crate::watching::Watches;
use antiphon_broker::{Event, Inbox, Wants};
use antiphon_engine::{Command, Engine, Handle, InboxKey, Limits, Now, Peer, Ties};
use antiphon_journal::{AppendError, Generation, Journal, Options, Reserve, Storage};
use antiphon_protocol::{
    CallId, Code, Epoch, Failure, Keys, LeaseTag, Name, Offer, Payload, Route, SHAPE_PARAMETERS_MAX, Settings, Start,
    Tag, defaults,
};
use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Steps of work that a pump does before it lets other things happen: some milliseconds at most.
const STEPS_A_PUMP: u32 = 4_096;
/// What a record takes beside its payload: names and keys are at most 255 bytes each, history 8 × 600.
const RECORD_BYTES: usize = 8 << 10;

/// A route that a peer uses, interned: looked up once per peer and route, not once per call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteRef(pub u32);

/// What a driver keeps, and where.
#[derive(Clone)]
pub struct DriverOptions {
    /// The data directory; `None` keeps everything in memory.
    pub directory: Option<PathBuf>,
    /// What the journal stands on in place of the directory: a disk that is slow or fails on purpose.
    pub storage: Option<Arc<dyn Storage>>,
    /// Bounds of the engine; whether calls are durable follows from the directory.
    pub limits: Limits,
    /// Sizes of the journal.
    pub journal: Options,
    /// Bytes of arguments kept in memory beside the journal.
    pub cache_bytes: usize,
    /// Bytes of arguments and outcomes of volatile calls.
    pub volatile_bytes_max: usize,
    /// Bytes of what running calls told of themselves; over it, those who told nothing for longest are forgotten.
    pub progress_bytes_max: usize,
    /// The largest payload, in bytes.
    pub payload_bytes_max: u32,
    /// What is set for procedures at the start, as [`Query::Configure`](antiphon_protocol::Query::Configure) does: it
    /// takes the place of what was set before; settings that are not named here stay as they were.
    pub procedures: Vec<(Name, Settings)>,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Decides hashes and jitter; `None` takes random bits, a simulation gives its own.
    pub seed: Option<u64>,
}

impl Default for DriverOptions {
    /// In memory, with the defaults of the product.
    fn default() -> Self {
        Self {
            directory: None,
            storage: None,
            limits: Limits::new(true),
            journal: Options::new(),
            cache_bytes: 64 << 20,
            volatile_bytes_max: 1 << 30,
            progress_bytes_max: 64 << 20,
            payload_bytes_max: defaults::PAYLOAD_BYTES_MAX,
            procedures: Vec::new(),
            clock: Arc::new(SystemClock::new()),
            seed: None,
        }
    }
}

impl std::fmt::Debug for DriverOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("DriverOptions").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// A call on its way in, its route interned.
#[derive(Debug)]
pub struct Submit {
    /// The call's id.
    pub id: CallId,
    /// The caller's tag.
    pub tag: Tag,
    /// The interned route.
    pub route: RouteRef,
    /// The arguments.
    pub payload: Payload,
    /// Milliseconds until the deadline; 0 is none.
    pub deadline_ms: u64,
    /// When the first attempt may start.
    pub start: Start,
    /// Keys and trace context.
    pub keys: Option<Box<Keys>>,
    /// What the caller waits for.
    pub wants: Wants,
    /// Whether it was sent before.
    pub resent: bool,
}

/// One engine and one journal.
pub struct Driver {
    pub(crate) engine: Engine,
    pub(crate) journal: Option<Journal>,
    pub(crate) bodies: Bodies,
    pub(crate) outbox: Outbox,
    pub(crate) cold: HashSet<u32>,
    pub(crate) tombs: Tombs,
    pub(crate) told: Told,
    pub(crate) watches: Watches,
    pub(crate) timetable: Timetable,
    pub(crate) poisoned: Option<Failure>,
    pub(crate) scratch: Scratch,
    pub(crate) gathering: Gathering,
    pub(crate) options: DriverOptions,
    pub(crate) questions: VecDeque<Question>,
    pub(crate) sweep: Option<antiphon_journal::Sweep>,
    /// Until when no segment is emptied, because one could not be read.
    pub(crate) sweep_after_ms: u64,
    /// Tells identities apart where there is no randomness.
    pub(crate) ids: u64,
    peers_free: Vec<u32>,
    peers: u32,
    now: Now,
    /// Whether the clock must be read before the next command.
    stale: bool,
}

impl Driver {
    pub(crate) fn assemble(options: DriverOptions, engine: Engine, journal: Option<Journal>) -> Self {
        Self {
            engine,
            journal,
            bodies: Bodies::new(options.cache_bytes),
            outbox: Outbox::default(),
            cold: HashSet::new(),
            tombs: Tombs::default(),
            told: Told::default(),
            watches: Watches::default(),
            timetable: Timetable::default(),
            poisoned: None,
            scratch: Scratch::default(),
            gathering: Gathering::default(),
            questions: VecDeque::new(),
            sweep: None,
            sweep_after_ms: 0,
            ids: 0,
            peers_free: Vec::new(),
            peers: 0,
            now: options.clock.now(),
            stale: true,
            options,
        }
    }

    /// The number of this start.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.engine.epoch()
    }

    /// The state machine, to look at.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Whether calls are journaled.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.journal.is_some()
    }

    /// The journal's figures, if there is one.
    #[must_use]
    pub fn journal_stats(&self) -> Option<antiphon_journal::Stats> {
        self.journal.as_ref().map(Journal::stats)
    }

    /// The time of the present batch: read once for all its commands.
    pub(crate) fn now(&mut self) -> Now {
        if self.stale {
            self.now = self.options.clock.now();
            self.stale = false;
        }
        self.now
    }

    /// Runs one engine call with this driver's journal, bodies and queues as its effects.
    pub(crate) fn with<R>(
        &mut self,
        generation: Generation,
        body: Option<Body>,
        run: impl FnOnce(&mut Engine, Now, &mut Output<'_>) -> R,
    ) -> R {
        let now = self.now();
        let epoch = self.engine.epoch();
        let mut output = Output {
            journal: self.journal.as_mut(),
            bodies: &mut self.bodies,
            outbox: &mut self.outbox,
            cold: &mut self.cold,
            tombs: &mut self.tombs,
            poisoned: &mut self.poisoned,
            scratch: &mut self.scratch,
            gathering: &mut self.gathering,
            body,
            body_at: Handle::NONE,
            epoch,
            payload_bytes_max: self.options.payload_bytes_max as usize,
            generation,
        };
        run(&mut self.engine, now, &mut output)
    }

    pub(crate) fn command(&mut self, command: Command<'_>, body: Option<Body>) {
        self.with(Generation::Young, body, |engine, now, output| engine.handle(now, command, output));
    }

    fn new_peer(&mut self) -> PeerId {
        PeerId(self.peers_free.pop().unwrap_or_else(|| {
            self.peers += 1;
            self.peers - 1
        }))
    }

    /// A caller connects. An older peer with the same inbox gets `Down { last: true }`.
    ///
    /// # Errors
    /// When the inbox has a name and there are too many of those.
    pub fn open_caller(&mut self, inbox: Inbox) -> Result<PeerId, Failure> {
        let inbox = match inbox {
            Inbox::Anonymous(caller) => InboxKey::Anonymous(caller),
            Inbox::Named(name) => InboxKey::Named(name),
        };
        if !self.engine.takes_inbox(&inbox) {
            let limit = self.options.limits.inboxes_max;
            let text = format!("{limit} named inboxes exist, the limit: use fewer names");
            return Err(Failure::new(Code::ResourceExhausted, text));
        }
        let peer = self.new_peer();
        let epoch = self.epoch();
        self.outbox.ready.push((peer, Event::Up { epoch, kept: Vec::new() }));
        self.command(Command::OpenCaller { peer: Peer(peer.0), inbox }, None);
        Ok(peer)
    }

    /// A worker connects; `Up` tells it which of its leases it still holds. An older peer of the same incarnation
    /// gets `Down { last: true }`.
    ///
    /// # Errors
    /// When the offer serves nothing or has no slots.
    pub fn open_worker(&mut self, offer: &Offer) -> Result<PeerId, Failure> {
        if offer.procedures.is_empty() {
            let text = "the worker offers no procedures: add a service before it starts";
            return Err(Failure::new(Code::InvalidArgument, text));
        }
        if !self.engine.takes_offer(offer) {
            let limit = self.options.limits.procedures_max;
            return Err(events::refused(&antiphon_engine::Refusal::ProceduresFull { limit }));
        }
        let peer = self.new_peer();
        self.command(Command::OpenWorker { peer: Peer(peer.0), offer }, None);
        Ok(peer)
    }

    /// A peer's connection has ended; its number may be given out again.
    pub fn close_peer(&mut self, peer: PeerId) {
        self.command(Command::Close { peer: Peer(peer.0) }, None);
        self.outbox.ready.retain(|(to, _)| *to != peer);
        self.outbox.gated.retain(|(_, to, _)| *to != peer || planted!("answers of an old connection go to a new one"));
        self.told.unfollow(peer);
        self.watches.end(peer);
        self.peers_free.push(peer.0);
    }

    /// Numbers a route, for as long as it is held.
    ///
    /// # Errors
    /// When it allows no attempt, there are too many, or durable calls are asked of a broker in memory.
    pub fn intern(&mut self, route: &Route) -> Result<RouteRef, Failure> {
        check_attempts(route)?;
        if route.shape.as_ref().is_some_and(|shape| shape.0.len() > SHAPE_PARAMETERS_MAX) {
            let text =
                format!("the shape of its arguments has more than {SHAPE_PARAMETERS_MAX} parameters: leave it out");
            return Err(Failure::new(Code::InvalidArgument, text));
        }
        self.engine.intern(route).map(RouteRef).map_err(|refusal| events::refused(&refusal))
    }

    /// Lets go of an interned route (at the end of a session).
    pub fn release_route(&mut self, route: RouteRef) {
        self.engine.release_route(route.0);
    }

    /// A caller hands over a call.
    pub fn submit(&mut self, peer: PeerId, submit: Submit) {
        let tag = submit.tag;
        if let Err(failure) = self.may_submit(&submit) {
            self.outbox.ready.push((peer, Event::Refused { tag, failure }));
            return;
        }
        let (key, trace, ties) = match submit.keys {
            None => (None, None, None),
            Some(keys) => {
                let tied = keys.is_tied();
                let ordering = keys.ordering.map(|key| (key, 0));
                let groups = keys.group.map(|group| (group, 0)).into_iter().collect();
                let (concurrency, parent) = (keys.concurrency, keys.parent);
                let ties = Ties { ordering, concurrency, parent, groups, ..Ties::default() };
                let ties = tied.then(|| Box::new(ties));
                let hash = hash_of(&submit.payload);
                (keys.idempotency.map(|key| (key, hash)), keys.trace, ties)
            }
        };
        let command = Command::Submit(antiphon_engine::Submit {
            peer: Peer(peer.0),
            tag,
            id: submit.id,
            route: submit.route.0,
            bytes: u32::try_from(submit.payload.bytes.len()).unwrap_or(u32::MAX),
            deadline_ms: submit.deadline_ms,
            start: match submit.start {
                // The clocks are cut to whole milliseconds: without one more, a call could start a part of one early.
                Start::In(ms) if ms > 0 => Start::In(ms.saturating_add(1)),
                Start::At(ms) => Start::At(ms.saturating_add(1)),
                start => start,
            },
            key,
            wants_acceptance: submit.wants != Wants::Outcome,
            wants_outcome: submit.wants != Wants::Acceptance,
            resent: submit.resent,
            revives: None,
            ties,
        });
        self.command(command, Some(Body::Arguments { payload: submit.payload, trace }));
    }

    /// What is refused before anything is decided or journaled.
    fn may_submit(&mut self, submit: &Submit) -> Result<(), Failure> {
        if let Some(poisoned) = &self.poisoned {
            return Err(poisoned.clone());
        }
        let bytes = submit.payload.bytes.len();
        let limit = self.options.payload_bytes_max;
        if bytes > limit as usize {
            let text = format!("the arguments have {bytes} bytes, the limit is {limit}: pass a reference instead");
            return Err(Failure::new(Code::ResourceExhausted, text));
        }
        if self.engine.is_event(submit.route.0) && !is_plain(submit) {
            let text = "an event takes no deadline, delay or keys, and has no outcome: give it an id to emit it once";
            return Err(Failure::new(Code::InvalidArgument, text));
        }
        if !self.engine.is_durable(submit.route.0) {
            return self.bodies.has_room(bytes, self.options.volatile_bytes_max);
        }
        self.make_room(bytes, Reserve::No)
    }

    pub(crate) fn make_room(&mut self, bytes: usize, reserve: Reserve) -> Result<(), Failure> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        match journal.make_room(Generation::Young, bytes + RECORD_BYTES, reserve) {
            Ok(()) => Ok(()),
            Err(error @ AppendError::Full { .. }) => {
                Err(Failure::new(Code::ResourceExhausted, error.to_string()).retry_after_ms(1_000))
            }
            Err(error @ AppendError::TooLarge { .. }) => Err(Failure::new(Code::InvalidArgument, error.to_string())),
            Err(AppendError::Poisoned(error)) => Err(self.poison(&error)),
            Err(error) => Err(Failure::new(Code::Internal, error.to_string())),
        }
    }

    /// From now on nothing is acknowledged any more.
    pub(crate) fn poison(&mut self, error: &dyn std::fmt::Display) -> Failure {
        self.poisoned.get_or_insert_with(|| Failure::new(Code::DataLoss, error.to_string()).may_have_run()).clone()
    }

    /// Why nothing is acknowledged any more, if so.
    #[must_use]
    pub fn poisoned(&self) -> Option<&Failure> {
        self.poisoned.as_ref()
    }

    /// A caller asks for the outcome of a call.
    pub fn attach(&mut self, peer: PeerId, id: CallId, tag: Tag) {
        self.command(Command::Attach { peer: Peer(peer.0), id, tag }, None);
    }

    /// A caller has handled an outcome.
    pub fn acknowledge(&mut self, peer: PeerId, id: CallId) {
        self.command(Command::Acknowledge { peer: Peer(peer.0), id }, None);
    }

    /// A caller asks to cancel a call.
    pub fn cancel(&mut self, peer: PeerId, id: CallId) {
        self.command(Command::Cancel { peer: Peer(peer.0), id }, None);
    }

    /// A worker has more slots, or fewer.
    pub fn credit(&mut self, peer: PeerId, slots: i32) {
        self.command(Command::Credit { peer: Peer(peer.0), slots }, None);
    }

    /// A worker prolongs a lease.
    pub fn extend(&mut self, peer: PeerId, lease: LeaseTag) {
        self.command(Command::Extend { peer: Peer(peer.0), lease }, None);
    }

    /// A procedure waits for a sub-call.
    pub fn park(&mut self, peer: PeerId, lease: LeaseTag, awaits: Option<CallId>) {
        self.command(Command::Park { peer: Peer(peer.0), lease, awaits }, None);
    }

    /// A procedure wants to go on.
    pub fn resume(&mut self, peer: PeerId, lease: LeaseTag) {
        self.command(Command::Resume { peer: Peer(peer.0), lease }, None);
    }

    /// A worker takes no more leases.
    pub fn drain(&mut self, peer: PeerId) {
        self.command(Command::Drain { peer: Peer(peer.0) }, None);
    }

    /// Runs what is due, then hands the outlet everything that may leave now. Returns how long until it must be
    /// called again even if nothing comes in; `None` is for ever. Commits are the owner's: see [`Driver::commit_need`].
    pub fn pump(&mut self, outlet: &mut dyn Outlet) -> Option<Duration> {
        if self.poisoned.is_none() {
            self.run_timetable();
            self.make_room_for_events();
            self.with(Generation::Young, None, |engine, now, output| engine.advance(now, STEPS_A_PUMP, output));
            self.sweep_a_little();
            self.tell_of_events();
            let now_ms = self.now().monotonic_ms;
            self.told.sweep(now_ms, |id| self.engine.is_under_way(id));
        }
        for (peer, event) in self.outbox.ready.drain(..) {
            outlet.event(peer, event);
        }
        self.open_gates(outlet);
        if self.poisoned.is_none() {
            self.answer_questions(outlet);
        } else {
            self.refuse_questions(outlet);
        }
        self.stale = true;
        self.next_wake()
    }

    /// Whatever waited for an fsync that has come leaves now. After a failed one, nothing does.
    fn open_gates(&mut self, outlet: &mut dyn Outlet) {
        let Some(journal) = &mut self.journal else { return };
        let durable = match journal.poll() {
            Ok(durable) => durable.as_u64(),
            Err(error) => {
                self.poison(&error);
                return;
            }
        };
        if self.poisoned.is_some() {
            return;
        }
        while self
            .outbox
            .gated
            .front()
            .is_some_and(|(gate, _, _)| *gate <= durable || planted!("gates open before fsync"))
        {
            if let Some((_, peer, event)) = self.outbox.gated.pop_front() {
                outlet.event(peer, event);
            }
        }
    }

    fn next_wake(&self) -> Option<Duration> {
        if self.sweep.is_some() || self.watches.are_behind() {
            return Some(Duration::ZERO);
        }
        let due = self.engine.next_wake();
        let due = due.map(|due_ms| Duration::from_millis(due_ms.saturating_sub(self.now.monotonic_ms)));
        due.into_iter().chain(self.timetable.next_wake(self.now)).chain(self.question_due(self.now.monotonic_ms)).min()
    }
}

/// Whether nothing is asked that only a call can have.
fn is_plain(submit: &Submit) -> bool {
    let keyed =
        submit.keys.as_ref().is_some_and(|keys| Keys { trace: keys.trace.clone(), ..Keys::default() } != **keys);
    submit.wants == Wants::Acceptance && submit.deadline_ms == 0 && submit.start == Start::Now && !keyed
}

/// FNV-1a of the arguments, to tell whether a key came back with others. It is journaled, so it never changes.
pub(crate) fn hash_of(payload: &Payload) -> u64 {
    let seed = 0xCBF2_9CE4_8422_2325 ^ u64::from(payload.content_type as u8);
    payload.bytes.iter().fold(seed, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3))
}
