//! The figures that the order of calls is to keep, on virtual time: fair shares, growth with the workers, no delayed
//! call early.

use crate::order::Random;
use antiphon_engine::{
    Body, Command, Effect, Effects, End, Engine, Gate, Handle, InboxKey, Limits, Now, Peer, Record, Role, Submit, Ties,
    Told, Urgency,
};
use antiphon_protocol::{CallId, CallerId, IncarnationId, LeaseTag, Name, Offer, OfferedProcedure, Route, Start};
use std::collections::{BTreeMap, HashMap};

const CALLER: Peer = Peer(0);

/// Keeps the leases it is told of, and counts everything.
#[derive(Default)]
pub struct Sink {
    handles: u64,
    /// Records, bodies kept and let go, children gathered, words to peers.
    pub done: u64,
    leases: Vec<(Peer, LeaseTag, CallId)>,
}

impl Effects for Sink {
    fn record(&mut self, _: &Record<'_>, _: Body, _: Role, _: Urgency) -> Handle {
        self.store(Body::None)
    }

    fn store(&mut self, _: Body) -> Handle {
        self.handles += 1;
        self.done += 1;
        Handle(self.handles)
    }

    fn release(&mut self, _: Handle) {
        self.done += 1;
    }

    fn begin_gathering(&mut self) {}

    fn gather(&mut self, _: Told) {
        self.done += 1;
    }

    fn entomb(&mut self, _: CallId) {}

    fn emit(&mut self, _: Gate, effect: Effect) {
        self.done += 1;
        if let Effect::Lease { peer, grant } = effect {
            self.leases.push((peer, grant.lease, grant.call));
        }
    }
}

/// An engine whose calls take a fixed time of virtual time.
pub struct World {
    pub engine: Engine,
    pub sink: Sink,
    pub now: Now,
    service_ms: u64,
    /// Half to one and a half times of that.
    spread: Option<Random>,
    /// What ends when.
    ends: BTreeMap<u64, Vec<(Peer, LeaseTag, CallId)>>,
    submitted: HashMap<CallId, (usize, u64)>,
    /// Of each tenant, how long its calls waited.
    waits: Vec<Vec<u64>>,
    /// And how long they took, the wait included.
    responses: Vec<Vec<u64>>,
    next: u64,
    workers: u32,
}

impl World {
    pub fn new(tenants: usize, service_ms: u64) -> Self {
        let now = Now { monotonic_ms: 1, wall_ms: 1_700_000_000_000 };
        let limits = Limits { predict: false, ..Limits::new(false) };
        let mut engine = Engine::new(limits, 42, now);
        let mut sink = Sink::default();
        let inbox = InboxKey::Anonymous(CallerId([7; 16]));
        engine.handle(now, Command::OpenCaller { peer: CALLER, inbox }, &mut sink);
        let (ends, submitted) = (BTreeMap::new(), HashMap::new());
        let (waits, responses) = (vec![Vec::new(); tenants], vec![Vec::new(); tenants]);
        Self { engine, sink, now, service_ms, spread: None, ends, submitted, waits, responses, next: 0, workers: 0 }
    }

    pub fn worker(&mut self, slots: u32) {
        self.workers += 1;
        let offered = OfferedProcedure { name: Name::from_static("p.q"), idempotent: true, schema: None };
        let mut incarnation = [0; 16];
        incarnation[..4].copy_from_slice(&self.workers.to_le_bytes());
        let offer = Offer {
            incarnation: IncarnationId(incarnation),
            name: Name::from_static("w"),
            procedures: vec![offered],
            slots,
            labels: Vec::new(),
            held: Vec::new(),
        };
        let peer = Peer(self.workers);
        self.engine.handle(self.now, Command::OpenWorker { peer, offer: &offer }, &mut self.sink);
    }

    fn submit(&mut self, tenant: usize, start: Start) {
        let mut route = Route::new(Name::from_static("p.q"));
        route.tenant = Some(Name::new(&format!("t{tenant}")).unwrap());
        let id = self.submit_to(&route, start, None);
        self.submitted.insert(id, (tenant, self.now.monotonic_ms));
    }

    pub fn submit_to(&mut self, route: &Route, start: Start, ties: Option<Box<Ties>>) -> CallId {
        self.next += 1;
        let route = self.engine.intern(route).unwrap();
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.next.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
        let id = CallId::new(self.now.wall_ms, random);
        let submit = Submit {
            peer: CALLER,
            tag: self.next,
            id,
            route,
            bytes: 1,
            deadline_ms: 0,
            start,
            key: None,
            wants_acceptance: false,
            wants_outcome: false,
            resent: false,
            revives: None,
            ties,
        };
        self.engine.handle(self.now, Command::Submit(submit), &mut self.sink);
        self.engine.release_route(route);
        id
    }

    /// One turn of at most about so many steps: how much was done in it, and the leases that were given.
    pub fn turn(&mut self, steps: u32) -> (u64, Vec<(Peer, LeaseTag, CallId)>) {
        let before = self.sink.done;
        self.now.monotonic_ms += 1;
        self.now.wall_ms += 1;
        self.engine.advance(self.now, steps, &mut self.sink);
        (self.sink.done - before, std::mem::take(&mut self.sink.leases))
    }

