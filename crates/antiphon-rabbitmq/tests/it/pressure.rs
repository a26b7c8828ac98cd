//! A server that says it has no room, and one that waits for less long than a procedure may run.

use crate::world::{LONG, connect, echo, number};
use antiphon::RawProcedureOptions;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing_subscriber::fmt::MakeWriter;
use xtask::services::rabbitmq::Node;

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_connection_holds_calls_back_and_loses_none() {
    let node = Arc::new(tokio::task::spawn_blocking(|| Node::own("blocked").unwrap()).await.unwrap());
    let watermark = |fraction: &'static str| {
        let node = Arc::clone(&node);
        let control = move || node.control(&["set_vm_memory_high_watermark", fraction]).unwrap();
        async move { tokio::task::spawn_blocking(control).await.unwrap() }
    };
    let caller = connect(node.url()).await;
    let working = connect(node.url()).await;
    let worker = echo(&working, "blocked.echo", Duration::ZERO).await;
    assert_eq!(caller.call_raw("blocked.echo", number(1)).deadline_in(LONG).await.unwrap(), number(1));
    watermark("0.0000001").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Longer than a confirmation may take when the server has not said that it is blocked.
    let mut held = caller.call_raw("blocked.echo", number(2)).deadline_in(LONG).send();
    let early = held.result_within(Duration::from_secs(12)).await;
    assert!(early.is_none(), "the server takes nothing: {early:?}");
    watermark("0.4").await;
    assert_eq!(held.await.unwrap(), number(2));
    worker.stop().await.unwrap();
}

/// What was logged.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Logged {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_procedure_that_may_run_longer_than_the_server_waits_is_warned_of_once() {
    let logged = Logged::default();
    let subscriber = tracing_subscriber::fmt().with_writer(logged.clone()).with_ansi(false).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let node = Node::shared().unwrap();
    let antiphon = connect(&format!("{}?consumer_timeout=20000", node.url())).await;
    let [long, short] = ["long", "short"].map(|name| format!("{name}-{}", std::process::id()));
    let echo = |_, payload: antiphon::Payload| async { Ok::<_, antiphon::Failure>(payload) };
    let options = RawProcedureOptions::default;
    let worker = antiphon.worker().procedure(&long, options(), echo).procedure(&short, options(), echo).start();
    let worker = worker.await.unwrap();
    for (name, seconds) in [(&long, 30), (&long, 30), (&short, 10)] {
        let call = antiphon.call_raw(name, number(1)).attempt_timeout(Duration::from_secs(seconds));
        assert_eq!(call.deadline_in(LONG).await.unwrap(), number(1));
    }
    worker.stop().await.unwrap();
    let text = String::from_utf8(logged.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.matches("raise consumer_timeout").count(), 1, "{text}");
    assert!(text.contains(&long) && !text.contains(&short), "{text}");
}
