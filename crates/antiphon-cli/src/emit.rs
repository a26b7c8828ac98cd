//! `antiphon emit`: tell the broker of an event.

use crate::connection::{Connection, new_call_id};
use crate::ending::{Ending, REFUSED, UNREACHABLE};
use crate::input;
use crate::output::{Format, Output};
use antiphon_broker::{Event, Submission, Support, Wants};
use antiphon_protocol::{Call, CallId, Durability, Payload, Route, Topic};
use clap::Args;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long a broker that went away may take to come back.
const PATIENCE: Duration = Duration::from_secs(30);

/// Tell of an event: each subscription that matches makes one call of it
#[derive(Debug, Args)]
pub struct Emit {
    /// What it is about, such as orders.created
    #[arg(value_parser = input::topic)]
    topic: Topic,
    /// What is told, as JSON; @FILE reads a file, - reads stdin [default: null]
    #[arg(value_name = "JSON|-|@FILE", allow_hyphen_values = true)]
    value: Option<String>,
    /// Its id: the same one again is the same event [default: a new one]
    #[arg(long, value_parser = input::call_id, value_name = "ID")]
    id: Option<CallId>,
    /// Keep it and its calls in memory only: they die with the broker
    #[arg(long)]
    volatile: bool,
}

pub async fn run(arguments: Emit, url: Option<&str>, output: &Output) -> Result<(), Ending> {
    let payload = match &arguments.value {
        Some(text) => Payload::json(input::json(input::argument(text)?)?),
        None => Payload::json(&b"null"[..]),
    };
    let connection = Connection::open(url).await?;
    if connection.capabilities().events == Support::Refused {
        return Err(Ending::new(REFUSED, format!("the broker at {} has no events", connection.address)));
    }
    let (caller, mut events) = connection.caller().await?;
    let mut route = Route::new(arguments.topic.name().clone());
    route.event = true;
    route.durability = arguments.volatile.then_some(Durability::Volatile);
    let call = Call::new(arguments.id.unwrap_or_else(new_call_id), Arc::new(route), payload);
    let id = call.id;
    caller.submit(&mut vec![Submission { call, tag: 1, wants: Wants::Acceptance, resent: false }]);
    let unknown =
        |why: &str| Ending::new(UNREACHABLE, format!("{why}; `antiphon emit --id {id}` with the same value is safe"));
    let answered = timeout(PATIENCE, async {
        loop {
            match events.recv().await {
                Some(Event::Accepted { duplicate, .. }) => return Ok(duplicate),
                Some(Event::Refused { failure, .. }) if failure.may_have_run => {
                    return Err(unknown(&failure.to_string()));
                }
                Some(Event::Refused { failure, .. }) => {
                    return Err(Ending::new(REFUSED, format!("refused: {failure}")));
                }
                Some(Event::Down { reason, last: true }) => return Err(unknown(&reason)),
                Some(_) => (),
                None => return Err(unknown("the connection ended")),
            }
        }
    });
    let duplicate = answered.await.map_err(|_| unknown("the broker did not come back"))??;
    drop(caller);
    connection.close().await;
    match output.format {
        Format::Table => output.line(id.to_string().as_bytes()),
        _ => output.json(&json!({ "id": id, "duplicate": duplicate })),
    }
}
