//! `antiphon worker`: serve procedures with any program, list workers, ask them to drain.

mod exec;
mod lines;
pub mod process;

use crate::connection::{Connection, random, unexpected};
use crate::ending::{Ending, NOT_KNOWN};
use crate::input;
use crate::leases::{self, Run};
use crate::output::{Format, Output, Row};
use antiphon_protocol::{Answer, IncarnationId, Name, Offer, OfferedProcedure, Query, WorkerStatus, defaults};
use clap::{Args, Subcommand};
use serde_json::json;
use std::sync::Arc;

/// Serve procedures with any program
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = CONTRACT)]
pub struct Worker {
    /// Serve a procedure with one process per call
    #[arg(long, value_name = "PROCEDURE=COMMAND", value_parser = input::served, conflicts_with = "lines")]
    exec: Vec<(Name, String)>,
    /// Serve a procedure with one process per slot, a JSON line in and a JSON line out per call
    #[arg(long, value_name = "PROCEDURE=COMMAND", value_parser = input::served)]
    lines: Vec<(Name, String)>,
    /// A string is given to --exec as its bare text, not as JSON
    #[arg(long, conflicts_with = "lines")]
    raw: bool,
    /// How many calls it runs at a time
    #[arg(long, value_name = "N", default_value_t = defaults::SLOTS, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    slots: u32,
    /// What it is or has; calls that require a label go only to workers with it; may be repeated
    #[arg(long, value_parser = input::name, value_name = "LABEL")]
    label: Vec<Name>,
    /// Its name in lists [default: worker-PID]
    #[arg(long, value_parser = input::name)]
    name: Option<Name>,
    #[command(subcommand)]
    command: Option<Command>,
}

const CONTRACT: &str = "\
--exec: COMMAND is run by `sh -c` with the argument's JSON on stdin. What it prints is the value: JSON if it is JSON, \
else a string. Its environment has ANTIPHON_CALL_ID, ANTIPHON_ATTEMPT, ANTIPHON_LEASE_TOKEN and, if there is a \
deadline, ANTIPHON_DEADLINE_MS (milliseconds left). Exit 0 succeeds, 75 is tried again, anything else fails with the \
end of stderr. To stop it, its process group gets SIGTERM, and SIGKILL 5 s later.

--lines: COMMAND is run by `sh -c` once per slot. For each call it gets one line \
{\"call\":ID,\"attempt\":N,\"argument\":…} (and \"procedure\", \"lease_token\", \"deadline_ms\") and answers with one line, \
{\"value\":…} or {\"failure\":{\"code\":\"OUT_OF_RANGE\",\"message\":\"…\",\"retryable\":false}}. Before that, lines \
{\"progress\":…} tell whoever follows the call how far it is, at most 64 KiB each. When it dies, the call in \
hand is tried again and the process is started anew.

SIGTERM or Ctrl-C drains: what runs may end, for 30 s; a second one gives it back at once.";

#[derive(Debug, Subcommand)]
enum Command {
    /// List workers
    Ls,
    /// Ask a worker to take no more calls and end
    Drain {
        /// Its name; all workers of that name are asked
        #[arg(value_parser = input::name)]
        name: Name,
    },
}

pub async fn run(arguments: Worker, url: Option<&str>, output: &Output) -> Result<(), Ending> {
    match &arguments.command {
        Some(Command::Ls) => list(&Connection::open(url).await?, output).await,
        Some(Command::Drain { name }) => drain(&Connection::open(url).await?, name.clone(), output).await,
        None => serve(arguments, url, output).await,
    }
}

async fn serve(arguments: Worker, url: Option<&str>, output: &Output) -> Result<(), Ending> {
    let Worker { exec, lines, raw, slots, name, label, .. } = arguments;
    let by_lines = exec.is_empty();
    let served = if by_lines { lines } else { exec };
    if served.is_empty() {
        return Err(Ending::usage("nothing to serve: give --exec 'PROCEDURE=COMMAND' or --lines 'PROCEDURE=COMMAND'"));
    }
    let names: Vec<Name> = served.iter().map(|(name, _)| name.clone()).collect();
    let mut sorted = names.clone();
    sorted.sort();
    if let Some([twice, _]) = sorted.windows(2).find(|pair| matches!(pair, [a, b] if a == b)) {
        return Err(Ending::usage(format!("{twice} is served twice: give each procedure one command")));
    }
    let connection = Connection::open(url).await?;
    let commands = served.into_iter().map(|(_, command)| command).collect();
    let bytes_max = connection.payload_bytes_max();
    let run: Arc<dyn Run> = if by_lines {
        Arc::new(lines::Lines::new(names.clone(), commands, bytes_max))
    } else {
        Arc::new(exec::Exec::new(commands, raw, bytes_max))
    };
    let listed = names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ");
    let offer = Offer { labels: label, ..offer(name.map_or_else(default_name, Ok)?, names, slots) };
    let (name, address) = (&offer.name, &connection.address);
    output.remark(&format!("{name} serves {listed} at {address}, {slots} calls at a time"));
    leases::serve(&connection, offer, run, output).await
}

fn default_name() -> Result<Name, Ending> {
    input::name(&format!("worker-{}", std::process::id())).map_err(Ending::failed)
}

/// What a worker of this program offers: arguments as they come, and no promise that running twice does no harm.
pub fn offer(name: Name, procedures: Vec<Name>, slots: u32) -> Offer {
    let offered = |name| OfferedProcedure { name, idempotent: false, schema: None };
    Offer {
        incarnation: IncarnationId(random()),
        name,
        procedures: procedures.into_iter().map(offered).collect(),
        slots,
        labels: Vec::new(),
        held: Vec::new(),
    }
}

async fn list(connection: &Connection, output: &Output) -> Result<(), Ending> {
    let workers = match connection.ask(Query::Workers).await? {
        Answer::Workers(workers) => workers,
        other => return Err(unexpected(&other)),
    };
    let row = |worker: &WorkerStatus| Row {
        cells: vec![
            worker.name.to_string(),
            standing(worker).to_owned(),
            format!("{}/{}", worker.leased, worker.slots),
            worker.settled.to_string(),
            worker.failed.to_string(),
            worker.procedures.iter().map(Name::as_str).collect::<Vec<_>>().join(", "),
        ],
        value: serde_json::to_value(worker).unwrap_or_default(),
    };
    let columns = ["NAME", "STATE", "LEASED/SLOTS", "SETTLED", "FAILED", "PROCEDURES"];
    output.list(&columns, workers.iter().map(row).collect())
}

const fn standing(worker: &WorkerStatus) -> &'static str {
    match worker {
        WorkerStatus { connected: false, .. } => "away",
        WorkerStatus { draining: true, .. } => "draining",
        _ => "connected",
    }
}

async fn drain(connection: &Connection, name: Name, output: &Output) -> Result<(), Ending> {
    let asked = match connection.ask(Query::Drain(name.clone())).await? {
        Answer::Asked(asked) => asked,
        other => return Err(unexpected(&other)),
    };
    if asked == 0 {
        return Err(Ending::new(NOT_KNOWN, format!("no worker is named {name}: `antiphon worker ls` lists them")));
    }
    match output.format {
        Format::Table => {
            output.remark(&format!("asked {asked} workers to drain"));
            Ok(())
        }
        _ => output.json(&json!({ "asked": asked })),
    }
}
