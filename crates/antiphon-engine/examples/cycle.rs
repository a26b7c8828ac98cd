//! What one submit, lease and settle costs the engine alone: `cargo run --release -p antiphon-engine --example cycle`.
//!
//! Without arguments: beside a thousand and ten million queued calls, and of delayed calls that are due over an hour. With
//! numbers: how many cycles, and how many calls wait in the queue meanwhile. With `delayed`: of delayed calls only.

#![allow(clippy::indexing_slicing, reason = "a measurement that cannot go on fails")]

use antiphon_engine::{
    Body, Command, Effect, Effects, End, Engine, Gate, Handle, InboxKey, Limits, Now, Peer, Record, Role, Submit, Told,
    Urgency,
};
use antiphon_protocol::{
    CallId, CallerId, IncarnationId, LeaseTag, Name, Offer, OfferedProcedure, Priority, Route, Start,
};
use std::time::Instant;

const CALLER: Peer = Peer(0);
const WORKER: Peer = Peer(1);

/// Keeps the leases it is told of, and nothing else.
#[derive(Default)]
struct Sink {
    leases: Vec<(LeaseTag, CallId)>,
    outcomes: Vec<CallId>,
    handles: u64,
}

impl Effects for Sink {
    fn record(&mut self, _: &Record<'_>, _: Body, _: Role, _: Urgency) -> Handle {
        self.handles += 1;
        Handle(self.handles)
    }

    fn store(&mut self, _: Body) -> Handle {
        self.handles += 1;
        Handle(self.handles)
    }

    fn release(&mut self, _: Handle) {}

    fn begin_gathering(&mut self) {}

    fn gather(&mut self, _: Told) {}

    fn entomb(&mut self, _: CallId) {}

    fn emit(&mut self, _: Gate, effect: Effect) {
        match effect {
            Effect::Lease { grant, .. } => self.leases.push((grant.lease, grant.call)),
            Effect::Outcome { id, .. } => self.outcomes.push(id),
            _ => {}
        }
    }
}

struct Bench {
    engine: Engine,
    sink: Sink,
    now: Now,
    next: u64,
    routes: Vec<u32>,
}

impl Bench {
    fn new() -> Self {
        let now = Now { monotonic_ms: 1, wall_ms: 1_700_000_000_000 };
        let mut engine = Engine::new(Limits { calls_max: u32::MAX, ..Limits::new(true) }, 42, now);
        let mut routes = Vec::new();
        for number in 0..30_u8 {
            let mut route = Route::new(Name::from_static("bench.echo"));
            route.priority = Priority::new(number % 10).expect("0 to 9");
            route.tenant = Name::new(&format!("tenant-{}", number / 10)).ok();
            route.idempotent = true;
            routes.push(engine.intern(&route).expect("30 routes fit"));
        }
        let mut bench = Self { engine, sink: Sink::default(), now, next: 0, routes };
        bench.handle(Command::OpenCaller { peer: CALLER, inbox: InboxKey::Anonymous(CallerId([7; 16])) });
        bench
    }

    fn handle(&mut self, command: Command<'_>) {
        self.engine.handle(self.now, command, &mut self.sink);
    }

    fn open_worker(&mut self, slots: u32) {
        let procedure = OfferedProcedure { name: Name::from_static("bench.echo"), idempotent: true, schema: None };
        let name = Name::from_static("bench");
        let incarnation = IncarnationId([1; 16]);
        let offer =
            Offer { incarnation, name, procedures: vec![procedure], slots, labels: Vec::new(), held: Vec::new() };
        self.handle(Command::OpenWorker { peer: WORKER, offer: &offer });
    }

    fn submit(&mut self, deadline_ms: u64) {
        self.submit_at(deadline_ms, Start::Now);
    }

    fn submit_at(&mut self, deadline_ms: u64, start: Start) {
        self.next += 1;
        let mut random = [0; 10];
        random[..6].copy_from_slice(&self.next.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()[..6]);
        // The end of the id says which call it is.
        random[6..].copy_from_slice(&(self.next as u32).to_be_bytes());
        let id = CallId::new(self.now.wall_ms, random);
        let route = self.routes[(self.next % 30) as usize];
        self.handle(Command::Submit(Submit {
            peer: CALLER,
            tag: self.next,
            id,
            route,
            bytes: 100,
            deadline_ms,
            start,
            key: None,
            wants_acceptance: false,
            wants_outcome: true,
            resent: false,
            revives: None,
            ties: None,
        }));
    }

    /// A batch of 64: submitted, leased, settled, acknowledged.
    fn cycle(&mut self) {
        for _ in 0..64 {
            self.submit(30_000);
        }
        self.pass(1);
        self.settle();
    }

    fn pass(&mut self, ms: u64) {
        self.now.monotonic_ms += ms;
        self.now.wall_ms += ms;
        self.engine.advance(self.now, 4_096, &mut self.sink);
    }

