//! What breaks under way: the server, connections, workers, queues. Every accepted call has exactly one outcome all the same.

use crate::world::{DECLARED, LONG, call, connect, echo, number};
use antiphon::{Antiphon, CallError, Code, Failure, Payload, RawProcedureOptions};
use lapin::options::QueueDeleteOptions;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use xtask::services::rabbitmq::Node;

/// A server of this test's own.
async fn own(test: &'static str) -> Arc<Node> {
    Arc::new(tokio::task::spawn_blocking(move || Node::own(test).unwrap()).await.unwrap())
}

async fn kill_and_start(node: &Arc<Node>) {
    let node = Arc::clone(node);
    tokio::time::sleep(DECLARED).await;
    tokio::task::spawn_blocking(move || node.kill().and_then(|()| node.start())).await.unwrap().unwrap();
}

/// Submits calls 0 to `count`, and gives back their outcomes as they come.
async fn submit(antiphon: &Antiphon, procedure: &str, count: u32) -> Vec<antiphon::SubmittedCall<Payload, Failure>> {
    let calls = (0..count).map(|place| antiphon.call_raw(procedure, number(place)).deadline_in(LONG));
    let submitted = antiphon.submit_all(calls).await;
    submitted.into_iter().map(|call| call.expect("the broker takes it")).collect()
}

