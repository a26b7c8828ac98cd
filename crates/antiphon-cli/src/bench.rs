//! `antiphon bench`: calls per second and latency, with caller, broker and worker in processes of their own.

mod caller;
mod report;
pub mod worker;

use crate::children::{Broker, Process};
use crate::connection::Connection;
use crate::ending::Ending;
use crate::output::{Format, Output};
use crate::stop::Stops;
use antiphon_protocol::Name;
use caller::Plan;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The procedure that is measured: its value is its argument.
pub const ECHO: Name = Name::from_static("antiphon.bench.echo");
/// How long the worker may take to appear.
const WORKER: Duration = Duration::from_secs(10);

/// Measure calls per second and latency
#[derive(Debug, Args)]
pub struct Bench {
    /// What a call survives; repeatable [default: all three]
    #[arg(long, value_enum, value_delimiter = ',')]
    mode: Vec<Mode>,
    /// How many calls are on their way at a time
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,64,1024", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    in_flight: Vec<u32>,
    /// How long each measurement takes, after warming up
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Bytes of an argument, and of a value
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(..=16 << 20))]
    payload: u32,
    /// Where the broker that is started keeps its calls [default: a directory that is removed at the end]; not with --url
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// What a call survives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Mode {
    /// Nothing: it is kept in memory
    Volatile,
    /// A crash; its first attempt starts before its record is on disk
    DurableIdempotent,
    /// A crash; its first attempt starts after its record is on disk
    Durable,
}

impl Mode {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Volatile => "volatile",
            Self::DurableIdempotent => "durable-idempotent",
            Self::Durable => "durable",
        }
    }
}

pub async fn run(arguments: Bench, url: Option<&str>, output: &Output) -> Result<(), Ending> {
    if let (Some(url), Some(data)) = (url, &arguments.data) {
        let data = data.display();
        return Err(Ending::usage(format!(
            "--data {data} is for a broker that is started, and --url or ANTIPHON_URL names one that runs, {url}: leave one out"
        )));
    }
    let mut stops = Stops::new()?;
    tokio::select! {
        ended = measure(arguments, url, output) => ended,
        () = stops.next() => Err(Ending::new(crate::ending::INTERRUPTED, "interrupted")),
    }
}

async fn measure(arguments: Bench, url: Option<&str>, output: &Output) -> Result<(), Ending> {
    let scratch = tempfile::Builder::new().prefix("antiphon-bench-").tempdir()?;
    let data = arguments.data.clone().unwrap_or_else(|| scratch.path().join("data"));
    let broker = match url {
        Some(_) => None,
        None => Some(Broker::start(&data, "127.0.0.1:0").await?),
    };
    let url = broker.as_ref().map_or_else(|| url.unwrap_or_default().to_owned(), Broker::url);
    let connection = Connection::open(Some(&url)).await?;
    let worker = start_worker(&connection, &url).await?;
    let modes = match arguments.mode.as_slice() {
        [] => vec![Mode::Volatile, Mode::DurableIdempotent, Mode::Durable],
        modes => modes.to_vec(),
    };
    let plans = modes.iter().flat_map(|mode| {
        let plan = |in_flight: &u32| Plan {
            mode: *mode,
            in_flight: *in_flight,
            payload: arguments.payload,
            length: Duration::from_secs(arguments.seconds),
        };
        arguments.in_flight.iter().map(plan).collect::<Vec<_>>()
    });
    let plans: Vec<Plan> = plans.collect();
    let bar = bar(&plans);
    let mut cells = Vec::new();
    for plan in plans {
        bar.set_message(format!("{}, {} in flight", plan.mode.name(), plan.in_flight));
        cells.push(caller::run(&connection, plan, &bar).await?);
    }
    bar.finish_and_clear();
    let place = broker.as_ref().map_or_else(|| url.clone(), |_| format!("a broker of its own on {}", data.display()));
    connection.close().await;
    drop((worker, broker));
    match output.format {
        Format::Table => report::print(&cells, &place, output),
        Format::Json => match cells.as_slice() {
            [cell] => output.json(&report::cell_to_value(cell)),
            _ => output.json(&report::to_value(&cells, &place)),
        },
        Format::Jsonl => cells.iter().try_for_each(|cell| output.json(&report::cell_to_value(cell))),
    }
}

/// Starts a worker unless one serves already, and waits until it does.
async fn start_worker(connection: &Connection, url: &str) -> Result<Option<Process>, Ending> {
    if is_served(connection).await? {
        return Ok(None);
    }
    let process = Process::start(["bench-worker", "--url", url], Stdio::null(), Stdio::null())?;
    let give_up = Instant::now() + WORKER;
    while !is_served(connection).await? {
        if Instant::now() > give_up {
            return Err(Ending::failed("the worker's process did not connect within 10 s"));
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(Some(process))
}

async fn is_served(connection: &Connection) -> Result<bool, Ending> {
    let procedures = connection.procedures().await?;
    Ok(procedures.iter().any(|known| known.procedure == ECHO && known.workers > 0))
}

fn bar(plans: &[Plan]) -> ProgressBar {
    let total: Duration = plans.iter().map(|plan| plan.length + caller::WARM_UP).sum();
    let bar = ProgressBar::new(u64::try_from(total.as_millis()).unwrap_or(u64::MAX));
    let style = ProgressStyle::with_template("{msg:34} [{bar:30}] {prefix:>18} {eta:>4} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar
}
