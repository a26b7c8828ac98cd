//! Segments are recycled under way, and restarts find exactly what there was: nothing lost, nothing risen again.

use antiphon_broker::{Event, Inbox, Lease, Report, Wants};
use antiphon_embedded::{Clock, Driver, DriverOptions, Outlet, PeerId, Submit};
use antiphon_engine::{Now, Record};
use antiphon_journal::{Directory, Entry, Generation, Journal, Options, Reserve, Role};
use antiphon_protocol::{
    Answer, CallId, CallerId, Code, Failure, IncarnationId, Key, Keys, Knowledge, Name, Offer, OfferedProcedure,
    Outcome, Pattern, Payload, Query, Route, Settlement, Start, State, Subscription,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// Time stands still: delayed calls stay delayed.
struct Still;

impl Clock for Still {
    fn now(&self) -> Now {
        Now { monotonic_ms: 1_000, wall_ms: 1_790_000_000_000 }
    }
}

#[derive(Default)]
struct Heard {
    leases: Vec<Lease>,
    answers: BTreeMap<u64, Answer>,
    accepted: u64,
    refused: Vec<Failure>,
    outcomes: Vec<(CallId, Outcome)>,
}

impl Outlet for Heard {
    fn event(&mut self, _: PeerId, event: Event) {
        match event {
            Event::Lease(lease) => self.leases.push(lease),
            Event::Accepted { .. } => self.accepted += 1,
            Event::Refused { failure, .. } => self.refused.push(failure),
            Event::Outcome { id, outcome, .. } => self.outcomes.push((id, outcome)),
            _ => {}
        }
    }

    fn answer(&mut self, ticket: u64, answer: Answer) {
        self.answers.insert(ticket, answer);
    }
}

struct World {
    driver: Driver,
    heard: Heard,
    caller: PeerId,
    worker: PeerId,
    random: u64,
    next: u64,
    waiting: BTreeSet<CallId>,
    over: BTreeSet<CallId>,
}

fn small() -> Options {
    let mut journal = Options::new();
    journal.segment_bytes = 32 << 10;
    journal.young_bytes = 128 << 10;
    journal.threads = false;
    journal
}

fn open(directory: &Path) -> (Driver, PeerId, PeerId) {
    let mut options = DriverOptions { directory: Some(directory.to_owned()), ..DriverOptions::default() };
    options.clock = Arc::new(Still);
    options.limits.outcome_bytes = 4_000;
    options.journal = small();
    options.cache_bytes = 1_000;
    let mut driver = Driver::open(options, Arc::new(|| {})).unwrap();
    let caller = driver.open_caller(Inbox::Anonymous(CallerId([1; 16]))).unwrap();
    let procedure = OfferedProcedure { name: Name::from_static("p"), idempotent: true, schema: None };
    let worker = driver.open_worker(&Offer {
        incarnation: IncarnationId([2; 16]),
        name: Name::from_static("w"),
        procedures: vec![procedure],
        slots: 4,
        labels: Vec::new(),
        held: Vec::new(),
    });
    (driver, caller, worker.unwrap())
}

impl World {
    fn new(directory: &Path, seed: u64) -> Self {
        let (driver, caller, worker) = open(directory);
        let (waiting, over) = (BTreeSet::new(), BTreeSet::new());
        Self { driver, heard: Heard::default(), caller, worker, random: seed | 1, next: 0, waiting, over }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }

    fn submit(&mut self, start: Start) -> CallId {
        self.submit_with(start, None, 0)
    }

    /// A call with an idempotency key, whose arguments are of this kind.
    fn submit_keyed(&mut self, key: &str, kind: u8) -> CallId {
        self.submit_with(Start::Now, Some(key), kind)
    }

    fn submit_with(&mut self, start: Start, key: Option<&str>, kind: u8) -> CallId {
        self.next += 1;
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.next.to_le_bytes());
        let id = CallId::new(1_790_000_000_000 + self.next, random);
        let route = self.driver.intern(&Route::new(Name::from_static("p"))).unwrap();
        let bytes = if key.is_some() { 60 } else { 100 + (self.next % 300) as usize };
        let payload = Payload::raw(vec![if key.is_some() { kind } else { self.next as u8 }; bytes]);
        let wants = if key.is_some() { Wants::AcceptanceAndOutcome } else { Wants::Acceptance };
        let keys = key.map(|key| Box::new(Keys { idempotency: Some(Key::new(key).unwrap()), ..Keys::default() }));
        let submit = Submit { id, tag: 0, route, payload, deadline_ms: 0, start, keys, wants, resent: false };
        self.driver.submit(self.caller, submit);
        self.driver.release_route(route);
        self.turn();
        id
    }

    fn turn(&mut self) {
        self.driver.pump(&mut self.heard);
        self.driver.commit_here().unwrap();
        self.driver.pump(&mut self.heard);
    }

    fn step(&mut self) {
        match self.below(10) {
            0 | 1 => {
                let id = self.submit(Start::In(3_600_000));
                self.waiting.insert(id);
            }
            2 => {
                let skip = self.below(self.waiting.len().max(1) as u64) as usize;
                if let Some(id) = self.waiting.iter().nth(skip).copied() {
                    self.driver.cancel(self.caller, id);
                    self.turn();
                    self.waiting.remove(&id);
                    self.over.insert(id);
                }
            }
            _ => {
                let id = self.submit(Start::Now);
                let lease = self.heard.leases.pop().expect("a worker with free slots gets the call");
                assert_eq!(lease.call, id);
                assert_eq!(lease.payload.bytes.len(), 100 + (self.next % 300) as usize);
                let settlement = Settlement::Succeed(Payload::raw(vec![7; 50]));
                self.driver.report(self.worker, Report { lease: lease.lease, call: id, settlement });
                self.turn();
                self.over.insert(id);
            }
        }
    }

    fn knowledge(&mut self, id: CallId) -> Knowledge {
        self.driver.ask(Query::Status(id), 1);
        self.turn();
        match self.heard.answers.remove(&1) {
            Some(Answer::Status(knowledge)) => knowledge,
            other => panic!("{other:?}"),
        }
    }

    fn check(&mut self) {
        assert_eq!(self.heard.refused, []);
        for id in self.waiting.clone() {
            match self.knowledge(id) {
                Knowledge::Known(status) => assert_eq!(status.state, State::Scheduled, "{id} still waits"),
                other => panic!("{id} was accepted and is lost: {other:?}"),
            }
        }
        for id in self.over.clone() {
            if let Knowledge::Known(status) = self.knowledge(id) {
                assert!(status.state.is_settled(), "{id} had settled and is {} again", status.state);
            }
        }
    }
}

