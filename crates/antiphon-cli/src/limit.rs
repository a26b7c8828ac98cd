//! `antiphon queue limit`: what is set for one procedure.

use crate::connection::{Connection, unexpected};
use crate::ending::Ending;
use crate::input;
use crate::output::{Format, Output};
use antiphon_protocol::{Answer, Name, Query, Setting, Settings};
use clap::Args;
use std::str::FromStr;

/// Set what one procedure may hold and how long it keeps it; kept over restarts. `default` takes a setting back. Without settings, print what is set
#[derive(Debug, Args)]
pub struct Limit {
    /// The procedure
    #[arg(value_parser = input::name)]
    procedure: Name,
    /// Calls that may wait, scheduled ones included: more are refused
    #[arg(long, value_name = "N", value_parser = number)]
    queued: Option<Given>,
    /// Bytes of their arguments, such as 64MiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    queued_bytes: Option<Given>,
    /// Calls of each tenant that may wait
    #[arg(long, value_name = "N", value_parser = number)]
    tenant_queued: Option<Given>,
    /// Bytes of their arguments
    #[arg(long, value_name = "SIZE", value_parser = size)]
    tenant_queued_bytes: Option<Given>,
    /// How long outcomes stay readable, such as 1h
    #[arg(long, value_name = "DURATION", value_parser = span)]
    keep_outcomes: Option<Given>,
    /// How many bytes of outcomes are kept; the oldest go first
    #[arg(long, value_name = "SIZE", value_parser = size)]
    keep_outcome_bytes: Option<Given>,
    /// How long dead letters are kept
    #[arg(long, value_name = "DURATION", value_parser = span)]
    keep_dead: Option<Given>,
    /// How many dead letters are kept; the oldest go first
    #[arg(long, value_name = "N", value_parser = number)]
    keep_dead_letters: Option<Given>,
    /// Retries there may be, in percent of new calls; `off` lifts the bound
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    retry_percent: Option<Given>,
    /// Retries there may be in ten seconds, however few new calls there are
    #[arg(long, value_name = "N", value_parser = number)]
    retries_min: Option<Given>,
}

/// A value, or none of its own.
#[derive(Clone, Copy, Debug)]
enum Given {
    Value(u64),
    Default,
}

impl Limit {
    fn changes(&self) -> Vec<(Setting, Option<u64>)> {
        let given = [
            (Setting::QueuedMax, self.queued),
            (Setting::QueuedBytesMax, self.queued_bytes),
            (Setting::TenantQueuedMax, self.tenant_queued),
            (Setting::TenantQueuedBytesMax, self.tenant_queued_bytes),
            (Setting::OutcomeMs, self.keep_outcomes),
            (Setting::OutcomeBytes, self.keep_outcome_bytes),
            (Setting::DeadLetterMs, self.keep_dead),
            (Setting::DeadLettersMax, self.keep_dead_letters),
            (Setting::RetryPercent, self.retry_percent),
            (Setting::RetriesMin, self.retries_min),
        ];
        let change = |(setting, given)| match given {
            None => None,
            Some(Given::Value(value)) => Some((setting, Some(value))),
            Some(Given::Default) => Some((setting, None)),
        };
        given.into_iter().filter_map(change).collect()
    }
}

pub async fn run(arguments: Limit, connection: &Connection, output: &Output) -> Result<(), Ending> {
    let changes = arguments.changes();
    let settings = configure(connection, arguments.procedure.clone(), changes).await?;
    if output.format != Format::Table {
        return output.json(&settings);
    }
    if settings.0.is_empty() {
        return output
            .line(format!("nothing is set for {}: all is as the broker has it", arguments.procedure).as_bytes());
    }
    output.table(
        &["SETTING", "VALUE"],
        settings.0.iter().map(|(setting, value)| vec![setting.to_string(), value.to_string()]).collect(),
    )
}

/// Sets something for a procedure; answers what is set then.
pub async fn configure(
    connection: &Connection,
    procedure: Name,
    changes: Vec<(Setting, Option<u64>)>,
) -> Result<Settings, Ending> {
    match connection.ask(Query::Configure { procedure, changes }).await? {
        Answer::Settings(settings) => Ok(settings),
        other => Err(unexpected(&other)),
    }
}

fn given(text: &str, read: impl Fn(&str) -> Result<u64, String>) -> Result<Given, String> {
    if text == "default" { Ok(Given::Default) } else { read(text).map(Given::Value) }
}

fn number(text: &str) -> Result<Given, String> {
    given(text, |text| u64::from_str(text).map_err(|_| format!("{text:?} is not a whole number, nor `default`")))
}

/// The largest number is no bound.
fn percent(text: &str) -> Result<Given, String> {
    if text == "off" { Ok(Given::Value(u64::MAX)) } else { number(text) }
}

fn size(text: &str) -> Result<Given, String> {
    given(text, input::size)
}

fn span(text: &str) -> Result<Given, String> {
    given(text, |text| Ok(u64::try_from(input::duration(text)?.as_millis()).unwrap_or(u64::MAX)))
}
