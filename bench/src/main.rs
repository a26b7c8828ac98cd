//! Antiphon beside its peers: `cargo run --release -p antiphon-bench -- --peers limit,tarpc,tonic,nats,redis,rabbitmq`.

mod antiphon;
mod bars;
mod chart;
mod checks;
mod crowd;
mod growth;
mod limit;
mod machine;
mod process;
mod punctuality;
mod report;
mod results;
mod run;
mod servers;
mod slow_disk;

use antiphon_bench::load::{Measured, Plan};
use antiphon_bench::{Part, System, end_with_the_bench, play};
use anyhow::bail;
use checks::Check;
use clap::{Parser, Subcommand, ValueEnum};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Measures Antiphon beside its peers: the same work through each, in processes of their own
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    part: Option<Role>,
    /// Which peers: limit, tarpc, tonic, nats, redis, rabbitmq, or single systems by name; Antiphon is always measured
    /// unless --only is given
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Measure what --peers names and nothing else
    #[arg(long)]
    only: bool,
    /// What is measured of Antiphon alone, beside the peers
    #[arg(long, value_delimiter = ',')]
    checks: Vec<Check>,
    /// How many calls the check of a backlog queues
    #[arg(long, default_value_t = 10_000_000)]
    waiting: u64,
    /// How many callers the check of a crowd connects, and how many workers: each takes a descriptor of the broker
    #[arg(long, default_value_t = 10_000)]
    crowd: usize,
    /// Calls in flight at a time
    #[arg(long, value_delimiter = ',', default_value = "1,64,1024")]
    in_flight: Vec<usize>,
    /// Bytes of an argument, and of a value
    #[arg(long, value_delimiter = ',', default_value = "64,1024,65536")]
    bytes: Vec<usize>,
    /// How often all cells are measured, in turn
    #[arg(long, default_value_t = 3)]
    repetitions: usize,
    /// Milliseconds of each measurement
    #[arg(long, default_value_t = 3_000)]
    ms: u64,
    /// Milliseconds of warming up before each
    #[arg(long, default_value_t = 1_000)]
    warm_up_ms: u64,
    /// 64 bytes, one repetition, 0.7 s a cell
    #[arg(long)]
    quick: bool,
    /// Where measurements are gathered, over any number of runs; the report is made of all of them
    #[arg(long, default_value = "bench/results.json")]
    results: PathBuf,
    /// Forget what was gathered before
    #[arg(long)]
    fresh: bool,
    /// Measure nothing: make the report of what was gathered
    #[arg(long)]
    report: bool,
    /// Where the report and its charts go
    #[arg(long, default_value = "bench")]
    out: PathBuf,
    /// Where brokers keep their data: on the disk in question
    #[arg(long, default_value = "target")]
    data: PathBuf,
}

/// What a process of the bench is, if not the bench itself.
#[derive(Debug, Subcommand)]
enum Role {
    #[command(flatten)]
    Part(Part),
    /// A durable broker whose disk takes so much longer for an fsync
    #[command(hide = true)]
    Slowed { data: PathBuf, sync_us: u64 },
    /// Connects, and does nothing more
    #[command(hide = true)]
    Crowd { address: String, callers: usize, workers: usize },
    /// Queues calls that nobody serves
    #[command(hide = true)]
    Fill { address: String, calls: u64 },
    /// Has calls due at their times, and says how late they began
    #[command(hide = true)]
    Punctual { address: String, calls: u64, a_second: u64 },
    /// Serves calls that sleep
    #[command(hide = true)]
    Sleeper { address: String },
    /// Always has so many calls that sleep unanswered
    #[command(hide = true)]
    Press { address: String, in_flight: usize },
}

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::parse();
    if let Some(role) = arguments.part.take() {
        let part = match role {
            Role::Part(part) => return play(part, broker, worker, caller),
            other => other,
        };
        end_with_the_bench();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        return match part {
            Role::Slowed { data, sync_us } => antiphon::slowed_broker(&data, Duration::from_micros(sync_us)),
            Role::Crowd { address, callers, workers } => runtime.block_on(crowd::gather(&address, callers, workers)),
            Role::Fill { address, calls } => runtime.block_on(crowd::fill(&address, calls)),
            Role::Sleeper { address } => runtime.block_on(growth::sleeper(&address)),
            Role::Press { address, in_flight } => runtime.block_on(growth::press(&address, in_flight)),
            Role::Punctual { address, calls, a_second } => {
                let lateness = runtime.block_on(punctuality::measure(&address, calls, a_second))?;
                println!("{}", serde_json::to_string(&lateness)?);
                Ok(())
            }
            Role::Part(_) => Ok(()),
        };
    }
    if arguments.quick {
        (arguments.bytes, arguments.repetitions) = (vec![64], 1);
        (arguments.ms, arguments.warm_up_ms) = (700, 300);
    }
    run::run(&arguments)
}

impl Arguments {
    /// The systems to measure, in the order of the report.
    fn systems(&self) -> anyhow::Result<Vec<System>> {
        let known = |name: &String| System::value_variants().iter().any(|system| is_named(*system, name));
        if let Some(unknown) = self.peers.iter().find(|name| !known(name)) {
            bail!("{unknown} is no peer: there are limit, antiphon, tarpc, tonic, nats, redis, rabbitmq");
        }
        let wanted = |system: System| {
            self.peers.iter().any(|name| is_named(system, name)) || !self.only && system.group() == "antiphon"
        };
        Ok(System::value_variants().iter().copied().filter(|system| wanted(*system)).collect())
    }
}

/// Whether a name stands for a system: its own, or its group's.
fn is_named(system: System, name: &str) -> bool {
    system.group() == name || servers::system_name(system) == name
}

fn broker(system: System, data: &Path) -> anyhow::Result<()> {
    match system {
        System::Limit => tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(limit::broker()),
        System::AntiphonVolatile => antiphon::broker(None),
        System::AntiphonDurableIdempotent | System::AntiphonDurable => antiphon::broker(Some(data)),
        other => bail!("{other:?} has no broker here"),
    }
}

async fn worker(system: System, address: String) -> anyhow::Result<()> {
    match system {
        System::Limit => limit::worker(&address).await,
        System::AntiphonDirect => antiphon::direct_worker().await,
        System::AntiphonVolatile | System::AntiphonDurableIdempotent | System::AntiphonDurable => {
            antiphon::worker(&address).await
        }
        other => bail!("{other:?} has no worker here"),
    }
}

async fn caller(system: System, address: String, plan: Plan) -> anyhow::Result<Measured> {
    match system {
        System::Limit => limit::caller(&address, &plan).await,
        System::AntiphonMemory => antiphon::memory(&plan).await,
        System::AntiphonVolatile | System::AntiphonDirect => antiphon::caller(&address, true, &plan).await,
        System::AntiphonDurableIdempotent => antiphon::caller(&address, true, &plan).await,
        System::AntiphonDurable => antiphon::caller(&address, false, &plan).await,
        other => bail!("{other:?} has no caller here"),
    }
}
