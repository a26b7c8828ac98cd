//! How a worker ends.

use crate::fake::{Fake, lease};
use crate::worker::worker;
use antiphon::{Code, Payload};
use antiphon_broker::Event;
use antiphon_protocol::Settlement;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

fn lease_event(number: u8) -> Event {
    Event::Lease(lease(number, Payload::json("1")))
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_calls_finish_and_waits_for_the_answers() {
    let fake = Fake::new();
    let gate = Arc::new(Notify::new());
    let run = {
        let gate = Arc::clone(&gate);
        move |_, payload| {
            let gate = Arc::clone(&gate);
            async move {
                gate.notified().await;
                Ok(payload)
            }
        }
    };
    let worker = worker(&fake.antiphon(), run).await;
    fake.tell_worker(lease_event(1));
    let draining = tokio::spawn(worker.drain(Duration::from_secs(30)));
    fake.until(|kept| kept.drained.then_some(())).await;
    // Renewed while it drains.
    fake.until(|kept| (!kept.extended.is_empty()).then_some(())).await;
    gate.notify_one();
    let report = fake.report().await;
    assert!(matches!(report.settlement, Settlement::Succeed(_)));
    tokio::task::yield_now().await;
    assert!(!draining.is_finished() && fake.kept().closed_workers == 0, "the report is not answered yet");
    fake.tell_worker(Event::Settled { lease: report.lease });
    draining.await.unwrap().unwrap();
    assert_eq!(fake.kept().closed_workers, 1);
}

#[tokio::test(start_paused = true)]
async fn what_runs_longer_than_a_drain_waits_is_given_back() {
    let fake = Fake::new();
    let worker = worker(&fake.antiphon(), async |_, _| std::future::pending().await).await;
    fake.tell_worker(lease_event(1));
    let start = tokio::time::Instant::now();
    let draining = tokio::spawn(worker.drain(Duration::from_secs(7)));
    let report = fake.report().await;
    assert_eq!((report.settlement, start.elapsed().as_secs()), (Settlement::Release, 7));
    fake.tell_worker(Event::Stale { lease: report.lease });
    draining.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_drain_whose_reports_are_not_answered_says_so() {
    let fake = Fake::new();
    let worker = worker(&fake.antiphon(), async |_, payload| Ok(payload)).await;
    fake.tell_worker(lease_event(1));
    fake.report().await;
    let failure = worker.drain(Duration::from_secs(1)).await.unwrap_err();
    assert!(failure.code == Code::Unavailable && failure.may_have_run);
}

#[tokio::test]
async fn an_operator_who_asks_to_drain_ends_the_work() {
    let fake = Fake::new();
    let worker = worker(&fake.antiphon(), async |_, payload| Ok(payload)).await;
    let running = tokio::spawn(worker.run_until(std::future::pending::<()>()));
    tokio::task::yield_now().await;
    assert!(!running.is_finished());
    fake.tell_worker(Event::DrainAsked);
    running.await.unwrap().unwrap();
    assert!(fake.kept().drained);
}

#[tokio::test]
async fn work_ends_when_its_future_does() {
    let fake = Fake::new();
    let worker = worker(&fake.antiphon(), async |_, payload| Ok(payload)).await;
    worker.run_until(std::future::ready(())).await.unwrap();
    assert!(fake.kept().drained && fake.kept().closed_workers == 1);
}

#[tokio::test]
async fn a_lost_broker_ends_the_work_with_an_error() {
    let fake = Fake::new();
    let worker = worker(&fake.antiphon(), async |_, _| std::future::pending().await).await;
    fake.tell_worker(lease_event(1));
    let running = tokio::spawn(worker.run_until(std::future::pending::<()>()));
    tokio::task::yield_now().await;
    fake.tell_worker(Event::Down { reason: "refused".to_owned(), last: true });
    assert_eq!(running.await.unwrap().unwrap_err().message, "refused");
}

#[tokio::test]
async fn dropping_a_worker_closes_it_and_drops_what_runs() {
    let fake = Fake::new();
    let held = Arc::new(());
    let run = {
        let held = Arc::clone(&held);
        move |_, payload| {
            let held = Arc::clone(&held);
            async move {
                std::future::pending::<()>().await;
                drop(held);
                Ok(payload)
            }
        }
    };
    let worker = worker(&fake.antiphon(), run).await;
    fake.tell_worker(lease_event(1));
    tokio::task::yield_now().await;
    assert!(Arc::strong_count(&held) > 2);
    drop(worker);
    assert_eq!(fake.kept().closed_workers, 1);
    while Arc::strong_count(&held) > 1 {
        tokio::task::yield_now().await;
    }
}
