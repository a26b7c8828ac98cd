//! `antiphon dead`: look at dead letters, submit them anew, forget them.

use crate::connection::{Connection, new_call_id, unexpected};
use crate::ending::Ending;
use crate::ls::{self, Filters};
use crate::output::{Format, Output, Row};
use crate::{input, result, status};
use antiphon_protocol::{Answer, CallId, CallStatus, Query, State};
use clap::{Args, Subcommand};
use serde_json::json;
use std::io::{self, IsTerminal, Write};

/// Look at dead letters, revive or purge them
#[derive(Debug, Subcommand)]
pub enum Dead {
    /// List dead letters, newest first
    Ls(Filters),
    /// Print what happened to a dead letter
    Show {
        /// Its id
        #[arg(value_parser = input::call_id)]
        id: CallId,
    },
    /// Submit dead letters anew, as new calls; at most 10000 at once without --limit
    Revive(Which),
    /// Forget dead letters; at most 10000 at once without --limit
    Purge(Which),
}

/// Which dead letters
#[derive(Debug, Args)]
pub struct Which {
    /// Their ids
    #[arg(value_parser = input::call_id, value_name = "ID")]
    ids: Vec<CallId>,
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    consent: Consent,
}

/// Leave to change what filters found
#[derive(Debug, Args)]
pub struct Consent {
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Consent {
    /// Whether `what` may be done to that many calls; asks on a terminal.
    pub fn is_given(&self, what: &str, count: usize, output: &Output) -> Result<bool, Ending> {
        if self.dry_run || count == 0 {
            output.remark(&format!("would {what} {count} calls"));
            return Ok(false);
        }
        if self.yes {
            return Ok(true);
        }
        if !io::stdin().is_terminal() {
            return Err(Ending::usage(format!(
                "this would {what} {count} calls: --yes does it, --dry-run only says so"
            )));
        }
        write!(io::stderr(), "{what} {count} calls? [y/N] ")?;
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        Ok(matches!(line.trim(), "y" | "Y" | "yes"))
    }
}

pub async fn run(arguments: Dead, url: Option<&str>, output: &Output) -> Result<(), Ending> {
    let connection = Connection::open(url).await?;
    match arguments {
        Dead::Ls(filters) => list(&ls::calls(&connection, filters.filter(Some(State::Dead), 100)).await?, output),
        Dead::Show { id } => {
            let call = result::status_of(&connection, id).await?;
            if call.state != State::Dead {
                return Err(Ending::failed(format!("call {id} is {}, not a dead letter", call.state)));
            }
            status::print(&call, output)
        }
        Dead::Revive(which) => revive(&connection, which, output).await,
        Dead::Purge(which) => purge(&connection, which, output).await,
    }
}

fn list(calls: &[CallStatus], output: &Output) -> Result<(), Ending> {
    let row = |call: &CallStatus| {
        let last = call.history.last();
        let why = last.map_or_else(String::new, |attempt| format!("{}: {}", attempt.code, attempt.message));
        let cells = vec![
            call.id.to_string(),
            call.procedure.to_string(),
            status::local_time(call.since_ms),
            format!("{}/{}", call.attempts, call.attempts_max),
            call.lost_leases.to_string(),
            why,
        ];
        Row { cells, value: ls::to_value(call) }
    };
    output.list(&["ID", "PROCEDURE", "DIED", "ATTEMPTS", "LOST", "LAST FAILURE"], calls.iter().map(row).collect())
}

/// The ids given, or those that the filters find once there is leave to touch them; `None` without leave.
async fn chosen(
    connection: &Connection,
    which: Which,
    what: &str,
    output: &Output,
) -> Result<Option<Vec<CallId>>, Ending> {
    let Which { ids, filters, consent } = which;
    if ids.is_empty() {
        if filters.is_empty() && !consent.yes && !consent.dry_run {
            return Err(Ending::usage(format!(
                "{what} which? give ids, filters such as --procedure, or --yes for all dead letters"
            )));
        }
        let ids = ls::to_change(connection, &filters, &[State::Dead], output).await?;
        let leave = consent.is_given(what, ids.len(), output)?;
        return Ok(leave.then_some(ids));
    }
    if !filters.is_empty() {
        return Err(Ending::usage("give either ids or filters"));
    }
    if consent.dry_run {
        consent.is_given(what, ids.len(), output)?;
        return Ok(None);
    }
    Ok(Some(ids))
}

async fn revive(connection: &Connection, which: Which, output: &Output) -> Result<(), Ending> {
    let Some(ids) = chosen(connection, which, "revive", output).await? else { return Ok(()) };
    let mut rows = Vec::new();
    let mut ended = Ok(());
    for dead in ids {
        match connection.ask(Query::Revive { dead, id: new_call_id() }).await {
            Ok(Answer::Revived(id)) => rows
                .push(Row { cells: vec![dead.to_string(), id.to_string()], value: json!({ "dead": dead, "id": id }) }),
            other => {
                ended = Err(failure(other));
                break;
            }
        }
    }
    // What was done is said also when the rest was not.
    output.list(&["DEAD LETTER", "NEW CALL"], rows)?;
    ended
}

fn failure(answered: Result<Answer, Ending>) -> Ending {
    answered.map_or_else(|ending| ending, |other| unexpected(&other))
}

async fn purge(connection: &Connection, which: Which, output: &Output) -> Result<(), Ending> {
    let Some(ids) = chosen(connection, which, "purge", output).await? else { return Ok(()) };
    let mut count = 0;
    let mut ended = Ok(());
    for id in ids {
        match connection.ask(Query::Purge(id)).await {
            Ok(Answer::Purged) => count += 1,
            other => {
                ended = Err(failure(other));
                break;
            }
        }
    }
    match output.format {
        Format::Table => output.remark(&format!("purged {count} dead letters")),
        _ => output.json(&json!({ "purged": count }))?,
    }
    ended
}
