//! `antiphon schedule`: recurring calls.

use crate::connection::{Connection, unexpected};
use crate::ending::Ending;
use crate::input;
use crate::output::{Output, Row};
use crate::subscription::changed;
use crate::treatment::Treatment;
use antiphon_protocol::{Answer, ContentType, Misfire, Name, Overlap, Query, Recurrence, Schedule, ScheduleStatus};
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::time::Duration;

/// Call a procedure again and again: at an interval, or at the times of a cron expression
#[derive(Debug, Subcommand)]
pub enum Schedules {
    /// Add a schedule, or replace the one of this name
    Add(Box<Add>),
    /// List schedules, with their next ticks
    Ls,
    /// Remove a schedule; calls that it made go on
    Rm {
        /// Its name
        #[arg(value_parser = input::name)]
        name: Name,
    },
    /// Let a schedule's ticks pass
    Pause {
        /// Its name
        #[arg(value_parser = input::name)]
        name: Name,
    },
    /// Let a paused schedule call again, from its next tick on
    Resume {
        /// Its name
        #[arg(value_parser = input::name)]
        name: Name,
    },
}

/// A schedule to be
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("when").required(true))]
pub struct Add {
    /// What it is called
    #[arg(value_parser = input::name)]
    name: Name,
    /// The procedure, as service.procedure
    #[arg(value_parser = input::name)]
    procedure: Name,
    /// The argument as JSON, at most 64 KiB; @FILE reads a file, - reads stdin [default: null]
    #[arg(value_name = "JSON|-|@FILE", allow_hyphen_values = true)]
    argument: Option<String>,
    /// At this interval, counted from now; at least 1s
    #[arg(long, value_parser = input::duration, value_name = "DURATION", group = "when")]
    every: Option<Duration>,
    /// At these times: minute, hour, day of month, month, day of week, such as '0 9 * * MON-FRI'
    #[arg(long, value_name = "EXPRESSION", group = "when")]
    cron: Option<String>,
    /// Whose wall clock counts for --cron, such as Europe/Berlin. A time that a change of the clocks leaves out comes when they have changed, one that comes twice counts once
    #[arg(long, value_name = "ZONE", default_value = "UTC", requires = "cron")]
    tz: String,
    /// What a tick does while the call of an earlier one has not settled
    #[arg(long, value_enum, default_value = "queue")]
    overlap: OverlapArgument,
    /// What becomes of ticks that the broker missed by more than 10 s: once calls for the latest of them, skip for none, N for the latest N
    #[arg(long, value_parser = misfire, default_value = "once", value_name = "once|skip|N")]
    misfire: Misfire,
    #[command(flatten)]
    treatment: Treatment,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OverlapArgument {
    /// Calls at once
    Allow,
    /// Does nothing
    Skip,
    /// Calls when that has settled; further ticks until then do nothing
    Queue,
    /// Cancels that, and calls at once
    Cancel,
}

fn misfire(text: &str) -> Result<Misfire, String> {
    match text {
        "once" => Ok(Misfire::Once),
        "skip" => Ok(Misfire::Skip),
        _ => match text.parse::<u16>() {
            Ok(ticks @ 1..=1_000) => Ok(Misfire::All(ticks)),
            _ => Err(format!("{text:?} is none of once, skip, or a number of ticks from 1 to 1000")),
        },
    }
}

pub async fn run(arguments: Schedules, url: Option<&str>, output: &Output) -> Result<(), Ending> {
    let query = match arguments {
        Schedules::Add(add) => Query::Schedule(Box::new(schedule(*add)?)),
        Schedules::Rm { name } => Query::Unschedule(name),
        Schedules::Pause { name } => Query::PauseSchedule { name, paused: true },
        Schedules::Resume { name } => Query::PauseSchedule { name, paused: false },
        Schedules::Ls => return list(&Connection::open(url).await?, output).await,
    };
    changed(&Connection::open(url).await?, query, output).await
}

fn schedule(add: Add) -> Result<Schedule, Ending> {
    let arguments = match &add.argument {
        Some(text) => input::json(input::argument(text)?)?,
        None => b"null".to_vec(),
    };
    let recurrence = match (add.every, add.cron) {
        (Some(every), _) => Recurrence::Every(u64::try_from(every.as_millis()).unwrap_or(u64::MAX)),
        (None, Some(expression)) => Recurrence::Cron { expression, zone: add.tz },
        (None, None) => return Err(Ending::usage("give --every or --cron")),
    };
    Ok(Schedule {
        name: add.name,
        recurrence,
        route: add.treatment.route(add.procedure),
        content_type: ContentType::Json,
        arguments,
        overlap: match add.overlap {
            OverlapArgument::Allow => Overlap::Allow,
            OverlapArgument::Skip => Overlap::Skip,
            OverlapArgument::Queue => Overlap::Queue,
            OverlapArgument::Cancel => Overlap::Cancel,
        },
        misfire: add.misfire,
    })
}

async fn list(connection: &Connection, output: &Output) -> Result<(), Ending> {
    let all = match connection.ask(Query::Schedules).await? {
        Answer::Schedules(all) => all,
        other => return Err(unexpected(&other)),
    };
    let row = |it: &ScheduleStatus| {
        let next = it.next_ms.first().map_or_else(String::new, |at| shown(*at, &it.schedule.recurrence));
        Row {
            cells: vec![
                it.schedule.name.to_string(),
                when(&it.schedule.recurrence),
                it.schedule.route.procedure.to_string(),
                if it.paused { "paused".to_owned() } else { next },
                it.last_call.map_or_else(String::new, |call| call.to_string()),
            ],
            value: serde_json::to_value(it).unwrap_or_default(),
        }
    };
    output.list(&["NAME", "WHEN", "PROCEDURE", "NEXT", "LAST CALL"], all.iter().map(row).collect())
}

fn when(recurrence: &Recurrence) -> String {
    match recurrence {
        Recurrence::Every(ms) => format!("every {:?}", Duration::from_millis(*ms)),
        Recurrence::Cron { expression, zone } => format!("{expression} {zone}"),
    }
}

/// A time by the clock that the schedule goes by, or this machine's.
fn shown(at_ms: u64, recurrence: &Recurrence) -> String {
    let zone = match recurrence {
        Recurrence::Cron { zone, .. } => TimeZone::get(zone).unwrap_or(TimeZone::UTC),
        Recurrence::Every(_) => TimeZone::system(),
    };
    let at = i64::try_from(at_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    at.map_or_else(String::new, |at| at.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S %Z").to_string())
}
