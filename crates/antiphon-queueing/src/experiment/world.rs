//! The world around a station: callers, workers, the network and faults, driven by events on virtual time.

use crate::experiment::arrival::Arrivals;
use crate::experiment::demand::Demands;
use crate::experiment::scenario::Scenario;
use crate::experiment::station::{Arrived, End, Finish, Run, Station, Told};
use crate::experiment::tally::{BUCKETS, BrokerMeasured, Bucket, Ended, Tally};
use crate::experiment::{Problem, Progress, Traces};
use crate::service::unit;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Exp1};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const S: f64 = 1e9;
/// After how many calls somebody who watches is told.
const STEP: u64 = 1 << 16;
/// How much longer an experiment goes on when the last call has come, until what is left is called lost: so often the time
/// in which calls came, and so often that in which all workers could do them; and at least an hour.
const PATIENCE: u64 = 4;
const PATIENCE_NS: u64 = 3_600_000_000_000;

/// Something that happens; of what happens at one time, what was planned first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    at: u64,
    number: u64,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Arrive(u32),
    Finish(u32),
    Crash(u32),
    Back(u32),
    Wake,
}

/// Somebody who calls.
struct Caller {
    arrivals: Arrivals,
    demands: Demands,
    failing: f64,
    deadline_ns: u64,
    /// Randomness of its own for each, so that no policy changes what another sees.
    come: SmallRng,
    take: SmallRng,
    fail: SmallRng,
    tally: Tally,
}

/// A call that has not ended, or whose attempt still runs.
#[derive(Clone, Copy)]
struct Call {
    source: u32,
    submitted: u64,
    started: u64,
    /// What it takes of a worker of speed 1.
    demand_ns: f64,
    /// Where it stands among those that are counted, 0 to 1; below 0 it is not counted.
    place: f64,
    running: u32,
    ended: bool,
}

/// An attempt on its way through a worker.
#[derive(Clone, Copy)]
struct Attempt {
    run: Run,
    failed: bool,
    live: bool,
    /// When its worker is done with it.
    until: u64,
}

struct Machine {
    speed: f64,
    running: Vec<u32>,
}

/// All of it.
pub(crate) struct World<'a, S> {
    scenario: &'a Scenario,
    station: S,
    now: u64,
    events: BinaryHeap<Reverse<Event>>,
    number: u64,
    callers: Vec<Caller>,
    calls: Vec<Call>,
    calls_free: Vec<u32>,
    attempts: Vec<Attempt>,
    attempts_free: Vec<u32>,
    machines: Vec<Machine>,
    crash: SmallRng,
    wake_at: u64,
    come: u64,
    last_came: u64,
    open: u64,
    running: u64,
    busy_ns: f64,
    /// What all calls that came take of a worker of speed 1, with all their attempts.
    work_ns: f64,
    /// Of all slots together.
    speed: f64,
    buckets: Vec<Bucket>,
    bucket_ns: u64,
    stride: usize,
}

/// What a world has seen.
pub(crate) struct Seen {
    pub tallies: Vec<Tally>,
    pub buckets: Vec<Bucket>,
    pub length_s: f64,
    pub utilisation: f64,
    pub lost: u64,
    pub measured: Option<BrokerMeasured>,
}

