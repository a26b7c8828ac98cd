//! Turns an input into a conversation: each few bytes choose a frame and its fields from small pools, so that frames
//! refer to each other; what is left over is sent as it stands.

use antiphon_broker::{Event, Lease, Report, Submission, Wants};
use antiphon_protocol::{
    Answer, Call, CallFilter, CallId, CancelAnswer, Code, Durability, Epoch, Failure, HeldLease, IncarnationId, Key,
    Keys, LeaseTag, Name, Offer, OfferedProcedure, Outcome, Payload, Priority, Query, Route, Settlement, Start, State,
};
use antiphon_wire::{Hello, Outbound, Role};
use std::sync::Arc;

/// Reads choices from an input; after its end all are 0.
pub(crate) struct Choices<'a>(pub &'a [u8]);

impl Choices<'_> {
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, bound: u8) -> u8 {
        self.byte() % bound
    }

    /// A number that is mostly small, sometimes at an edge.
    fn number(&mut self) -> u64 {
        const EDGES: [u64; 4] = [u64::MAX, i64::MAX as u64, u32::MAX as u64, i32::MAX as u64];
        let small = self.byte();
        if small % 16 < 15 {
            return u64::from(small);
        }
        EDGES.get(usize::from(self.below(4))).copied().unwrap_or(0)
    }

    fn id(&mut self) -> CallId {
        CallId::new(1_700_000_000_000 + u64::from(self.below(4)), [self.below(8); 10])
    }

    fn lease(&mut self) -> LeaseTag {
        LeaseTag { slot: self.number() as u32, token: 1 << 40 | self.number() }
    }

    fn payload(&mut self) -> Payload {
        let length = usize::from(self.byte()) * if self.byte() == 7 { 4_096 } else { 1 };
        Payload::raw(vec![self.byte(); length])
    }

    fn failure(&mut self) -> Failure {
        let codes = [Code::Internal, Code::Unavailable, Code::Cancelled, Code::DeadlineExceeded];
        let code = codes.get(usize::from(self.below(4))).copied().unwrap_or(Code::Unknown);
        Failure::new(code, "x".repeat(usize::from(self.byte())))
    }

    fn name(&mut self) -> Name {
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
        route
    }

    fn submission(&mut self) -> Submission {
        let mut call = Call::new(self.id(), Arc::new(Route::new(Name::from_static("a.b"))), self.payload());
        call.deadline_ms = self.number();
        call.start = match self.below(4) {
            0 => Start::In(self.number()),
            1 => Start::At(self.number()),
            _ => Start::Now,
        };
        if self.below(3) == 0 {
            let idempotency = Key::new(&"k".repeat(1 + usize::from(self.below(3)))).ok();
            let mut keys = Keys::default();
            (keys.idempotency, keys.trace) = (idempotency, Some("00-1".into()));
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

    fn settlement(&mut self) -> Settlement {
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
        match self.below(8) {
            0 => Query::Status(self.id()),
            1 => Query::Calls(CallFilter { limit: self.number() as u32, ..CallFilter::default() }),
            2 => Query::Procedures,
            3 => Query::Workers,
            4 => Query::Broker,
            5 => Query::Drain(self.name()),
            6 => Query::Revive { dead: self.id(), id: self.id() },
            _ => Query::Purge(self.id()),
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

/// What a client says: mostly what one of its role may say, sometimes what only another may.
pub(crate) fn client_says(role: Role, choices: &mut Choices<'_>, out: &mut Outbound) {
    const CALLER: [u8; 8] = [0, 1, 2, 1, 3, 4, 5, 13];
    const WORKER: [u8; 8] = [7, 8, 9, 10, 8, 7, 11, 13];
    let menu = match role {
        Role::Caller => CALLER,
        Role::Worker => WORKER,
        Role::Inspector => [12; 8],
    };
    let choice = choices.byte();
    let in_role = menu.get(usize::from(choice % 8)).copied().unwrap_or(13);
    match if choice >= 250 { choices.byte() % 14 } else { in_role } {
        0 => out.route(choices.number() as u32 % 4, &choices.route()),
        1 | 2 => {
            let (tag, route, submission) = (choices.number(), choices.number() as u32 % 4, choices.submission());
            out.submit(tag, route, &submission);
        }
        3 => out.attach(choices.number(), choices.id()),
        4 => out.acknowledge(choices.id()),
        5 => out.cancel(choices.id()),
        6 => out.offer(&choices.offer()),
        7 => out.credit(choices.number() as i32),
        8 | 9 => {
            let (lease, call, settlement) = (choices.lease(), choices.id(), choices.settlement());
            out.report(&Report { lease, call, settlement });
        }
        10 => out.extend(choices.lease()),
        11 => out.drain(),
        12 => out.query(choices.number() as u32, &choices.query()),
        _ => out.ping(choices.number()),
    }
}

/// What a broker may say.
pub(crate) fn broker_says(choices: &mut Choices<'_>, out: &mut Outbound) {
    let event = match choices.byte() % 13 {
        0 => Event::Accepted { tag: choices.number(), id: choices.id(), duplicate: choices.byte() == 0, wait_ms: None },
        1 => Event::Refused { tag: choices.number(), failure: choices.failure() },
        2 | 3 => {
            let states = [State::Succeeded, State::Failed, State::Cancelled, State::Dead, State::Leased];
            let state = states.get(usize::from(choices.below(5))).copied().unwrap_or(State::Ready);
            let outcome = match choices.below(2) {
                0 => Outcome::Reply(choices.payload()),
                _ => Outcome::Failure(choices.failure()),
            };
            Event::Outcome { tag: choices.number(), id: choices.id(), state, attempts: 1, outcome }
        }
        4 => Event::CancelAnswered { id: choices.id(), answer: CancelAnswer::NeverRan },
        5 | 6 => Event::Lease(Lease {
            lease: choices.lease(),
            call: choices.id(),
            procedure: choices.number() as u32,
            attempt: choices.number() as u16,
            attempts_max: choices.number() as u16,
            lease_ms: choices.number() as u32,
            attempt_timeout_ms: choices.number() as u32,
            deadline_ms: choices.number(),
            payload: choices.payload(),
            trace: None,
        }),
        7 => Event::CancelAsked { lease: choices.lease() },
        8 => Event::Settled { lease: choices.lease() },
        9 => Event::Stale { lease: choices.lease() },
        10 => Event::DrainAsked,
        11 => Event::Up { epoch: Epoch(choices.number() as u32), kept: vec![choices.lease()] },
        _ => {
            let ticket = choices.number() as u32;
            return match choices.below(4) {
                0 => out.answer(ticket, &Answer::Purged),
                1 => out.goodbye(Code::Unavailable, choices.byte() == 0, "enough"),
                2 => out.pong(choices.number()),
                _ => out.answer(ticket, &Answer::Asked(3)),
            };
        }
    };
    out.event(&event);
}

/// All that is to be sent, as bytes.
pub(crate) fn bytes(mut out: Outbound) -> Vec<u8> {
    let mut all = Vec::new();
    while !out.is_empty() {
        let next = out.unsent().to_vec();
        out.advance(next.len());
        all.extend(next);
    }
    all
}
