//! One call: what is sent, and what comes of it.

use crate::fake::{Fake, capabilities};
use antiphon::{Backoff, CallBuilder, CallError, CancelAnswer, Code, Durability, Failure, Payload, Procedure};
use antiphon_broker::{AcceptedMeans, Delay, Event, Idempotency, Wants};
use antiphon_protocol::{CallId, Outcome, Priority, Start, State};
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::time::{Duration, UNIX_EPOCH};

const DOUBLE: Procedure<u32, u64, Failure> = Procedure::new("math.double");

fn double(fake: &Fake, n: u32) -> CallBuilder<u32, u64, Failure> {
    fake.antiphon().call(DOUBLE, n).json()
}

#[tokio::test]
async fn an_awaited_call_gives_its_value() {
    let fake = Fake::new();
    let call = tokio::spawn(double(&fake, 21).into_future());
    let submission = fake.submission().await;
    assert_eq!(&*submission.call.payload.bytes, b"21");
    assert_eq!(submission.wants, Wants::Outcome);
    fake.reply(&submission, "42");
    assert_eq!(call.await.unwrap().unwrap(), 42);
}

#[tokio::test]
async fn an_awaited_call_has_a_deadline_of_30_s_and_a_submitted_one_none() {
    let fake = Fake::new();
    let call = tokio::spawn(double(&fake, 1).into_future());
    assert_eq!(fake.submission().await.call.deadline_ms, 30_000);
    call.abort();
    let delayed = tokio::spawn(double(&fake, 1).delay(Duration::from_secs(5)).into_future());
    assert_eq!(fake.submission().await.call.deadline_ms, 35_000);
    delayed.abort();
    drop(double(&fake, 1).send());
    assert_eq!(fake.submission().await.call.deadline_ms, 0);
}

#[tokio::test]
async fn options_travel_with_the_call() {
    let fake = Fake::new();
    let backoff = Backoff { first_ms: 1, factor_tenths: 10, max_ms: 9 };
    let call = double(&fake, 1)
        .deadline_in(Duration::from_micros(1_500))
        .priority(9)
        .tenant("blue")
        .attempts(7)
        .backoff(backoff)
        .attempt_timeout(Duration::from_secs(2))
        .idempotency_key("invoice-7")
        .not_before(UNIX_EPOCH + Duration::from_millis(77))
        .idempotent()
        .volatile()
        .trace("00-trace");
    drop(call.send());
    let call = fake.submission().await.call;
    assert_eq!((call.deadline_ms, call.start), (2, Start::At(77)));
    assert_eq!((call.route.priority, call.route.attempts), (Priority::new(9).unwrap(), 7));
    assert_eq!((call.route.backoff, call.route.attempt_timeout_ms), (backoff, 2_000));
    assert_eq!(call.route.tenant.as_deref(), Some("blue"));
    assert_eq!(call.route.durability, Some(Durability::Volatile));
    assert!(call.route.idempotent);
    let keys = call.keys.unwrap();
    assert_eq!((keys.idempotency.unwrap().as_str(), keys.trace.as_deref()), ("invoice-7", Some("00-trace")));
    drop(double(&fake, 1).durable().at_most_once().send());
    let route = fake.submission().await.call.route;
    assert_eq!((route.durability, route.at_most_once, route.attempts), (Some(Durability::Durable), true, 1));
}