impl<'a, St: Station> World<'a, St> {
    pub fn new(scenario: &'a Scenario, station: St, factor: f64, traces: &Traces) -> Result<Self, Problem> {
        let stream = |place: usize, purpose: u64| {
            // Any mixing of the three does: the generator spreads its seed itself.
            let seed = scenario.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ ((place as u64) << 8) ^ purpose;
            SmallRng::seed_from_u64(seed)
        };
        let caller = |(place, source): (usize, &crate::experiment::Source)| {
            Ok(Caller {
                arrivals: Arrivals::new(&source.arrival, factor, traces)?,
                demands: Demands::new(&source.service, traces)?,
                failing: source.failing,
                deadline_ns: source.deadline.map_or(0, |deadline| (deadline.0 * S) as u64),
                come: stream(place, 1),
                take: stream(place, 2),
                fail: stream(place, 3),
                tally: Tally::new(),
            })
        };
        let speeds = scenario.workers.iter().flat_map(|workers| (0..workers.count).map(|_| workers.speed));
        let expected_ns = scenario.calls as f64 / (scenario.arrival_per_s(traces)? * factor) * S;
        let mut world = Self {
            scenario,
            station,
            now: 0,
            events: BinaryHeap::new(),
            number: 0,
            callers: scenario.source.iter().enumerate().map(caller).collect::<Result<_, Problem>>()?,
            calls: Vec::new(),
            calls_free: Vec::new(),
            attempts: Vec::new(),
            attempts_free: Vec::new(),
            machines: speeds.map(|speed| Machine { speed, running: Vec::new() }).collect(),
            crash: stream(0, 4),
            wake_at: u64::MAX,
            come: 0,
            last_came: 0,
            open: 0,
            running: 0,
            busy_ns: 0.0,
            work_ns: 0.0,
            speed: scenario.speed(),
            buckets: vec![Bucket::default(); BUCKETS],
            bucket_ns: ((expected_ns / BUCKETS as f64) as u64).max(1),
            stride: 0,
        };
        for place in 0..world.callers.len() {
            world.plan_arrival(u32::try_from(place).unwrap_or(u32::MAX));
        }
        for worker in 0..world.machines.len() {
            world.plan_crash(u32::try_from(worker).unwrap_or(u32::MAX));
        }
        Ok(world)
    }

    fn plan(&mut self, at: u64, what: What) {
        self.number += 1;
        self.events.push(Reverse(Event { at, number: self.number, what }));
    }

    fn plan_arrival(&mut self, source: u32) {
        let Some(caller) = self.callers.get_mut(source as usize) else { return };
        let at_s = caller.arrivals.next(&mut caller.come);
        self.plan(ns(at_s).saturating_add(ns(self.scenario.network.caller.0)), What::Arrive(source));
    }

    fn plan_crash(&mut self, worker: u32) {
        if let Some(crashes) = &self.scenario.crashes {
            let life: f64 = Exp1.sample(&mut self.crash);
            self.plan(self.now.saturating_add(ns(life * crashes.every.0)), What::Crash(worker));
        }
    }

    /// Lets all calls come and end.
    pub fn run(mut self, progress: &mut Progress<'_>) -> Result<Seen, Problem> {
        let mut told = Vec::new();
        while let Some(Reverse(event)) = self.events.pop() {
            if self.come == self.scenario.calls && (self.open == 0 || event.at > self.patience_ends()) {
                break;
            }
            self.pass_time(event.at);
            self.happen(event.what, &mut told)?;
            self.listen(&mut told);
            self.mind_wake();
            if self.come.is_multiple_of(STEP) && matches!(event.what, What::Arrive(_)) && !progress(self.come) {
                return Err(Problem("stopped".to_owned()));
            }
        }
        Ok(self.seen())
    }

    fn patience_ends(&self) -> u64 {
        let work = (self.work_ns / self.speed) as u64;
        let patience = self.last_came.saturating_add(work).saturating_mul(PATIENCE).max(PATIENCE_NS);
        self.last_came.saturating_add(patience)
    }

    fn happen(&mut self, what: What, told: &mut Vec<Told>) -> Result<(), Problem> {
        match what {
            What::Arrive(_) if self.come == self.scenario.calls => {}
            What::Arrive(source) => {
                let arrived = self.arrive(source)?;
                self.station.submit(self.now, arrived, told);
                self.plan_arrival(source);
            }
            What::Finish(place) => {
                let Some(attempt) = self.attempts.get(place as usize).copied() else { return Ok(()) };
                self.attempts_free.push(place);
                if attempt.live {
                    self.leave(attempt.run, place);
                    let finish = if attempt.failed { Finish::Failed } else { Finish::Succeeded };
                    self.station.report(self.now, attempt.run, finish, told);
                    self.drop_call(attempt.run.call);
                }
            }
            What::Crash(worker) => {
                let running =
                    self.machines.get_mut(worker as usize).map(|machine| std::mem::take(&mut machine.running));
                for place in running.unwrap_or_default() {
                    self.void(place);
                }
                self.station.connect(self.now, worker, false, told);
                let back_s = self.scenario.crashes.map_or(0.0, |crashes| crashes.back_after.0);
                self.plan(self.now.saturating_add(ns(back_s)), What::Back(worker));
            }
            What::Back(worker) => {
                self.station.connect(self.now, worker, true, told);
                self.plan_crash(worker);
            }
            What::Wake => {
                self.wake_at = u64::MAX;
                self.station.wake(self.now, told);
            }
        }
        Ok(())
    }

