//! `antiphon group`: calls that settle together.

use crate::callback::Callbacks;
use crate::connection::{Connection, new_call_id, unexpected};
use crate::ending::{Ending, INTERRUPTED, NOT_KNOWN, REFUSED, UNREACHABLE};
use crate::output::{Color, Format, Output, Row};
use crate::payload::Readable;
use crate::stop::Stops;
use crate::{input, result};
use antiphon_broker::{Event, Submission, Wants};
use antiphon_protocol::{
    Answer, CallId, Code, Durability, Failure, Group as Policy, GroupKind, GroupStatus, Key, Keys, Name, Payload,
    Query, Route,
};
use clap::{Args, Subcommand};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// What to do with groups
#[derive(Debug, Subcommand)]
pub enum Group {
    /// Open a group and print its id; `antiphon call --group ID` adds children
    Open(Open),
    /// Make calls that are there already children of a group
    Add(Add),
    /// Let a group get no more children
    Seal(Which),
    /// Print where a group and its children stand
    Status(Which),
    /// Print how the children of a group end, as they do, a JSON value a line, those included that are added meanwhile;
    /// ends when the group is sealed and all have settled, or with Ctrl-C
    Follow(Which),
    /// Print the outcome of a group: the list of how its children ended
    Result(result::ResultOf),
}

/// Open a group
#[derive(Debug, Args)]
pub struct Open {
    /// Succeed with the first child that does [default: when all have]
    #[arg(long, conflicts_with_all = ["first", "settled"])]
    any: bool,
    /// Succeed when this many children have
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "settled")]
    first: Option<u32>,
    /// Succeed when all children have settled, however
    #[arg(long)]
    settled: bool,
    /// Cancel children that have not settled when the group is decided
    #[arg(long)]
    cancel_rest: bool,
    /// How long it may stay unsealed; then it expires [default: 1h]
    #[arg(long, value_parser = input::duration, value_name = "DURATION")]
    seal_within: Option<Duration>,
    /// How long the group may take as a whole (5s), or until when [default: no bound]
    #[arg(long, value_parser = input::deadline, value_name = "DURATION|TIME", allow_hyphen_values = true)]
    deadline: Option<u64>,
    /// Groups with the same key are one group
    #[arg(long, value_parser = input::key, value_name = "KEY")]
    idempotency_key: Option<Key>,
    /// What it is called in lists
    #[arg(long, value_parser = input::name, default_value = "group")]
    name: Name,
    /// Keep it in memory only: it dies with the broker
    #[arg(long)]
    volatile: bool,
    /// Make it a child of this group
    #[arg(long, value_parser = input::call_id, value_name = "GROUP")]
    group: Option<CallId>,
    #[command(flatten)]
    callbacks: Callbacks,
}

/// Add calls
#[derive(Debug, Args)]
pub struct Add {
    /// The group's id
    #[arg(value_parser = input::call_id)]
    group: CallId,
    /// The calls' ids
    #[arg(value_parser = input::call_id, value_name = "ID", required = true)]
    calls: Vec<CallId>,
}

/// One group
#[derive(Debug, Args)]
pub struct Which {
    /// The group's id
    #[arg(value_parser = input::call_id)]
    id: CallId,
}

pub async fn run(arguments: Group, url: Option<&str>, output: &Output) -> Result<(), Ending> {
    match arguments {
        Group::Open(arguments) => open(arguments, url, output).await,
        Group::Result(arguments) => result::run(arguments, url, output).await,
        Group::Seal(Which { id }) => {
            let connection = Connection::open(url).await?;
            accepted(connection.ask(Query::Seal(id)).await?)
        }
        Group::Add(Add { group, calls }) => {
            let connection = Connection::open(url).await?;
            for call in calls {
                accepted(connection.ask(Query::Join { group, call }).await?)?;
            }
            Ok(())
        }
        Group::Follow(Which { id }) => follow(&Connection::open(url).await?, id).await,
        Group::Status(Which { id }) => status(&Connection::open(url).await?, id, output).await,
    }
}

fn accepted(answer: Answer) -> Result<(), Ending> {
    match answer {
        Answer::Sealed | Answer::Joined => Ok(()),
        Answer::Refused { code: Code::NotFound, message } => Err(Ending::new(NOT_KNOWN, message)),
        Answer::Refused { message, .. } => Err(Ending::new(REFUSED, format!("refused: {message}"))),
        other => Err(unexpected(&other)),
    }
}

