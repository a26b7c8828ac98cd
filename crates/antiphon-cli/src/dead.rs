//! `antiphon dead`: look at dead letters, submit them anew, forget them.

use crate::connection::{Connection, new_call_id, unexpected};
use crate::ending::Ending;
use crate::ls::{self, Filters};
use crate::output::{Format, Output, Row};
use crate::{bulk, input, result, status};
use antiphon_protocol::{Answer, CallId, CallStatus, Changed, Deed, Failure, Fate, Query, State};
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
    /// Submit dead letters anew, as new calls
    Revive(Which),
    /// Forget dead letters
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
        if count == 0 {
            output.remark(&format!("no call matches: nothing to {what}"));
            return Ok(false);
        }
        let calls = ls::count(u32::try_from(count).unwrap_or(u32::MAX), "call");
        if self.dry_run {
            output.remark(&format!("would {what} {calls}"));
            return Ok(false);
        }
        if self.yes {
            return Ok(true);
        }
        if !io::stdin().is_terminal() {
            return Err(Ending::usage(format!("this would {what} {calls}: --yes does it, --dry-run only says so")));
        }
        write!(io::stderr(), "{what} {calls}? [y/N] ")?;
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

/// What was done to the dead letters that are named, or to those that the filters find once there is leave; `None`
/// without leave.
async fn change(
    connection: &Connection,
    which: Which,
    deed: Deed,
    what: &str,
    output: &Output,
) -> Result<Option<Vec<(CallId, Fate)>>, Ending> {
    let Which { ids, filters, consent } = which;
    if ids.is_empty() {
        if filters.is_empty() && !consent.yes && !consent.dry_run {
            return Err(Ending::usage(format!(
                "{what} which? give ids, filters such as --procedure, or --yes for all dead letters"
            )));
        }
        let which = (&filters, Some(State::Dead));
        let changed = bulk::run(connection, deed, what, which, &consent, output).await?;
        let done = |Changed { id, fate, .. }| Some((id, fate?));
        return Ok(changed.map(|changed| changed.into_iter().filter_map(done).collect()));
    }
    if !filters.is_empty() {
        return Err(Ending::usage("give either ids or filters"));
    }
    if consent.dry_run {
        consent.is_given(what, ids.len(), output)?;
        return Ok(None);
    }
    let mut changes = Vec::with_capacity(ids.len());
    for dead in ids {
        let query = match deed {
            Deed::Revive => Query::Revive { dead, id: new_call_id() },
            _ => Query::Purge(dead),
        };
        let change = match connection.answer(query).await? {
            Answer::Revived(id) => Fate::Revived(id),
            Answer::Purged => Fate::Purged,
            Answer::Refused { code, message } => Fate::Refused { code, message },
            other => return Err(unexpected(&other)),
        };
        let refused = matches!(change, Fate::Refused { .. });
        changes.push((dead, change));
        if refused {
            break;
        }
    }
    Ok(Some(changes))
}

/// The first that was refused ends the command, after what was done is said.
fn refusal(changes: &[(CallId, Fate)]) -> Result<(), Ending> {
    let refused = changes.iter().find_map(|(_, change)| match change {
        Fate::Refused { code, message } => Some(Failure::new(*code, message.clone())),
        _ => None,
    });
    refused.map_or(Ok(()), |failure| Err(Ending::refused(&failure)))
}

async fn revive(connection: &Connection, which: Which, output: &Output) -> Result<(), Ending> {
    let Some(changes) = change(connection, which, Deed::Revive, "revive", output).await? else { return Ok(()) };
    let row = |(dead, change): &(CallId, Fate)| match change {
        Fate::Revived(id) => {
            let cells = vec![dead.to_string(), id.to_string()];
            Some(Row { cells, value: json!({ "dead": dead, "id": id }) })
        }
        _ => None,
    };
    let rows: Vec<Row> = changes.iter().filter_map(row).collect();
    if !rows.is_empty() || output.format != Format::Table {
        output.list(&["DEAD LETTER", "NEW CALL"], rows)?;
    }
    refusal(&changes)
}

async fn purge(connection: &Connection, which: Which, output: &Output) -> Result<(), Ending> {
    let Some(changes) = change(connection, which, Deed::Purge, "purge", output).await? else { return Ok(()) };
    let count = changes.iter().filter(|(_, change)| *change == Fate::Purged).count();
    match output.format {
        Format::Table => output.remark(&format!("purged {count} dead letters")),
        _ => output.json(&json!({ "purged": count }))?,
    }
    refusal(&changes)
}
