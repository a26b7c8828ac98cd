//! Calls through the server, whole: submit, lease, report, outcome; over restarts too.

use crate::world::{any_port, caller, connect, echo, options, recorded, reply, start, start_at, submission, worker};
use antiphon_broker::{Broker, Event, Wants};
use antiphon_protocol::{Answer, Query, State};
use antiphon_server::{Address, Server};
use std::time::Duration;

#[tokio::test]
async fn a_call_is_leased_reported_and_answered_in_memory_and_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    for durable in [None, Some(directory.path())] {
        let server = start(options(durable));
        let remote = connect(server.local_address().unwrap()).await;
        let (worker, mut leases) = worker(&remote, 4).await;
        let (caller, mut events) = caller(&remote).await;
        caller.submit(&mut vec![submission(7, Wants::Outcome, "hello")]);
        let lease = leases.lease().await;
        assert_eq!((lease.attempt, lease.procedure, &lease.payload.bytes[..]), (1, 0, &b"hello"[..]));
        worker.report(&mut vec![echo(&lease)]);
        let (tag, state, outcome) = events.outcome().await;
        assert_eq!((tag, state, reply(outcome)), (7, State::Succeeded, b"hello".to_vec()));
        let settled = leases.find(|event| if let Event::Settled { lease } = event { Some(lease) } else { None });
        assert_eq!(settled.await, lease.lease);
        caller.submit(&mut vec![submission(8, Wants::AcceptanceAndOutcome, vec![9; 1_000_000])]);
        let accepted = events.find(|event| if let Event::Accepted { tag, .. } = event { Some(tag) } else { None });
        assert_eq!(accepted.await, 8);
        let lease = leases.lease().await;
        worker.report(&mut vec![echo(&lease)]);
        assert_eq!(reply(events.outcome().await.2), vec![9; 1_000_000]);
        let answer = remote.inspect().unwrap().ask(Query::Broker).await.unwrap();
        let Answer::Broker(status) = answer else { panic!("{answer:?}") };
        assert_eq!((status.accepted, status.settled, status.durable), (2, 2, durable.is_some()));
        remote.close().await;
        server.stop().unwrap();
    }
}

#[tokio::test]
async fn a_broker_on_the_runtime_of_its_worker_answers_a_thousand_calls_and_stops_when_asked() {
    let directory = tempfile::tempdir().unwrap();
    for (durable, beside) in
        [(None, false), (None, true), (Some(directory.path()), false), (Some(directory.path()), true)]
    {
        let server = Server::new(options(durable)).listen(any_port());
        let handle = server.handle();
        let hosted = server.serve_here().unwrap();
        let serving = tokio::spawn(hosted.serve);
        let remote = connect(&hosted.addresses[0]).await;
        let inside = connect(if beside { &hosted.inside } else { &hosted.addresses[0] }).await;
        let (worker, mut leases) = worker(&inside, 64).await;
        let (caller, mut events) = caller(&remote).await;
        let mut calls: Vec<_> = (1..=1000).map(|tag| submission(tag, Wants::Outcome, tag.to_string())).collect();
        caller.submit(&mut calls);
        for _ in 0..1000 {
            let lease = leases.lease().await;
            worker.report(&mut vec![echo(&lease)]);
        }
        for _ in 0..1000 {
            let (tag, _, outcome) = events.outcome().await;
            assert_eq!(reply(outcome), tag.to_string().into_bytes());
        }
        handle.stop();
        serving.await.unwrap().unwrap();
        assert_eq!(handle.phase(), antiphon_server::Phase::Stopped);
    }
}

#[tokio::test]
async fn what_was_handed_over_inside_is_taken_also_when_its_caller_leaves_at_once() {
    let server = Server::new(options(None)).listen(any_port());
    let handle = server.handle();
    let hosted = server.serve_here().unwrap();
    let serving = tokio::spawn(hosted.serve);
    let inside = connect(&hosted.inside).await;
    let (caller, _events) = caller(&inside).await;
    let mut calls: Vec<_> = (1..=2000).map(|tag| submission(tag, Wants::AcceptanceAndOutcome, vec![7; 100])).collect();
    caller.submit(&mut calls);
    assert!(calls.is_empty());
    inside.close().await;
    let outside = connect(&hosted.addresses[0]).await;
    // The broker may still be reading what the pipe held.
    let accepted = async {
        loop {
            let answer = outside.inspect().unwrap().ask(Query::Broker).await.unwrap();
            let Answer::Broker(status) = answer else { panic!("{answer:?}") };
            if status.accepted == 2000 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), accepted).await.is_ok(), "some calls were thrown away");
    handle.stop();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn who_is_inside_learns_that_its_broker_is_gone_for_good() {
    let server = Server::new(options(None));
    let handle = server.handle();
    let hosted = server.serve_here().unwrap();
    let serving = tokio::spawn(hosted.serve);
    let inside = connect(&hosted.inside).await;
    let (_caller, mut events) = caller(&inside).await;
    let (_worker, mut leases) = worker(&inside, 1).await;
    handle.stop();
    serving.await.unwrap().unwrap();
    let gone = |event| if let Event::Down { last: true, reason } = event { Some(reason) } else { None };
    assert!(events.find(gone).await.contains("has stopped"));
    assert!(leases.find(gone).await.contains("has stopped"));
    let error = antiphon_wire::Remote::connect(hosted.inside, antiphon_wire::RemoteOptions::default()).await;
    assert!(error.err().unwrap().to_string().contains("the broker of this process has stopped"));
}

