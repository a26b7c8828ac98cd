//! Holds the conformance suite to account where its own toy broker cannot: a real broker behind a seam that bends what
//! passes. With nothing bent it keeps every rule; with one thing bent the rules about that thing go red.

mod bends;

use crate::conformance::Local;
use antiphon_broker::{
    BoxFuture, Broker, Caller, Capabilities, Event, Inbox, Inspect, OpenError, ProgressReport, Report, Sink,
    Submission, Watch, Worker,
};
use antiphon_conformance::Harness;
use antiphon_protocol::{Answer, Call, CallId, Failure, LeaseTag, Offer, Query, Settlement, Tag};
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

/// Bends one thing that passes.
type Bending<T, R = ()> = Arc<dyn Fn(&mut T) -> R + Send + Sync>;

/// Bends an event, and says how many times a worker hears of it.
type Times = Arc<dyn Fn(&mut Event, Life) -> usize + Send + Sync>;

/// What becomes of what passes the seam. A submission that is handed over in parts is bent once for each.
#[derive(Clone)]
struct Bend {
    call: Bending<Call>,
    settlement: Bending<Settlement>,
    watch: Bending<Watch>,
    /// An answer that is given without asking.
    query: Bending<Query, Option<Answer>>,
    answer: Bending<Answer>,
    /// Whether the caller hears of it.
    to_caller: Bending<Event, bool>,
    /// How many times the worker hears of it.
    to_worker: Times,
    attaches: bool,
    parks: bool,
}

impl Bend {
    /// Nothing is bent.
    fn straight() -> Self {
        Self {
            call: Arc::new(|_| {}),
            settlement: Arc::new(|_| {}),
            watch: Arc::new(|_| {}),
            query: Arc::new(|_| None),
            answer: Arc::new(|_| {}),
            to_caller: Arc::new(|_| true),
            to_worker: Arc::new(|_, _| 1),
            attaches: true,
            parks: true,
        }
    }
}

/// What has happened so far.
#[derive(Clone, Copy)]
struct Life {
    restarted: bool,
    /// Whether a caller has gone since.
    caller_gone: bool,
}

struct Crooked {
    straight: Local,
    bend: Bend,
    restarted: AtomicBool,
}

impl Crooked {
    fn new(straight: Local, bend: Bend) -> Self {
        Self { straight, bend, restarted: AtomicBool::new(false) }
    }

    fn bent(&self, broker: Arc<dyn Broker>) -> Arc<dyn Broker> {
        let restarted = self.restarted.load(Ordering::SeqCst);
        Arc::new(Bent { broker, bend: self.bend.clone(), restarted, caller_gone: Arc::default() })
    }
}

impl Harness for Crooked {
    async fn broker(&self) -> Arc<dyn Broker> {
        self.bent(self.straight.broker().await)
    }

    async fn restart(&self) -> Option<Arc<dyn Broker>> {
        let broker = self.straight.restart().await?;
        self.restarted.store(true, Ordering::SeqCst);
        Some(self.bent(broker))
    }
}

struct Bent {
    broker: Arc<dyn Broker>,
    bend: Bend,
    restarted: bool,
    caller_gone: Arc<AtomicBool>,
}

impl Broker for Bent {
    fn capabilities(&self) -> &Capabilities {
        self.broker.capabilities()
    }

    fn open_caller(&self, inbox: Inbox, sink: Arc<dyn Sink>) -> BoxFuture<'_, Result<Box<dyn Caller>, OpenError>> {
        Box::pin(async move {
            let sink = Arc::new(ToCaller { sink, bend: self.bend.clone() });
            let caller = self.broker.open_caller(inbox, sink).await?;
            let caller = BentCaller { caller, bend: self.bend.clone(), gone: self.caller_gone.clone() };
            Ok(Box::new(caller) as Box<dyn Caller>)
        })
    }

    fn open_worker(&self, offer: Offer, sink: Arc<dyn Sink>) -> BoxFuture<'_, Result<Box<dyn Worker>, OpenError>> {
        Box::pin(async move {
            let (restarted, caller_gone) = (self.restarted, self.caller_gone.clone());
            let sink = Arc::new(ToWorker { sink, bend: self.bend.clone(), restarted, caller_gone });
            let worker = self.broker.open_worker(offer, sink).await?;
            Ok(Box::new(BentWorker { worker, bend: self.bend.clone() }) as Box<dyn Worker>)
        })
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        self.broker.inspect().map(|_| self as &dyn Inspect)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.broker.close()
    }
}

impl Inspect for Bent {
    fn ask(&self, mut query: Query) -> BoxFuture<'_, Result<Answer, Failure>> {
        Box::pin(async move {
            if let Some(answer) = (self.bend.query)(&mut query) {
                return Ok(answer);
            }
            let mut answer = self.broker.inspect().unwrap().ask(query).await?;
            (self.bend.answer)(&mut answer);
            Ok(answer)
        })
    }
}

struct ToCaller {
    sink: Arc<dyn Sink>,
    bend: Bend,
}

impl Sink for ToCaller {
    fn events(&self, events: &mut Vec<Event>) {
        events.retain_mut(|event| (self.bend.to_caller)(event));
        self.sink.events(events);
    }
}

struct ToWorker {
    sink: Arc<dyn Sink>,
    bend: Bend,
    restarted: bool,
    caller_gone: Arc<AtomicBool>,
}