async fn open(arguments: Open, url: Option<&str>, output: &Output) -> Result<(), Ending> {
    let kind = match (arguments.any, arguments.first) {
        (true, _) => GroupKind::First(1),
        (false, Some(count)) => GroupKind::First(count),
        (false, None) if arguments.settled => GroupKind::Settled,
        (false, None) => GroupKind::All,
    };
    let mut policy = Policy::new(kind);
    policy.cancel_rest = arguments.cancel_rest;
    if let Some(within) = arguments.seal_within {
        policy.unsealed_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX).max(1);
    }
    let mut route = Route::new(arguments.name);
    route.group = Some(policy);
    route.callbacks = arguments.callbacks.planned();
    route.durability = arguments.volatile.then_some(Durability::Volatile);
    let mut call = antiphon_protocol::Call::new(new_call_id(), Arc::new(route), Payload::json(&b"null"[..]));
    call.deadline_ms = arguments.deadline.unwrap_or(0);
    if arguments.idempotency_key.is_some() || arguments.group.is_some() {
        let keys = Keys { idempotency: arguments.idempotency_key, group: arguments.group, ..Keys::default() };
        call.keys = Some(Box::new(keys));
    }
    let connection = Connection::open(url).await?;
    let (caller, mut events) = connection.caller().await?;
    caller.submit(&mut vec![Submission { call, tag: 1, wants: Wants::Acceptance, resent: false }]);
    while let Some(event) = events.recv().await {
        match event {
            Event::Accepted { id, duplicate, .. } => {
                return match output.format {
                    Format::Table => output.line(id.to_string().as_bytes()),
                    _ => output.json(&json!({ "id": id, "duplicate": duplicate })),
                };
            }
            Event::Refused { failure, .. } => return Err(Ending::new(REFUSED, format!("refused: {failure}"))),
            Event::Down { reason, last: true } => return Err(Ending::new(UNREACHABLE, reason)),
            _ => (),
        }
    }
    Err(Ending::failed("the connection ended"))
}

async fn follow(connection: &Connection, id: CallId) -> Result<(), Ending> {
    let mut stops = Stops::new()?;
    let mut outcomes = connection.antiphon().attach_group::<Readable, Failure>(id).outcomes();
    loop {
        let next = tokio::select! {
            next = outcomes.next() => next,
            () = stops.next() => return Err(Ending::new(INTERRUPTED, "interrupted: the group goes on")),
        };
        match next {
            // One a line, whatever the format: they come as long as there are children.
            Some(Ok(child)) => Output::new(Format::Jsonl, Color::Never).json(&child)?,
            Some(Err(failure)) => return Err(Ending::refused(&failure)),
            None => return Ok(()),
        }
    }
}

async fn page(connection: &Connection, id: CallId, from: u32) -> Result<GroupStatus, Ending> {
    match connection.ask(Query::Group { id, from, limit: 0, wait_ms: 0 }).await? {
        Answer::Group(status) => Ok(status),
        Answer::Refused { code: Code::NotFound, message } => Err(Ending::new(NOT_KNOWN, message)),
        other => Err(unexpected(&other)),
    }
}

async fn status(connection: &Connection, id: CallId, output: &Output) -> Result<(), Ending> {
    let mut status = page(connection, id, 0).await?;
    while let Some(last) = status.children.last() {
        let more = page(connection, id, last.place.saturating_add(1)).await?;
        if more.state.is_settled() {
            status = more;
            break;
        }
        if more.children.is_empty() {
            break;
        }
        status.children.extend(more.children);
    }
    if output.format != Format::Table {
        return output.json(&status);
    }
    let (counts, sealed) = (status.counts, if status.sealed { "sealed" } else { "open" });
    let standing = match status.state.is_settled() {
        true => format!("{} (`antiphon group result {id}` prints how its children ended)", status.state),
        false => format!(
            "{sealed}, {} children: {} succeeded, {} ended otherwise, {} not settled",
            counts.children,
            counts.succeeded,
            counts.children - counts.succeeded - counts.open,
            counts.open
        ),
    };
    output.line(format!("group of {}, {standing}", status.group.kind).as_bytes())?;
    if status.children.is_empty() {
        return Ok(());
    }
    let row = |child: &antiphon_protocol::ChildStatus| Row {
        cells: vec![
            child.place.to_string(),
            child.id.to_string(),
            child.procedure.to_string(),
            child.state.to_string(),
        ],
        value: json!(child),
    };
    output.list(&["#", "id", "procedure", "state"], status.children.iter().map(row).collect())
}
