//! The hand-offs between callers, workers, the timer and the journal's writer, in many of the orders in which they may run.
//! Compiled only with `--cfg shuttle`; a deadlock, a lost wake-up or a panic in any order fails.
//! `ANTIPHON_PROVE_SCHEDULES` sets how many.

use antiphon_broker::{Broker, Caller, Event, Inbox, OpenError, Report, Sink, Submission, Wants, Worker};
use antiphon_embedded::{Clock, DriverOptions, Embedded};
use antiphon_engine::Now;
use antiphon_protocol::{
    Call, CallId, CallerId, IncarnationId, Name, Offer, OfferedProcedure, Payload, Route, Settlement,
};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::mpsc::{Receiver, Sender, channel};
use shuttle::sync::{Arc, Mutex};
use shuttle::{Config, Runner, thread};
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

fn explore(model: impl Fn() + Send + Sync + Copy + 'static) {
    let schedules = std::env::var("ANTIPHON_PROVE_SCHEDULES")
        .map_or(1_000, |number| number.parse().expect("a number of schedules"));
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    Runner::new(RandomScheduler::new(schedules / 2), config.clone()).run(model);
    Runner::new(PctScheduler::new(3, schedules / 2), config).run(model);
    println!("{schedules} schedules of {}", std::thread::current().name().unwrap_or("a model"));
}

/// Time stands still: nothing falls due by itself, so every step is a hand-off.
struct Still;

impl Clock for Still {
    fn now(&self) -> Now {
        Now { monotonic_ms: 1_000, wall_ms: 1_700_000_000_000 }
    }
}

fn open(directory: Option<&Path>) -> Arc<Embedded> {
    let mut options = DriverOptions { clock: Arc::new(Still), ..DriverOptions::default() };
    options.directory = directory.map(Path::to_path_buf);
    options.journal.segment_bytes = 64 << 10;
    options.journal.reserve = 0;
    options.journal.ahead = 1;
    Arc::new(Embedded::open(options).unwrap())
}

/// The embedded broker's futures are ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("an embedded broker answers at once"),
    }
}

/// Tells a channel of what settles or is refused.
struct Ear(Mutex<Sender<Event>>);

impl Sink for Ear {
    fn events(&self, events: &mut Vec<Event>) {
        for event in events.drain(..).filter(|event| !matches!(event, Event::Up { .. } | Event::Writable)) {
            // A test that has seen enough listens no more.
            drop(self.0.lock().unwrap().send(event));
        }
    }
}

fn caller(broker: &Embedded, number: u8) -> Result<(Box<dyn Caller>, Receiver<Event>), OpenError> {
    let (sender, receiver) = channel();
    let caller = now(broker.open_caller(Inbox::Anonymous(CallerId([number; 16])), Arc::new(Ear(Mutex::new(sender)))))?;
    Ok((caller, receiver))
}

/// A worker that settles on the thread that brings the lease, from inside its sink.
#[derive(Default)]
struct AtOnce(Mutex<Option<Arc<dyn Worker>>>);

impl Sink for AtOnce {
    fn events(&self, events: &mut Vec<Event>) {
        let worker = self.0.lock().unwrap().clone();
        for event in events.drain(..) {
            if let (Event::Lease(lease), Some(worker)) = (event, &worker) {
                let settlement = Settlement::Succeed(lease.payload);
                worker.report(&mut vec![Report { lease: lease.lease, call: lease.call, settlement }]);
            }
        }
    }
}

fn serve(broker: &Embedded) -> Arc<AtOnce> {
    let offer = Offer {
        incarnation: IncarnationId([9; 16]),
        name: Name::from_static("w"),
        procedures: vec![OfferedProcedure { name: Name::from_static("a.b"), idempotent: true, schema: None }],
        slots: 0,
        labels: Vec::new(),
        held: Vec::new(),
    };
    let sink = Arc::new(AtOnce::default());
    let worker: Arc<dyn Worker> =
        Arc::from(now(broker.open_worker(offer, Arc::clone(&sink) as Arc<dyn Sink>)).unwrap());
    *sink.0.lock().unwrap() = Some(Arc::clone(&worker));
    worker.credit(2);
    sink
}

fn submission(caller: u8, number: u8) -> Submission {
    let mut route = Route::new(Name::from_static("a.b"));
    // Both ways to a worker: before the fsync, and after it.
    route.idempotent = number.is_multiple_of(2);
    let id = CallId::new(1_700_000_000_000, [caller, number, 0, 0, 0, 0, 0, 0, 0, 1]);
    let call = Call::new(id, Arc::new(route), Payload::raw(vec![number]));
    Submission { call, tag: u64::from(number), wants: Wants::Outcome, resent: false }
}

/// Two callers on threads of their own; each gets each of its outcomes once.
fn two_callers(directory: Option<&Path>) {
    let broker = open(directory);
    let worker = serve(&broker);
    let callers: Vec<_> = (0..2)
        .map(|number| {
            let broker = Arc::clone(&broker);
            thread::spawn(move || {
                let (caller, events) = caller(&broker, number).unwrap();
                let mut waiting = vec![0, 1];
                waiting.iter().for_each(|call| caller.submit(&mut vec![submission(number, *call)]));
                while !waiting.is_empty() {
                    let Event::Outcome { tag, id, .. } = events.recv().unwrap() else { panic!("an outcome") };
                    let before = waiting.len();
                    waiting.retain(|call| u64::from(*call) != tag);
                    assert!(waiting.len() < before, "an outcome comes once");
                    caller.acknowledge(&[id]);
                }
            })
        })
        .collect();
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    now(broker.close());
    // It holds the worker, which holds the broker.
    worker.0.lock().unwrap().take();
}

#[test]
fn every_outcome_reaches_its_caller_once_in_memory() {
    explore(|| two_callers(None));
}

#[test]
fn every_outcome_reaches_its_caller_once_over_the_journal() {
    explore(|| two_callers(Some(tempfile::tempdir().unwrap().path())));
}

#[test]
fn a_broker_closes_while_it_is_used() {
    explore(|| {
        let folder = tempfile::tempdir().unwrap();
        let broker = open(Some(folder.path()));
        let worker = serve(&broker);
        let other = Arc::clone(&broker);
        let using = thread::spawn(move || {
            // Whether it is still open is what the schedule decides.
            let Ok((caller, events)) = caller(&other, 1) else { return };
            caller.submit(&mut vec![submission(1, 0)]);
            caller.submit(&mut vec![submission(1, 1)]);
            drop(caller);
            let seen = events.try_iter().filter(|event| matches!(event, Event::Outcome { .. })).count();
            assert!(seen <= 2);
        });
        now(broker.close());
        using.join().unwrap();
        worker.0.lock().unwrap().take();
        drop(broker);
        // The directory is free again.
        now(open(Some(folder.path())).close());
    });
}