#[tokio::test]
async fn wrong_options_are_refused_and_nothing_is_sent() {
    let fake = Fake::new();
    let calls = [
        double(&fake, 1).priority(10),
        double(&fake, 1).tenant("Blue"),
        double(&fake, 1).attempts(0),
        double(&fake, 1).idempotency_key(""),
        double(&fake, 1).attempt_timeout(Duration::from_secs(5_000_000)),
        double(&fake, 1).content_type(antiphon::ContentType::Raw),
    ];
    for call in calls {
        let error = call.await.unwrap_err();
        assert!(matches!(&error, CallError::Refused(failure) if failure.code == Code::InvalidArgument), "{error}");
        assert!(!error.may_have_run() && error.call_id().is_some());
    }
    let error = fake.antiphon().call_raw("Not A Name", Payload::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let error = double(&fake, 1).deadline_in(Duration::ZERO).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert!(fake.kept().submissions.is_empty());
}

#[tokio::test]
async fn what_the_broker_lacks_is_refused_before_anything_is_sent() {
    let mut poor = capabilities();
    poor.accepted = AcceptedMeans::Memory;
    poor.delay = Delay::None;
    poor.idempotency = Idempotency::ById;
    let fake = Fake::with(poor);
    let code = async |call: CallBuilder<u32, u64, Failure>| call.await.unwrap_err().code();
    assert_eq!(code(double(&fake, 1).durable()).await, Code::FailedPrecondition);
    assert_eq!(code(double(&fake, 1).delay(Duration::from_secs(1))).await, Code::Unimplemented);
    assert_eq!(code(double(&fake, 1).idempotency_key("k")).await, Code::Unimplemented);
    let large = fake.antiphon().call_raw("a.b", Payload::raw(vec![0; 1025])).await.unwrap_err();
    assert_eq!(large.code(), Code::ResourceExhausted);
    assert!(fake.kept().submissions.is_empty());
}

#[tokio::test]
async fn dropping_an_awaited_call_asks_to_cancel_it() {
    let fake = Fake::new();
    let call = tokio::spawn(double(&fake, 1).into_future());
    let id = fake.submission().await.call.id;
    call.abort();
    assert_eq!(fake.until(|kept| kept.cancelled.pop()).await, id);
}

#[tokio::test]
async fn dropping_a_submitted_call_never_cancels_and_its_outcome_is_acknowledged() {
    let fake = Fake::new();
    let antiphon = fake.antiphon();
    let submitting = tokio::spawn(antiphon.call(DOUBLE, 1).submit());
    let submission = fake.submission().await;
    fake.accept(&submission);
    let call = submitting.await.unwrap().unwrap();
    assert_eq!(call.id(), submission.call.id);
    drop(call);
    fake.reply(&submission, "2");
    let mut kept = fake.kept();
    assert_eq!(kept.acknowledged.pop(), Some(vec![submission.call.id]));
    assert!(kept.cancelled.is_empty());
}

#[tokio::test]
async fn a_call_whose_outcome_is_here_is_not_cancelled_when_it_is_dropped() {
    let fake = Fake::new();
    let mut call = Box::pin(double(&fake, 1).into_future());
    assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let submission = fake.submission().await;
    fake.reply(&submission, "2");
    drop(call);
    assert!(fake.kept().cancelled.is_empty());
}

#[tokio::test]
async fn a_refused_call_says_so_and_never_ran() {
    let fake = Fake::new();
    let submitting = tokio::spawn(double(&fake, 1).submit());
    let submission = fake.submission().await;
    let failure = Failure::new(Code::ResourceExhausted, "the queue is full").retry_after_ms(1_500);
    fake.tell(Event::Refused { tag: submission.tag, failure });
    let error = submitting.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Refused(_)));
    assert_eq!(error.retry_after(), Some(Duration::from_millis(1_500)));
    assert_eq!((error.call_id(), error.may_have_run()), (Some(submission.call.id), false));
}

#[tokio::test]
async fn only_a_failed_call_carries_the_procedures_own_error() {
    let fake = Fake::new();
    for (state, failed) in
        [(State::Failed, true), (State::Dead, false), (State::Cancelled, false), (State::Expired, false)]
    {
        let mut call = double(&fake, 1).send();
        let submission = fake.submission().await;
        fake.end(&submission, state, Outcome::Failure(Failure::new(Code::Aborted, "no")));
        let error = (&mut call).await.unwrap_err();
        assert_eq!(matches!(error, CallError::Failed(_)), failed, "{state}");
        assert_eq!(error.code(), Code::Aborted);
    }
}

#[tokio::test]
async fn a_value_that_cannot_be_read_is_an_error_and_may_have_run() {
    let fake = Fake::new();
    let call = double(&fake, 1).send();
    fake.reply(&fake.submission().await, "\"two\"");
    let error = call.await.unwrap_err();
    assert!(matches!(&error, CallError::Settled(failure) if failure.code == Code::Internal) && error.may_have_run());
}

