//! `antiphon result`: the outcome of a call, and how outcomes are printed.

use crate::connection::{Connection, unexpected};
use crate::ending::{Ending, NOT_A_REPLY, NOT_KNOWN, NOT_SETTLED};
use crate::output::{Format, Output};
use crate::{input, payload};
use antiphon_broker::{Event, Progress};
use antiphon_protocol::{Answer, CallId, CallStatus, ContentType, Failure, Knowledge, Outcome, Payload, Query, State};
use clap::Args;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// How long an outcome that is recorded may take to arrive.
const FETCH: Duration = Duration::from_secs(30);

/// Print the outcome of a call
#[derive(Debug, Args)]
pub struct ResultOf {
    /// The call's id
    #[arg(value_parser = input::call_id)]
    id: CallId,
    /// Wait this long for it to settle
    #[arg(long, value_parser = input::duration, value_name = "DURATION")]
    wait: Option<Duration>,
    /// Print what the procedure tells of itself to stderr, a JSON value a line
    #[arg(long)]
    progress: bool,
}

/// A call that has settled.
pub struct Settled {
    pub id: CallId,
    pub state: State,
    pub attempts: u16,
    pub outcome: Outcome,
}

pub async fn run(arguments: ResultOf, url: Option<&str>, output: &Output) -> Result<(), Ending> {
    let connection = Connection::open(url).await?;
    let status = status_of(&connection, arguments.id).await?;
    let settled = status.state.is_settled();
    let patience = if settled { Some(FETCH) } else { arguments.wait };
    let Some(patience) = patience else {
        let id = arguments.id;
        return Err(Ending::new(
            NOT_SETTLED,
            format!("call {id} is {}: --wait 30s waits for its outcome", status.state),
        ));
    };
    if arguments.progress {
        connection.passes_progress_on()?;
    }
    let (caller, mut events) = connection.caller().await?;
    if arguments.progress {
        caller.follow(&[(arguments.id, 1, 0)]);
    }
    caller.attach(&[(arguments.id, 1)]);
    let outcome = timeout(patience, async {
        let (mut seen, mut settled) = (0, None);
        loop {
            match events.recv().await {
                Some(Event::Outcome { id, state, attempts, outcome, .. }) => {
                    let found = Settled { id, state, attempts, outcome };
                    if !arguments.progress {
                        return Ok(found);
                    }
                    settled = Some(found);
                    caller.follow(&[(id, 1, seen)]);
                }
                Some(Event::Progress { id, progress, .. }) => {
                    seen = progress.sequence;
                    print_progress(id, &progress, output);
                }
                Some(Event::ProgressEnded { .. }) => {
                    if let Some(settled) = settled.take() {
                        return Ok(settled);
                    }
                }
                Some(Event::Refused { failure, .. }) => return Err(Ending::refused(&failure)),
                Some(Event::Down { reason, last: true }) => {
                    return Err(Ending::new(crate::ending::UNREACHABLE, reason));
                }
                Some(_) => (),
                None => return Err(Ending::failed("the connection ended")),
            }
        }
    });
    let Ok(outcome) = outcome.await else {
        let text = format!("call {} has not settled within {patience:?}", arguments.id);
        return Err(Ending::new(NOT_SETTLED, text));
    };
    print(&outcome?, output)
}

/// Prints what a running call tells of itself, on stderr: the bare value, or with its call and attempt as JSON.
pub fn print_progress(id: CallId, progress: &Progress, output: &Output) {
    let value = payload::to_value(&progress.payload);
    let line = match output.format {
        Format::Table => value,
        Format::Json | Format::Jsonl => json!({ "id": id, "attempt": progress.attempt, "progress": value }),
    };
    output.remark(&line.to_string());
}

/// What the broker knows of a call; an unknown id ends the command.
pub async fn status_of(connection: &Connection, id: CallId) -> Result<CallStatus, Ending> {
    match connection.ask(Query::Status(id)).await? {
        Answer::Status(Knowledge::Known(status)) => Ok(status),
        Answer::Status(Knowledge::NeverSeen) => {
            Err(Ending::new(NOT_KNOWN, format!("the broker at {} has never seen call {id}", connection.address)))
        }
        Answer::Status(Knowledge::Forgotten) => {
            let text = format!("call {id} is forgotten: its time to be kept is over, or it was purged");
            Err(Ending::new(NOT_KNOWN, text))
        }
        Answer::Status(Knowledge::TooOldToSay) => {
            Err(Ending::new(NOT_KNOWN, format!("call {id} is older than what the broker remembers")))
        }
        other => Err(unexpected(&other)),
    }
}

/// Prints an outcome: a bare value, or all of it as JSON. Anything but a reply ends the command with 1.
pub fn print(settled: &Settled, output: &Output) -> Result<(), Ending> {
    match output.format {
        Format::Json | Format::Jsonl => {
            output.json(&to_json(settled))?;
            match settled.outcome {
                Outcome::Reply(_) => Ok(()),
                Outcome::Failure(_) => Err(Ending::silent(NOT_A_REPLY)),
            }
        }
        Format::Table => match &settled.outcome {
            Outcome::Reply(value) => print_value(value, output),
            Outcome::Failure(failure) => Err(Ending::new(NOT_A_REPLY, describe(settled, failure))),
        },
    }
}

fn print_value(value: &Payload, output: &Output) -> Result<(), Ending> {
    match payload::to_json(value) {
        Ok(text) => output.line(&text),
        Err(_) if value.content_type == ContentType::Raw => output.bytes(&value.bytes),
        Err(_) => output.json(&payload::to_value(value)),
    }
}

fn describe(settled: &Settled, failure: &Failure) -> String {
    let Settled { id, state, attempts, .. } = settled;
    let run = if failure.may_have_run { "may have run" } else { "did not run" };
    let attempts = match attempts {
        0 => "no attempt".to_owned(),
        1 => "1 attempt".to_owned(),
        n => format!("{n} attempts"),
    };
    let mut text = format!("{failure} (call {id} {state}, {attempts}, {run})");
    if let Some(details) = &failure.details {
        text.push_str(&format!("; details: {}", payload::to_value(details)));
    }
    text
}

/// `{id, state, value|failure, attempts}`.
pub fn to_json(settled: &Settled) -> Value {
    let Settled { id, state, attempts, outcome } = settled;
    let mut object = json!({ "id": id, "state": state.name(), "attempts": attempts });
    let (field, value) = match outcome {
        Outcome::Reply(value) => ("value", payload::to_value(value)),
        Outcome::Failure(failure) => ("failure", failure_to_json(failure)),
    };
    if let Some(fields) = object.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
    object
}

fn failure_to_json(failure: &Failure) -> Value {
    json!({
        "code": failure.code.name(),
        "message": failure.message,
        "may_have_run": failure.may_have_run,
        "retry_after_ms": failure.retry_after_ms,
        "details": failure.details.as_ref().map(payload::to_value),
    })
}
