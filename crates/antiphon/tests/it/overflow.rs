//! What happens when the broker takes no more, and how acknowledgements are gathered.

use crate::fake::Fake;
use antiphon::{Antiphon, CallBuilder, CallError, CancelAnswer, Code, Failure, Payload, State};
use antiphon_broker::Event;
use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

fn call(antiphon: &Antiphon) -> CallBuilder<Payload, Payload, Failure> {
    antiphon.call_raw("a.b", Payload::json("1"))
}

#[tokio::test]
async fn calls_of_one_batch_are_submitted_in_one() {
    let fake = Fake::new();
    let antiphon = fake.antiphon();
    // The first use opens the caller.
    drop(call(&antiphon).send());
    fake.submission().await;
    let submitting = tokio::spawn({
        let antiphon = antiphon.clone();
        async move { antiphon.submit_all((0..100).map(|_| call(&antiphon))).await }
    });
    for _ in 0..100 {
        let submission = fake.submission().await;
        fake.accept(&submission);
    }
    assert!(submitting.await.unwrap().into_iter().all(|submitted| submitted.is_ok()));
    assert_eq!(fake.kept().batches, [1, 100]);
}

#[tokio::test]
async fn calls_awaited_side_by_side_are_handed_over_in_batches() {
    let fake = Fake::new();
    let antiphon = fake.antiphon();
    // The first use opens the caller.
    drop(call(&antiphon).send());
    fake.submission().await;
    let calls: Vec<_> = (0..100).map(|_| tokio::spawn(call(&antiphon).into_future())).collect();
    for _ in 0..100 {
        fake.submission().await;
    }
    // The first is alone, and goes at once.
    assert_eq!(fake.kept().batches, [1, 1, 64, 35]);
    calls.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_gathered_call_that_nobody_awaits_any_more_is_never_handed_over() {
    let fake = Fake::new();
    let antiphon = fake.antiphon();
    let kept = call(&antiphon).send();
    fake.submission().await;
    {
        let mut given_up = pin!(call(&antiphon).into_future());
        assert!(given_up.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    let later = call(&antiphon).send();
    let submission = fake.submission().await;
    assert_eq!(submission.call.id, later.id());
    assert!(fake.kept().cancelled.is_empty());
    drop(kept);
}

#[tokio::test]
async fn what_the_broker_does_not_take_is_offered_again_in_order() {
    let fake = Fake::new();
    fake.kept().room = Some(1);
    let antiphon = fake.antiphon();
    let calls: Vec<_> = (0..4).map(|_| call(&antiphon).send()).collect();
    let mut order = vec![fake.submission().await.call.id];
    for _ in 0..3 {
        fake.kept().room = Some(1);
        fake.tell(Event::Writable);
        order.push(fake.submission().await.call.id);
    }
    assert_eq!(order, calls.iter().map(antiphon::SubmittedCall::id).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_rest_of_a_batch_is_offered_again_in_order() {
    let fake = Fake::new();
    let antiphon = fake.antiphon();
    drop(call(&antiphon).send());
    fake.submission().await;
    fake.kept().room = Some(1);
    let submitting = tokio::spawn({
        let antiphon = antiphon.clone();
        async move { antiphon.submit_all((0..3).map(|_| call(&antiphon))).await }
    });
    let mut submissions = vec![fake.submission().await];
    // One that comes meanwhile stays behind them.
    let last = call(&antiphon).send();
    fake.kept().room = None;
    fake.tell(Event::Writable);
    for _ in 0..3 {
        submissions.push(fake.submission().await);
    }
    assert_eq!(submissions[3].call.id, last.id());
    for submission in &submissions {
        fake.accept(submission);
    }
    let ids: Vec<_> = submitting.await.unwrap().into_iter().map(|submitted| submitted.unwrap().id()).collect();
    let order: Vec<_> = submissions.iter().take(3).map(|submission| submission.call.id).collect();
    assert_eq!(ids, order);
}

#[tokio::test]
async fn a_broker_that_becomes_writable_while_it_is_offered_calls_is_offered_them_again() {
    let fake = Fake::new();
    let antiphon = fake.antiphon();
    drop(call(&antiphon).send());
    fake.submission().await;
    fake.kept().room = Some(0);
    fake.kept().writable_at_once = true;
    let mut submitted = call(&antiphon).send();
    let submission = fake.submission().await;
    fake.accept(&submission);
    assert_eq!(submitted.accepted().await.unwrap().id, submission.call.id);
}

#[tokio::test]
async fn submissions_wait_when_too_many_calls_are_kept() {
    let fake = Fake::new();
    fake.kept().room = Some(0);
    let antiphon = fake.antiphon();
    let kept: Vec<_> = (0..4096).map(|_| call(&antiphon).send()).collect();
    let mut submitting = pin!(call(&antiphon).submit());
    assert!(submitting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    // The caller opens on the runtime.
    tokio::task::yield_now().await;
    fake.kept().room = None;
    fake.tell(Event::Writable);
    assert_eq!(fake.kept().submissions.len(), kept.len());
    assert!(submitting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let last = fake.kept().submissions.pop_back().unwrap();
    fake.accept(&last);
    assert_eq!(submitting.await.unwrap().id(), last.call.id);
}

#[tokio::test]
async fn what_cannot_wait_is_refused_when_too_many_calls_are_kept() {
    let fake = Fake::new();
    fake.kept().room = Some(0);
    let antiphon = fake.antiphon();
    let kept: Vec<_> = (0..4096).map(|_| call(&antiphon).send()).collect();
    let error = call(&antiphon).send().await.unwrap_err();
    assert!(matches!(error, CallError::Refused(_)) && error.code() == Code::ResourceExhausted);
    assert!(kept.iter().all(|call| !call.done()));
}

/// The caller is open, and the broker takes nothing.
async fn crowded(fake: &Fake) -> Antiphon {
    let antiphon = fake.antiphon();
    drop(call(&antiphon).send());
    fake.submission().await;
    fake.kept().room = Some(0);
    antiphon
}

/// Lets the broker take what is kept, and gives what it then took.
fn take_kept(fake: &Fake) -> Vec<antiphon_protocol::CallId> {
    fake.kept().room = None;
    fake.tell(Event::Writable);
    fake.kept().submissions.drain(..).map(|submission| submission.call.id).collect()
}

#[tokio::test]
async fn a_call_that_is_cancelled_while_it_is_kept_never_reaches_the_broker() {
    let fake = Fake::new();
    let antiphon = crowded(&fake).await;
    let (first, second) = (call(&antiphon).send(), call(&antiphon).send());
    assert!(!first.cancelled());
    assert_eq!(first.cancel().await.unwrap(), CancelAnswer::NeverRan);
    assert!(first.cancelled() && !second.cancelled());
    assert_eq!(take_kept(&fake), [second.id()]);
    assert!(fake.kept().cancelled.is_empty());
    let settled = first.settled().await.unwrap();
    assert_eq!((settled.state, settled.attempts), (State::Cancelled, 0));
}

#[tokio::test]
async fn an_awaited_call_that_is_dropped_while_it_is_kept_never_reaches_the_broker() {
    let fake = Fake::new();
    let antiphon = crowded(&fake).await;
    {
        let mut awaited = pin!(call(&antiphon).into_future());
        assert!(awaited.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    assert!(take_kept(&fake).is_empty() && fake.kept().cancelled.is_empty());
}

#[tokio::test]
async fn a_call_that_is_cancelled_before_the_caller_is_open_never_reaches_the_broker() {
    let fake = Fake::new();
    let antiphon = fake.antiphon();
    let (first, second) = (call(&antiphon).send(), call(&antiphon).send());
    // The caller opens on the runtime, which did not run yet.
    let answer = pin!(antiphon.cancel(first.id())).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(answer, std::task::Poll::Ready(Ok(CancelAnswer::NeverRan))));
    assert_eq!(fake.submission().await.call.id, second.id());
    assert!(fake.kept().submissions.is_empty() && fake.kept().cancelled.is_empty());
}

#[tokio::test]
async fn a_call_that_is_cancelled_while_it_is_offered_is_cancelled_after_it_was_handed_over() {
    let fake = Fake::new();
    let antiphon = crowded(&fake).await;
    let (first, second) = (call(&antiphon).send(), call(&antiphon).send());
    let (id, other) = (first.id(), second.id());
    // Another thread cancels both just when the broker is offered them, and it takes one.
    let (cancelling, seen) = (antiphon.clone(), fake.clone());
    fake.kept().offered = Some(Box::new(move || {
        for id in [id, other] {
            let answer = pin!(cancelling.cancel(id)).poll(&mut Context::from_waker(Waker::noop()));
            assert!(answer.is_pending());
        }
        assert!(seen.kept().cancelled.is_empty(), "the broker does not know the call yet");
    }));
    fake.kept().room = Some(1);
    fake.tell(Event::Writable);
    assert_eq!(fake.submission().await.call.id, id);
    assert_eq!(fake.kept().cancelled, [id]);
    assert_eq!(second.settled().await.unwrap().state, State::Cancelled);
    assert!(take_kept(&fake).is_empty());
}

#[tokio::test(start_paused = true)]
async fn deadlines_go_on_while_calls_are_kept() {
    let fake = Fake::new();
    let antiphon = crowded(&fake).await;
    let short = call(&antiphon).deadline_in(Duration::from_secs(2)).send();
    let long = call(&antiphon).deadline_in(Duration::from_secs(10)).send();
    tokio::time::advance(Duration::from_secs(3)).await;
    fake.kept().room = None;
    fake.tell(Event::Writable);
    let submission = fake.submission().await;
    assert_eq!((submission.call.id, submission.call.deadline_ms), (long.id(), 7000));
    assert!(fake.kept().submissions.is_empty());
    let error = short.await.unwrap_err();
    assert!(error.code() == Code::DeadlineExceeded && !error.may_have_run());
}

#[tokio::test]
async fn acknowledgements_are_gathered_into_batches() {
    let fake = Fake::new();
    let antiphon = fake.antiphon();
    for number in 1..=65 {
        let call = call(&antiphon).send();
        fake.reply(&fake.submission().await, "1");
        assert!(fake.kept().acknowledged.len() == usize::from(number > 64));
        call.await.unwrap();
    }
    assert_eq!(fake.kept().acknowledged[0].len(), 64);
    antiphon.close().await;
    assert_eq!(fake.kept().acknowledged[1].len(), 1);
}

#[tokio::test]
async fn large_outcomes_are_acknowledged_at_once() {
    let fake = Fake::new();
    let antiphon = fake.antiphon();
    let call = call(&antiphon).send();
    fake.reply(&fake.submission().await, &"1".repeat(300 << 10));
    call.await.unwrap();
    assert_eq!(fake.kept().acknowledged.len(), 1);
}