#[tokio::test]
async fn a_key_that_finds_an_earlier_call_gives_its_id() {
    let fake = Fake::new();
    let mut call = double(&fake, 1).idempotency_key("k").send();
    let submission = fake.submission().await;
    let earlier = CallId::from_bytes([9; 16]);
    fake.tell(Event::Accepted { tag: submission.tag, id: earlier, duplicate: true, wait_ms: None });
    let accepted = call.accepted().await.unwrap();
    assert_eq!((accepted.id, accepted.duplicate, call.id()), (earlier, true, earlier));
}

#[tokio::test]
async fn a_detached_call_gives_its_id_and_no_outcome_is_asked_for() {
    let fake = Fake::new();
    let detaching = tokio::spawn(double(&fake, 1).detach());
    let submission = fake.submission().await;
    assert_eq!(submission.wants, Wants::Acceptance);
    fake.accept(&submission);
    assert_eq!(detaching.await.unwrap().unwrap(), submission.call.id);
}

#[tokio::test]
async fn a_cancellation_tells_what_came_of_it() {
    let fake = Fake::new();
    let call = double(&fake, 1).send();
    let id = fake.submission().await.call.id;
    let asking = tokio::spawn(async move { call.cancel().await });
    assert_eq!(fake.until(|kept| kept.cancelled.pop()).await, id);
    fake.tell(Event::CancelAnswered { id, answer: CancelAnswer::NeverRan });
    assert_eq!(asking.await.unwrap().unwrap(), CancelAnswer::NeverRan);
}

#[tokio::test]
async fn an_attached_call_gives_its_outcome_or_tells_that_it_is_not_known() {
    let fake = Fake::new();
    let antiphon = fake.antiphon();
    let (known, unknown) = (CallId::from_bytes([1; 16]), CallId::from_bytes([2; 16]));
    let (first, second) = (antiphon.attach(DOUBLE, known), antiphon.attach(DOUBLE, unknown));
    let tags = fake.until(|kept| (kept.attached.len() == 2).then(|| kept.attached.clone())).await;
    let outcome = Outcome::Reply(Payload::json("4"));
    fake.tell(Event::Outcome { tag: tags[0].1, id: known, state: State::Succeeded, attempts: 1, outcome });
    fake.tell(Event::Refused { tag: tags[1].1, failure: Failure::new(Code::NotFound, "never seen") });
    assert_eq!(first.await.unwrap(), 4);
    let error = second.await.unwrap_err();
    assert!(matches!(error, CallError::Unknown(_)) && error.code() == Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_not_there_in_time_may_be_asked_for_again() {
    let fake = Fake::new();
    let mut call = double(&fake, 1).send();
    let submission = fake.submission().await;
    assert!(call.result_within(Duration::from_secs(3)).await.is_none() && !call.done());
    fake.reply(&submission, "2");
    assert!(call.done());
    assert_eq!(call.result_within(Duration::from_secs(3)).await.unwrap().unwrap(), 2);
    assert!(call.done());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_outcome_callback_is_called_on_another_thread_also_when_the_call_has_settled() {
    let fake = Fake::new();
    for settled_before in [false, true] {
        let call = double(&fake, 1).send();
        let submission = fake.submission().await;
        let (sender, receiver) = mpsc::channel();
        let callback = move |outcome: Result<u64, _>| {
            sender.send((outcome.unwrap(), std::thread::current().id())).unwrap();
        };
        let (fake, submission) = (fake.clone(), submission);
        // The thread that reads from the broker.
        let reader = std::thread::spawn(move || {
            if settled_before {
                fake.reply(&submission, "2");
                call.on_outcome(callback);
            } else {
                call.on_outcome(callback);
                fake.reply(&submission, "2");
            }
            receiver.recv().unwrap()
        });
        let id = reader.thread().id();
        let (value, thread) = tokio::task::spawn_blocking(move || reader.join().unwrap()).await.unwrap();
        assert_eq!(value, 2);
        assert_ne!(thread, id);
    }
}

#[tokio::test]
async fn all_that_is_known_of_a_settled_call_can_be_had() {
    let fake = Fake::new();
    let call = double(&fake, 1).send();
    let submission = fake.submission().await;
    fake.end(&submission, State::Dead, Outcome::Failure(Failure::new(Code::Internal, "panicked")));
    let settled = call.settled().await.unwrap();
    assert_eq!((settled.id, settled.state, settled.attempts), (submission.call.id, State::Dead, 1));
}