#[test]
fn restarts_after_recycling_lose_nothing_and_raise_nothing() {
    for seed in 1..=6 {
        let directory = tempfile::tempdir().unwrap();
        let mut world = World::new(directory.path(), seed);
        let (mut recycled, mut cold) = (0, 0);
        for _ in 0..5 {
            for _ in 0..400 {
                world.step();
            }
            let stats = world.driver.journal_stats().unwrap();
            recycled += stats.recycled;
            cold = cold.max(stats.segments_cold);
            let World { driver, heard, random, next, waiting, over, .. } = world;
            drop(driver);
            let (driver, caller, worker) = open(directory.path());
            world = World { driver, heard, caller, worker, random, next, waiting, over };
            assert!(!world.waiting.is_empty());
            world.check();
        }
        assert!(recycled > 10 && cold > 0, "segments were recycled ({recycled}) and survivors moved ({cold})");
    }
}

#[test]
fn a_call_that_moved_to_the_cold_log_is_still_delivered_whole() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::new(directory.path(), 9);
    let id = world.submit(Start::In(60_000));
    for _ in 0..600 {
        world.step();
    }
    assert!(world.driver.journal_stats().unwrap().segments_cold > 0);
    let Knowledge::Known(status) = world.knowledge(id) else { panic!("it is known") };
    assert_eq!(status.payload_bytes, 101);
}

