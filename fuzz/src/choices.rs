//! Fields of frames, chosen by the bytes of an input from small pools, so that frames refer to each other.

use antiphon_broker::{Lease, Submission, Wants};
use antiphon_protocol::{
    Backoff, Bulk, Call, CallFilter, CallId, Callback, CallbackOn, CancelAnswer, Code, ContentType, Deed, Durability,
    Failure, Group, GroupKind, HeldLease, IncarnationId, Key, Keys, LeaseTag, Misfire, Name, Offer, OfferedProcedure,
    Overlap, Pattern, Payload, Priority, Query, Recurrence, Route, Schedule, Setting, Settlement, Shape, Start, State,
    Subscription, Topic,
};
use antiphon_wire::{Hello, Role};
use std::sync::Arc;

/// How many questions there are.
pub(crate) const QUERIES: u8 = 22;

/// Reads choices from an input; after its end all are 0.
pub(crate) struct Choices<'a>(pub &'a [u8]);

impl Choices<'_> {
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub fn below(&mut self, bound: u8) -> u8 {
        self.byte() % bound
    }

    /// A number that is mostly small, sometimes at an edge.
    pub fn number(&mut self) -> u64 {
        const EDGES: [u64; 4] = [u64::MAX, i64::MAX as u64, u32::MAX as u64, i32::MAX as u64];
        let small = self.byte();
        if small % 16 < 15 {
            return u64::from(small);
        }
        EDGES.get(usize::from(self.below(4))).copied().unwrap_or(0)
    }

    pub fn id(&mut self) -> CallId {
        CallId::new(1_700_000_000_000 + u64::from(self.below(4)), [self.below(8); 10])
    }

    pub fn lease(&mut self) -> LeaseTag {
        LeaseTag { slot: self.number() as u32, token: 1 << 40 | self.number() }
    }

    pub fn payload(&mut self) -> Payload {
        let length = usize::from(self.byte()) * if self.byte() == 7 { 4_096 } else { 1 };
        Payload::raw(vec![self.byte(); length])
    }

    pub fn failure(&mut self) -> Failure {
        let codes = [Code::Internal, Code::Unavailable, Code::Cancelled, Code::DeadlineExceeded];
        let code = codes.get(usize::from(self.below(4))).copied().unwrap_or(Code::Unknown);
        Failure::new(code, "x".repeat(usize::from(self.byte())))
    }

    pub fn name(&mut self) -> Name {
        let names = [Name::from_static("a.b"), Name::from_static("a.c"), Name::from_static("other")];
        names.into_iter().nth(usize::from(self.below(3))).unwrap_or_else(|| Name::from_static("a.b"))
    }

    pub fn route(&mut self) -> Route {
        let mut route = Route::new(self.name());
        let flags = self.byte();
        route.idempotent = flags & 1 != 0;
        route.at_most_once = flags & 2 != 0;
        route.attempts = u16::from(self.below(5)).max(1);
        route.priority = Priority::new(self.below(10)).unwrap_or_default();
        route.durability = (flags & 4 != 0).then_some(Durability::Volatile);
        route.tenant = (flags & 8 != 0).then(|| self.name());
        route.event = flags & 0x30 == 0x30;
        if flags & 0xC0 == 0xC0 {
            self.ties(&mut route);
        }
        route
    }

    /// What few routes have.
    fn ties(&mut self, route: &mut Route) {
        route.lane = (self.below(2) == 0).then(|| self.name());
        route.concurrency = u32::from(self.below(3)).max(1);
        route.labels = (0..self.below(3)).map(|_| self.name()).collect();
        route.slots = self.below(4).max(1);
        route.backoff = Backoff { first_ms: self.number() as u32, ..Backoff::DEFAULT };
        route.attempt_timeout_ms = self.number() as u32;
        route.shape = (self.below(2) == 0).then(|| Shape(vec![self.number() as u32; usize::from(self.below(3))]));
        if self.below(4) == 0 {
            route.callbacks.push(self.callback());
        }
        if self.below(4) == 0 {
            let kinds = [GroupKind::All, GroupKind::First(self.number() as u32), GroupKind::Settled];
            let kind = kinds.get(usize::from(self.below(3))).copied().unwrap_or(GroupKind::All);
            route.group = Some(Group { kind, cancel_rest: self.below(2) == 0, unsealed_ms: self.number() });
        }
    }

    fn callback(&mut self) -> Callback {
        let on = CallbackOn::from_number(self.below(4)).unwrap_or(CallbackOn::Outcome);
        Callback { on, route: Route::new(self.name()) }
    }

    pub fn topic(&mut self) -> Topic {
        Topic::try_from(self.name()).expect("the names of the pool are topics")
    }

    pub fn pattern(&mut self) -> Pattern {
        let patterns = ["a.*", "a.b", ">", "*"];
        let text = patterns.get(usize::from(self.below(4))).copied().unwrap_or(">");
        Pattern::new(text).expect("those of the pool are patterns")
    }

    fn key(&mut self) -> Option<Key> {
        Key::new(&"k".repeat(1 + usize::from(self.below(3)))).ok()
    }

    pub fn submission(&mut self) -> Submission {
        let mut call = Call::new(self.id(), Arc::new(Route::new(Name::from_static("a.b"))), self.payload());
        call.deadline_ms = self.number();
        call.start = match self.below(4) {
            0 => Start::In(self.number()),
            1 => Start::At(self.number()),
            _ => Start::Now,
        };
        if self.below(3) == 0 {
            let which = self.byte();
            let keys = Keys {
                idempotency: if which & 1 == 0 { self.key() } else { None },
                trace: (which & 2 == 0).then(|| "00-1".into()),
                ordering: if which & 12 == 12 { self.key() } else { None },
                concurrency: if which & 20 == 20 { self.key() } else { None },
                group: (which & 36 == 36).then(|| self.id()),
                parent: (which & 68 == 68).then(|| self.id()),
            };
            call.keys = Some(Box::new(keys));
        }
        let wants = [Wants::Outcome, Wants::AcceptanceAndOutcome, Wants::Acceptance];
        let wants = wants.get(usize::from(self.below(3))).copied().unwrap_or(Wants::Outcome);
        Submission { call, tag: self.number(), wants, resent: self.below(4) == 0 }
    }

    pub fn offer(&mut self) -> Offer {
        let count = self.below(4);
        let offered = |choices: &mut Self| OfferedProcedure { name: choices.name(), idempotent: true, schema: None };
        Offer {
            incarnation: IncarnationId([self.below(4); 16]),
            name: Name::from_static("w"),
            procedures: (0..count).map(|_| offered(self)).collect(),
            slots: self.number() as u32,
            labels: (0..self.below(2)).map(|_| self.name()).collect(),
            held: (0..self.below(3)).map(|_| HeldLease { call: self.id(), lease: self.lease() }).collect(),
        }
    }

    pub fn settlement(&mut self) -> Settlement {
        match self.below(6) {
            0 => Settlement::Succeed(self.payload()),
            1 => Settlement::Fail(self.failure()),
            2 => Settlement::Retry(self.failure()),
            3 => Settlement::Bury(self.failure()),
            4 => Settlement::Release,
            _ => Settlement::Stop,
        }
    }

    pub fn query(&mut self) -> Query {
        let which = self.below(QUERIES);
        self.query_of(which)
    }

    /// The question with this number, below [`QUERIES`].
    pub fn query_of(&mut self, which: u8) -> Query {
        match which {
            0 => Query::Status(self.id()),
            1 => Query::Calls(self.filter()),
            2 => Query::Procedures,
            3 => Query::Workers,
            4 => Query::Broker,
            5 => Query::Drain(self.name()),
            6 => Query::Revive { dead: self.id(), id: self.id() },
            7 => Query::Purge(self.id()),
            8 => Query::Explain(self.id()),
            9 => {
                let deeds = [Deed::Cancel, Deed::Revive, Deed::Purge];
                let deed = deeds.get(usize::from(self.below(3))).copied().unwrap_or(Deed::Cancel);
                let cursor = (self.below(2) == 0).then(|| self.number() as u32);
                Query::Bulk(Bulk { deed, filter: self.filter(), dry_run: self.below(2) == 0, cursor })
            }
            10 => Query::AddCallback { call: self.id(), callback: Box::new(self.callback()) },
            11 => Query::Group {
                id: self.id(),
                from: self.number() as u32,
                limit: self.number() as u32,
                wait_ms: self.number() as u32,
            },
            12 => Query::Seal(self.id()),
            13 => Query::Join { group: self.id(), call: self.id() },
            14 => Query::Configure {
                procedure: self.name(),
                changes: (0..self.below(3)).map(|_| self.change()).collect(),
            },
            15 => {
                let (name, pattern) = (self.name(), self.pattern());
                Query::Subscribe(Box::new(Subscription { name, pattern, route: Route::new(self.name()) }))
            }
            16 => Query::Unsubscribe(self.name()),
            17 => Query::Schedule(Box::new(self.schedule())),
            18 => Query::Unschedule(self.name()),
            19 => Query::PauseSchedule { name: self.name(), paused: self.below(2) == 0 },
            20 => Query::Schedules,
            _ => Query::Subscriptions {
                topic: (self.below(2) == 0).then(|| self.topic()),
                after: (self.below(2) == 0).then(|| self.name()),
            },
        }
    }

    fn filter(&mut self) -> CallFilter {
        CallFilter {
            state: State::from_number(self.below(9)),
            procedure: (self.below(2) == 0).then(|| self.name()),
            tenant: (self.below(4) == 0).then(|| self.name()),
            label: (self.below(4) == 0).then(|| self.name()),
            since_ms: self.number(),
            until_ms: self.number(),
            limit: self.number() as u32,
        }
    }

    fn change(&mut self) -> (Setting, Option<u64>) {
        let setting = Setting::from_number(self.below(16)).unwrap_or(Setting::QueuedMax);
        (setting, (self.below(3) != 0).then(|| self.number()))
    }

    fn schedule(&mut self) -> Schedule {
        let recurrence = match self.below(3) {
            // Not so often that its calls are all there is.
            0 | 1 => Recurrence::Every(1_000 + self.number() / 2),
            _ => Recurrence::Cron { expression: "* * * * *".into(), zone: "Europe/Berlin".into() },
        };
        let overlaps = [Overlap::Allow, Overlap::Skip, Overlap::Queue, Overlap::Cancel];
        let misfires = [Misfire::Once, Misfire::All(self.number() as u16), Misfire::Skip];
        Schedule {
            name: self.name(),
            recurrence,
            route: Route::new(self.name()),
            content_type: ContentType::Json,
            arguments: b"null".to_vec(),
            overlap: overlaps.get(usize::from(self.below(4))).copied().unwrap_or_default(),
            misfire: misfires.get(usize::from(self.below(3))).copied().unwrap_or_default(),
        }
    }

    pub fn cancel_answer(&mut self) -> CancelAnswer {
        match self.below(7) {
            0 => CancelAnswer::NeverRan,
            1 => CancelAnswer::BetweenAttempts,
            2 => CancelAnswer::Children,
            3 => CancelAnswer::Stopping { worker: self.name() },
            4 => CancelAnswer::AlreadySettled(State::from_number(self.below(8)).unwrap_or(State::Ready)),
            5 => CancelAnswer::NotFound,
            _ => CancelAnswer::NotReached,
        }
    }

    pub fn granted(&mut self) -> Lease {
        Lease {
            lease: self.lease(),
            call: self.id(),
            procedure: self.number() as u32,
            attempt: self.number() as u16,
            attempts_max: self.number() as u16,
            lease_ms: self.number() as u32,
            attempt_timeout_ms: self.number() as u32,
            deadline_ms: self.number(),
            payload: self.payload(),
            trace: (self.below(3) == 0).then(|| "00-1".into()),
        }
    }

    pub fn hello(&mut self, role: Role) -> Hello {
        Hello {
            version_min: 1,
            version_max: 1,
            role,
            auth: 0,
            peer: [self.below(4); 16],
            session: self.number(),
            inbox: (self.below(4) == 0).then(|| self.name()),
            credentials: Vec::new(),
            agent: "fuzz".to_owned(),
        }
    }
}
