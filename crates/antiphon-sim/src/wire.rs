//! The client's own code on virtual time: callers and workers through `antiphon-wire`, over connections that cut, swallow, dribble
//! and come back, to the real engine and journal. What each caller and worker sees is held against what was promised.

mod desk;
mod people;
mod pipe;
mod step;

pub use step::Step;

use crate::clock::SimClock;
use crate::disk::Disk;
use crate::random::{Fingerprint, Random, blend};
use crate::seeds::{TWICE, each_seed};
use antiphon_embedded::{Commit, Driver, DriverOptions};
use antiphon_protocol::CallId;
use desk::Desk;
use people::{Asking, Reported, Serving};
use pipe::{Link, Network, lock};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use step::Weather;
use tokio::runtime::Runtime;

/// Steps of one run, beside its healing.
pub const STEPS: u64 = 1_500;
const CALLERS: u8 = 2;
const WORKERS: u8 = 2;
/// Tasks of the client have nothing left to do after so many turns of their runtime.
const YIELDS: usize = 40;
/// Rounds of "deliver everything, finish everything, wait" that the end may take.
const ROUNDS_MAX: usize = 400;

/// Failing runs that are kept.
const FAILED_MAX: usize = 5;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Wired {
    pub seed: u64,
    /// What happened, in order, each with its number in the seed's own run.
    pub trace: Vec<(usize, Step)>,
    pub wrong: Vec<String>,
    pub fingerprint: Fingerprint,
    /// How often what happened: faults, calls, connections.
    pub counts: BTreeMap<&'static str, u64>,
}

/// Runs a seed.
#[must_use]
pub fn wired(seed: u64, steps: u64) -> Wired {
    let mut random = Random::new(blend(seed, 11));
    let weather = Weather::new(&mut random);
    let mut world = World::new(seed, weather.window);
    let (mut trace, mut tries) = (Vec::new(), 0);
    while (trace.len() as u64) < steps && world.wrong.is_empty() && tries < steps * 50 {
        tries += 1;
        let step = weather.next(&mut random, world.broker.is_some());
        if world.apply(&step) {
            trace.push((trace.len(), step));
        }
    }
    world.end(seed, trace)
}

/// Runs some of the steps of a seed's run.
#[must_use]
pub fn wired_again(seed: u64, steps: &[(usize, Step)]) -> Wired {
    let weather = Weather::new(&mut Random::new(blend(seed, 11)));
    let mut world = World::new(seed, weather.window);
    let mut trace = Vec::new();
    for (number, step) in steps {
        if !world.wrong.is_empty() {
            break;
        }
        if world.apply(step) {
            trace.push((*number, step.clone()));
        }
    }
    world.end(seed, trace)
}

/// What came of many seeds.
#[derive(Debug, Default)]
pub struct Wires {
    pub runs: u64,
    pub steps: u64,
    pub counts: BTreeMap<&'static str, u64>,
    pub failed: Vec<Wired>,
    /// Seeds that were not the same run twice.
    pub differed: Vec<u64>,
}

