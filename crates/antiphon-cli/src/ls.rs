//! `antiphon ls`: calls as a list, and the filters that all lists take.

use crate::connection::{Connection, now_ms, unexpected};
use crate::ending::Ending;
use crate::input;
use crate::output::{Output, Row};
use antiphon_protocol::{Answer, CallFilter, CallStatus, Name, Query, State};
use clap::Args;
use serde_json::Value;

/// Which calls
#[derive(Debug, Clone, Args)]
pub struct Filters {
    /// Only of this procedure
    #[arg(long, value_parser = input::name)]
    procedure: Option<Name>,
    /// Only of this tenant
    #[arg(long, value_parser = input::name)]
    tenant: Option<Name>,
    /// Only submitted within this time (1h), or since then
    #[arg(long, value_parser = input::since, value_name = "DURATION|TIME")]
    since: Option<u64>,
    /// Only submitted before that: so long ago (1h), or a time
    #[arg(long, value_parser = input::since, value_name = "DURATION|TIME")]
    until: Option<u64>,
    /// Only those that require this label of their worker
    #[arg(long, value_parser = input::name)]
    label: Option<Name>,
    /// At most this many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

impl Filters {
    /// The question for calls in this state.
    pub fn filter(&self, state: Option<State>, limit: u32) -> CallFilter {
        CallFilter {
            state,
            procedure: self.procedure.clone(),
            tenant: self.tenant.clone(),
            since_ms: self.since.unwrap_or(0),
            until_ms: self.until.unwrap_or(0),
            label: self.label.clone(),
            limit: self.limit.unwrap_or(limit),
        }
    }

    /// At most how many.
    pub const fn limit(&self) -> Option<u32> {
        self.limit
    }

    /// Whether none is given.
    pub const fn is_empty(&self) -> bool {
        self.procedure.is_none()
            && self.tenant.is_none()
            && self.since.is_none()
            && self.until.is_none()
            && self.label.is_none()
            && self.limit.is_none()
    }
}

/// List calls, newest first
#[derive(Debug, Args)]
pub struct Ls {
    /// Only in this state
    #[arg(long, value_parser = state)]
    state: Option<State>,
    #[command(flatten)]
    filters: Filters,
}

/// Reads a state.
pub fn state(text: &str) -> Result<State, String> {
    let names = State::ALL.map(State::name).join(", ");
    State::from_name(text).ok_or_else(|| format!("{text:?} is not a state: it is one of {names}"))
}

pub async fn run(arguments: Ls, url: Option<&str>, output: &Output) -> Result<(), Ending> {
    let connection = Connection::open(url).await?;
    let calls = calls(&connection, arguments.filters.filter(arguments.state, 100)).await?;
    print(&calls, output)
}

/// The calls that match.
pub async fn calls(connection: &Connection, filter: CallFilter) -> Result<Vec<CallStatus>, Ending> {
    match connection.ask(Query::Calls(filter)).await? {
        Answer::Calls(calls) => Ok(calls),
        other => Err(unexpected(&other)),
    }
}

/// Prints calls as a list.
pub fn print(calls: &[CallStatus], output: &Output) -> Result<(), Ending> {
    let now = now_ms();
    let row = |call: &CallStatus| Row { cells: cells(call, now), value: to_value(call) };
    output.list(
        &["ID", "PROCEDURE", "STATE", "AGE", "ATTEMPTS", "LOST", "PRIORITY", "WORKER"],
        calls.iter().map(row).collect(),
    )
}

fn cells(call: &CallStatus, now: u64) -> Vec<String> {
    vec![
        call.id.to_string(),
        call.procedure.to_string(),
        if call.stopping { format!("{} (stopping)", call.state) } else { call.state.to_string() },
        age(now.saturating_sub(call.submitted_ms)),
        format!("{}/{}", call.attempts, call.attempts_max),
        call.lost_leases.to_string(),
        call.priority.to_string(),
        call.worker.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
    ]
}

/// A call's status as JSON.
pub fn to_value(call: &CallStatus) -> Value {
    serde_json::to_value(call).unwrap_or(Value::Null)
}

/// So many of something, in words: one worker, 2 workers.
pub fn count(number: u32, what: &str) -> String {
    match number {
        1 => format!("one {what}"),
        number => format!("{number} {what}s"),
    }
}

/// A span of time in its largest unit.
pub fn age(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..120_000 => format!("{}s", ms / 1_000),
        120_000..7_200_000 => format!("{}m", ms / 60_000),
        7_200_000..172_800_000 => format!("{}h", ms / 3_600_000),
        _ => format!("{}d", ms / 86_400_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_one_unit() {
        assert_eq!(age(999), "999ms");
        assert_eq!(age(61_000), "61s");
        assert_eq!(age(600_000), "10m");
        assert_eq!(age(86_400_000), "24h");
        assert_eq!(age(864_000_000), "10d");
    }

    #[test]
    fn a_wrong_state_is_told_the_right_ones() {
        assert_eq!(state("dead"), Ok(State::Dead));
        assert!(state("running").unwrap_err().contains("leased"));
    }
}
