//! `antiphon subscription`: procedures that are called for each event.

use crate::connection::{Connection, unexpected};
use crate::ending::Ending;
use crate::input;
use crate::output::{Format, Output, Row};
use crate::treatment::Treatment;
use antiphon_protocol::{Answer, Change, Name, Pattern, Query, Subscription, Topic};
use clap::{Args, Subcommand};
use serde_json::json;

/// Call a procedure for each event whose topic matches a pattern
#[derive(Debug, Subcommand)]
pub enum Subscriptions {
    /// Add a subscription, or replace the one of this name
    Add(Add),
    /// List subscriptions
    Ls {
        /// Only those that match this topic
        #[arg(value_parser = input::topic)]
        topic: Option<Topic>,
    },
    /// Remove a subscription; events that were accepted before still make their calls
    Rm {
        /// Its name
        #[arg(value_parser = input::name)]
        name: Name,
    },
}

/// A subscription to be
#[derive(Debug, Args)]
pub struct Add {
    /// What it is called
    #[arg(value_parser = input::name)]
    name: Name,
    /// Which topics: tokens as in orders.created, * for any one, > at the end for all that follow
    #[arg(value_parser = input::pattern)]
    pattern: Pattern,
    /// The procedure, as service.procedure
    #[arg(value_parser = input::name)]
    procedure: Name,
    #[command(flatten)]
    treatment: Treatment,
}

pub async fn run(arguments: Subscriptions, url: Option<&str>, output: &Output) -> Result<(), Ending> {
    let connection = Connection::open(url).await?;
    match arguments {
        Subscriptions::Add(Add { name, pattern, procedure, treatment }) => {
            let subscription = Subscription { name, pattern, route: treatment.route(procedure) };
            changed(&connection, Query::Subscribe(Box::new(subscription)), output).await
        }
        Subscriptions::Ls { topic } => list(&connection, topic, output).await,
        Subscriptions::Rm { name } => changed(&connection, Query::Unsubscribe(name), output).await,
    }
}

/// Has something be or not be, and says what that changed.
pub async fn changed(connection: &Connection, query: Query, output: &Output) -> Result<(), Ending> {
    let paused = match &query {
        Query::PauseSchedule { paused, .. } => *paused,
        _ => false,
    };
    let change = match connection.ask(query).await? {
        Answer::Changed(change) => change,
        other => return Err(unexpected(&other)),
    };
    if output.format != Format::Table {
        return output.json(&json!({ "change": change }));
    }
    output.remark(match change {
        Change::Added => "added",
        Change::Replaced => "replaced",
        Change::Unchanged => "unchanged: it was there already",
        Change::Removed => "removed",
        Change::Changed if paused => "paused: its ticks pass until it is resumed",
        Change::Changed => "resumed",
    });
    Ok(())
}

async fn list(connection: &Connection, topic: Option<Topic>, output: &Output) -> Result<(), Ending> {
    let mut all: Vec<Subscription> = Vec::new();
    loop {
        let after = all.last().map(|last| last.name.clone());
        match connection.ask(Query::Subscriptions { topic: topic.clone(), after }).await? {
            Answer::Subscriptions(more) if more.is_empty() => break,
            Answer::Subscriptions(more) => all.extend(more),
            other => return Err(unexpected(&other)),
        }
    }
    let row = |it: &Subscription| Row {
        cells: vec![it.name.to_string(), it.pattern.to_string(), it.route.procedure.to_string()],
        value: serde_json::to_value(it).unwrap_or_default(),
    };
    output.list(&["NAME", "PATTERN", "PROCEDURE"], all.iter().map(row).collect())
}
