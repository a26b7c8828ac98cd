//! The parts that processes play: broker, worker, caller.

use crate::System;
use crate::load::{Measured, Plan};
use anyhow::Context;
use clap::Subcommand;
use std::future::Future;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a worker or broker prints when it can be used, followed by its address.
pub const READY: &str = "ready ";

/// The part of this process; started by the bench, not by people.
#[derive(Debug, Subcommand)]
pub enum Part {
    /// The process in the middle
    #[command(hide = true)]
    Broker { system: System, data: PathBuf },
    /// Gives back what it gets
    #[command(hide = true)]
    Worker { system: System, address: String },
    /// Calls, measures, and prints what it measured
    #[command(hide = true)]
    Caller {
        system: System,
        address: String,
        #[arg(long)]
        in_flight: usize,
        #[arg(long)]
        bytes: usize,
        #[arg(long)]
        warm_up_ms: u64,
        #[arg(long)]
        ms: u64,
        /// Processes whose processor time is taken, as NAME=PID
        #[arg(long, value_parser = watched)]
        watch: Vec<(String, u32)>,
    },
}

fn watched(text: &str) -> Result<(String, u32), String> {
    let (name, pid) = text.split_once('=').ok_or("expected NAME=PID")?;
    Ok((name.to_owned(), pid.parse().map_err(|_| "expected a process id")?))
}

/// Plays a part. All of them run on one thread of tokio's, as one core is what each process has.
pub fn play<W, C>(
    part: Part,
    broker: impl FnOnce(System, &Path) -> anyhow::Result<()>,
    worker: impl FnOnce(System, String) -> W,
    caller: impl FnOnce(System, String, Plan) -> C,
) -> anyhow::Result<()>
where
    W: Future<Output = anyhow::Result<()>>,
    C: Future<Output = anyhow::Result<Measured>>,
{
    end_with_the_bench();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    match part {
        Part::Broker { system, data } => broker(system, &data),
        Part::Worker { system, address } => runtime()?.block_on(worker(system, address)),
        Part::Caller { system, address, in_flight, bytes, warm_up_ms, ms, watch } => {
            let plan = Plan {
                in_flight,
                bytes,
                warm_up: Duration::from_millis(warm_up_ms),
                length: Duration::from_millis(ms),
                watched: watch,
            };
            let measured = runtime()?.block_on(caller(system, address, plan))?;
            println!("{}", serde_json::to_string(&measured).context("what was measured")?);
            Ok(())
        }
    }
}

/// A process whose bench is gone ends: its standard input ends then.
pub fn end_with_the_bench() {
    std::thread::spawn(|| {
        let mut rest = Vec::new();
        drop(std::io::stdin().read_to_end(&mut rest));
        std::process::exit(0);
    });
}