impl Sink for ToWorker {
    fn events(&self, events: &mut Vec<Event>) {
        let life = Life { restarted: self.restarted, caller_gone: self.caller_gone.load(Ordering::SeqCst) };
        let bent = events.drain(..).flat_map(|mut event| {
            let times = (self.bend.to_worker)(&mut event, life);
            std::iter::repeat_n(event, times)
        });
        self.sink.events(&mut bent.collect());
    }
}

struct BentCaller {
    caller: Box<dyn Caller>,
    bend: Bend,
    gone: Arc<AtomicBool>,
}

impl Drop for BentCaller {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::SeqCst);
    }
}

impl Caller for BentCaller {
    fn submit(&self, calls: &mut Vec<Submission>) {
        calls.iter_mut().for_each(|submission| (self.bend.call)(&mut submission.call));
        self.caller.submit(calls);
    }

    fn attach(&self, calls: &[(CallId, Tag)]) {
        if self.bend.attaches {
            self.caller.attach(calls);
        }
    }

    fn acknowledge(&self, outcomes: &[CallId]) {
        self.caller.acknowledge(outcomes);
    }

    fn cancel(&self, calls: &[CallId]) {
        self.caller.cancel(calls);
    }

    fn follow(&self, calls: &[(CallId, Tag, u64)]) {
        self.caller.follow(calls);
    }

    fn watch(&self, watches: &[Watch]) {
        let mut watches = watches.to_vec();
        watches.iter_mut().for_each(|watch| (self.bend.watch)(watch));
        self.caller.watch(&watches);
    }
}

struct BentWorker {
    worker: Box<dyn Worker>,
    bend: Bend,
}

impl Worker for BentWorker {
    fn credit(&self, slots: i32) {
        self.worker.credit(slots);
    }

    fn report(&self, reports: &mut Vec<Report>) {
        reports.iter_mut().for_each(|report| (self.bend.settlement)(&mut report.settlement));
        self.worker.report(reports);
    }

    fn extend(&self, leases: &[LeaseTag]) {
        self.worker.extend(leases);
    }

    fn park(&self, lease: LeaseTag, awaits: Option<CallId>) {
        if self.bend.parks {
            self.worker.park(lease, awaits);
        }
    }

    fn resume(&self, lease: LeaseTag) {
        self.worker.resume(lease);
    }

    fn drain(&self) {
        self.worker.drain();
    }

    fn progress(&self, told: &mut Vec<ProgressReport>) {
        self.worker.progress(told);
    }
}

mod with_nothing_bent {
    use super::{Bend, Crooked, Local};

    antiphon_conformance::conformance_tests!(Crooked::new(Local::memory(), Bend::straight()));
}

/// What a rule said when it went red.
fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("(nothing)")
}

/// How long a rule may take to go red: it waits at most for a lease to end.
const BOUND: Duration = Duration::from_secs(60);

#[test]
fn every_bend_is_found() {
    let (ended, ends) = channel();
    let mut running = BTreeSet::new();
    for (what, rule) in bends::all() {
        let ended = ended.clone();
        running.insert(what.clone());
        std::thread::spawn(move || {
            let result = std::panic::catch_unwind(AssertUnwindSafe(rule));
            // The test may have given up.
            ended.send((what, result.map_err(|panic| said(&*panic).to_owned()))).unwrap_or_default();
        });
    }
    let mut missed = Vec::new();
    while !running.is_empty() {
        let Ok((what, result)) = ends.recv_timeout(BOUND) else { break };
        running.remove(&what);
        match result {
            Ok(()) => missed.push(what),
            Err(said) => println!("{what}: {}", said.lines().next().unwrap_or_default()),
        }
    }
    assert_eq!(running, BTreeSet::new(), "rules that neither held nor went red");
    assert_eq!(missed, Vec::<String>::new(), "bends that no rule noticed");
}

/// The rules of the suite that hold where a capability is missing, and say nothing else.
const REFUSALS: [&str; 1] = ["a_tenant_is_refused_where_there_are_none"];

#[test]
fn every_rule_of_the_suite_is_seen_to_fail() {
    let read = |path: &str| std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let suite = read("../antiphon-conformance/src/lib.rs");
    let listed = suite.split("@rules $harness;").nth(1).unwrap().split("};").next().unwrap();
    let toys = read("../antiphon-conformance/tests/it/fault.rs");
    // What a broker that has nothing goes red for is that it does not refuse: half a rule.
    let (full, bare): (Vec<&str>, Vec<&str>) =
        toys.split(';').partition(|planted| !planted.trim_start().starts_with("bare "));
    assert_eq!(bare.len(), 1);
    let planted = format!("{} {}", full.concat(), read("tests/it/crooked/bends.rs"));
    let named = |text: &str| -> Vec<String> {
        let words = text.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
        words.filter(|word| word.contains('_')).map(str::to_owned).collect()
    };
    let planted: BTreeSet<String> = named(&planted).into_iter().collect();
    let modules = listed.split_whitespace().filter_map(|word| word.strip_suffix(':'));
    let modules: Vec<&str> = modules.collect();
    let rules = named(listed).into_iter().filter(|word| !modules.contains(&word.as_str()));
    let rules: Vec<String> = rules.filter(|rule| !REFUSALS.contains(&rule.as_str())).collect();
    assert!(rules.len() > 100, "{} rules", rules.len());
    let never: Vec<&String> = rules.iter().filter(|rule| !planted.contains(*rule)).collect();
    assert_eq!(never, Vec::<&String>::new(), "rules that nothing planted shows red");
}
