use crate::{WALL, call, id, submission};
use antiphon_broker::foreign::{CancelStep, Ledger, Surfacing};
use antiphon_broker::{Event, Wants};
use antiphon_protocol::{CancelAnswer, Code, Durability, Name, Outcome, Payload, State};
use std::time::{Duration, Instant};

/// Events in few words.
fn said(events: &mut Vec<Event>) -> Vec<String> {
    let say = |event| match event {
        Event::Accepted { tag, duplicate, .. } => format!("accepted {tag}{}", if duplicate { " again" } else { "" }),
        Event::Refused { tag, failure } => {
            format!("refused {tag} {}{}", failure.code, if failure.may_have_run { " may have run" } else { "" })
        }
        Event::Outcome { tag, state, attempts, .. } => format!("{state} {tag} after {attempts}"),
        Event::CancelAnswered { answer, .. } => format!("{answer:?}"),
        other => format!("{other:?}"),
    };
    events.drain(..).map(say).collect()
}

struct Book {
    ledger: Ledger<u32>,
    now: Instant,
    events: Vec<Event>,
}

impl Book {
    fn new(named: bool) -> Self {
        Self { ledger: Ledger::new(named, true), now: Instant::now(), events: Vec::new() }
    }

    fn submit(&mut self, number: u8, tag: u64) -> bool {
        self.submit_call(call(number, |_| {}), tag)
    }

    fn submit_call(&mut self, call: antiphon_protocol::Call, tag: u64) -> bool {
        self.ledger.submit(submission(call, tag), self.now, WALL, &mut self.events)
    }

    fn outcome(&mut self, number: u8, handle: u32) -> Surfacing<u32> {
        let outcome = Outcome::Reply(Payload::json("1"));
        self.ledger.outcome(id(number), State::Succeeded, 1, outcome, handle, &mut self.events)
    }

    fn confirmed(&mut self, number: u8) {
        self.ledger.confirmed(id(number), &mut self.events);
    }

    fn said(&mut self) -> Vec<String> {
        said(&mut self.events)
    }
}

#[test]
fn one_outcome_surfaces_for_each_call() {
    let mut book = Book::new(false);
    assert!(book.submit(1, 7));
    book.confirmed(1);
    assert_eq!(book.outcome(1, 10), Surfacing::Surfaced);
    assert_eq!(book.outcome(1, 11), Surfacing::Superfluous(11));
    assert_eq!(book.said(), ["accepted 7", "succeeded 7 after 1"]);
    assert_eq!(book.ledger.acknowledge(id(1)), Some(10));
    assert_eq!(book.outcome(1, 12), Surfacing::Superfluous(12));
    assert_eq!(book.outcome(2, 13), Surfacing::Superfluous(13), "nobody here asked for it");
    assert_eq!(book.said(), [""; 0]);
}

#[test]
fn an_outcome_before_the_confirmation_is_an_acceptance_too() {
    let mut book = Book::new(false);
    book.submit(1, 7);
    book.outcome(1, 10);
    book.confirmed(1);
    assert_eq!(book.said(), ["accepted 7", "succeeded 7 after 1"]);
}

#[test]
fn a_call_submitted_again_is_not_published_again() {
    let mut book = Book::new(false);
    assert!(book.submit(1, 1));
    assert!(!book.submit(1, 2));
    book.confirmed(1);
    assert_eq!(book.said(), ["accepted 2"]);
    assert!(!book.submit(1, 3));
    book.outcome(1, 10);
    assert_eq!(book.said(), ["accepted 3 again", "succeeded 3 after 1"]);
    assert!(!book.submit(1, 4));
    assert_eq!(book.said(), ["accepted 4 again", "succeeded 4 after 1"]);
    book.ledger.acknowledge(id(1));
    assert!(!book.submit(1, 5));
    assert_eq!(book.said(), ["refused 5 ALREADY_EXISTS"]);
}

#[test]
fn a_detached_call_is_done_with_when_it_is_accepted() {
    let mut book = Book::new(false);
    let mut detached = submission(call(1, |_| {}), 1);
    detached.wants = Wants::Acceptance;
    assert!(book.ledger.submit(detached, book.now, WALL, &mut book.events));
    assert!(!book.ledger.unconfirmed(id(1)).unwrap().wants_outcome);
    book.confirmed(1);
    assert_eq!(book.said(), ["accepted 1"]);
    assert_eq!(book.outcome(1, 10), Surfacing::Superfluous(10));
}

#[test]
fn a_passed_deadline_is_the_outcome() {
    let mut book = Book::new(false);
    let mut bounded = call(1, |_| {});
    bounded.deadline_ms = 500;
    book.submit_call(bounded, 1);
    book.confirmed(1);
    book.said();
    let due = book.now + Duration::from_millis(500);
    assert_eq!(book.ledger.next_wake(), Some(due));
    book.ledger.advance(due - Duration::from_millis(1), &mut book.events);
    assert_eq!(book.said(), [""; 0]);
    book.ledger.advance(due, &mut book.events);
    assert_eq!(book.said(), ["expired 1 after 0"]);
    assert_eq!(book.ledger.next_wake(), None);
    // What comes later is kept only until the caller acknowledges, and does not surface.
    assert_eq!(book.outcome(1, 10), Surfacing::Kept);
    assert_eq!(book.ledger.acknowledge(id(1)), Some(10));
    assert_eq!(book.said(), [""; 0]);
}