/// Runs seeds on this many threads; ends early when some have failed.
#[must_use]
pub fn wires(from: u64, count: u64, steps: u64, threads: usize) -> Wires {
    let all = Mutex::new(Wires::default());
    each_seed(from, count, threads, |seed| {
        let ran = wired(seed, steps);
        let again = seed.is_multiple_of(TWICE).then(|| wired(seed, steps));
        let mut all = lock(&all);
        all.runs += 1;
        all.steps += ran.trace.len() as u64;
        for (what, count) in &ran.counts {
            *all.counts.entry(what).or_default() += count;
        }
        if again.is_some_and(|again| again.fingerprint != ran.fingerprint) {
            all.differed.push(seed);
        }
        if !ran.wrong.is_empty() {
            all.failed.push(ran);
            if all.failed.len() >= FAILED_MAX {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    let mut wires = all.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    wires.failed.sort_by_key(|ran| ran.seed);
    wires
}

/// The steps that a failure needs, and what it then is.
#[must_use]
pub fn shrink_wired(failed: &Wired) -> (Vec<(usize, Step)>, Vec<String>) {
    let again = |steps: &[(usize, Step)]| {
        let ran = wired_again(failed.seed, steps);
        (ran.trace, ran.wrong)
    };
    crate::shrink::smallest(&failed.trace, &failed.wrong, &again)
}

struct World {
    seed: u64,
    runtime: Runtime,
    clock: SimClock,
    disk: Disk,
    broker: Option<(Driver, Desk)>,
    network: Arc<Mutex<Network>>,
    callers: Vec<Asking>,
    workers: Vec<Serving>,
    reported: BTreeMap<CallId, Vec<Reported>>,
    fingerprint: Fingerprint,
    counts: BTreeMap<&'static str, u64>,
    wrong: Vec<String>,
    /// Whether everything that happens is told, for people who look for the cause of a finding.
    tells: bool,
}

impl World {
    fn new(seed: u64, window: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let network = Arc::new(Mutex::new(Network { links: Vec::new(), listens: false, window: 1 << 16 }));
        let mut world = Self {
            seed,
            runtime: runtime.expect("a runtime without I/O needs nothing of the system"),
            clock: SimClock::default(),
            disk: Disk::default(),
            broker: None,
            network: Arc::clone(&network),
            callers: Vec::new(),
            workers: Vec::new(),
            reported: BTreeMap::new(),
            fingerprint: Fingerprint::default(),
            counts: BTreeMap::new(),
            wrong: Vec::new(),
            tells: std::env::var_os("ANTIPHON_SIM_TELLS").is_some(),
        };
        world.start();
        let open = |place: u8| {
            let network = Arc::clone(&network);
            async move { Asking::open(place, usize::from(place), network).await }
        };
        let callers: Vec<_> = (0..CALLERS).map(|place| world.runtime.spawn(open(place))).collect();
        let open = |place: u8| {
            let network = Arc::clone(&network);
            async move { Serving::open(place, usize::from(CALLERS + place), network).await }
        };
        let workers: Vec<_> = (0..WORKERS).map(|place| world.runtime.spawn(open(place))).collect();
        for _ in 0..20 {
            world.deliver_everything();
        }
        world.callers = callers.into_iter().map(|it| world.runtime.block_on(it).expect("it opens")).collect();
        world.workers = workers.into_iter().map(|it| world.runtime.block_on(it).expect("it opens")).collect();
        lock(&network).window = window;
        world
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn apply(&mut self, step: &Step) -> bool {
        let applied = catch_unwind(AssertUnwindSafe(|| self.step(step))).unwrap_or_else(|panic| {
            self.wrong.push(format!("something panicked: {}", crate::panic_text(&*panic)));
            self.broker = None;
            true
        });
        if applied {
            write!(self.fingerprint, "{step:?}").expect("fingerprints take every text");
            if self.tells {
                eprintln!("{:>8} ms  {step:?}", self.clock.true_ms());
            }
            self.let_run();
        }
        applied
    }

    fn step(&mut self, step: &Step) -> bool {
        match *step {
            Step::Submit { caller, count, kind } => {
                let wall_ms = self.clock.wall_ms();
                self.callers[usize::from(caller % CALLERS)].submit(count, kind, wall_ms);
                *self.counts.entry("calls").or_default() += u64::from(count);
                true
            }
            Step::Cancel { caller, nth } => self.callers[usize::from(caller % CALLERS)].cancel(nth),
            Step::Acknowledge(caller) => self.callers[usize::from(caller % CALLERS)].acknowledge(),
            Step::Finish { worker, nth, how } => {
                self.workers[usize::from(worker % WORKERS)].finish(nth, how, &mut self.reported)
            }
            Step::Extend { worker, nth } => self.workers[usize::from(worker % WORKERS)].extend(nth),
            Step::Up { nth, bytes } => self.move_bytes(nth, usize::from(bytes), true),
            Step::Down { nth, bytes } => self.move_bytes(nth, usize::from(bytes), false),
            Step::Turn(commits) => self.turn(commits),
            Step::Pass(ms) => {
                self.pass(u64::from(ms));
                true
            }
            Step::Cut(nth) => self.with_link(nth, "resets", |link| {
                link.cut = true;
                link.up = pipe::Way { ended: true, ..pipe::Way::default() };
                link.down = pipe::Way { ended: true, ..pipe::Way::default() };
                link.wake();
            }),
            Step::Drop(nth) => {
                let Some((number, _)) = self.open_link(nth) else { return false };
                let Some((driver, desk)) = &mut self.broker else { return false };
                desk.close(driver, number);
                self.count("connections dropped by the broker");
                true
            }
            Step::Swallow { nth, up } => {
                let what = if up { "half open, up" } else { "half open, down" };
                self.with_link(nth, what, |link| if up { link.up.swallow() } else { link.down.swallow() })
            }
            Step::Kill => self.kill(None),
            Step::PowerLoss(seed) => self.kill(Some(seed)),
            Step::Start => self.start(),
        }
    }

    /// Connections that are not over on both sides, oldest first.
    fn links(&self) -> Vec<(usize, Arc<Mutex<Link>>)> {
        let links = &lock(&self.network).links;
        let there = links.iter().enumerate().filter(|(_, link)| !lock(link).is_over());
        there.map(|(number, link)| (number, Arc::clone(link))).collect()
    }

    fn open_link(&self, nth: u8) -> Option<(usize, Arc<Mutex<Link>>)> {
        let mut open = self.links();
        open.retain(|(_, link)| {
            let link = lock(link);
            !link.cut && !link.left && !link.closed
        });
        let count = open.len();
        open.into_iter().nth(usize::from(nth) % count.max(1))
    }

    fn with_link(&mut self, nth: u8, what: &'static str, change: impl FnOnce(&mut Link)) -> bool {
        let Some((_, link)) = self.open_link(nth) else { return false };
        change(&mut lock(&link));
        self.count(what);
        true
    }

    fn move_bytes(&mut self, nth: u8, bytes: usize, up: bool) -> bool {
        let mut flying = self.links();
        flying.retain(|(_, link)| {
            let link = lock(link);
            if up { !link.up.flying.is_empty() && !link.closed } else { !link.down.flying.is_empty() && !link.left }
        });
        let count = flying.len();
        let Some((_, link)) = flying.into_iter().nth(usize::from(nth) % count.max(1)) else { return false };
        let mut link = lock(&link);
        if up {
            link.up.arrive(bytes)
        } else {
            link.down.arrive(bytes)
        }
        link.wake();
        true
    }

    fn options(&self) -> DriverOptions {
        let mut options = DriverOptions { clock: Arc::new(self.clock.clone()), ..DriverOptions::default() };
        options.seed = Some(blend(self.seed, 12));
        options.limits.lease_ms = 10_000;
        options.limits.retries_min = u32::MAX;
        options.journal.threads = false;
        options.journal.segment_bytes = 256 << 10;
        options
    }

    fn start(&mut self) -> bool {
        if self.broker.is_some() {
            return false;
        }
        match Driver::recover(self.options(), Arc::new(self.disk.clone()), Arc::new(|| {})) {
            Ok(driver) => self.broker = Some((driver, Desk::default())),
            Err(error) => self.wrong.push(format!("the broker does not start: {error}")),
        }
        lock(&self.network).listens = true;
        self.count("starts of the broker");
        true
    }

    fn kill(&mut self, power: Option<u64>) -> bool {
        let Some((driver, desk)) = self.broker.take() else { return false };
        drop((driver, desk));
        {
            let mut network = lock(&self.network);
            network.listens = false;
            for link in &network.links {
                let mut link = lock(link);
                (link.closed, link.down.ended) = (true, true);
                link.wake();
            }
        }
        match power {
            Some(seed) => self.disk.power_cycle(seed),
            None => self.disk.process_ends(),
        }
        self.count(if power.is_some() { "power losses" } else { "kills of the broker" });
        true
    }

    /// The broker reads what has arrived, does what is due, says what it may.
    fn turn(&mut self, commits: bool) -> bool {
        let links = self.links();
        let Some((driver, desk)) = &mut self.broker else { return false };
        for (number, link) in links {
            desk.read(driver, number, &link);
        }
        driver.pump(desk);
        if commits && !matches!(driver.commit_need(), Commit::Nothing) {
            if let Err(failure) = driver.commit_here() {
                desk.wrong.push(format!("a commit failed: {failure}"));
            }
            driver.pump(desk);
        }
        desk.flush(driver);
        self.wrong.append(&mut desk.wrong);
        true
    }

    /// Time passes for everybody; the broker looks at its clock as it goes.
    fn pass(&mut self, ms: u64) {
        let mut left = ms;
        while left > 0 {
            let step = left.min(500);
            left -= step;
            self.clock.advance(step);
            self.runtime.block_on(tokio::time::advance(Duration::from_millis(step)));
            self.let_run();
            self.turn(true);
        }
    }

    /// The client's tasks do what they can, and everybody hears what there is to hear.
    fn let_run(&mut self) {
        self.runtime.block_on(async {
            for _ in 0..YIELDS {
                tokio::task::yield_now().await;
            }
        });
        let fingerprint = &mut self.fingerprint;
        let (tells, ms) = (self.tells, self.clock.true_ms());
        let mut note = |text: &str| {
            fingerprint.write_str(text).expect("fingerprints take every text");
            if tells {
                eprintln!("{ms:>8} ms  {text}");
            }
        };
        for caller in &mut self.callers {
            caller.listen(&mut self.wrong, &mut note);
        }
        for worker in &mut self.workers {
            worker.listen(&mut self.reported, &mut self.wrong, &mut note);
        }
    }

    fn deliver_everything(&mut self) {
        for (_, link) in self.links() {
            let mut link = lock(&link);
            link.up.arrive(usize::MAX);
            link.down.arrive(usize::MAX);
            link.wake();
        }
        self.let_run();
        self.turn(true);
        self.let_run();
    }

    /// Nothing goes wrong any more: everything settles, and everybody hears of it.
    fn heal(&mut self) {
        self.start();
        lock(&self.network).window = 1 << 20;
        for (_, link) in self.links() {
            lock(&link).window = 1 << 20;
        }
        for round in 0..ROUNDS_MAX {
            for _ in 0..4 {
                self.deliver_everything();
            }
            for worker in &mut self.workers {
                while worker.runs() && worker.finish(0, 15, &mut self.reported) {}
            }
            for caller in &mut self.callers {
                while caller.acknowledge() {}
            }
            self.deliver_everything();
            let waits = self.callers.iter().any(Asking::waits) || self.workers.iter().any(|worker| worker.holds() > 0);
            if !self.wrong.is_empty() || (!waits && round > 0) {
                return;
            }
            // What is half open is found out by its silence.
            self.pass(5_000);
        }
        let waiting: usize = self.callers.iter().filter(|caller| caller.waits()).count();
        let held: Vec<usize> = self.workers.iter().map(Serving::holds).collect();
        self.wrong.push(format!("after the faults {waiting} callers wait for ever, the workers hold {held:?}"));
    }

    fn end(mut self, seed: u64, trace: Vec<(usize, Step)>) -> Wired {
        if self.wrong.is_empty()
            && let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.heal()))
        {
            self.wrong.push(format!("something panicked: {}", crate::panic_text(&*panic)));
        }
        if self.wrong.is_empty() {
            self.judge();
        }
        let opened = lock(&self.network).links.len() as u64;
        self.counts.insert("connections", opened);
        let Self { wrong, fingerprint, counts, .. } = self;
        Wired { seed, trace, wrong, fingerprint, counts }
    }

    fn judge(&mut self) {
        let mut wrong = Vec::new();
        let epoch = self.broker.as_ref().map_or(0, |(driver, _)| driver.epoch().0);
        for caller in &self.callers {
            for (tag, own) in &caller.calls {
                let found = own.judge(&self.reported, epoch);
                wrong.extend(found.map(|what| format!("call {} (tag {tag}): {what}", own.id)));
            }
        }
        let mut began: BTreeMap<CallId, Vec<u64>> = BTreeMap::new();
        for worker in &self.workers {
            for (id, tokens) in &worker.began {
                began.entry(*id).or_default().extend(tokens);
            }
        }
        let calls = self.callers.iter().flat_map(|caller| caller.calls.values());
        for own in calls {
            let tokens = began.get(&own.id).map_or(&[][..], Vec::as_slice);
            if tokens.iter().collect::<BTreeSet<_>>().len() < tokens.len() {
                wrong.push(format!("call {} began twice under one token: {tokens:?}", own.id));
            }
            let route = &own.submission.call.route;
            if route.at_most_once && route.durability.is_none() && tokens.len() > 1 {
                wrong.push(format!("call {} runs at most once and began under {tokens:?}", own.id));
            }
        }
        self.wrong.append(&mut wrong);
    }
}
