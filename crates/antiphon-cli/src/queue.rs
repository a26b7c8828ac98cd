//! `antiphon queue`: what waits, and who serves it.

use crate::connection::Connection;
use crate::ending::{Ending, NOT_KNOWN};
use crate::output::{Format, Output, Row};
use crate::{input, limit, ls, nearest};
use antiphon_protocol::{CallFilter, Name, ProcedureStatus, Setting, State};
use clap::Subcommand;
use serde_json::Value;

/// Calls of each waiting state that `show` lists.
const SHOWN: u32 = 10;

/// Show queues, and set what they may hold
#[allow(clippy::large_enum_variant, reason = "there is one, read once")]
#[derive(Debug, Subcommand)]
pub enum Queue {
    /// List all queues
    Ls,
    /// Show one queue and its newest waiting calls
    Show {
        /// Its procedure
        #[arg(value_parser = input::name)]
        procedure: Name,
    },
    Limit(limit::Limit),
    /// Start no calls of a procedure until it is resumed, over restarts, too; what runs goes on
    Pause {
        /// Which
        #[arg(value_parser = input::name)]
        procedure: Name,
    },
    /// Start calls of a paused procedure again
    Resume {
        /// Which
        #[arg(value_parser = input::name)]
        procedure: Name,
    },
}

pub async fn run(arguments: Queue, url: Option<&str>, output: &Output) -> Result<(), Ending> {
    let connection = Connection::open(url).await?;
    match arguments {
        Queue::Ls => list(&procedures(&connection).await?, output),
        Queue::Show { procedure } => show(&connection, &procedures(&connection).await?, &procedure, output).await,
        Queue::Limit(arguments) => limit::run(arguments, &connection, output).await,
        Queue::Pause { procedure } => pause(&connection, procedure, true, output).await,
        Queue::Resume { procedure } => pause(&connection, procedure, false, output).await,
    }
}

async fn pause(connection: &Connection, procedure: Name, pause: bool, output: &Output) -> Result<(), Ending> {
    let changes = vec![(Setting::Paused, pause.then_some(1))];
    if pause && !connection.procedures().await?.iter().any(|known| known.procedure == procedure) {
        output.remark(&format!("no calls or workers of {procedure} are known yet"));
    }
    limit::configure(connection, procedure.clone(), changes).await?;
    let text = if pause {
        format!("{procedure} is paused: no call of it starts until `antiphon queue resume {procedure}`")
    } else {
        format!("{procedure} is resumed")
    };
    output.remark(&text);
    Ok(())
}

async fn procedures(connection: &Connection) -> Result<Vec<ProcedureStatus>, Ending> {
    let mut procedures = connection.procedures().await?;
    procedures.sort_by(|a, b| a.procedure.cmp(&b.procedure));
    Ok(procedures)
}

fn list(procedures: &[ProcedureStatus], output: &Output) -> Result<(), Ending> {
    let columns = ["PROCEDURE", "READY", "SCHEDULED", "LEASED", "DEAD", "SETTLED", "WORKERS", "SLOTS", "OLDEST"];
    output.list(&columns, procedures.iter().map(|known| Row { cells: cells(known), value: to_value(known) }).collect())
}

fn cells(known: &ProcedureStatus) -> Vec<String> {
    let count = |state: State| known.calls.get(state as usize).copied().unwrap_or_default().to_string();
    vec![
        if known.paused { format!("{} (paused)", known.procedure) } else { known.procedure.to_string() },
        count(State::Ready),
        count(State::Scheduled),
        count(State::Leased),
        count(State::Dead),
        known.settled.to_string(),
        known.workers.to_string(),
        known.slots.to_string(),
        if known.oldest_ready_ms == 0 { "-".to_owned() } else { ls::age(known.oldest_ready_ms) },
    ]
}

/// With the calls by the name of their state.
fn to_value(known: &ProcedureStatus) -> Value {
    let mut value = serde_json::to_value(known).unwrap_or(Value::Null);
    if let Some(fields) = value.as_object_mut() {
        let by_state = State::ALL.iter().zip(known.calls).map(|(state, count)| (state.name().to_owned(), count.into()));
        fields.insert("calls".to_owned(), Value::Object(by_state.collect()));
    }
    value
}

async fn show(
    connection: &Connection,
    procedures: &[ProcedureStatus],
    procedure: &Name,
    output: &Output,
) -> Result<(), Ending> {
    let Some(known) = procedures.iter().find(|known| known.procedure == *procedure) else {
        let names = procedures.iter().map(|known| known.procedure.as_str());
        let meant =
            nearest::nearest(procedure, names).map_or_else(String::new, |name| format!(": did you mean {name}?"));
        return Err(Ending::new(NOT_KNOWN, format!("no calls or workers of {procedure} are known{meant}")));
    };
    if output.format != Format::Table {
        return output.json(&to_value(known));
    }
    list(std::slice::from_ref(known), output)?;
    for state in [State::Leased, State::Ready, State::Scheduled] {
        let filter = CallFilter {
            state: Some(state),
            procedure: Some(procedure.clone()),
            limit: SHOWN,
            ..CallFilter::default()
        };
        let calls = ls::calls(connection, filter).await?;
        if !calls.is_empty() {
            output.line(b"")?;
            ls::print(&calls, output)?;
        }
    }
    Ok(())
}
