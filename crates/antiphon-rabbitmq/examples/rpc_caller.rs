//! The introductory program of RPC over RabbitMQ: `{"num": 30}` to `rpc_queue`, and a callback that gets the answer
//! under its id. Whoever serves the queue may be plain: see `examples/python/rpc_worker.py`.
//!
//! ```sh
//! cargo run -p antiphon-rabbitmq --example rpc_caller -- amqp://localhost/%2f
//! ```

use antiphon::{Antiphon, CallError, CallId, Failure, Payload};
use std::time::Duration;

/// What `on_response(correlation_id, body)` is elsewhere.
fn on_response(call: CallId, outcome: &Result<Payload, CallError<Failure>>) {
    match outcome {
        Ok(value) => println!("{call}: fib(30) = {}", String::from_utf8_lossy(&value.bytes)),
        Err(error) => println!("{call}: {error}; may have run: {}", error.may_have_run()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or("amqp://localhost/%2f".to_owned());
    let antiphon = Antiphon::builder(&url).driver(antiphon_rabbitmq::driver()).connect().await?;
    let request = Payload::json(r#"{"num": 30}"#);
    let call = antiphon.call_raw("rpc_queue", request).deadline_in(Duration::from_secs(30)).submit().await?;
    let (done, waiting) = tokio::sync::oneshot::channel();
    let id = call.id();
    call.on_outcome(move |outcome| {
        on_response(id, &outcome);
        // It waits below.
        done.send(()).expect("somebody waits");
    });
    waiting.await?;
    antiphon.close().await;
    Ok(())
}