async fn all_answered(calls: Vec<antiphon::SubmittedCall<Payload, Failure>>) {
    for (place, call) in (0..).zip(calls) {
        assert_eq!(call.await.unwrap(), number(place), "call {place}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_no_accepted_call() {
    let node = own("killed").await;
    let (caller, working) = (connect(node.url()).await, connect(node.url()).await);
    let worker = echo(&working, "slow.echo", Duration::from_millis(200)).await;
    let calls = submit(&caller, "slow.echo", 400).await;
    kill_and_start(&node).await;
    all_answered(calls).await;
    // Everything was declared anew where it had to be.
    assert_eq!(call(&caller, "slow.echo", number(7)).await.unwrap(), number(7));
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_waited_for_and_volatile_calls_say_what_became_of_them() {
    let node = own("away").await;
    let (caller, working) = (connect(node.url()).await, connect(node.url()).await);
    let hang = |_, _: Payload| async { std::future::pending::<Result<Payload, Failure>>().await };
    let hanging = working.worker().procedure("hang", RawProcedureOptions::default(), hang).start().await.unwrap();
    let volatile = caller.call_raw("hang", number(1)).volatile().deadline_in(LONG).submit().await.unwrap();
    let stopped = Arc::clone(&node);
    tokio::time::sleep(DECLARED).await;
    tokio::task::spawn_blocking(move || stopped.kill().unwrap()).await.unwrap();
    match volatile.await {
        Err(CallError::Unknown(failure)) => assert_eq!(failure.code, Code::Unavailable),
        other => panic!("nobody knows what became of it: {other:?}"),
    }
    // What is submitted while it is away is published when it is back.
    let waiting = caller.call_raw("late.echo", number(2)).deadline_in(LONG).send();
    let started = Arc::clone(&node);
    tokio::task::spawn_blocking(move || started.start().unwrap()).await.unwrap();
    let worker = echo(&connect(node.url()).await, "late.echo", Duration::ZERO).await;
    assert_eq!(waiting.await.unwrap(), number(2));
    worker.stop().await.unwrap();
    drop(hanging);
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_are_made_again() {
    let node = own("cut").await;
    let (caller, working) = (connect(node.url()).await, connect(node.url()).await);
    let worker = echo(&working, "cut.echo", Duration::from_millis(10)).await;
    let calls = submit(&caller, "cut.echo", 200).await;
    let cut = Arc::clone(&node);
    tokio::task::spawn_blocking(move || cut.control(&["close_all_connections", "a test cuts them"]).unwrap())
        .await
        .unwrap();
    all_answered(calls).await;
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_is_declared_again_for_callers_and_workers() {
    let node = Node::shared().unwrap();
    let name = format!("deleted-{}", std::process::id());
    let antiphon = connect(node.url()).await;
    let worker = echo(&antiphon, &name, Duration::ZERO).await;
    assert_eq!(call(&antiphon, &name, number(1)).await.unwrap(), number(1));
    let plain = lapin::Connection::connect(node.url(), lapin::ConnectionProperties::default()).await.unwrap();
    let channel = plain.create_channel().await.unwrap();
    channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    assert_eq!(call(&antiphon, &name, number(2)).await.unwrap(), number(2));
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_after_a_while_and_says_when_to_try_again() {
    let node = own("full").await;
    node.control(&["set_policy", "full", "^full$", r#"{"max-length":1}"#, "--apply-to", "queues"]).unwrap();
    let antiphon = connect(node.url()).await;
    let mut refused = 0;
    // The server takes some more than the bound, and nobody works them off.
    for place in 0..8 {
        match antiphon.call_raw("full", number(place)).submit().await {
            Ok(_) => (),
            Err(CallError::Refused(failure)) => {
                assert_eq!(failure.code, Code::ResourceExhausted);
                assert!(failure.retry_after_ms.is_some(), "{failure}");
                refused += 1;
                break;
            }
            Err(error) => panic!("refused, not: {error}"),
        }
    }
    assert_eq!(refused, 1);
    // One that is worked off meanwhile is not refused: the caller insisted.
    let waiting = antiphon.call_raw("full", number(9)).send();
    let worker = echo(&antiphon, "full", Duration::ZERO).await;
    assert_eq!(waiting.await.unwrap(), number(9));
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_is_delivered_twice_surfaces_once() {
    let node = Node::shared().unwrap();
    let name = format!("twice-{}", std::process::id());
    let antiphon = connect(node.url()).await;
    // A plain worker that answers every request three times, out of order with others.
    let plain = lapin::Connection::connect(node.url(), lapin::ConnectionProperties::default()).await.unwrap();
    let channel = plain.create_channel().await.unwrap();
    let calls = submit(&antiphon, &name, 3).await;
    let mut requests = Vec::new();
    while requests.len() < 3 {
        requests.extend(channel.basic_get(name.as_str().into(), Default::default()).await.unwrap());
    }
    for request in requests.iter().rev().chain(&requests).chain(&requests) {
        let properties = request.properties.clone();
        let reply_to = properties.reply_to().clone().unwrap();
        let correlation = properties.correlation_id().clone().unwrap();
        let answer = lapin::BasicProperties::default().with_correlation_id(correlation);
        let sent = channel.basic_publish("".into(), reply_to, Default::default(), &request.data, answer).await;
        sent.unwrap().await.unwrap();
    }
    all_answered(calls).await;
    let late = call(&antiphon, &name, number(5));
    let again = async {
        let request = loop {
            let got = channel.basic_get(name.as_str().into(), Default::default()).await.unwrap();
            if let Some(got) = got.filter(|got| !got.redelivered) {
                break got;
            }
        };
        let properties = request.properties.clone();
        let reply_to = properties.reply_to().clone().unwrap();
        let correlation = properties.correlation_id().clone().unwrap();
        let answer = lapin::BasicProperties::default().with_correlation_id(correlation);
        let sent = channel.basic_publish("".into(), reply_to, Default::default(), b"5", answer).await;
        sent.unwrap().await.unwrap();
    };
    let (late, ()) = tokio::join!(late, again);
    assert_eq!(late.unwrap(), number(5), "nothing of before is taken for the next");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_goes_before_or_after_settling_costs_no_outcome() {
    let node = Node::shared().unwrap();
    let name = format!("going-{}", std::process::id());
    let caller = connect(node.url()).await;
    let runs = Arc::new(AtomicU32::new(0));
    let calls = submit(&caller, &name, 40).await;
    // Each worker lives for a moment only; what it holds then is handed to the next.
    let mut lives = 0;
    let mut answered = BTreeSet::new();
    let mut waiting: Vec<_> = calls.into_iter().collect();
    while answered.len() < 40 {
        lives += 1;
        let counted = Arc::clone(&runs);
        let run = move |_, payload: Payload| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                tokio::time::sleep(Duration::from_millis(30)).await;
                Ok::<_, Failure>(payload)
            }
        };
        let options = RawProcedureOptions::default();
        let working = connect(node.url()).await;
        let worker = working.worker().slots(2).procedure(&name, options, run).start().await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(worker);
        for mut call in std::mem::take(&mut waiting) {
            match call.result_within(Duration::ZERO).await {
                Some(outcome) => drop(answered.insert(outcome.unwrap().bytes)),
                None => waiting.push(call),
            }
        }
        assert!(lives < 100, "{} of 40 answered", answered.len());
    }
    assert!(lives > 1 && runs.load(Ordering::SeqCst) >= 40, "one life is too short for all of them");
}
