//! The demo's worker process: serves `text.words` and `text.merge`.

use super::words::{self, Text, Words};
use crate::connection::Connection;
use crate::ending::Ending;
use crate::leases::{self, Attempt, Run};
use crate::output::Output;
use crate::{input, stop, worker};
use antiphon_broker::BoxFuture;
use antiphon_protocol::{Code, Failure, Name, Payload, Settlement};
use clap::Args;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How many calls one of these processes runs at a time.
pub const SLOTS: u32 = 4;
/// Counts the words of a text.
pub const WORDS: Name = Name::from_static("text.words");
/// Adds counts.
pub const MERGE: Name = Name::from_static("text.merge");

/// Serve the demo's procedures
#[derive(Debug, Args)]
pub struct DemoWorker {
    #[arg(long, value_parser = input::name)]
    name: Name,
}

pub async fn run(arguments: DemoWorker, url: Option<&str>, output: &Output) -> Result<(), Ending> {
    stop::when_stdin_ends();
    let connection = Connection::open(url).await?;
    let mut offer = worker::offer(arguments.name, vec![WORDS, MERGE], SLOTS);
    for procedure in &mut offer.procedures {
        procedure.idempotent = true;
    }
    leases::serve(&connection, offer, Arc::new(Counting), output).await
}

struct Counting;

impl Run for Counting {
    fn run(&self, mut attempt: Attempt) -> BoxFuture<'_, Option<Settlement>> {
        Box::pin(async move {
            let payload = attempt.lease.payload.clone();
            match attempt.lease.procedure {
                0 => match decode::<Text>(&payload) {
                    Err(settlement) => Some(settlement),
                    Ok(text) => tokio::select! {
                        () = sleep(Duration::from_millis(text.pace_ms)) => Some(reply(&words::count(&text.text))),
                        () = attempt.stopped() => None,
                    },
                },
                _ => Some(match decode::<Vec<Words>>(&payload) {
                    Err(settlement) => settlement,
                    Ok(counts) => reply(&counts.into_iter().fold(Words::new(), words::add)),
                }),
            }
        })
    }
}

fn decode<T: DeserializeOwned>(payload: &Payload) -> Result<T, Settlement> {
    serde_json::from_slice(&payload.bytes)
        .map_err(|error| Settlement::Bury(Failure::new(Code::InvalidArgument, error.to_string())))
}

fn reply(words: &Words) -> Settlement {
    match serde_json::to_vec(words) {
        Ok(json) => Settlement::Succeed(Payload::json(json)),
        Err(error) => Settlement::Bury(Failure::new(Code::Internal, error.to_string())),
    }
}
