//! `antiphon cancel`: calls by id, or all that match.

use crate::connection::{Connection, unexpected};
use crate::ending::{Ending, NOT_A_REPLY, NOT_KNOWN, UNREACHABLE};
use crate::ls::{self, Filters};
use crate::output::{Output, Row};
use crate::{bulk, dead, input};
use antiphon_broker::Event;
use antiphon_protocol::{Answer, CallId, CancelAnswer, Changed, Deed, Failure, Fate, Knowledge, Query, State};
use clap::Args;
use serde_json::json;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::timeout;

/// How long all answers together may take.
const ANSWERS: Duration = Duration::from_secs(30);

/// Cancel calls
#[derive(Debug, Args)]
pub struct Cancel {
    /// The calls' ids
    #[arg(value_parser = input::call_id, value_name = "ID")]
    ids: Vec<CallId>,
    /// Only in this state (scheduled, ready or leased)
    #[arg(long, value_parser = ls::state)]
    state: Option<State>,
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    consent: dead::Consent,
}

pub async fn run(arguments: Cancel, url: Option<&str>, output: &Output) -> Result<(), Ending> {
    let filtered = !arguments.filters.is_empty() || arguments.state.is_some();
    if arguments.ids.is_empty() != filtered {
        return Err(Ending::usage("give either ids, or filters such as --procedure: see `antiphon cancel --help`"));
    }
    let connection = Connection::open(url).await?;
    if filtered {
        return cancel_matching(&connection, &arguments, output).await;
    }
    // Who names calls is not asked again.
    if arguments.consent.dry_run {
        return say_what_would_be(&connection, &arguments.ids, output).await;
    }
    let answers = cancel(&connection, &arguments.ids).await?;
    connection.close().await;
    print(&arguments.ids, &answers, output)
}

/// Changes nothing: says of each call what its cancellation would come to.
async fn say_what_would_be(connection: &Connection, ids: &[CallId], output: &Output) -> Result<(), Ending> {
    let mut count = 0;
    for id in ids {
        match connection.ask(Query::Status(*id)).await? {
            Answer::Status(Knowledge::Known(call)) if !call.state.is_settled() => count += 1,
            Answer::Status(Knowledge::Known(call)) => {
                output.remark(&format!("call {id} settled before: {}", call.state))
            }
            Answer::Status(_) => output.remark(&format!("the broker does not know call {id}")),
            other => return Err(unexpected(&other)),
        }
    }
    output.remark(&format!("would cancel {}", ls::count(count, "call")));
    Ok(())
}

async fn cancel_matching(connection: &Connection, arguments: &Cancel, output: &Output) -> Result<(), Ending> {
    if let Some(state) = arguments.state.filter(|state| state.is_settled()) {
        return Err(Ending::usage(format!(
            "{state} calls have settled: only scheduled, ready and leased ones can be cancelled"
        )));
    }
    let which = (&arguments.filters, arguments.state);
    let Some(changed) = bulk::run(connection, Deed::Cancel, "cancel", which, &arguments.consent, output).await? else {
        return Ok(());
    };
    let mut answers = HashMap::new();
    let mut ids = Vec::with_capacity(changed.len());
    for Changed { id, fate, .. } in changed {
        match fate {
            Some(Fate::Cancelled(answer)) => drop(answers.insert(id, answer)),
            Some(Fate::Refused { code, message }) => return Err(Ending::refused(&Failure::new(code, message))),
            _ => (),
        }
        ids.push(id);
    }
    print(&ids, &answers, output)
}

async fn cancel(connection: &Connection, ids: &[CallId]) -> Result<HashMap<CallId, CancelAnswer>, Ending> {
    let (caller, mut events) = connection.caller().await?;
    let mut answers = HashMap::new();
    let wanted: std::collections::HashSet<&CallId> = ids.iter().collect();
    caller.cancel(ids);
    let all = async {
        while answers.len() < wanted.len() {
            match events.recv().await {
                Some(Event::CancelAnswered { id, answer }) => {
                    answers.insert(id, answer);
                }
                Some(Event::Down { reason, last: true }) => return Err(Ending::new(UNREACHABLE, reason)),
                Some(_) => (),
                None => return Err(Ending::new(UNREACHABLE, "the connection ended")),
            }
        }
        Ok(())
    };
    timeout(ANSWERS, all).await.map_err(|_| Ending::new(UNREACHABLE, "the broker did not answer within 30 s"))??;
    Ok(answers)
}

fn print(ids: &[CallId], answers: &HashMap<CallId, CancelAnswer>, output: &Output) -> Result<(), Ending> {
    let rows = ids.iter().filter_map(|id| Some((id, answers.get(id)?))).map(|(id, answer)| Row {
        cells: vec![id.to_string(), describe(answer)],
        value: json!({ "id": id, "answer": answer }),
    });
    output.list(&["ID", "ANSWER"], rows.collect())?;
    let exit = |answer: &CancelAnswer| match answer {
        CancelAnswer::NotFound => NOT_KNOWN,
        CancelAnswer::AlreadySettled(_) | CancelAnswer::NotReached => NOT_A_REPLY,
        _ => 0,
    };
    match answers.values().map(exit).max() {
        None | Some(0) => Ok(()),
        Some(exit) => Err(Ending::silent(exit)),
    }
}

fn describe(answer: &CancelAnswer) -> String {
    match answer {
        CancelAnswer::NeverRan => "cancelled: it never ran".to_owned(),
        CancelAnswer::Children => "cancelled: its children are being cancelled".to_owned(),
        CancelAnswer::BetweenAttempts => "cancelled: it waited for a further attempt".to_owned(),
        CancelAnswer::Stopping { worker } => format!("cancelled: stopping on {worker}"),
        CancelAnswer::AlreadySettled(state) => format!("settled before: {state}"),
        CancelAnswer::NotFound => "the broker does not know it".to_owned(),
        CancelAnswer::NotReached => "not cancelled: this broker reaches only calls that run".to_owned(),
    }
}
