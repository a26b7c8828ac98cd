//! What running calls tell of themselves, from the procedure to the caller.

use crate::fake::Fake;
use antiphon::{Antiphon, Code, Context, Failure, Payload, Procedure, ProgressStream, RawProcedureOptions};
use antiphon_broker::{Event, Progress};
use antiphon_embedded::DriverOptions;
use antiphon_server::{Address, Server, ServerOptions};
use std::time::Duration;

async fn told(stream: &mut ProgressStream<u32>) -> Vec<u32> {
    let mut values = Vec::new();
    while let Some(progress) = stream.next().await {
        values.push(progress.unwrap().value);
    }
    values
}

/// A procedure that tells the numbers below its argument, then returns it.
async fn count(context: Context, payload: Payload) -> Result<Payload, Failure> {
    let n: u32 = std::str::from_utf8(&payload.bytes).unwrap().parse().unwrap();
    for number in 0..n {
        context.progress(&number)?;
        tokio::task::yield_now().await;
    }
    Ok(payload)
}

async fn counts_to_ten(antiphon: &Antiphon) {
    let worker = antiphon.worker().procedure("a.count", RawProcedureOptions::default(), count).start().await.unwrap();
    let call = antiphon.call_raw("a.count", Payload::json("10")).submit().await.unwrap();
    let mut stream = call.progress().unwrap();
    assert_eq!(&*call.await.unwrap().bytes, b"10");
    assert_eq!(told(&mut stream).await, (0..10).collect::<Vec<_>>());
    // Before the broker has it.
    let call = antiphon.call_raw("a.count", Payload::json("10")).send();
    assert_eq!(told(&mut call.progress().unwrap()).await, (0..10).collect::<Vec<_>>());
    // Attached to, by who knows its type.
    const COUNT: Procedure<u32, u32, Failure> = Procedure::new("a.count");
    let call = antiphon.call_raw("a.count", Payload::json("10")).delay(Duration::from_millis(50)).submit();
    let call = antiphon.attach(COUNT, call.await.unwrap().id());
    assert_eq!(told(&mut call.progress().unwrap()).await, (0..10).collect::<Vec<_>>());
    assert_eq!(call.await.unwrap(), 10);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn progress_comes_in_order_and_ends_with_the_call() {
    let antiphon = Antiphon::connect("memory:").await.unwrap();
    counts_to_ten(&antiphon).await;
    antiphon.close().await;
}

#[tokio::test]
async fn progress_goes_over_a_socket() {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("socket");
    let server = Server::new(ServerOptions::new(DriverOptions::default()));
    let server = server.listen(Address::Unix(socket.clone())).start().unwrap();
    let antiphon = Antiphon::connect(&format!("antiphon+unix://{}", socket.display())).await.unwrap();
    counts_to_ten(&antiphon).await;
    antiphon.close().await;
    server.stop().unwrap();
}

#[tokio::test]
async fn a_slow_reader_has_the_newest_and_what_is_of_another_type_is_an_error() {
    let mut capabilities = crate::fake::capabilities();
    capabilities.progress = antiphon_broker::Support::Native;
    let fake = Fake::with(capabilities);
    let call = fake.antiphon().call_raw("a.b", Payload::json("1")).send();
    let submission = fake.submission().await;
    fake.accept(&submission);
    let mut stream = call.progress::<u32>().unwrap();
    for sequence in 1..=100 {
        let payload = Payload::json(if sequence == 100 { "\"no number\"".to_owned() } else { sequence.to_string() });
        let progress = Progress { sequence, attempt: 2, payload };
        fake.tell(Event::Progress { tag: submission.tag, id: submission.call.id, progress });
    }
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!((first.value, first.attempt, first.sequence), (37, 2, 37));
    for _ in 38..100 {
        stream.next().await.unwrap().unwrap();
    }
    assert_eq!(stream.next().await.unwrap().unwrap_err().code, Code::InvalidArgument);
    fake.reply(&submission, "1");
    fake.tell(Event::ProgressEnded { tag: submission.tag });
    assert!(stream.next().await.is_none(), "it ends with the call");
}

#[tokio::test]
async fn without_the_capability_progress_is_refused_at_both_ends() {
    let fake = Fake::new();
    let call = fake.antiphon().call_raw("a.b", Payload::json("1")).send();
    assert_eq!(call.progress::<u32>().unwrap_err().code, Code::Unimplemented);
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let sender = std::sync::Arc::new(std::sync::Mutex::new(Some(sender)));
    let tell = move |context: Context, payload: Payload| {
        sender.lock().unwrap().take().unwrap().send(context.progress(&1).unwrap_err().code).unwrap();
        async move { Ok(payload) }
    };
    let worker = fake.antiphon().worker().procedure("a.b", RawProcedureOptions::default(), tell);
    let _worker = worker.start().await.unwrap();
    fake.tell_worker(Event::Lease(crate::fake::lease(1, Payload::json("1"))));
    assert_eq!(receiver.await.unwrap(), Code::Unimplemented);
}

#[tokio::test]
async fn progress_that_is_too_large_is_refused() {
    let antiphon = Antiphon::connect("memory:").await.unwrap();
    let tell = |context: Context, _: Payload| async move {
        context.progress(&"x".repeat(70_000)).map(|()| Payload::json("1"))
    };
    let worker = antiphon.worker().procedure("a.b", RawProcedureOptions::default(), tell).start().await.unwrap();
    let error = antiphon.call_raw("a.b", Payload::json("1")).attempts(1).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    worker.stop().await.unwrap();
    antiphon.close().await;
}
