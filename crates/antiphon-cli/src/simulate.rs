//! `antiphon simulate`: a scenario file through the real engine on virtual time, policies side by side.

mod charts;
mod table;

use crate::ending::Ending;
use crate::output::{Format, Output};
use crate::plan::figures::times_s;
use antiphon_queueing::experiment::{Policy, Results, Scenario, Traces};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Try policies on a simulated load
#[derive(Debug, Args)]
pub struct Simulate {
    /// A scenario in TOML: who calls, who works, what goes wrong, which policies
    #[arg(value_name = "SCENARIO.toml")]
    scenario: PathBuf,
    /// How many calls each policy gets, instead of what the scenario says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    calls: Option<u64>,
    /// Other calls than with the scenario's seed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Write the scenario's charts to this directory
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Report<'a> {
    title: &'a str,
    calls: u64,
    seed: u64,
    results: &'a [Results],
}

pub fn run(arguments: Simulate, output: &Output) -> Result<(), Ending> {
    let mut scenario = read(&arguments.scenario)?;
    scenario.calls = arguments.calls.unwrap_or(scenario.calls);
    scenario.seed = arguments.seed.unwrap_or(scenario.seed);
    scenario.check().map_err(Ending::usage)?;
    let directory = arguments.scenario.parent().unwrap_or(Path::new("."));
    let traces = read_traces(&scenario, directory)?;
    let loads = scenario.loads(&traces).map_err(Ending::usage)?;
    let runs: Vec<(Policy, f64)> =
        scenario.policy.iter().flat_map(|policy| loads.iter().map(|load| (policy.clone(), *load))).collect();
    if arguments.svg.is_some() {
        charts::check(&scenario)?;
    }
    let bar = bar(scenario.calls * runs.len() as u64);
    let begun = Instant::now();
    let mut results = Vec::new();
    for (place, (policy, load)) in runs.iter().enumerate() {
        let before = scenario.calls * place as u64;
        bar.set_message(policy.name.clone());
        let mut progress = |come: u64| {
            bar.set_position(before + come);
            true
        };
        results.push(scenario.run(policy, *load, &traces, &mut progress).map_err(Ending::usage)?);
    }
    bar.finish_and_clear();
    let took = begun.elapsed().as_secs_f64();
    let calls = scenario.calls as f64 * runs.len() as f64;
    output.remark(&format!("{calls:.0} calls in {took:.1} s: {:.0} calls a second", calls / took));
    match output.format {
        Format::Table => table::print(&scenario, &results, output)?,
        Format::Json => {
            let (title, calls, seed) = (scenario.title.as_str(), scenario.calls, scenario.seed);
            output.json(&Report { title, calls, seed, results: &results })?;
        }
        Format::Jsonl => results.iter().try_for_each(|result| output.json(result))?,
    }
    arguments.svg.as_deref().map_or(Ok(()), |to| charts::write(&scenario, &results, to, output))
}

fn read(path: &Path) -> Result<Scenario, Ending> {
    let wrong = |error: &dyn std::fmt::Display| Ending::usage(format!("{}: {error}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| wrong(&error))?;
    toml::from_str(&text).map_err(|error| wrong(&error))
}

/// Each line of a trace is a time.
fn read_traces(scenario: &Scenario, directory: &Path) -> Result<Traces, Ending> {
    let mut traces = Traces::default();
    for file in scenario.trace_files() {
        let path = directory.join(file);
        let text = fs::read_to_string(&path)
            .map_err(|error| Ending::usage(format!("cannot read the trace {}: {error}", path.display())))?;
        let times = times_s(&text).map_err(|error| Ending::usage(format!("{}:{error}", path.display())))?;
        traces.insert(file, times).map_err(Ending::usage)?;
    }
    Ok(traces)
}

fn bar(calls: u64) -> ProgressBar {
    let bar = ProgressBar::new(calls);
    let style = ProgressStyle::with_template("{msg:24} [{bar:30}] {human_pos}/{human_len} calls, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar
}
