//! How attempts run and end on a worker.

use crate::fake::{Fake, lease};
use antiphon::{
    Antiphon, Attempt, Code, Context, Failure, Payload, Procedure, RawProcedureOptions, Renewal, Schema, Service,
    Worker,
};
use antiphon_broker::{Event, Report};
use antiphon_protocol::{Epoch, OfferedProcedure, Settlement};
use std::future::Future;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A worker of one procedure on payloads, whose leases are renewed by the runtime's clock.
pub async fn worker<F, O>(antiphon: &Antiphon, run: F) -> Worker
where
    F: Fn(Context, Payload) -> O + Send + Sync + Clone + 'static,
    O: Future<Output = Result<Payload, Failure>> + Send + 'static,
{
    let options = RawProcedureOptions::default().idempotent();
    let builder = antiphon.worker().procedure("text.count", options, run).renewal(Renewal::Runtime);
    builder.slots(2).name("w1").start().await.unwrap()
}

fn lease_event(number: u8) -> Event {
    Event::Lease(lease(number, Payload::json("1")))
}

fn code_of(report: Report) -> (&'static str, Code) {
    match report.settlement {
        Settlement::Fail(failure) => ("fail", failure.code),
        Settlement::Retry(failure) => ("retry", failure.code),
        Settlement::Bury(failure) => ("bury", failure.code),
        other => panic!("{other:?}"),
    }
}

/// A blocking procedure, by hand.
struct Blocking<F>(F);

const COUNT: Procedure<u32, u32, Failure> = Procedure::new("text.count");

impl<F: Fn(&Context, u32) -> Result<u32, Failure> + Clone + Send + Sync + 'static> Service for Blocking<F> {
    fn procedures(&self) -> Vec<OfferedProcedure> {
        vec![COUNT.offered(Schema::default())]
    }

    fn start(&self, _: usize, attempt: Attempt) {
        let run = self.0.clone();
        attempt.run_blocking(&COUNT, move |context, n| run(context, n));
    }
}

async fn blocking<F>(fake: &Fake, run: F) -> Worker
where
    F: Fn(&Context, u32) -> Result<u32, Failure> + Clone + Send + Sync + 'static,
{
    fake.antiphon().worker().service(Blocking(run)).renewal(Renewal::Runtime).start().await.unwrap()
}

#[tokio::test]
async fn the_offer_names_what_is_served() {
    let fake = Fake::new();
    let _worker = worker(&fake.antiphon(), async |_, payload| Ok(payload)).await;
    let offer = fake.kept().offer.take().unwrap();
    assert_eq!((offer.name.as_str(), offer.slots), ("w1", 2));
    assert_eq!(offer.procedures.len(), 1);
    assert!(offer.procedures[0].idempotent && offer.procedures[0].name.as_str() == "text.count");
}

#[tokio::test]
async fn a_worker_that_serves_nothing_or_one_name_twice_is_refused() {
    let antiphon = Fake::new().antiphon();
    assert!(antiphon.worker().start().await.is_err());
    let echo = async |_: Context, payload: Payload| Ok(payload);
    let options = RawProcedureOptions::default();
    let twice = antiphon.worker().procedure("a.b", options.clone(), echo).procedure("a.b", options.clone(), echo);
    assert!(twice.start().await.is_err());
    assert!(antiphon.worker().procedure("A B", options, echo).start().await.is_err());
}

#[tokio::test]
async fn a_value_settles_the_call() {
    let fake = Fake::new();
    let _worker = worker(&fake.antiphon(), async |_, payload| Ok(payload)).await;
    fake.tell_worker(lease_event(1));
    let report = fake.report().await;
    assert_eq!(report.settlement, Settlement::Succeed(Payload::json("1")));
    assert_eq!(report.lease, lease(1, Payload::default()).lease);
}

#[tokio::test]
async fn an_error_fails_the_call_and_a_retryable_one_the_attempt() {
    let fake = Fake::new();
    let run = async |context: Context, _| {
        let code = if context.call_id().to_bytes()[0] == 1 { Code::Aborted } else { Code::Unavailable };
        Err(Failure::new(code, "no"))
    };
    let _worker = worker(&fake.antiphon(), run).await;
    fake.tell_worker(lease_event(1));
    let report = fake.report().await;
    assert!(matches!(&report.settlement, Settlement::Fail(failure) if failure.may_have_run));
    assert_eq!(code_of(report), ("fail", Code::Aborted));
    fake.tell_worker(lease_event(2));
    assert_eq!(code_of(fake.report().await), ("retry", Code::Unavailable));
}