#[tokio::test]
async fn a_thousand_calls_at_once_are_all_answered() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(options(Some(directory.path())));
    let remote = connect(server.local_address().unwrap()).await;
    let (worker, mut leases) = worker(&remote, 64).await;
    let (caller, mut events) = caller(&remote).await;
    let mut calls: Vec<_> = (1..=1000).map(|tag| submission(tag, Wants::Outcome, tag.to_string())).collect();
    caller.submit(&mut calls);
    assert!(calls.is_empty());
    let echoing = tokio::spawn(async move {
        for _ in 0..1000 {
            let lease = leases.lease().await;
            worker.report(&mut vec![echo(&lease)]);
        }
        worker
    });
    let mut seen = std::collections::HashSet::new();
    for _ in 0..1000 {
        let (tag, _, outcome) = events.outcome().await;
        assert_eq!(reply(outcome), tag.to_string().into_bytes());
        assert!(seen.insert(tag), "outcome {tag} came twice");
    }
    drop(echoing.await.unwrap());
    server.stop().unwrap();
}

#[tokio::test]
async fn unanswered_submissions_survive_a_restart_of_the_broker() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(options(Some(directory.path())));
    let address = server.local_address().unwrap().clone();
    let remote = connect(&address).await;
    let (caller, mut events) = caller(&remote).await;
    caller.submit(&mut vec![submission(1, Wants::AcceptanceAndOutcome, "accepted before")]);
    events.find(|event| matches!(event, Event::Accepted { tag: 1, .. }).then_some(())).await;
    server.stop().unwrap();
    events.find(|event| matches!(event, Event::Down { last: false, .. }).then_some(())).await;
    caller.submit(&mut vec![submission(2, Wants::Outcome, "submitted while down")]);
    let server = start_at(options(Some(directory.path())), &address);
    events.find(|event| matches!(event, Event::Up { .. }).then_some(())).await;
    let (worker, mut leases) = worker(&remote, 4).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let lease = leases.lease().await;
        worker.report(&mut vec![echo(&lease)]);
        let (tag, _, outcome) = events.outcome().await;
        seen.push((tag, String::from_utf8(reply(outcome)).unwrap()));
    }
    seen.sort();
    assert_eq!(seen, [(1, "accepted before".to_owned()), (2, "submitted while down".to_owned())]);
    server.stop().unwrap();
}

#[tokio::test]
async fn a_worker_keeps_its_leases_over_a_restart_and_reports_them() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(options(Some(directory.path())));
    let address = server.local_address().unwrap().clone();
    let remote = connect(&address).await;
    let (worker, mut leases) = worker(&remote, 4).await;
    let (caller, mut events) = caller(&remote).await;
    caller.submit(&mut vec![recorded(1, "reported while down"), recorded(2, "reported after")]);
    let mut held = [leases.lease().await, leases.lease().await];
    held.sort_by_key(|lease| lease.payload.bytes.len());
    let [after, during] = held;
    server.stop().unwrap();
    leases.find(|event| matches!(event, Event::Down { .. }).then_some(())).await;
    worker.report(&mut vec![echo(&during)]);
    let server = start_at(options(Some(directory.path())), &address);
    let kept = leases.find(|event| if let Event::Up { kept, .. } = event { Some(kept) } else { None }).await;
    assert!(kept.contains(&after.lease), "{kept:?}");
    worker.report(&mut vec![echo(&after)]);
    let mut seen = [events.outcome().await.0, events.outcome().await.0];
    seen.sort_unstable();
    assert_eq!(seen, [1, 2]);
    server.stop().unwrap();
}

#[tokio::test]
async fn a_unix_socket_works_like_a_port_and_only_for_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("antiphon.sock");
    let address = Address::Unix(path.clone());
    let server = Server::new(options(None)).listen(any_port()).listen(address.clone()).start().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let remote = connect(&address).await;
    let (worker, mut leases) = worker(&remote, 1).await;
    let (caller, mut events) = caller(&remote).await;
    caller.submit(&mut vec![submission(1, Wants::Outcome, "x")]);
    let lease = leases.lease().await;
    worker.report(&mut vec![echo(&lease)]);
    assert_eq!(reply(events.outcome().await.2), b"x");
    let second = Server::new(options(None)).listen(address.clone()).start().unwrap_err().to_string();
    assert!(second.contains("antiphon.sock") && second.contains("another process listens there"), "{second}");
    server.stop().unwrap();
    assert!(!path.exists());
    // One that was left behind by a crash is replaced.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    Server::new(options(None)).listen(address).start().unwrap().stop().unwrap();
}
