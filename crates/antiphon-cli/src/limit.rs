//! `antiphon queue limit`: what is set for one procedure.

use crate::connection::{Connection, unexpected};
use crate::ending::Ending;
use crate::input;
use crate::output::{Format, Output};
use antiphon_protocol::{Answer, Name, Query, Rate, Setting, Settings};
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
    /// Calls that may run at a time
    #[arg(long, value_name = "N", value_parser = number, conflicts_with = "none")]
    running: Option<Given>,
    /// How fast calls may start, every attempt counted: 100/s, 30/min or 5/h
    #[arg(long, value_name = "N/UNIT", value_parser = rate, conflicts_with = "none")]
    rate: Option<Pace>,
    /// How many may start at once after a pause; needs a rate, given now or before [default: a tenth of a second's worth]
    #[arg(long, value_name = "N", value_parser = number, conflicts_with = "none")]
    burst: Option<Given>,
    /// Any number may run, and start at any speed
    #[arg(long)]
    none: bool,
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

/// So many starts in so many milliseconds, or none of its own.
#[derive(Clone, Copy, Debug)]
struct Pace(Option<(u64, u64)>);

impl Limit {
    fn changes(&self) -> Vec<(Setting, Option<u64>)> {
        let given = [
            (Setting::QueuedMax, self.queued),
            (Setting::QueuedBytesMax, self.queued_bytes),
            (Setting::TenantQueuedMax, self.tenant_queued),
            (Setting::TenantQueuedBytesMax, self.tenant_queued_bytes),
            (Setting::RunningMax, self.running),
            (Setting::RateBurst, self.burst),
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
        let mut changes: Vec<_> = given.into_iter().filter_map(change).collect();
        if let Some(Pace(pace)) = self.rate {
            if pace.is_none() && self.burst.is_none() {
                changes.push((Setting::RateBurst, None));
            }
            changes.push((Setting::RateCount, pace.map(|(count, _)| count)));
            changes.push((Setting::RatePeriodMs, pace.map(|(_, period_ms)| period_ms)));
        }
        if self.none {
            let lifted = [Setting::RunningMax, Setting::RateCount, Setting::RatePeriodMs, Setting::RateBurst];
            changes.extend(lifted.map(|setting| (setting, None)));
        }
        changes
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

fn rate(text: &str) -> Result<Pace, String> {
    if text == "default" {
        return Ok(Pace(None));
    }
    pace(text).map(|pace| Pace(Some(pace)))
}

/// Reads a rate: how many, in how many milliseconds.
pub fn pace(text: &str) -> Result<(u64, u64), String> {
    let wrong = || format!("{text:?} is no rate: write it like 100/s, 30/min or 5/h");
    let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
    let count = u32::from_str(count.trim()).map_err(|_| wrong())?;
    let period_ms = match unit.trim() {
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    Rate::new(count, period_ms).map_err(|error| error.to_string())?;
    Ok((count.into(), period_ms.into()))
}