#[tokio::test]
async fn a_panic_buries_the_call_with_its_text() {
    let fake = Fake::new();
    let _worker = worker(&fake.antiphon(), async |_, _| panic!("a {} is not a number", "cow")).await;
    fake.tell_worker(lease_event(1));
    let report = fake.report().await;
    assert!(
        matches!(&report.settlement, Settlement::Bury(failure) if failure.message.contains("a cow is not a number"))
    );
    assert_eq!(code_of(report), ("bury", Code::Internal));
    let other = Fake::new();
    let _blocking = blocking(&other, |_, _| panic!("cow")).await;
    other.tell_worker(lease_event(1));
    assert_eq!(code_of(other.report().await), ("bury", Code::Internal));
}

#[tokio::test]
async fn arguments_that_cannot_be_read_bury_the_call() {
    let fake = Fake::new();
    let _worker = blocking(&fake, |_, n| Ok(n)).await;
    fake.tell_worker(Event::Lease(lease(1, Payload::json("\"one\""))));
    assert_eq!(code_of(fake.report().await), ("bury", Code::InvalidArgument));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_dropped_and_tried_again() {
    let fake = Fake::new();
    let _worker = worker(&fake.antiphon(), async |_, _| std::future::pending().await).await;
    let mut leased = lease(1, Payload::json("1"));
    leased.attempt_timeout_ms = 2_000;
    leased.deadline_ms = 60_000;
    let start = tokio::time::Instant::now();
    fake.tell_worker(Event::Lease(leased));
    assert_eq!(code_of(fake.report().await), ("retry", Code::DeadlineExceeded));
    assert_eq!(start.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_past_the_deadline_is_dropped_though_no_broker_asks() {
    let fake = Fake::new();
    let _worker = worker(&fake.antiphon(), async |_, _| std::future::pending().await).await;
    let mut leased = lease(1, Payload::json("1"));
    leased.deadline_ms = 2_000;
    fake.tell_worker(Event::Lease(leased));
    assert_eq!(fake.report().await.settlement, Settlement::Stop);
}

/// Tells when it is dropped.
struct Dropped(mpsc::Sender<&'static str>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.send("dropped").unwrap();
    }
}

#[tokio::test]
async fn a_cancelled_attempt_is_dropped_before_its_stop_is_reported() {
    let fake = Fake::new();
    let (sender, receiver) = mpsc::channel();
    let sender = Arc::new(Mutex::new(sender));
    let started = Arc::new(tokio::sync::Notify::new());
    let run = {
        let (sender, started) = (Arc::clone(&sender), Arc::clone(&started));
        move |_: Context, _: Payload| {
            let (dropped, started) = (Dropped(sender.lock().unwrap().clone()), Arc::clone(&started));
            async move {
                started.notify_one();
                std::future::pending::<()>().await;
                drop(dropped);
                Ok(Payload::default())
            }
        }
    };
    let _worker = worker(&fake.antiphon(), run).await;
    fake.tell_worker(lease_event(1));
    started.notified().await;
    fake.tell_worker(Event::CancelAsked { lease: lease(1, Payload::default()).lease });
    assert_eq!(fake.report().await.settlement, Settlement::Stop);
    assert_eq!(receiver.try_recv(), Ok("dropped"));
}

#[tokio::test]
async fn a_stale_attempt_is_dropped_and_reports_nothing() {
    let fake = Fake::new();
    let worker = worker(&fake.antiphon(), async |_, _| std::future::pending().await).await;
    fake.tell_worker(lease_event(1));
    assert_eq!(worker.running(), 1);
    fake.tell_worker(Event::Stale { lease: lease(1, Payload::default()).lease });
    assert_eq!(worker.running(), 0);
    worker.stop().await.unwrap();
    assert!(fake.kept().reports.is_empty());
}

#[tokio::test]
async fn a_reconnect_stops_what_the_broker_did_not_keep() {
    let fake = Fake::new();
    let worker = worker(&fake.antiphon(), async |_, _| std::future::pending().await).await;
    fake.tell_worker(lease_event(1));
    fake.tell_worker(lease_event(2));
    fake.tell_worker(Event::Down { reason: "cut".to_owned(), last: false });
    assert_eq!(worker.running(), 2);
    fake.tell_worker(Event::Up { epoch: Epoch(1), kept: vec![lease(2, Payload::default()).lease] });
    assert_eq!(worker.running(), 1);
    assert!(fake.kept().reports.is_empty());
}

#[tokio::test]
async fn a_blocking_procedure_that_checks_stops_and_one_that_ends_anyway_has_its_value() {
    let fake = Fake::new();
    let (started, is_started) = mpsc::channel();
    let run = move |context: &Context, n: u32| {
        started.send(()).unwrap();
        loop {
            match (context.check(), n) {
                (Ok(()), _) => std::thread::yield_now(),
                (Err(failure), 1) => return Err(failure),
                (Err(_), n) => return Ok(n),
            }
        }
    };
    let _worker = blocking(&fake, run).await;
    for (number, n) in [(1, "1"), (2, "2")] {
        fake.tell_worker(Event::Lease(lease(number, Payload::json(n))));
        is_started.recv().unwrap();
        fake.tell_worker(Event::CancelAsked { lease: lease(number, Payload::default()).lease });
        let expected = if n == "1" { Settlement::Stop } else { Settlement::Succeed(Payload::json("2")) };
        assert_eq!(fake.report().await.settlement, expected);
    }
}

#[tokio::test]
async fn a_blocking_procedure_out_of_time_is_tried_again_once_it_has_returned() {
    let fake = Fake::new();
    let run = |context: &Context, _| loop {
        context.check()?;
        std::thread::yield_now();
    };
    let _worker = blocking(&fake, run).await;
    let mut leased = lease(1, Payload::json("1"));
    leased.attempt_timeout_ms = 10;
    fake.tell_worker(Event::Lease(leased));
    assert_eq!(code_of(fake.report().await), ("retry", Code::DeadlineExceeded));
}

#[tokio::test(start_paused = true)]
async fn leases_are_renewed_every_third_of_their_length() {
    let fake = Fake::new();
    let _worker = worker(&fake.antiphon(), async |_, _| std::future::pending().await).await;
    let mut leased = lease(1, Payload::json("1"));
    leased.lease_ms = 300;
    let tag = leased.lease;
    fake.tell_worker(Event::Lease(leased));
    tokio::time::sleep(Duration::from_millis(950)).await;
    let extended = fake.kept().extended.clone();
    assert!(extended.iter().all(|leases| *leases == [tag]));
    assert!((9..=10).contains(&extended.len()), "{}", extended.len());
}

#[tokio::test]
async fn a_procedure_that_blocks_the_runtime_loses_no_lease() {
    let fake = Fake::new();
    let blocked = fake.clone();
    let run = move |_: Context, payload| {
        let fake = blocked.clone();
        async move {
            // Blocks the only thread of the runtime until its lease was renewed.
            while fake.kept().extended.is_empty() {
                std::thread::yield_now();
            }
            Ok(payload)
        }
    };
    let options = RawProcedureOptions::default();
    let _worker = fake.antiphon().worker().procedure("a.b", options, run).start().await.unwrap();
    let mut leased = lease(1, Payload::json("1"));
    leased.lease_ms = 30;
    fake.tell_worker(Event::Lease(leased));
    assert!(matches!(fake.report().await.settlement, Settlement::Succeed(_)));
}

#[tokio::test]
async fn reports_that_the_broker_does_not_take_are_offered_again() {
    let fake = Fake::new();
    let worker = worker(&fake.antiphon(), async |_, payload| Ok(payload)).await;
    fake.kept().room = Some(0);
    fake.tell_worker(lease_event(1));
    fake.tell_worker(lease_event(2));
    while worker.running() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(fake.kept().reports.is_empty());
    fake.kept().room = None;
    fake.tell_worker(Event::Writable);
    assert_eq!(fake.kept().reports.len(), 2);
}

#[tokio::test]
async fn a_broker_that_becomes_writable_while_it_is_offered_reports_is_offered_them_again() {
    let fake = Fake::new();
    let _worker = worker(&fake.antiphon(), async |_, payload| Ok(payload)).await;
    fake.kept().room = Some(0);
    fake.kept().writable_at_once = true;
    fake.tell_worker(lease_event(1));
    assert!(matches!(fake.report().await.settlement, Settlement::Succeed(_)));
}

/// Panics when it is dropped.
struct Landmine;

impl Drop for Landmine {
    fn drop(&mut self) {
        panic!("stepped on");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_what_is_dropped_with_an_attempt_buries_the_call() {
    let fake = Fake::new();
    let run = async |_: Context, _: Payload| {
        let _landmine = Landmine;
        std::future::pending().await
    };
    let _worker = worker(&fake.antiphon(), run).await;
    let mut leased = lease(1, Payload::json("1"));
    leased.attempt_timeout_ms = 10;
    fake.tell_worker(Event::Lease(leased));
    assert_eq!(code_of(fake.report().await), ("bury", Code::Internal));
}

#[test]
fn a_program_that_panics_gives_what_it_runs_back() {
    let fake = Fake::new();
    let program = {
        let fake = fake.clone();
        move || {
            // Let go behind the runtime, so that the runtime ends while the broker is there to be told.
            let mut held = Vec::new();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                held.push(worker(&fake.antiphon(), async |_, _| std::future::pending().await).await);
                fake.tell_worker(lease_event(1));
                tokio::task::yield_now().await;
            });
            panic!("the program panics");
        }
    };
    assert!(std::thread::spawn(program).join().is_err());
    let reports: Vec<Report> = fake.kept().reports.drain(..).collect();
    let [Report { settlement: Settlement::Release, .. }] = &reports[..] else { panic!("{reports:?}") };
}