    /// Goes on to this time: ends what ends, starts what may.
    fn to(&mut self, ms: u64) {
        self.now.wall_ms += ms - self.now.monotonic_ms;
        self.now.monotonic_ms = ms;
        while let Some((at, ended)) = self.ends.pop_first() {
            if at > ms {
                self.ends.insert(at, ended);
                break;
            }
            for (peer, lease, call) in ended {
                let report = Command::Report { peer, lease, call, end: End::Succeed { bytes: 1 } };
                self.engine.handle(self.now, report, &mut self.sink);
            }
        }
        self.engine.advance(self.now, 1_000_000, &mut self.sink);
        for (peer, lease, call) in std::mem::take(&mut self.sink.leases) {
            let (tenant, at_ms) = self.submitted.remove(&call).unwrap();
            self.waits[tenant].push(ms - at_ms);
            let spread = |random: &mut Random| self.service_ms / 2 + random.below(self.service_ms as usize + 1) as u64;
            let service_ms = self.spread.as_mut().map_or(self.service_ms, spread);
            self.responses[tenant].push(ms - at_ms + service_ms);
            self.ends.entry(ms + service_ms).or_default().push((peer, lease, call));
        }
    }
}

/// Of one tenant: how many of its calls started, and the 99th percentiles of how long they waited for that and of how long
/// they took in all, in milliseconds.
struct Treatment {
    calls: usize,
    wait_ms: u64,
    response_ms: u64,
}

/// What nine quiet tenants get in 20 seconds, each with so many calls a second. Calls come at random and take 10 to
/// 30 ms; 20 slots serve 1,000 a second. The loud tenant submits 100 times as much as each of the others.
fn quiet_tenants(a_second: u64, loud: bool) -> Vec<Treatment> {
    const QUIET: usize = 9;
    let (mut world, mut random) = (World::new(QUIET + 1, 20), Random(7));
    world.spread = Some(Random(3));
    world.worker(20);
    for ms in 1..=20_000_u64 {
        for tenant in 0..QUIET {
            if random.below(1_000) < a_second as usize {
                world.submit(tenant, Start::Now);
            }
        }
        if loud {
            (0..a_second / 10).for_each(|_| world.submit(QUIET, Start::Now));
        }
        world.to(ms);
    }
    let p99 = |times: &mut Vec<u64>| {
        times.sort_unstable();
        times[times.len() * 99 / 100]
    };
    let treatment = |(waits, responses): (&mut Vec<u64>, &mut Vec<u64>)| Treatment {
        calls: waits.len(),
        wait_ms: p99(waits),
        response_ms: p99(responses),
    };
    world.waits.iter_mut().zip(&mut world.responses).take(QUIET).map(treatment).collect()
}

/// Nobody is interrupted, so a call that would start at once alone waits for a slot beside the loud tenant, and for one call
/// of each other that waits: that wait is no multiple of nothing. What the tenant sees is how long its calls take.
#[test]
fn one_loud_tenant_leaves_the_quiet_ones_their_throughput_and_their_response() {
    for a_second in [10, 50, 80] {
        let (alone, beside) = (quiet_tenants(a_second, false), quiet_tenants(a_second, true));
        for (alone, beside) in alone.into_iter().zip(beside) {
            println!(
                "{a_second}/s: {} calls, p99 {} ms after a wait of {} ms alone; {}, {} after {} beside the loud tenant",
                alone.calls, alone.response_ms, alone.wait_ms, beside.calls, beside.response_ms, beside.wait_ms
            );
            assert!(beside.calls * 10 >= alone.calls * 9, "{} calls, {} alone", beside.calls, alone.calls);
            assert!(beside.response_ms <= alone.response_ms * 2, "{} ms, {}", beside.response_ms, alone.response_ms);
        }
    }
}

#[test]
fn twice_the_workers_do_twice_the_work() {
    let calls = |workers: u32| {
        let mut world = World::new(1, 100);
        (0..workers).for_each(|_| world.worker(4));
        for ms in 1..=10_000 {
            (0..2).for_each(|_| world.submit(0, Start::Now));
            world.to(ms);
        }
        world.waits[0].len() as f64
    };
    let one = calls(1);
    for workers in [2, 4, 8] {
        let factor = calls(workers) / one;
        assert!((factor - f64::from(workers)).abs() < 0.05 * f64::from(workers), "{workers} workers: {factor} times");
    }
}

#[test]
fn of_many_delayed_calls_over_an_hour_none_starts_early_or_late() {
    const CALLS: u64 = 20_000;
    let mut world = World::new(1, 1);
    world.worker(1_000);
    let mut due = Vec::new();
    for number in 0..CALLS {
        let delay_ms = 1 + number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 3_600_000;
        due.push(1 + delay_ms);
        world.submit(0, Start::In(delay_ms));
    }
    due.sort_unstable();
    let mut starts = Vec::new();
    while starts.len() < due.len() {
        let wake =
            world.engine.next_wake().unwrap_or(u64::MAX).min(world.ends.keys().next().copied().unwrap_or(u64::MAX));
        let ms = wake.max(world.now.monotonic_ms);
        world.to(ms);
        starts.resize(world.waits[0].len(), ms);
    }
    assert_eq!(starts, due, "each starts in the millisecond in which it is due");
}
