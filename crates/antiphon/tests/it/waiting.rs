//! Waiting for many calls.

use crate::fake::Fake;
use antiphon::{
    CallError, Code, Failure, Payload, SubmittedCall, as_completed, map, wait_all, wait_any, wait_first_failure,
};
use antiphon_broker::Submission;
use antiphon_protocol::{Outcome, State};

type Sent = SubmittedCall<Payload, Failure>;

async fn three(fake: &Fake) -> (Vec<Sent>, Vec<Submission>) {
    let antiphon = fake.antiphon();
    let calls: Vec<_> = (0..3).map(|_| antiphon.call_raw("a.b", Payload::json("1")).send()).collect();
    let mut submissions = Vec::new();
    for _ in 0..3 {
        submissions.push(fake.submission().await);
    }
    (calls, submissions)
}

fn text(payload: Payload) -> String {
    String::from_utf8(payload.bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn all_results_are_in_the_order_of_the_calls() {
    let fake = Fake::new();
    let (calls, submissions) = three(&fake).await;
    for place in [2, 0, 1] {
        fake.reply(&submissions[place], &place.to_string());
    }
    let results: Vec<_> = wait_all(calls).await.into_iter().map(|result| text(result.unwrap())).collect();
    assert_eq!(results, ["0", "1", "2"]);
}

#[tokio::test]
async fn any_gives_the_first_that_ends_and_keeps_the_others() {
    let fake = Fake::new();
    let (calls, submissions) = three(&fake).await;
    let waiting = tokio::spawn(wait_any(calls));
    tokio::task::yield_now().await;
    fake.reply(&submissions[1], "1");
    let (place, result, rest) = waiting.await.unwrap().unwrap();
    assert_eq!((place, text(result.unwrap())), (1, "1".to_owned()));
    let rest: Vec<_> = rest.iter().map(Sent::id).collect();
    assert_eq!(rest, [submissions[0].call.id, submissions[2].call.id]);
    assert!(wait_any(Vec::<Sent>::new()).await.is_none());
}

#[tokio::test]
async fn the_first_failure_ends_the_waiting() {
    let fake = Fake::new();
    let (calls, submissions) = three(&fake).await;
    let waiting = tokio::spawn(wait_first_failure(calls));
    fake.reply(&submissions[2], "2");
    tokio::task::yield_now().await;
    fake.end(&submissions[1], State::Failed, Outcome::Failure(Failure::new(Code::Aborted, "no")));
    let failure = waiting.await.unwrap().unwrap_err();
    assert!(failure.place == 1 && matches!(failure.error, CallError::Failed(_)));
    assert_eq!(failure.rest.len(), 1);
}

#[tokio::test]
async fn without_a_failure_all_values_are_given_in_order() {
    let fake = Fake::new();
    let (calls, submissions) = three(&fake).await;
    for place in [2, 0, 1] {
        fake.reply(&submissions[place], &place.to_string());
    }
    let values: Vec<_> = wait_first_failure(calls).await.unwrap().into_iter().map(text).collect();
    assert_eq!(values, ["0", "1", "2"]);
}

#[tokio::test]
async fn calls_are_given_as_they_complete() {
    let fake = Fake::new();
    let (calls, submissions) = three(&fake).await;
    let waiting = tokio::spawn(async move {
        let (mut completing, mut order) = (as_completed(calls), Vec::new());
        while let Some((place, result)) = completing.next().await {
            assert!(result.is_ok());
            order.push(place);
        }
        order
    });
    for place in [2, 0, 1] {
        tokio::task::yield_now().await;
        fake.reply(&submissions[place], "1");
    }
    assert_eq!(waiting.await.unwrap(), [2, 0, 1]);
}

#[tokio::test]
async fn a_map_keeps_no_more_in_flight_than_it_was_told_and_gives_results_in_order() {
    let fake = Fake::new();
    let antiphon = fake.antiphon();
    let calls = (0..5).map(move |number: u32| antiphon.call_raw("a.b", Payload::json(number.to_string())));
    let mapping = tokio::spawn(map(calls, 2).collect());
    let (mut taken, mut in_flight) = (0, Vec::new());
    while taken < 5 {
        in_flight.push(fake.submission().await);
        taken += 1;
        if in_flight.len() == 2 {
            tokio::task::yield_now().await;
            assert!(fake.kept().submissions.is_empty(), "only two may be in flight");
            // The later one first: the order of results is that of the calls.
            for submission in in_flight.drain(..).rev() {
                fake.reply(&submission, std::str::from_utf8(&submission.call.payload.bytes).unwrap());
            }
        }
    }
    for submission in in_flight {
        fake.reply(&submission, "4");
    }
    let values: Vec<_> = mapping.await.unwrap().into_iter().map(|result| text(result.unwrap())).collect();
    assert_eq!(values, ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn a_map_loses_no_call_when_waiting_for_its_next_result_is_given_up() {
    let fake = Fake::new();
    let antiphon = fake.antiphon();
    let calls = (0..2).map(move |number: u32| antiphon.call_raw("a.b", Payload::json(number.to_string())));
    let mut mapping = map(calls, 1);
    for number in ["0", "1"] {
        {
            let mut next = std::pin::pin!(mapping.next());
            assert!(next.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending());
        }
        fake.reply(&fake.submission().await, number);
        assert_eq!(text(mapping.next().await.unwrap().unwrap()), number);
    }
    assert!(mapping.next().await.is_none());
}
