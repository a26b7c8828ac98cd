//! Recurring calls on a virtual clock: one call for each tick, over restarts and clocks that are set.

use antiphon_broker::{Event, Inbox, Wants};
use antiphon_embedded::{Clock, Driver, DriverOptions, Outlet, PeerId, Submit};
use antiphon_engine::Now;
use antiphon_protocol::{
    Answer, CallFilter, CallId, CallStatus, CallerId, Change, ContentType, IncarnationId, Misfire, Name, Offer,
    OfferedProcedure, Overlap, Payload, Query, Recurrence, Route, Schedule, ScheduleStatus, Settlement, Start, State,
};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// 2026-01-05, a Monday, 00:00 UTC.
const START_MS: u64 = 1_767_571_200_000;

/// A wall clock that is set, beside a monotonic one that only goes on.
#[derive(Default)]
struct Virtual {
    monotonic_ms: AtomicU64,
    wall_ms: AtomicU64,
}

impl Clock for Virtual {
    fn now(&self) -> Now {
        let (monotonic_ms, wall_ms) = (self.monotonic_ms.load(Ordering::SeqCst), self.wall_ms.load(Ordering::SeqCst));
        Now { monotonic_ms, wall_ms }
    }
}

#[derive(Default)]
struct Told {
    events: VecDeque<Event>,
    answers: VecDeque<Answer>,
}

impl Outlet for Told {
    fn event(&mut self, _: PeerId, event: Event) {
        self.events.push_back(event);
    }

    fn answer(&mut self, _: u64, answer: Answer) {
        self.answers.push_back(answer);
    }
}

struct World {
    driver: Option<Driver>,
    clock: Arc<Virtual>,
    told: Told,
    directory: Option<tempfile::TempDir>,
}

impl World {
    fn new(durable: bool) -> Self {
        let clock = Arc::new(Virtual::default());
        clock.monotonic_ms.store(1, Ordering::SeqCst);
        clock.wall_ms.store(START_MS, Ordering::SeqCst);
        let directory = durable.then(|| tempfile::tempdir().unwrap());
        let mut world = Self { driver: None, clock, told: Told::default(), directory };
        world.open();
        world
    }

    fn open(&mut self) {
        self.driver = None;
        let directory = self.directory.as_ref().map(|directory| directory.path()).map(Path::to_path_buf);
        let options = DriverOptions { directory, clock: self.clock.clone(), ..DriverOptions::default() };
        self.driver = Some(Driver::open(options, Arc::new(|| ())).unwrap());
    }

    fn pump(&mut self) {
        let driver = self.driver.as_mut().unwrap();
        for _ in 0..3 {
            driver.pump(&mut self.told);
            driver.commit_here().unwrap();
        }
        driver.pump(&mut self.told);
    }

    fn ask(&mut self, query: Query) -> Answer {
        self.pump();
        self.driver.as_mut().unwrap().ask(query, 1);
        self.pump();
        self.told.answers.pop_front().unwrap()
    }

    /// Time passes on both clocks.
    fn pass(&mut self, ms: u64) {
        self.clock.monotonic_ms.fetch_add(ms, Ordering::SeqCst);
        self.clock.wall_ms.fetch_add(ms, Ordering::SeqCst);
        self.pump();
    }

    fn add(&mut self, recurrence: Recurrence, overlap: Overlap, misfire: Misfire) -> Answer {
        let schedule = Schedule {
            name: Name::from_static("s"),
            recurrence,
            route: Route::new(Name::from_static("a.tick")),
            content_type: ContentType::Json,
            arguments: b"7".to_vec(),
            overlap,
            misfire,
        };
        self.ask(Query::Schedule(Box::new(schedule)))
    }

    /// All calls, oldest tick first: their ticks in seconds after the start, and their states.
    fn calls(&mut self) -> Vec<(u64, State)> {
        let mut calls: Vec<CallStatus> =
            match self.ask(Query::Calls(CallFilter { limit: 1_000, ..CallFilter::default() })) {
                Answer::Calls(calls) => calls,
                other => panic!("{other:?}"),
            };
        calls.sort_by_key(|call| call.id);
        calls.iter().map(|call| ((call.id.unix_ms() - START_MS) / 1_000, call.state)).collect()
    }

