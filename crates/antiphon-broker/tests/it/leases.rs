use crate::{WALL, id};
use antiphon_broker::foreign::{CallHeader, LeaseBook, Waiting};
use antiphon_broker::{Event, Lease, Report};
use antiphon_protocol::{LeaseTag, Payload, Settlement, State};
use std::time::{Duration, Instant};

fn waiting(number: u8) -> Waiting<u8> {
    let header = CallHeader::plain(id(number));
    Waiting { header, redelivered: 0, procedure: 0, payload: Payload::default(), trace: None, delivery: number }
}

fn arrive(book: &mut LeaseBook<u8>, waiting: Waiting<u8>) {
    assert!(book.arrive(waiting).is_none(), "it is taken");
}

fn lease_next(book: &mut LeaseBook<u8>) -> Option<Lease> {
    let waiting = book.grant()?;
    let mut events = Vec::new();
    book.lease(waiting, Instant::now(), WALL, &mut events);
    let Some(Event::Lease(lease)) = events.pop() else { panic!("a lease") };
    Some(lease)
}

fn report(book: &mut LeaseBook<u8>, lease: &Lease) -> Option<u8> {
    let mut events = Vec::new();
    let report = Report { lease: lease.lease, call: lease.call, settlement: Settlement::Release };
    let reported = book.report(report, &mut events);
    assert_eq!(reported.is_none(), matches!(events[..], [Event::Stale { .. }]));
    reported.map(|reported| reported.held.delivery)
}

#[test]
fn never_more_leases_than_slots() {
    let mut book = LeaseBook::new(1);
    arrive(&mut book, waiting(1));
    arrive(&mut book, waiting(2));
    let first = lease_next(&mut book).unwrap();
    assert!(lease_next(&mut book).is_none(), "no slot is free");
    assert_eq!(report(&mut book, &first), Some(1));
    let second = lease_next(&mut book).unwrap();
    assert_eq!(second.call, id(2));
    book.credit(-1);
    assert_eq!(report(&mut book, &second), Some(2));
    arrive(&mut book, waiting(3));
    assert!(lease_next(&mut book).is_none(), "the slot was taken away");
}

#[test]
fn a_lease_ends_once() {
    let mut book = LeaseBook::new(2);
    arrive(&mut book, waiting(1));
    let lease = lease_next(&mut book).unwrap();
    let other_token = LeaseTag { token: lease.lease.token + 1, ..lease.lease };
    assert_eq!(report(&mut book, &Lease { lease: other_token, ..lease.clone() }), None);
    assert_eq!(report(&mut book, &Lease { call: id(2), ..lease.clone() }), None);
    assert_eq!(report(&mut book, &lease), Some(1));
    assert_eq!(report(&mut book, &lease), None);
    // The next one has the same token, being the first of its call; its slot tells it apart.
    arrive(&mut book, waiting(1));
    lease_next(&mut book).unwrap();
    assert_eq!(report(&mut book, &lease), None);
}

#[test]
fn a_draining_worker_gives_back_what_has_no_slot() {
    let mut book = LeaseBook::new(1);
    arrive(&mut book, waiting(1));
    let lease = lease_next(&mut book).unwrap();
    arrive(&mut book, waiting(2));
    let back: Vec<u8> = book.drain().into_iter().map(|waiting| waiting.delivery).collect();
    assert_eq!(back, [2]);
    assert_eq!(book.arrive(waiting(3)).unwrap().delivery, 3);
    assert_eq!(report(&mut book, &lease), Some(1), "what runs is settled");
}

#[test]
fn a_passed_deadline_asks_once_to_stop() {
    let mut book = LeaseBook::new(1);
    let mut late = waiting(1);
    late.header.deadline_ms = WALL + 500;
    arrive(&mut book, late);
    let (start, mut events) = (Instant::now(), Vec::new());
    let waiting = book.grant().unwrap();
    book.lease(waiting, start, WALL, &mut events);
    let Some(Event::Lease(lease)) = events.pop() else { panic!("a lease") };
    assert_eq!((lease.deadline_ms, book.next_wake()), (500, Some(start + Duration::from_millis(500))));

    book.advance(start + Duration::from_millis(499), &mut events);
    assert!(events.is_empty());
    book.advance(start + Duration::from_millis(500), &mut events);
    book.advance(start + Duration::from_millis(501), &mut events);
    assert!(matches!(events[..], [Event::CancelAsked { .. }]));
    assert_eq!(book.next_wake(), None);
    let report = Report { lease: lease.lease, call: lease.call, settlement: Settlement::Stop };
    assert_eq!(book.report(report, &mut events).unwrap().held.stopped, Some(State::Expired));
}

#[test]
fn only_what_runs_here_can_be_cancelled() {
    let mut book = LeaseBook::new(1);
    let mut events = Vec::new();
    assert!(!book.cancel(id(1), &mut events));
    arrive(&mut book, waiting(1));
    assert!(!book.cancel(id(1), &mut events), "it waits");
    let lease = lease_next(&mut book).unwrap();
    assert!(book.cancel(id(1), &mut events) && book.cancel(id(1), &mut events));
    assert!(matches!(events[..], [Event::CancelAsked { lease: asked }] if asked == lease.lease), "it is asked once");
}

#[test]
fn leases_end_with_the_connection() {
    let mut book = LeaseBook::new(1);
    arrive(&mut book, waiting(1));
    let lease = lease_next(&mut book).unwrap();
    let mut events = Vec::new();
    book.extend(&[lease.lease], &mut events);
    assert!(events.is_empty());
    book.connection_lost();
    book.extend(&[lease.lease], &mut events);
    assert!(matches!(events[..], [Event::Stale { .. }]));
    assert_eq!(report(&mut book, &lease), None);
}