    /// Whatever is leased is settled, and whatever is settled acknowledged; says of which calls.
    fn settle(&mut self) -> Vec<CallId> {
        let leases = std::mem::take(&mut self.sink.leases);
        for (lease, call) in &leases {
            let (lease, call) = (*lease, *call);
            self.handle(Command::Report { peer: WORKER, lease, call, end: End::Succeed { bytes: 100 } });
        }
        for id in std::mem::take(&mut self.sink.outcomes) {
            self.handle(Command::Acknowledge { peer: CALLER, id });
        }
        leases.into_iter().map(|(_, call)| call).collect()
    }
}

fn main() {
    if std::env::args().nth(1).is_some_and(|argument| argument == "delayed") {
        delays();
        return;
    }
    let arguments: Vec<u64> =
        std::env::args().skip(1).filter_map(|argument| argument.replace('_', "").parse().ok()).collect();
    if let [cycles, waiting @ ..] = arguments.as_slice() {
        beside(waiting.first().copied().unwrap_or(0), cycles / 5);
        return;
    }
    let (few, many) = (beside(1_000, 200_000), beside(10_000_000, 200_000));
    println!("a cycle beside ten million queued calls costs {:.2} times one beside a thousand", many / few);
    delays();
}

fn delays() {
    let (few, many) = (delayed(100_000), delayed(1_000_000));
    println!("each of a million delayed calls costs {:.2} times one of a hundred thousand", many / few);
}

/// Nanoseconds of a cycle while so many calls wait: the median of five runs of so many cycles.
#[allow(clippy::cast_precision_loss)]
fn beside(waiting: u64, cycles: u64) -> f64 {
    let mut bench = Bench::new();
    let start = Instant::now();
    for _ in 0..waiting {
        bench.submit(0);
    }
    if waiting > 0 {
        let each = start.elapsed().as_nanos() as f64 / waiting as f64;
        println!("{waiting} calls queued, {each:.0} ns each; resident {} MiB", resident_mib());
    }
    bench.open_worker(64);
    for _ in 0..1_000 {
        bench.cycle();
    }
    let mut runs: Vec<f64> = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..(cycles / 64).max(1) {
            bench.cycle();
        }
        runs.push(start.elapsed().as_nanos() as f64 / ((cycles / 64).max(1) * 64) as f64);
    }
    runs.sort_by(f64::total_cmp);
    let each = runs[2];
    println!("{each:.0} ns a cycle, {:.2} M cycles/s; 10 classes, 3 tenants, 30 s deadlines", 1_000.0 / each);
    each
}

/// Nanoseconds for each of so many calls that are due over an hour of virtual time, from its submission to its end.
#[allow(clippy::cast_precision_loss)]
fn delayed(calls: u64) -> f64 {
    const HOUR_MS: u64 = 3_600_000;
    let mut bench = Bench::new();
    bench.open_worker(1_000);
    let (start, mut part) = (Instant::now(), Part::begin());
    let (mut due, mut submissions) = (vec![0], Vec::new());
    for number in 1..=calls {
        let delay_ms = 1 + number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % HOUR_MS;
        due.push(bench.now.monotonic_ms + delay_ms);
        bench.submit_at(0, Start::In(delay_ms));
        submissions.extend(part.end_of_tenth(number, calls));
    }
    let (mut ended, mut late, mut ends) = (0, 0, Vec::new());
    part = Part::begin();
    while ended < calls {
        let wake = bench.engine.next_wake().expect("calls are left").max(bench.now.monotonic_ms);
        bench.pass(wake - bench.now.monotonic_ms);
        for call in bench.settle() {
            let [.., a, b, c, d] = call.to_bytes();
            let due_ms = due[u32::from_be_bytes([a, b, c, d]) as usize];
            assert!(due_ms <= bench.now.monotonic_ms, "{call} starts early");
            late += u64::from(due_ms < bench.now.monotonic_ms);
            ended += 1;
            ends.extend(part.end_of_tenth(ended, calls));
        }
    }
    let each = start.elapsed().as_nanos() as f64 / calls as f64;
    println!("{calls} delayed calls over an hour, {each:.0} ns each; none early, {late} late by a millisecond or more");
    println!("  of each tenth, submitted: {}; started and ended: {}", nanoseconds(&submissions), nanoseconds(&ends));
    each
}

/// The time of a tenth of the calls.
struct Part(Instant);

impl Part {
    fn begin() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds for each call of a tenth, at the end of it.
    #[allow(clippy::cast_precision_loss)]
    fn end_of_tenth(&mut self, done: u64, calls: u64) -> Option<f64> {
        done.is_multiple_of(calls / 10).then(|| {
            let each = self.0.elapsed().as_nanos() as f64 / (calls / 10) as f64;
            *self = Self::begin();
            each
        })
    }
}

fn nanoseconds(tenths: &[f64]) -> String {
    let texts: Vec<String> = tenths.iter().map(|each| format!("{each:.0}")).collect();
    format!("{} ns", texts.join(" "))
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}
