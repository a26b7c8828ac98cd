use crate::{WALL, call, id};
use antiphon_broker::foreign::{CallHeader, HeaderError, OutcomeHeader, join_trace, split_trace};
use antiphon_protocol::{Backoff, Code, Failure, Outcome, Payload, Priority, Start, State};

#[test]
fn a_call_header_of_defaults_is_short() {
    let header = CallHeader::new(&call(1, |_| {}), true, WALL);
    assert_eq!(header.write(), format!("1;id={};o=d", id(1)));
}

#[test]
fn a_call_header_is_read_as_it_was_written() {
    let mut call = call(1, |route| {
        route.attempts = 7;
        route.backoff = Backoff { first_ms: 1, factor_tenths: 15, max_ms: 99 };
        route.attempt_timeout_ms = 5;
        route.priority = Priority::new(9).unwrap();
        route.idempotent = true;
        route.at_most_once = true;
    });
    call.deadline_ms = 30_000;
    call.start = Start::In(10);
    let mut header = CallHeader::new(&call, true, WALL);
    (header.failed, header.lost, header.hops) = (2, 3, 4);
    assert_eq!((header.deadline_ms, header.due_ms), (WALL + 30_000, WALL + 10));
    assert_eq!(CallHeader::read(&header.write()), Ok(header));
}

#[test]
fn a_newer_header_is_read_as_far_as_it_is_known() {
    let text = format!("1;id={};new=thing;n=5", id(1));
    assert_eq!(CallHeader::read(&text).unwrap().attempts, 5);
}

#[test]
fn a_malformed_header_names_the_field() {
    for (text, field) in [
        (String::new(), "version"),
        (format!("2;id={}", id(1)), "version"),
        ("1;n=3".to_owned(), "id"),
        (format!("1;id={};n=many", id(1)), "n"),
        (format!("1;id={};n=-1", id(1)), "n"),
        (format!("1;id={};b=1,2", id(1)), "b"),
        (format!("1;id={};b=1,2,3,4", id(1)), "b"),
    ] {
        assert_eq!(CallHeader::read(&text), Err(HeaderError(field)), "{text}");
    }
}

#[test]
fn an_outcome_is_read_as_it_was_written() {
    let failure = Failure::new(Code::OutOfRange, "too large").retry_after_ms(5).may_have_run();
    let detailed = failure.clone().details(Payload::json("{}"));
    let outcomes = [
        (State::Succeeded, Outcome::Reply(Payload::json("832040"))),
        (State::Failed, Outcome::Failure(failure)),
        (State::Dead, Outcome::Failure(detailed)),
    ];
    for (state, outcome) in outcomes {
        let header = OutcomeHeader::new(id(1), state, 2, &outcome);
        let (text, body) = match &outcome {
            Outcome::Reply(value) => (None, value.clone()),
            Outcome::Failure(failure) => (Some(&*failure.message), failure.details.clone().unwrap_or_default()),
        };
        let read = OutcomeHeader::read(&header.write()).unwrap();
        assert_eq!((read.id, read.state, read.attempts), (id(1), state, 2));
        assert_eq!(read.outcome(text, body), outcome);
    }
}

#[test]
fn an_outcome_is_terminal_and_a_failure_has_a_code() {
    for (text, field) in [("s=ready", "s"), ("s=gone", "s"), ("s=failed", "c"), ("s=failed;c=ODD", "c")] {
        assert_eq!(OutcomeHeader::read(&format!("1;id={};{text}", id(1))), Err(HeaderError(field)), "{text}");
    }
}

#[test]
fn tokens_grow_with_every_lease_of_a_call() {
    let mut header = CallHeader::plain(id(1));
    let first = header.token(0);
    assert!(first > 0 && header.token(1) > first);
    let lost_often = header.token(u32::MAX);
    header.hops = 1;
    assert!(header.token(0) > lost_often);
}

#[test]
fn a_trace_context_is_two_headers_and_one_text() {
    assert_eq!(split_trace("00-a-b-01"), ("00-a-b-01", None));
    assert_eq!(split_trace("00-a-b-01\nvendor=x"), ("00-a-b-01", Some("vendor=x")));
    assert_eq!(&*join_trace("00-a-b-01", Some("vendor=x")), "00-a-b-01\nvendor=x");
}
