//! What a procedure learns from its context, and what calls made within one take over.

use crate::fake::{Fake, lease};
use antiphon::{Antiphon, Context, Failure, Payload, RawProcedureOptions, Renewal};
use antiphon_broker::Event;
use antiphon_protocol::Settlement;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A worker that hands its contexts out and never ends.
async fn contexts(fake: &Fake) -> (antiphon::Worker, Arc<Mutex<Vec<Context>>>) {
    let seen: Arc<Mutex<Vec<Context>>> = Arc::default();
    let run = {
        let seen = Arc::clone(&seen);
        move |context: Context, payload| {
            seen.lock().unwrap().push(context);
            async move {
                std::future::pending::<()>().await;
                Ok(payload)
            }
        }
    };
    let builder = fake.antiphon().worker().procedure("a.b", RawProcedureOptions::default(), run);
    (builder.renewal(Renewal::Runtime).start().await.unwrap(), seen)
}

async fn first(seen: &Mutex<Vec<Context>>) -> Context {
    loop {
        if let Some(context) = seen.lock().unwrap().pop() {
            return context;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_made_within_another_takes_over_its_deadline_and_trace() {
    let fake = Fake::new();
    let (_worker, seen) = contexts(&fake).await;
    let mut leased = lease(1, Payload::json("1"));
    leased.deadline_ms = 9_000;
    leased.trace = Some("00-trace".into());
    fake.tell_worker(Event::Lease(leased));
    let context = first(&seen).await;
    tokio::time::advance(Duration::from_secs(4)).await;
    assert_eq!(context.remaining(), Some(Duration::from_secs(5)));
    let within = context.antiphon();
    drop(within.call_raw("c.d", Payload::json("1")).send());
    drop(within.call_raw("c.d", Payload::json("1")).deadline_in(Duration::from_secs(60)).send());
    drop(within.call_raw("c.d", Payload::json("1")).deadline_in(Duration::from_secs(2)).send());
    for deadline_ms in [5_000, 5_000, 2_000] {
        let call = fake.submission().await.call;
        assert_eq!(call.deadline_ms, deadline_ms);
        assert_eq!(call.keys.unwrap().trace.as_deref(), Some("00-trace"));
    }
}

#[tokio::test]
async fn a_cancelled_attempt_asks_to_cancel_what_it_awaits() {
    let fake = Fake::new();
    let run = async |context: Context, payload| {
        context.antiphon().call_raw("c.d", payload).await.map_err(|error| Failure::new(error.code(), error.to_string()))
    };
    let _worker = crate::worker::worker(&fake.antiphon(), run).await;
    fake.tell_worker(Event::Lease(lease(1, Payload::json("1"))));
    let inner = fake.submission().await.call.id;
    fake.tell_worker(Event::CancelAsked { lease: lease(1, Payload::default()).lease });
    assert_eq!(fake.report().await.settlement, Settlement::Stop);
    assert_eq!(fake.kept().cancelled, [inner]);
}

#[tokio::test]
async fn a_context_tells_its_call_and_what_was_asked() {
    let fake = Fake::new();
    let (_worker, seen) = contexts(&fake).await;
    let leased = lease(1, Payload::json("1"));
    let tag = leased.lease;
    fake.tell_worker(Event::Lease(leased));
    let context = first(&seen).await;
    assert_eq!((context.attempt(), context.attempts_max(), context.lease_token()), (1, 3, tag.token));
    assert_eq!((context.remaining(), context.trace()), (None, None));
    assert!(context.check().is_ok() && !context.is_cancelled());
    let waiting = tokio::spawn({
        let context = context.clone();
        async move { context.cancelled().await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    fake.tell_worker(Event::CancelAsked { lease: tag });
    waiting.await.unwrap();
    assert!(context.is_cancelled());
    context.cancelled().await;
}

#[tokio::test]
async fn a_key_for_a_sub_call_is_the_same_in_every_attempt() {
    let antiphon = Antiphon::connect("memory:").await.unwrap();
    let keys: Arc<Mutex<Vec<String>>> = Arc::default();
    let run = {
        let keys = Arc::clone(&keys);
        move |context: Context, payload| {
            keys.lock().unwrap().push(context.key("charge"));
            async move {
                if context.attempt() == 1 {
                    Err(Failure::new(antiphon::Code::Unavailable, "not now"))
                } else {
                    Ok(payload)
                }
            }
        }
    };
    let options = RawProcedureOptions::default();
    let _worker = antiphon.worker().procedure("a.b", options, run).start().await.unwrap();
    let backoff = antiphon::Backoff { first_ms: 1, factor_tenths: 10, max_ms: 1 };
    antiphon.call_raw("a.b", Payload::json("1")).backoff(backoff).await.unwrap();
    let keys = keys.lock().unwrap();
    assert_eq!((keys.len(), &keys[0]), (2, &keys[1]));
    assert!(keys[0].ends_with("/charge"));
}
