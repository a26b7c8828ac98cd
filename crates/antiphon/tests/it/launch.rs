//! How attempts begin on a runtime of one thread: together, unless they are stopped or their runtime ends before.

use crate::fake::{Fake, lease};
use crate::worker::worker;
use antiphon::Payload;
use antiphon_broker::Event;
use antiphon_protocol::Settlement;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

fn lease_event(number: u8) -> Event {
    Event::Lease(lease(number, Payload::json("1")))
}

#[tokio::test]
async fn an_attempt_that_is_cancelled_before_it_began_never_begins() {
    let fake = Fake::new();
    let begun = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&begun);
    let _worker = worker(&fake.antiphon(), move |_, payload| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move { Ok(payload) }
    })
    .await;
    fake.tell_worker(lease_event(1));
    fake.tell_worker(lease_event(2));
    fake.tell_worker(Event::CancelAsked { lease: lease(1, Payload::default()).lease });
    let (one, other) = (fake.report().await, fake.report().await);
    let settled = |lease| [&one, &other].into_iter().find(|report| report.lease == lease).map(|it| &it.settlement);
    assert_eq!(settled(lease(1, Payload::default()).lease), Some(&Settlement::Stop));
    assert!(matches!(settled(lease(2, Payload::default()).lease), Some(Settlement::Succeed(_))));
    assert_eq!(begun.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn many_that_came_together_all_end_and_those_that_wait_do_not_hold_up_the_others() {
    let fake = Fake::new();
    let worker = worker(&fake.antiphon(), async |context, payload| {
        if context.attempt() == 1 && payload.bytes.as_ref() == b"\"wait\"" {
            std::future::pending::<()>().await;
        }
        Ok(payload)
    })
    .await;
    for number in 1..=200 {
        let text = if number % 10 == 0 { "\"wait\"" } else { "1" };
        fake.tell_worker(Event::Lease(lease(number, Payload::json(text))));
    }
    for _ in 0..180 {
        assert!(matches!(fake.report().await.settlement, Settlement::Succeed(_)));
    }
    assert_eq!(worker.running(), 20);
}

#[test]
fn what_had_no_time_to_begin_is_given_back_when_the_runtime_ends() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (fake, worker) = runtime.block_on(async {
        let fake = Fake::new();
        let worker = worker(&fake.antiphon(), async |_, payload| Ok(payload)).await;
        fake.tell_worker(lease_event(1));
        fake.tell_worker(lease_event(2));
        (fake, worker)
    });
    assert_eq!(worker.running(), 2);
    drop(runtime);
    assert_eq!(worker.running(), 0);
    let reports = std::mem::take(&mut fake.kept().reports);
    assert_eq!(reports.len(), 2);
    assert!(reports.iter().all(|report| report.settlement == Settlement::Release), "{reports:?}");
}
