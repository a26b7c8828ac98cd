//! What fault tests play with: programs connected to a server, and procedures that answer.

use antiphon::{Antiphon, CallError, Failure, Payload, RawProcedureOptions, Worker};
use antiphon_rabbitmq::RabbitMq;
use std::sync::Arc;
use std::time::Duration;

/// Longer than anything here takes, however loaded the machine is.
pub const LONG: Duration = Duration::from_secs(60);

/// The server writes down a new queue's place in its files some time after it has confirmed the declaration (seen with
/// 3.10.8): one that is killed before comes back with a queue that answers nobody. Tests that kill it wait this long.
pub const DECLARED: Duration = Duration::from_secs(3);

pub async fn connect(url: &str) -> Antiphon {
    Antiphon::from_broker(Arc::new(RabbitMq::open(url).await.unwrap()))
}

/// A worker that answers with what it got, after `delay`.
pub async fn echo(antiphon: &Antiphon, procedure: &str, delay: Duration) -> Worker {
    let options = RawProcedureOptions::default();
    let run = move |_, payload: Payload| async move {
        tokio::time::sleep(delay).await;
        Ok::<_, Failure>(payload)
    };
    antiphon.worker().procedure(procedure, options, run).start().await.unwrap()
}

pub fn number(number: u32) -> Payload {
    Payload::json(number.to_string())
}

/// A call that is settled within [`LONG`].
pub async fn call(antiphon: &Antiphon, procedure: &str, payload: Payload) -> Result<Payload, CallError<Failure>> {
    antiphon.call_raw(procedure, payload).deadline_in(LONG).await
}
