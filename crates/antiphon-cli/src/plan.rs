//! `antiphon plan`: how long calls will wait, how many workers they need, and what changes when the load does.

mod batch;
pub mod figures;
mod live;
mod report;

use crate::ending::Ending;
use crate::output::{Format, Output};
use antiphon_protocol::Name;
use antiphon_queueing::{QueueingError, Service, Station, Target};
use clap::Args;
use std::path::{Path, PathBuf};

/// Predict waits, deadlines missed and workers needed
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct PlanOf {
    /// How many calls come, such as 80/s, 5000/min or 2/h
    #[arg(long, value_name = "RATE", value_parser = figures::rate, required_unless_present_any = ["batch", "live"])]
    arrival: Option<f64>,
    /// How long a worker takes for one, on average; with --batch FILE that is read from the file
    #[arg(long, value_name = "TIME", value_parser = figures::duration_s)]
    service: Option<f64>,
    /// How many calls run at a time: the slots of all workers together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    workers: Option<u32>,
    /// How much service times vary: standard deviation ÷ mean; 0 is always the same, 1 exponential [default: 1]
    #[arg(long, value_name = "CV", value_parser = figures::variation, conflicts_with = "live")]
    service_cv: Option<f64>,
    /// What counts as too late
    #[arg(long, value_name = "TIME", value_parser = figures::duration_s, conflicts_with = "batch")]
    deadline: Option<f64>,
    /// What the response time is to keep, such as p99=100ms or mean=20ms
    #[arg(long, value_name = "TARGET", value_parser = figures::target, conflicts_with = "batch")]
    target: Option<Target>,
    /// Measure this procedure on the running broker: a prediction beside what is observed, and what to do
    #[arg(long, value_name = "PROCEDURE", value_parser = crate::input::name, conflicts_with_all = ["arrival", "service", "workers", "batch"])]
    live: Option<Name>,
    /// How long --live watches the broker
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = figures::duration_s)]
    watch: f64,
    /// Plan a batch that is handed over at once: how many calls, or a file with a service time on each line
    #[arg(long, value_name = "N|FILE", conflicts_with = "arrival")]
    batch: Option<String>,
    /// What a call of a batch costs its worker beside the service: round trip, decoding
    #[arg(long, value_name = "TIME", value_parser = crate::input::duration, requires = "batch")]
    overhead: Option<std::time::Duration>,
    /// The time that a batch has: says how many workers keep it
    #[arg(long, value_name = "TIME", value_parser = figures::duration_s, requires = "batch")]
    budget: Option<f64>,
    /// Write a chart to this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

const HELP: &str = "Arrivals are taken to be independent of each other (Poisson), calls to start in the order they came, and none to be \
given up. Exact for exponential service times, and in the mean for one worker; else the mean response is within 2 % up to a \
coefficient of variation of 3, and an estimate above. \
A load above the capacity exits with 1 and says both.";

pub fn run(arguments: PlanOf, url: Option<&str>, output: &Output) -> Result<(), Ending> {
    if let Some(procedure) = &arguments.live {
        return crate::client(live::run(&arguments, procedure, url, output));
    }
    if arguments.batch.is_some() {
        return batch::run(&arguments, output);
    }
    let station = Station {
        arrival_per_s: arguments.arrival.ok_or_else(|| missing("--arrival 80/s"))?,
        service: arguments.service_times()?,
        workers: arguments.workers.ok_or_else(|| missing("--workers 4"))?,
    };
    let plan = station.plan(arguments.deadline, arguments.target).map_err(|error| unplanned(&station, error))?;
    if let Some(path) = &arguments.svg {
        let chart = report::chart(&station, arguments.deadline, arguments.target);
        write_svg(path, &chart.svg(), output)?;
    }
    match output.format {
        Format::Table => report::print(&station, &plan, arguments.deadline, arguments.target, output),
        Format::Json | Format::Jsonl => output.json(&plan),
    }
}

impl PlanOf {
    fn service_times(&self) -> Result<Service, Ending> {
        let mean_s = self.service.ok_or_else(|| missing("--service 10ms"))?;
        Service::new(mean_s, self.service_cv.unwrap_or(1.0)).map_err(Ending::usage)
    }
}

fn missing(what: &str) -> Ending {
    Ending::usage(format!("{what} is missing: `antiphon plan --arrival 80/s --service 10ms --workers 4`"))
}

/// Why there is no plan: a load above the capacity is told with what would carry it.
fn unplanned(station: &Station, error: QueueingError) -> Ending {
    let QueueingError::Unstable { load, .. } = error else { return Ending::usage(error) };
    let capacity_per_s = f64::from(station.workers) / station.service.mean_s();
    let needed = match station.workers_needed(None) {
        Ok(Some(workers)) => format!("{workers} workers carry it"),
        _ => "no number of workers carries it".to_owned(),
    };
    let workers = if station.workers == 1 { "1 worker".to_owned() } else { format!("{} workers", station.workers) };
    Ending::failed(format!(
        "the load is {} workers' whole time and there {} {workers}: the capacity is {}/s, {}/s come, and the queue grows by {} calls a second without end; {needed}",
        figures::plain(load),
        if station.workers == 1 { "is" } else { "are" },
        figures::plain(capacity_per_s),
        figures::plain(station.arrival_per_s),
        figures::plain(station.arrival_per_s - capacity_per_s),
    ))
}

/// Writes a chart where it was asked for.
pub fn write_svg(path: &Path, svg: &str, output: &Output) -> Result<(), Ending> {
    std::fs::write(path, svg)
        .map_err(|error| Ending::failed(format!("cannot write the chart to {}: {error}", path.display())))?;
    output.remark(&format!("the chart is in {}", path.display()));
    Ok(())
}
