//! Client and worker over a socket, and over restarts of the broker.

use antiphon::{Antiphon, CallError, Code, Failure, Payload, RawProcedureOptions, State, Worker};
use antiphon_embedded::DriverOptions;
use antiphon_server::{Address, Running, Server, ServerOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// A broker on `directory`, or in memory, that listens on a Unix socket.
fn serve(directory: Option<&Path>, socket: &Path) -> (Running, String) {
    let driver = DriverOptions { directory: directory.map(Path::to_path_buf), ..DriverOptions::default() };
    let running = Server::new(ServerOptions::new(driver)).listen(Address::Unix(socket.to_path_buf())).start().unwrap();
    (running, format!("antiphon+unix://{}", socket.display()))
}

async fn echo(antiphon: &Antiphon) -> Worker {
    let options = RawProcedureOptions::default().idempotent();
    antiphon.worker().procedure("a.echo", options, async |_, payload| Ok(payload)).start().await.unwrap()
}

#[tokio::test]
async fn calls_go_over_a_socket_on_a_current_thread_runtime() {
    let place = tempfile::tempdir().unwrap();
    let (server, url) = serve(None, &place.path().join("socket"));
    let antiphon = Antiphon::connect(&url).await.unwrap();
    let worker = echo(&antiphon).await;
    let calls = (0..500_u32).map(|number| antiphon.call_raw("a.echo", Payload::json(number.to_string())));
    let mut results = antiphon::map(calls, 64);
    for number in 0..500 {
        let value = results.next().await.unwrap().unwrap();
        assert_eq!(std::str::from_utf8(&value.bytes), Ok(number.to_string().as_str()));
    }
    worker.drain(Duration::from_secs(5)).await.unwrap();
    antiphon.close().await;
    server.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_call_outlives_the_broker_and_a_volatile_one_is_in_doubt() {
    let place = tempfile::tempdir().unwrap();
    let (data, socket) = (place.path().join("data"), place.path().join("socket"));
    let (server, url) = serve(Some(&data), &socket);
    let antiphon = Antiphon::connect(&url).await.unwrap();
    let call = || antiphon.call_raw("a.echo", Payload::json("7"));
    let durable = call().submit().await.unwrap();
    let volatile = call().volatile().submit().await.unwrap();
    tokio::task::spawn_blocking(|| server.stop()).await.unwrap().unwrap();
    let (server, _) = serve(Some(&data), &socket);
    let error = volatile.await.unwrap_err();
    assert!(matches!(error, CallError::Unknown(_)) && error.code() == Code::Unavailable);
    let worker = echo(&antiphon).await;
    let id = durable.id();
    assert_eq!(&*durable.await.unwrap().bytes, b"7");
    assert_eq!(&*antiphon.attach_raw(id).await.unwrap().bytes, b"7");
    worker.stop().await.unwrap();
    antiphon.close().await;
    server.stop().unwrap();
}

#[tokio::test]
async fn every_handle_of_a_call_hears_its_outcome() {
    let place = tempfile::tempdir().unwrap();
    let (server, remote) = serve(None, &place.path().join("socket"));
    for url in [remote.as_str(), "memory:"] {
        let antiphon = Antiphon::connect(url).await.unwrap();
        let call = |key: &str| antiphon.call_raw("a.echo", Payload::json("7")).idempotency_key(key).submit();
        let (first, again, plain) = tokio::join!(call("one"), call("one"), call("two"));
        let (first, again, plain) = (first.unwrap(), again.unwrap(), plain.unwrap());
        assert_eq!(first.id(), again.id());
        let attached = [antiphon.attach_raw(first.id()), antiphon.attach_raw(plain.id())];
        let unkeyed = antiphon.call_raw("a.echo", Payload::json("8")).submit().await.unwrap();
        // One that is let go takes nothing away from the others.
        drop(antiphon.attach_raw(unkeyed.id()));
        let last = antiphon.attach_raw(unkeyed.id());
        let worker = echo(&antiphon).await;
        let [of_first, of_plain] = attached;
        let all = async { tokio::join!(first, again, of_first, plain, of_plain, unkeyed, last) };
        let all = tokio::time::timeout(Duration::from_secs(20), all).await.expect("every handle hears");
        for outcome in [all.0, all.1, all.2, all.3, all.4, all.5, all.6] {
            assert!(["7", "8"].contains(&std::str::from_utf8(&outcome.unwrap().bytes).unwrap()));
        }
        worker.stop().await.unwrap();
        antiphon.close().await;
    }
    server.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_runs_while_the_broker_restarts_settles_its_call() {
    let place = tempfile::tempdir().unwrap();
    let (data, socket) = (place.path().join("data"), place.path().join("socket"));
    let (server, url) = serve(Some(&data), &socket);
    let antiphon = Antiphon::connect(&url).await.unwrap();
    let (started, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let run = {
        let (started, gate) = (Arc::clone(&started), Arc::clone(&gate));
        move |_, payload| {
            let (started, gate) = (Arc::clone(&started), Arc::clone(&gate));
            async move {
                started.notify_one();
                gate.notified().await;
                Ok(payload)
            }
        }
    };
    let options = RawProcedureOptions::default();
    let worker = antiphon.worker().procedure("a.slow", options, run).start().await.unwrap();
    let call = antiphon.call_raw("a.slow", Payload::json("7")).submit().await.unwrap();
    started.notified().await;
    tokio::task::spawn_blocking(|| server.stop()).await.unwrap().unwrap();
    // It ends while there is no broker.
    gate.notify_one();
    let (server, _) = serve(Some(&data), &socket);
    let settled = call.settled().await.unwrap();
    assert_eq!((settled.state, settled.attempts), (State::Succeeded, 1));
    worker.drain(Duration::from_secs(5)).await.unwrap();
    antiphon.close().await;
    server.stop().unwrap();
}

#[tokio::test]
async fn a_running_call_that_is_cancelled_stops_and_says_where() {
    let place = tempfile::tempdir().unwrap();
    let (server, url) = serve(None, &place.path().join("socket"));
    let antiphon = Antiphon::connect(&url).await.unwrap();
    let started = Arc::new(Notify::new());
    let run = {
        let started = Arc::clone(&started);
        move |_, _| {
            started.notify_one();
            std::future::pending::<Result<Payload, Failure>>()
        }
    };
    let options = RawProcedureOptions::default();
    let worker = antiphon.worker().name("w1").procedure("a.slow", options, run).start().await.unwrap();
    let call = antiphon.call_raw("a.slow", Payload::json("7")).submit().await.unwrap();
    started.notified().await;
    let answer = call.cancel().await.unwrap();
    assert!(matches!(answer, antiphon::CancelAnswer::Stopping { worker } if worker.as_str() == "w1"));
    let error = call.await.unwrap_err();
    assert!(matches!(error, CallError::Settled(_)) && error.code() == Code::Cancelled && error.may_have_run());
    while worker.running() > 0 {
        tokio::task::yield_now().await;
    }
    antiphon.close().await;
    server.stop().unwrap();
}