    /// A call comes to the broker.
    fn arrive(&mut self, source: u32) -> Result<Arrived, Problem> {
        let place = self.come as f64 / self.scenario.calls as f64;
        let counted = (place - self.scenario.warm_up) / (1.0 - self.scenario.warm_up);
        self.come += 1;
        self.last_came = self.now;
        self.open += 1;
        let submitted = self.now.saturating_sub(ns(self.scenario.network.caller.0));
        let bucket = self.bucket(submitted);
        let Some(caller) = self.callers.get_mut(source as usize) else {
            return Err(Problem("no such source".to_owned()));
        };
        let demand_ns = caller.demands.next(&mut caller.take) * S;
        self.work_ns +=
            demand_ns * f64::from(self.scenario.source.get(source as usize).map_or(1, |source| source.attempts));
        if counted >= 0.0 {
            caller.tally.submitted();
        }
        let deadline_ms = caller.deadline_ns.div_ceil(1_000_000);
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            bucket.submitted_per_s += 1.0;
        }
        let call = Call { source, submitted, started: 0, demand_ns, place: counted, running: 0, ended: false };
        let index = match self.calls_free.pop() {
            Some(index) => {
                if let Some(kept) = self.calls.get_mut(index as usize) {
                    *kept = call;
                }
                index
            }
            None => {
                self.calls.push(call);
                u32::try_from(self.calls.len() - 1).map_err(|_| Problem("too many calls wait at once".to_owned()))?
            }
        };
        Ok(Arrived { call: index, source: source as usize, deadline_ms })
    }

    /// Takes in what the station said.
    fn listen(&mut self, told: &mut Vec<Told>) {
        let mut place = 0;
        while let Some(one) = told.get(place).copied() {
            place += 1;
            match one {
                Told::Start(run) => self.start(run),
                Told::Ended { call, how } => self.end(call, how),
                Told::Stop { call, lease } => {
                    let stopped = self.machines.iter().flat_map(|machine| &machine.running).copied().find(|place| {
                        self.attempts
                            .get(*place as usize)
                            .is_some_and(|it| it.live && it.run.lease == lease && it.run.call == call)
                    });
                    if let Some(place) = stopped
                        && let Some(attempt) = self.attempts.get(place as usize).copied()
                    {
                        self.leave(attempt.run, place);
                        self.void(place);
                        self.station.report(self.now, attempt.run, Finish::Stopped, told);
                        self.drop_call(call);
                    }
                }
            }
        }
        told.clear();
    }

    fn start(&mut self, run: Run) {
        let arrives = self.now.saturating_add(ns(self.scenario.network.worker.0));
        let Some(call) = self.calls.get_mut(run.call as usize) else { return };
        call.started = arrives;
        call.running += 1;
        let (source, demand_ns, counted) = (call.source, call.demand_ns, call.place >= 0.0);
        let outage =
            self.scenario.outage.iter().find(|it| ns(it.from.0) <= self.now && self.now < ns(it.to.0)).copied();
        let Some(caller) = self.callers.get_mut(source as usize) else { return };
        if counted {
            caller.tally.attempt();
        }
        let failing = outage.map_or(caller.failing, |outage| outage.failing.max(caller.failing));
        let failed = failing > 0.0 && unit(&mut caller.fail) < failing;
        let Some(machine) = self.machines.get_mut(run.worker as usize) else { return };
        let takes_ns = match outage.and_then(|outage| outage.takes).filter(|_| failed) {
            Some(takes) => takes.0 * S,
            None => demand_ns / machine.speed,
        };
        let until = arrives.saturating_add(takes_ns as u64);
        let attempt = Attempt { run, failed, live: true, until };
        let place = match self.attempts_free.pop() {
            Some(place) => {
                if let Some(kept) = self.attempts.get_mut(place as usize) {
                    *kept = attempt;
                }
                place
            }
            None => {
                self.attempts.push(attempt);
                u32::try_from(self.attempts.len() - 1).expect("fewer attempts than calls")
            }
        };
        machine.running.push(place);
        self.running += 1;
        self.busy_ns += takes_ns;
        let bucket = self.bucket(self.now);
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            bucket.attempts_per_s += 1.0;
        }
        self.plan(until.saturating_add(ns(self.scenario.network.worker.0)), What::Finish(place));
    }

    /// An attempt leaves its worker.
    fn leave(&mut self, run: Run, place: u32) {
        self.running -= 1;
        if let Some(call) = self.calls.get_mut(run.call as usize) {
            call.running -= 1;
        }
        if let Some(machine) = self.machines.get_mut(run.worker as usize)
            && let Some(at) = machine.running.iter().position(|running| *running == place)
        {
            machine.running.swap_remove(at);
        }
    }

    /// An attempt will not finish: its event comes all the same, and frees its place.
    fn void(&mut self, place: u32) {
        let Some(attempt) = self.attempts.get_mut(place as usize) else { return };
        attempt.live = false;
        self.busy_ns -= attempt.until.saturating_sub(self.now) as f64;
    }

    fn end(&mut self, index: u32, how: End) {
        let told = self.now.saturating_add(ns(self.scenario.network.caller.0));
        let Some(call) = self.calls.get_mut(index as usize) else { return };
        call.ended = true;
        let call = *call;
        self.open -= 1;
        let bucket = self.bucket(call.submitted);
        let Some(caller) = self.callers.get_mut(call.source as usize) else { return };
        let ended = Ended {
            how,
            response_ns: told - call.submitted,
            wait_ns: call.started.saturating_sub(call.submitted),
            deadline_ns: caller.deadline_ns,
            place: call.place,
        };
        if call.place >= 0.0 {
            caller.tally.ended(&ended);
        }
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            bucket.goodput_per_s += f64::from(u8::from(ended.in_time()));
            if how == End::Succeeded {
                bucket.replies += 1;
                bucket.mean_response_s += ended.response_ns as f64 / S;
            }
        }
        self.drop_call(index);
    }

    /// Frees the place of a call that has ended and does not run.
    fn drop_call(&mut self, index: u32) {
        let Some(call) = self.calls.get_mut(index as usize) else { return };
        if call.ended && call.running == 0 {
            // Ended twice over it would be freed twice.
            call.ended = false;
            self.calls_free.push(index);
        }
    }

    fn bucket(&self, at: u64) -> usize {
        ((at / self.bucket_ns) as usize).min(BUCKETS - 1)
    }

    /// Notes how many wait whenever a bucket is full.
    fn pass_time(&mut self, at: u64) {
        self.now = at;
        while self.stride < BUCKETS && self.now >= self.bucket_ns.saturating_mul(self.stride as u64 + 1) {
            if let Some(bucket) = self.buckets.get_mut(self.stride) {
                bucket.waiting = self.open.saturating_sub(self.running);
            }
            self.stride += 1;
        }
    }

    fn mind_wake(&mut self) {
        if let Some(at) = self.station.next_wake() {
            let at = at.max(self.now);
            if at < self.wake_at {
                self.wake_at = at;
                self.plan(at, What::Wake);
            }
        }
    }

    fn seen(mut self) -> Seen {
        let bucket_s = self.bucket_ns as f64 / S;
        for (place, bucket) in self.buckets.iter_mut().enumerate() {
            bucket.at_s = (place as f64 + 0.5) * bucket_s;
            bucket.submitted_per_s /= bucket_s;
            bucket.goodput_per_s /= bucket_s;
            bucket.attempts_per_s /= bucket_s;
            bucket.mean_response_s /= (bucket.replies as f64).max(1.0);
        }
        // What came late fell into the last one.
        self.buckets.pop();
        let slots: f64 = self.scenario.workers.iter().map(|it| f64::from(it.count) * f64::from(it.slots)).sum();
        Seen {
            tallies: self.callers.into_iter().map(|caller| caller.tally).collect(),
            buckets: self.buckets,
            length_s: self.now as f64 / S,
            utilisation: self.busy_ns / (slots * self.now as f64),
            lost: self.open,
            measured: self.station.measured(),
        }
    }
}

/// Seconds in nanoseconds.
fn ns(seconds: f64) -> u64 {
    (seconds * S) as u64
}
