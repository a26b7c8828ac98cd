//! `antiphon status`: where a call stands, as a timeline.

use crate::connection::Connection;
use crate::ending::Ending;
use crate::output::{Format, Output};
use crate::{input, ls, result};
use antiphon_protocol::{AttemptRecord, CallId, CallStatus, CallbackOn, CallbackStatus, State};
use clap::Args;
use jiff::{Timestamp, tz::TimeZone};

/// Print where a call stands, and what happened to it
#[derive(Debug, Args)]
pub struct Status {
    /// The call's id
    #[arg(value_parser = input::call_id)]
    id: CallId,
}

pub async fn run(arguments: Status, url: Option<&str>, output: &Output) -> Result<(), Ending> {
    let connection = Connection::open(url).await?;
    print(&result::status_of(&connection, arguments.id).await?, output)
}

/// Prints a call's timeline.
pub fn print(call: &CallStatus, output: &Output) -> Result<(), Ending> {
    if output.format != Format::Table {
        return output.json(&ls::to_value(call));
    }
    output.line(format!("{} {} is {}", call.procedure, call.id, call.state).as_bytes())?;
    output.line(traits(call).as_bytes())?;
    for line in ties(call) {
        output.line(line.as_bytes())?;
    }
    output.table(&[], timeline(call))
}

fn traits(call: &CallStatus) -> String {
    let durable = if call.durable { "durable" } else { "volatile" };
    let tenant = call.tenant.as_ref().map_or_else(String::new, |tenant| format!(", tenant {tenant}"));
    let attempt = match call.attempts {
        0 => "not started".to_owned(),
        attempt => format!("attempt {attempt} of {}", call.attempts_max),
    };
    format!(
        "{durable}, priority {}{tenant}, {attempt}, {} lost leases, {} payload bytes",
        call.priority, call.lost_leases, call.payload_bytes
    )
}

/// Where it comes from, and what follows it.
fn ties(call: &CallStatus) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(call.cause.map(|cause| format!("callback of {cause}")));
    lines.extend(call.groups.iter().map(|group| format!("child of group {group}")));
    for CallbackStatus { on, procedure, id } in &call.callbacks {
        let follows = on.follows(call.state == State::Succeeded);
        lines.push(match (call.state.is_settled(), follows) {
            (true, true) => format!("callback {procedure} is {id}"),
            (true, false) => format!("callback {procedure} is for other outcomes"),
            (false, _) => format!("callback {procedure} will be {id}, after {}", after(*on)),
        });
    }
    lines
}

const fn after(on: CallbackOn) -> &'static str {
    match on {
        CallbackOn::Outcome => "any outcome",
        CallbackOn::Success | CallbackOn::Value => "success",
        CallbackOn::Failure => "anything but success",
    }
}

fn timeline(call: &CallStatus) -> Vec<Vec<String>> {
    let mut rows = vec![row(call.submitted_ms, call, "submitted", "")];
    for attempt in &call.history {
        rows.push(row(attempt.ended_ms, call, &attempt_title(attempt), &attempt.message));
    }
    let since = call.since_ms;
    match call.state {
        State::Ready => {
            rows.push(vec!["now".to_owned(), String::new(), "ready".to_owned(), "waits for a free slot".to_owned()])
        }
        State::Scheduled if call.is_group => {
            let text = "waits for its children: `antiphon group status` lists them".to_owned();
            rows.push(vec!["now".to_owned(), String::new(), "open".to_owned(), text]);
        }
        State::Scheduled => rows.push(row(since, call, "scheduled", "starts then")),
        State::Leased => {
            let worker = call.worker.as_ref().map_or_else(String::new, |worker| format!("by {worker}"));
            rows.push(row(since, call, &format!("attempt {} leased", call.attempts), &worker));
        }
        settled => {
            let stopping = if call.stopping { "its last attempt has not stopped yet" } else { "" };
            rows.push(row(since, call, settled.name(), stopping));
        }
    }
    if call.deadline_ms != 0 && !call.state.is_settled() {
        rows.push(row(call.deadline_ms, call, "deadline", ""));
    }
    rows
}

fn attempt_title(attempt: &AttemptRecord) -> String {
    let what = if attempt.lost { "lost its lease" } else { "failed" };
    let worker = attempt.worker.as_ref().map_or_else(String::new, |worker| format!(" on {worker}"));
    format!("attempt {} {what}{worker}: {}", attempt.attempt, attempt.code)
}

fn row(at_ms: u64, call: &CallStatus, what: &str, text: &str) -> Vec<String> {
    let offset = at_ms.saturating_sub(call.submitted_ms);
    let offset = if at_ms == call.submitted_ms { String::new() } else { format!("+{:.3}s", offset as f64 / 1e3) };
    vec![local_time(at_ms), offset, what.to_owned(), text.to_owned()]
}

/// A wall-clock time as this machine's people write it.
pub fn local_time(ms: u64) -> String {
    let instant = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    instant.map_or_else(
        || format!("{ms} ms"),
        |instant| instant.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
    )
}