    fn ticks(&mut self) -> Vec<u64> {
        self.calls().into_iter().map(|(tick, _)| tick).collect()
    }

    fn status(&mut self) -> ScheduleStatus {
        match self.ask(Query::Schedules) {
            Answer::Schedules(mut all) => all.pop().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// A worker comes, and answers what it gets.
    fn work(&mut self) {
        let procedures = vec![OfferedProcedure { name: Name::from_static("a.tick"), idempotent: false, schema: None }];
        let offer = Offer {
            incarnation: IncarnationId([7; 16]),
            name: Name::from_static("w"),
            procedures,
            slots: 100,
            labels: Vec::new(),
            held: Vec::new(),
        };
        let peer = self.driver.as_mut().unwrap().open_worker(&offer).unwrap();
        self.pump();
        while let Some(event) = self.told.events.pop_front() {
            let Event::Lease(lease) = event else { continue };
            assert_eq!(&*lease.payload.bytes, b"7");
            let settlement = Settlement::Succeed(lease.payload.clone());
            let report = antiphon_broker::Report { lease: lease.lease, call: lease.call, settlement };
            self.driver.as_mut().unwrap().report(peer, report);
        }
        self.pump();
        self.driver.as_mut().unwrap().close_peer(peer);
        self.pump();
    }
}

#[test]
fn each_tick_is_one_call_though_the_broker_is_killed_around_each() {
    let mut world = World::new(true);
    world.add(Recurrence::Every(10_000), Overlap::Allow, Misfire::Once);
    for _ in 0..12 {
        world.pass(5_000);
        world.open();
        world.pump();
        world.open();
    }
    assert_eq!(world.ticks(), [10, 20, 30, 40, 50, 60]);
    world.work();
    assert!(world.calls().iter().all(|(_, state)| *state == State::Succeeded));
    world.open();
    assert_eq!(world.ticks(), [10, 20, 30, 40, 50, 60]);
}

#[test]
fn what_becomes_of_missed_ticks_is_the_policys() {
    for (misfire, expected) in [
        (Misfire::Once, vec![10, 60, 70]),
        (Misfire::All(3), vec![10, 40, 50, 60, 70]),
        (Misfire::All(100), vec![10, 20, 30, 40, 50, 60, 70]),
        (Misfire::Skip, vec![10, 70]),
    ] {
        let mut world = World::new(true);
        world.add(Recurrence::Every(10_000), Overlap::Allow, misfire);
        world.pass(10_000);
        world.driver = None;
        world.clock.wall_ms.fetch_add(65_000, Ordering::SeqCst);
        world.open();
        assert_eq!(world.ticks(), expected, "{misfire:?}");
    }
}

#[test]
fn a_clock_that_is_set_makes_no_tick_twice() {
    let mut world = World::new(true);
    world.add(Recurrence::Every(10_000), Overlap::Allow, Misfire::Once);
    world.pass(30_000);
    world.clock.wall_ms.fetch_sub(25_000, Ordering::SeqCst);
    world.pump();
    world.pass(20_000);
    world.open();
    world.pass(4_000);
    assert_eq!(world.ticks(), [10, 20, 30], "ticks that were made are not made again");
    world.pass(11_000);
    assert_eq!(world.ticks(), [10, 20, 30, 40]);
    // And forward: what was leapt over was missed.
    world.clock.wall_ms.fetch_add(3_600_000, Ordering::SeqCst);
    world.pump();
    assert_eq!(world.ticks().len(), 7, "one of those that were missed, and the last two, which are on time");
}

#[test]
fn overlapping_ticks_do_as_they_are_told() {
    let every = || Recurrence::Every(10_000);
    let expected = [
        (Overlap::Allow, vec![(10, State::Ready), (20, State::Ready), (30, State::Ready)]),
        (Overlap::Skip, vec![(10, State::Ready)]),
        (Overlap::Queue, vec![(10, State::Ready)]),
        (Overlap::Cancel, vec![(10, State::Cancelled), (20, State::Cancelled), (30, State::Ready)]),
    ];
    for (overlap, calls) in expected {
        let mut world = World::new(true);
        world.add(every(), overlap, Misfire::Once);
        for _ in 0..3 {
            world.pass(10_000);
        }
        assert_eq!(world.calls(), calls, "{overlap:?}");
        world.open();
        world.work();
        world.pump();
        let queued = [(10, State::Succeeded), (20, State::Leased)];
        if overlap == Overlap::Queue {
            assert_eq!(world.calls(), queued, "the first that waited comes when the one before has settled");
            assert_eq!(world.status().queued_ms, 0);
        }
    }
}

#[test]
fn a_schedule_is_replaced_paused_resumed_and_removed() {
    let mut world = World::new(true);
    let cron =
        |expression: &str| Recurrence::Cron { expression: expression.to_owned(), zone: "Europe/Berlin".to_owned() };
    assert_eq!(world.add(cron("0 9 * * *"), Overlap::Queue, Misfire::Once), Answer::Changed(Change::Added));
    assert_eq!(world.add(cron("0 9 * * *"), Overlap::Queue, Misfire::Once), Answer::Changed(Change::Unchanged));
    assert_eq!(world.status().next_ms[0], START_MS + 8 * 3_600_000, "9 in Berlin is 8 in UTC");
    assert_eq!(world.add(cron("0 10 * * *"), Overlap::Queue, Misfire::Once), Answer::Changed(Change::Replaced));
    world.open();
    assert_eq!(world.status().next_ms[..2], [9, 33].map(|hours| START_MS + hours * 3_600_000));
    let name = Name::from_static("s");
    world.ask(Query::PauseSchedule { name: name.clone(), paused: true });
    world.open();
    world.pass(10 * 3_600_000);
    assert!(world.status().paused && world.ticks().is_empty());
    world.ask(Query::PauseSchedule { name: name.clone(), paused: false });
    world.pass(24 * 3_600_000);
    assert_eq!(world.ticks(), [33 * 3_600]);
    world.ask(Query::Unschedule(name));
    world.open();
    world.pass(48 * 3_600_000);
    assert_eq!(world.ask(Query::Schedules), Answer::Schedules(Vec::new()));
    let wrong = world.add(Recurrence::Every(10), Overlap::Queue, Misfire::Once);
    assert!(matches!(wrong, Answer::Refused { .. }), "{wrong:?}");
}

#[test]
fn a_broker_in_memory_has_schedules_too() {
    let mut world = World::new(false);
    world.add(Recurrence::Every(1_000), Overlap::Allow, Misfire::Once);
    world.pass(1_000);
    world.work();
    assert_eq!(world.calls(), [(1, State::Succeeded)]);
}

#[test]
fn a_delayed_call_starts_at_no_reading_of_a_clock_before_its_time() {
    for start in [Start::At(START_MS + 200), Start::In(200)] {
        let mut world = World::new(false);
        let driver = world.driver.as_mut().unwrap();
        let caller = driver.open_caller(Inbox::Anonymous(CallerId([1; 16]))).unwrap();
        let route = driver.intern(&Route::new(Name::from_static("a.tick"))).unwrap();
        let (id, payload) = (CallId::new(START_MS, [1; 10]), Payload::json("7"));
        let wants = Wants::Acceptance;
        let submit = Submit { id, tag: 0, route, payload, deadline_ms: 0, start, keys: None, wants, resent: false };
        driver.submit(caller, submit);
        world.work();
        // Both clocks are cut to whole milliseconds: while one steps 200 times, the other may have stepped 199 times.
        world.clock.monotonic_ms.fetch_add(200, Ordering::SeqCst);
        world.clock.wall_ms.fetch_add(199, Ordering::SeqCst);
        world.work();
        assert_eq!(world.calls(), [(0, State::Scheduled)], "{start:?}");
        world.pass(1);
        world.work();
        assert_eq!(world.calls(), [(0, State::Succeeded)], "{start:?}");
    }
}
