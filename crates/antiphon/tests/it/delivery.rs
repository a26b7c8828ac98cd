//! Named inboxes.

use crate::fake::Fake;
use antiphon::{Antiphon, CallError, Code, Failure, Payload, Procedure, RawProcedureOptions, State};
use antiphon_broker::Event;
use antiphon_protocol::{CallId, Outcome};

const DOUBLE: Procedure<u32, u32, Failure> = Procedure::new("math.double");

fn outcome(number: u8) -> Event {
    let outcome = Outcome::Reply(Payload::json("4"));
    Event::Outcome { tag: 0, id: CallId::from_bytes([number; 16]), state: State::Succeeded, attempts: 1, outcome }
}

#[tokio::test]
async fn an_outcome_comes_once_until_it_is_acknowledged() {
    let fake = Fake::new();
    let mut inbox = fake.antiphon().inbox("billing").await.unwrap();
    fake.tell(outcome(1));
    let delivery = inbox.next().await.unwrap().unwrap();
    // After a reconnect the broker delivers again what was not acknowledged.
    fake.tell(outcome(1));
    fake.tell(outcome(2));
    assert_eq!(inbox.next().await.unwrap().unwrap().id(), CallId::from_bytes([2; 16]));
    assert_eq!((delivery.state(), delivery.decode(&DOUBLE).unwrap()), (State::Succeeded, 4));
    assert!(fake.kept().acknowledged.is_empty());
    let id = delivery.id();
    delivery.acknowledge().await.unwrap();
    assert_eq!(fake.kept().acknowledged, [vec![id]]);
}

#[tokio::test]
async fn an_inbox_that_somebody_else_opened_ends_with_an_error_and_a_closed_one_without() {
    let fake = Fake::new();
    let antiphon = fake.antiphon();
    let mut inbox = antiphon.inbox("billing").await.unwrap();
    fake.tell(outcome(1));
    fake.tell(Event::Down { reason: "taken over".to_owned(), last: true });
    let delivery = inbox.next().await.unwrap().unwrap();
    let failure = inbox.next().await.err().unwrap();
    assert_eq!((failure.code, failure.message.as_str()), (Code::Unavailable, "taken over"));
    assert_eq!(delivery.acknowledge().await.unwrap_err().code, Code::Unavailable);
    assert!(antiphon.inbox("Not A Name").await.is_err());
}

#[tokio::test]
async fn an_outcome_waits_in_its_inbox_until_that_is_opened() {
    let antiphon = Antiphon::connect("memory:").await.unwrap();
    let options = RawProcedureOptions::default;
    let builder = antiphon.worker().procedure("math.echo", options(), async |_, payload| Ok(payload)).procedure(
        "math.fail",
        options(),
        async |_, _| Err(Failure::new(Code::Aborted, "no")),
    );
    let _worker = builder.start().await.unwrap();
    let inbox = antiphon.inbox("billing").await.unwrap();
    let first = antiphon.call_raw("math.echo", Payload::json("7")).deliver_to(&inbox).await.unwrap();
    drop(inbox);
    let mut inbox = antiphon.inbox("billing").await.unwrap();
    let delivery = inbox.next().await.unwrap().unwrap();
    assert_eq!((delivery.id(), delivery.decode(&DOUBLE).unwrap()), (first, 7));
    delivery.acknowledge().await.unwrap();
    let second = antiphon.call_raw("math.fail", Payload::json("7")).deliver_to(&inbox).await.unwrap();
    let delivery = inbox.next().await.unwrap().unwrap();
    assert_eq!(delivery.id(), second);
    assert!(matches!(delivery.decode(&DOUBLE), Err(CallError::Failed(failure)) if failure.code == Code::Aborted));
    drop(delivery);
    drop(inbox);
    let mut inbox = antiphon.inbox("billing").await.unwrap();
    assert_eq!(inbox.next().await.unwrap().unwrap().id(), second, "it was not acknowledged");
}