#[test]
fn an_idempotency_key_stands_for_its_call_after_any_recycling_and_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::new(directory.path(), 11);
    let id = world.submit_keyed("invoice-7", 1);
    let lease = world.heard.leases.pop().unwrap();
    let settlement = Settlement::Succeed(Payload::raw(vec![9; 70]));
    world.driver.report(world.worker, Report { lease: lease.lease, call: id, settlement });
    world.turn();
    let mut recycled = 0;
    for _ in 0..3 {
        for _ in 0..400 {
            world.step();
        }
        recycled += world.driver.journal_stats().unwrap().recycled;
        let World { driver, random, next, waiting, over, .. } = world;
        drop(driver);
        let (driver, caller, worker) = open(directory.path());
        world = World { driver, heard: Heard::default(), caller, worker, random, next, waiting, over };
        world.submit_keyed("invoice-7", 1);
        let told = (id, Outcome::Reply(Payload::raw(vec![9; 70])));
        assert_eq!(
            (&world.heard.outcomes[..], world.heard.leases.len()),
            (&[told][..], 0),
            "the stored outcome, not a run"
        );
        world.submit_keyed("invoice-7", 2);
        let refused = world.heard.refused.pop().expect("other arguments are a conflict");
        assert_eq!(refused.code, Code::AlreadyExists, "{refused}");
    }
    assert!(recycled > 10, "the key's records have moved: {recycled} segments were recycled");
}

#[test]
fn a_dead_letter_is_compacted_whose_event_was_forgotten_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::new(directory.path(), 13);
    let (name, pattern) = (Name::from_static("s"), Pattern::new("t").unwrap());
    let subscription = Subscription { name, pattern, route: Route::new(Name::from_static("p")) };
    world.driver.ask(Query::Subscribe(Box::new(subscription)), 2);
    world.turn();
    let event = CallId::new(1_790_000_000_000, [9; 10]);
    let route = world.driver.intern(&Route { event: true, ..Route::new(Name::from_static("t")) }).unwrap();
    let (payload, wants) = (Payload::raw(vec![3; 40]), Wants::Acceptance);
    let start = Start::Now;
    let emit = Submit { id: event, tag: 0, route, payload, deadline_ms: 0, start, keys: None, wants, resent: false };
    world.driver.submit(world.caller, emit);
    world.turn();
    let Lease { lease, call, .. } = world.heard.leases.pop().expect("the subscription's call");
    let settlement = Settlement::Bury(Failure::new(Code::Unimplemented, "never"));
    world.driver.report(world.worker, Report { lease, call, settlement });
    world.turn();
    drop(world);
    // Both have been forgotten, and of the two only the event's segment was recycled before the restart.
    let storage = Arc::new(Directory::existing(directory.path()).unwrap());
    let mut journal = Journal::open(storage, small(), Arc::new(|| {}), &mut |_| {}).unwrap();
    let record = Record::Forgotten { id: event };
    let entry = Entry { key: record.key(), kind: record.kind() as u8, head: &[], body: &[] };
    journal.append(Generation::Young, Role::Delta, &entry, Reserve::Yes).unwrap();
    journal.commit().unwrap();
    drop(journal);
    let mut world = World::new(directory.path(), 14);
    world.next = 10_000;
    for _ in 0..600 {
        world.step();
    }
    assert!(world.driver.journal_stats().unwrap().recycled > 0, "its segment was emptied");
    let Knowledge::Known(status) = world.knowledge(call) else { panic!("a dead letter is kept") };
    assert_eq!(status.state, State::Dead);
}
