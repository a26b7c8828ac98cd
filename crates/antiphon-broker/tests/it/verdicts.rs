use crate::{WALL, id};
use antiphon_broker::foreign::{Arrival, CallHeader, Ending};
use antiphon_protocol::{Code, Failure, Outcome, Payload, Settlement, State};

fn header() -> CallHeader {
    CallHeader { durable: true, ..CallHeader::plain(id(1)) }
}

fn over(ending: &Ending) -> (State, u16, Option<Code>) {
    match ending {
        Ending::Over { state, attempts, outcome: Outcome::Reply(_) } => (*state, *attempts, None),
        Ending::Over { state, attempts, outcome: Outcome::Failure(failure) } => (*state, *attempts, Some(failure.code)),
        Ending::Again(header) => panic!("it is over, not {header:?}"),
    }
}

fn arrive(header: &CallHeader, redelivered: u32) -> (State, u16, Option<Code>) {
    match Arrival::judge(header, redelivered, 3, WALL) {
        Arrival::Over(ending) => over(&ending),
        other => panic!("it is over, not {other:?}"),
    }
}

#[test]
fn a_call_is_leased_until_it_was_lost_too_often() {
    assert_eq!(Arrival::judge(&header(), 3, 3, WALL), Arrival::Lease);
    assert_eq!(arrive(&header(), 4), (State::Dead, 4, Some(Code::Unknown)));
    let lost_before = CallHeader { lost: 2, ..header() };
    assert_eq!(Arrival::judge(&lost_before, 1, 3, WALL), Arrival::Lease);
    assert_eq!(arrive(&lost_before, 2), (State::Dead, 4, Some(Code::Unknown)));
}

#[test]
fn an_at_most_once_call_is_not_leased_twice() {
    let once = CallHeader { at_most_once: true, ..header() };
    assert_eq!(Arrival::judge(&once, 0, 3, WALL), Arrival::Lease);
    assert_eq!(arrive(&once, 1), (State::Dead, 1, Some(Code::Unknown)));
    let failure = Failure::new(Code::Unavailable, "away");
    for settlement in [Settlement::Retry(failure), Settlement::Release, Settlement::Stop] {
        assert_eq!(over(&Ending::judge(&once, 0, None, settlement, WALL, 0)).0, State::Dead);
    }
}

#[test]
fn expired_work_never_starts() {
    let late = CallHeader { deadline_ms: WALL, ..header() };
    assert_eq!(arrive(&late, 0), (State::Expired, 0, Some(Code::DeadlineExceeded)));
    let in_time = CallHeader { deadline_ms: WALL + 1, ..header() };
    assert_eq!(Arrival::judge(&in_time, 0, 3, WALL), Arrival::Lease);
}

#[test]
fn what_is_not_due_comes_back_when_it_is() {
    let early = CallHeader { due_ms: WALL + 5, ..header() };
    let Arrival::Early(next) = Arrival::judge(&early, 1, 3, WALL) else { panic!("it is not due") };
    assert_eq!((next.due_ms, next.hops, next.lost, next.failed), (WALL + 5, 1, 1, 0));
    assert_eq!(Arrival::judge(&next, 0, 3, WALL + 5), Arrival::Lease);
}

#[test]
fn a_retry_waits_for_a_part_of_the_backoff() {
    let retry = |header: &CallHeader, random| {
        let failure = Failure::new(Code::Unavailable, "away");
        Ending::judge(header, 0, None, Settlement::Retry(failure), WALL, random)
    };
    let Ending::Again(next) = retry(&header(), 200) else { panic!("another attempt may work") };
    assert_eq!((next.failed, next.hops, next.due_ms), (1, 1, WALL + 200), "the bound itself is possible");
    let Ending::Again(next) = retry(&header(), 201) else { panic!("another attempt may work") };
    assert_eq!(next.due_ms, 0, "and so is nothing");
    let last = CallHeader { failed: 2, ..header() };
    assert_eq!(over(&retry(&last, 0)), (State::Dead, 3, Some(Code::Unavailable)));
}

#[test]
fn the_procedures_own_wait_goes_before_the_backoff() {
    let failure = Failure::new(Code::Unavailable, "away").retry_after_ms(9_000);
    let Ending::Again(next) = Ending::judge(&header(), 0, None, Settlement::Retry(failure), WALL, 7) else {
        panic!("another attempt may work")
    };
    assert_eq!(next.due_ms, WALL + 9_000);
}

#[test]
fn a_release_costs_no_attempt_and_keeps_what_was_lost() {
    let Ending::Again(next) = Ending::judge(&header(), 2, None, Settlement::Release, WALL, 0) else {
        panic!("it goes on")
    };
    assert_eq!((next.failed, next.lost, next.hops, next.due_ms), (0, 2, 1, 0));
}

#[test]
fn what_was_stopped_stays_what_it_was() {
    for (stopped, code) in [(State::Cancelled, Code::Cancelled), (State::Expired, Code::DeadlineExceeded)] {
        let settlement = Settlement::Succeed(Payload::json("1"));
        let ending = Ending::judge(&header(), 0, Some(stopped), settlement, WALL, 0);
        assert_eq!(over(&ending), (stopped, 1, Some(code)));
    }
}