#[test]
fn a_broken_connection_publishes_again_what_may_be_and_gives_up_the_rest() {
    let mut book = Book::new(false);
    for number in [3, 1, 2] {
        book.submit(number, u64::from(number));
    }
    book.confirmed(1);
    book.submit_call(call(4, |route| route.durability = Some(Durability::Volatile)), 4);
    book.confirmed(4);
    book.submit_call(call(5, |route| route.at_most_once = true), 5);
    book.said();
    let again = book.ledger.connection_lost(&mut book.events);
    assert_eq!(again, [id(3), id(2)], "unconfirmed, in the order of submission");
    let mut given_up = book.said();
    given_up.sort();
    assert_eq!(given_up, ["refused 4 UNAVAILABLE may have run", "refused 5 UNAVAILABLE may have run"]);
    // The accepted one is at the broker, and its outcome comes.
    assert_eq!(book.outcome(1, 10), Surfacing::Surfaced);
}

#[test]
fn what_was_not_acknowledged_comes_again_after_a_reconnect_and_does_not_surface_twice() {
    let mut book = Book::new(true);
    book.submit(1, 1);
    book.outcome(1, 10);
    book.said();
    book.ledger.connection_lost(&mut book.events);
    assert_eq!(book.outcome(1, 20), Surfacing::Kept);
    assert_eq!(book.outcome(1, 21), Surfacing::Superfluous(21), "a second outcome of the same call");
    assert_eq!(book.ledger.acknowledge(id(1)), Some(20));
    assert_eq!(book.said(), [""; 0]);
}

#[test]
fn a_lost_inbox_leaves_accepted_calls_in_doubt() {
    let mut book = Book::new(false);
    book.submit(1, 1);
    book.submit(2, 2);
    book.confirmed(1);
    book.said();
    book.ledger.inbox_lost(&mut book.events);
    assert_eq!(book.said(), ["refused 1 UNAVAILABLE may have run"]);
}

#[test]
fn a_named_inbox_surfaces_what_an_earlier_life_submitted() {
    let mut book = Book::new(true);
    assert_eq!(book.outcome(1, 10), Surfacing::Surfaced);
    assert_eq!(book.outcome(1, 11), Surfacing::Superfluous(11));
    assert_eq!(book.said(), ["succeeded 0 after 1"]);
    book.ledger.remember(id(2));
    assert_eq!(book.outcome(2, 12), Surfacing::Superfluous(12), "that life has handled it");
}

#[test]
fn a_cancellation_is_answered_by_a_worker_or_by_nobody() {
    let mut book = Book::new(false);
    assert_eq!(book.ledger.cancel(id(9), book.now), CancelStep::Answer(CancelAnswer::NotFound));
    book.submit(1, 1);
    book.submit(2, 2);
    book.said();
    assert_eq!(book.ledger.cancel(id(1), book.now), CancelStep::Ask);
    assert_eq!(book.ledger.cancel(id(2), book.now), CancelStep::Ask);
    book.ledger.stopping(id(1), Name::from_static("w"), &mut book.events);
    assert_eq!(book.said(), ["Stopping { worker: \"w\" }", "accepted 1", "cancelled 1 after 1"]);
    book.ledger.advance(book.now + Duration::from_secs(1), &mut book.events);
    assert_eq!(book.said(), ["NotReached"]);
    assert_eq!(book.ledger.cancel(id(1), book.now), CancelStep::Answer(CancelAnswer::AlreadySettled(State::Cancelled)));
    assert_eq!(book.outcome(1, 10), Surfacing::Kept, "what it ended with does not surface");
    book.ledger.acknowledge(id(1));
    assert_eq!(book.ledger.cancel(id(1), book.now), CancelStep::Answer(CancelAnswer::AlreadySettled(State::Cancelled)));
    assert_eq!(book.said(), [""; 0]);
}

#[test]
fn an_outcome_answers_a_cancellation_that_came_too_late() {
    let mut book = Book::new(false);
    book.submit(1, 1);
    book.confirmed(1);
    book.ledger.cancel(id(1), book.now);
    book.said();
    book.outcome(1, 10);
    assert_eq!(book.said(), ["AlreadySettled(Succeeded)", "succeeded 1 after 1"]);
    book.ledger.advance(book.now + Duration::from_secs(2), &mut book.events);
    assert_eq!(book.said(), [""; 0]);
}

#[test]
fn a_refusal_ends_a_call_that_has_no_outcome() {
    let mut book = Book::new(false);
    book.submit(1, 1);
    let failure = antiphon_protocol::Failure::new(Code::ResourceExhausted, "the queue is full");
    book.ledger.refused(id(1), failure.clone(), &mut book.events);
    assert_eq!(book.said(), ["refused 1 RESOURCE_EXHAUSTED"]);
    assert!(book.submit(1, 2), "it was never taken");
    book.outcome(1, 10);
    book.said();
    book.ledger.refused(id(1), failure, &mut book.events);
    assert_eq!(book.said(), [""; 0], "a terminal state never changes");
}
