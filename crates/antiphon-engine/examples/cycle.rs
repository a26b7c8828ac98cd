//! What one submit, lease and settle costs the engine alone: `cargo run --release -p antiphon-engine --example cycle`.
//!
//! Arguments: how many cycles (default 2,000,000), and how many calls wait in the queue meanwhile (default 0).

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
        self.next += 1;
        let mixed = self.next.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut random = [0; 10];
        random[..8].copy_from_slice(&mixed.to_le_bytes());
        let id = CallId::new(self.now.wall_ms, random);
        let route = self.routes[(self.next % 30) as usize];
        self.handle(Command::Submit(Submit {
            peer: CALLER,
            tag: self.next,
            id,
            route,
            bytes: 100,
            deadline_ms,
            start: Start::Now,
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
        self.now.monotonic_ms += 1;
        self.now.wall_ms += 1;
        self.engine.advance(self.now, 4_096, &mut self.sink);
        for (lease, call) in std::mem::take(&mut self.sink.leases) {
            self.handle(Command::Report { peer: WORKER, lease, call, end: End::Succeed { bytes: 100 } });
        }
        for id in std::mem::take(&mut self.sink.outcomes) {
            self.handle(Command::Acknowledge { peer: CALLER, id });
        }
    }
}

#[allow(clippy::cast_precision_loss)]
fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.replace('_', "").parse().ok());
    let cycles: u64 = arguments.next().unwrap_or(2_000_000);
    let waiting: u64 = arguments.next().unwrap_or(0);
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
    let start = Instant::now();
    for _ in 0..cycles / 64 {
        bench.cycle();
    }
    let each = start.elapsed().as_nanos() as f64 / (cycles / 64 * 64) as f64;
    println!("{each:.0} ns a cycle, {:.2} M cycles/s; 10 classes, 3 tenants, 30 s deadlines", 1_000.0 / each);
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}
