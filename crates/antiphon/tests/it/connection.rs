//! What becomes of calls when the connection opens, breaks, comes back to another start of the broker, or ends.

use crate::fake::Fake;
use antiphon::{Antiphon, CallBuilder, CallError, Code, Failure, Payload};
use antiphon_broker::Event;
use antiphon_protocol::Epoch;
use std::time::Duration;

fn call(antiphon: &Antiphon) -> CallBuilder<Payload, Payload, Failure> {
    antiphon.call_raw("a.b", Payload::json("1"))
}

fn up(epoch: u32) -> Event {
    Event::Up { epoch: Epoch(epoch), kept: Vec::new() }
}

fn down(last: bool) -> Event {
    Event::Down { reason: "the cable was cut".to_owned(), last }
}

#[tokio::test]
async fn a_new_start_of_the_broker_ends_only_what_the_broker_says() {
    let fake = Fake::new();
    let antiphon = fake.antiphon();
    let (volatile, mut durable) = (call(&antiphon).volatile().send(), call(&antiphon).send());
    let lost = fake.submission().await;
    let kept = fake.submission().await;
    fake.tell(up(1));
    fake.tell(down(false));
    fake.tell(up(1));
    fake.tell(down(false));
    let meanwhile = call(&antiphon).volatile().send();
    fake.tell(up(2));
    assert!(!volatile.done(), "its side of the connection may have sent it again");
    let gone = Failure::new(Code::Unavailable, "it went with the start before").may_have_run();
    fake.tell(Event::Refused { tag: lost.tag, failure: gone });
    let error = volatile.await.unwrap_err();
    assert!(matches!(error, CallError::Unknown(_)) && error.code() == Code::Unavailable && error.may_have_run());
    assert!(!meanwhile.done(), "it was not handed to the start before");
    assert!(!durable.done());
    fake.reply(&kept, "2");
    assert!((&mut durable).await.is_ok());
}

#[tokio::test]
async fn the_end_of_the_connection_puts_all_calls_in_doubt_and_refuses_later_ones() {
    let fake = Fake::new();
    let antiphon = fake.antiphon();
    let waiting = call(&antiphon).send();
    fake.submission().await;
    fake.tell(down(true));
    let error = waiting.await.unwrap_err();
    assert!(matches!(error, CallError::Unknown(_)) && error.may_have_run());
    let error = call(&antiphon).await.unwrap_err();
    assert!(matches!(error, CallError::Refused(_)) && error.code() == Code::Unavailable);
    assert_eq!(fake.kept().closed_callers, 1);
}

#[tokio::test(start_paused = true)]
async fn an_awaited_call_ends_by_its_deadline_also_while_the_broker_is_away() {
    let fake = Fake::new();
    let antiphon = fake.antiphon();
    let awaited = tokio::spawn(call(&antiphon).into_future());
    fake.submission().await;
    fake.tell(down(false));
    let error = awaited.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Unknown(_)) && error.code() == Code::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn a_connected_broker_decides_alone_when_a_call_expires() {
    let fake = Fake::new();
    let antiphon = fake.antiphon();
    let mut call = call(&antiphon).deadline_in(Duration::from_secs(1)).send();
    fake.submission().await;
    fake.tell(up(1));
    fake.tell(down(false));
    fake.tell(up(1));
    assert!(call.result_within(Duration::from_secs(60)).await.is_none());
}

#[tokio::test]
async fn a_caller_that_cannot_be_opened_refuses_its_calls_and_is_tried_again() {
    let fake = Fake::new();
    fake.kept().unreachable = 1;
    let antiphon = fake.antiphon();
    let error = call(&antiphon).await.unwrap_err();
    assert!(matches!(&error, CallError::Refused(failure) if failure.message.contains("nobody is there")));
    let again = call(&antiphon).send();
    fake.reply(&fake.submission().await, "1");
    assert!(again.await.is_ok());
}

#[tokio::test]
async fn the_connection_closes_with_its_last_user() {
    let fake = Fake::new();
    let antiphon = fake.antiphon();
    let clone = antiphon.clone();
    let call = call(&clone).send();
    fake.submission().await;
    drop((antiphon, clone));
    assert_eq!(fake.kept().closed_callers, 0);
    drop(call);
    assert_eq!(fake.kept().closed_callers, 1);
}

#[tokio::test]
async fn closing_ends_what_is_waited_for() {
    let fake = Fake::new();
    let antiphon = fake.antiphon();
    let call = call(&antiphon).send();
    fake.submission().await;
    antiphon.close().await;
    assert!(matches!(call.await.unwrap_err(), CallError::Unknown(_)));
    assert_eq!(fake.kept().closed_callers, 1);
}

#[tokio::test]
async fn a_detached_call_whose_future_is_dropped_leaves_nothing_behind() {
    let fake = Fake::new();
    let antiphon = fake.antiphon();
    {
        let mut detaching = std::pin::pin!(call(&antiphon).detach());
        assert!(detaching.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending());
    }
    let first = fake.submission().await;
    drop(call(&antiphon).send());
    let second = fake.submission().await;
    // The lower half of a tag is a place, which is free again.
    assert_eq!(first.tag & 0xffff_ffff, second.tag & 0xffff_ffff);
    assert!(fake.kept().cancelled.is_empty(), "dropping never cancels");
}
