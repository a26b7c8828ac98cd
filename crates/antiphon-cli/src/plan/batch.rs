//! `antiphon plan --batch`: how long a batch takes, between which bounds, and on how many workers.

use crate::chart::{Axis, Chart, Line, Mark, Unit};
use crate::ending::Ending;
use crate::output::{Format, Output};
use crate::plan::figures::{percent, seconds, times_s};
use crate::plan::{PlanOf, missing, write_svg};
use antiphon_queueing::{BatchPlan, BatchRow};
use serde::Serialize;
use std::fs;

/// More calls than this are not sampled one by one.
const CALLS_MAX: u32 = 10_000_000;

/// What is printed as JSON.
#[derive(Serialize)]
struct Report {
    calls: u64,
    /// On as many workers as asked.
    #[serde(flatten)]
    row: BatchRow,
    /// The fewest workers that keep the budget, if any number does.
    workers_needed: Option<u32>,
    /// The same on other numbers of workers.
    rows: Vec<BatchRow>,
}

pub fn run(arguments: &PlanOf, output: &Output) -> Result<(), Ending> {
    let workers = arguments.workers.ok_or_else(|| missing("--workers 4"))?;
    let (plan, calls) = read(arguments)?;
    let needed = arguments.budget.and_then(|budget_s| plan.workers_for(budget_s));
    let mut counts: Vec<u32> = [1, workers / 2, workers, workers.saturating_mul(2), workers.saturating_mul(4)].into();
    counts.extend(needed);
    counts.retain(|count| *count > 0);
    counts.sort_unstable();
    counts.dedup();
    let rows: Vec<BatchRow> = counts.into_iter().map(|count| plan.on(count)).collect();
    if let Some(path) = &arguments.svg {
        write_svg(path, &chart(&plan, &rows, arguments.budget, calls).svg(), output)?;
    }
    let report = Report { calls, row: plan.on(workers), workers_needed: needed, rows };
    match output.format {
        Format::Table => print(&report, arguments.service.is_some(), arguments.budget, output),
        Format::Json | Format::Jsonl => output.json(&report),
    }
}

/// The batch, and how many calls it has.
fn read(arguments: &PlanOf) -> Result<(BatchPlan, u64), Ending> {
    let text = arguments.batch.as_deref().unwrap_or_default();
    let overhead_s = arguments.overhead.unwrap_or_default().as_secs_f64();
    if let Ok(calls) = text.parse::<u32>() {
        if calls == 0 || calls > CALLS_MAX {
            return Err(Ending::usage(format!("--batch {calls}: a batch has 1 to {CALLS_MAX} calls")));
        }
        let plan = BatchPlan::sampled(calls, arguments.service_times()?, overhead_s).map_err(Ending::usage)?;
        return Ok((plan, u64::from(calls)));
    }
    if arguments.service.is_some() || arguments.service_cv.is_some() {
        return Err(Ending::usage(format!(
            "--service and --service-cv are not for --batch {text}: the file has the times"
        )));
    }
    let services = service_times(text)?;
    let calls = services.len() as u64;
    Ok((BatchPlan::of(services, overhead_s).map_err(Ending::usage)?, calls))
}

/// A service time on each line.
fn service_times(path: &str) -> Result<Vec<f64>, Ending> {
    let text = fs::read_to_string(path).map_err(|error| {
        Ending::usage(format!("--batch {path} is neither a number of calls nor a file that can be read: {error}"))
    })?;
    let times = times_s(&text).map_err(|error| Ending::usage(format!("{path}:{error}")))?;
    if times.is_empty() { Err(Ending::usage(format!("{path} has no service time in it"))) } else { Ok(times) }
}

fn print(report: &Report, sampled: bool, budget_s: Option<f64>, output: &Output) -> Result<(), Ending> {
    let columns = ["WORKERS", "MAKESPAN", "P90", "LONGEST FIRST", "LOWER BOUND", "UPPER BOUND", "WORKERS BUSY"];
    let cells = |row: &BatchRow| {
        vec![
            row.workers.to_string(),
            seconds(row.makespan_s),
            seconds(row.makespan_p90_s),
            seconds(row.longest_first_s),
            seconds(row.lower_bound_s),
            seconds(row.graham_bound_s),
            percent(row.efficiency),
        ]
    };
    let work = seconds(report.row.total_work_s);
    output.line(format!("{} calls, {work} of work in all", report.calls).as_bytes())?;
    output.line(b"")?;
    output.table(&columns, report.rows.iter().map(cells).collect())?;
    let Some(budget_s) = budget_s else { return Ok(()) };
    output.line(b"")?;
    let budget = seconds(budget_s);
    // A file is one batch, and known.
    let sure = if sampled { " in nine of ten batches" } else { "" };
    let text = match report.workers_needed {
        Some(1) => format!("1 worker is enough for {budget}{sure}"),
        Some(workers) => format!("{workers} workers are the fewest that keep {budget}{sure}"),
        None => format!("no number of workers keeps {budget}: the longest call alone takes longer"),
    };
    output.line(text.as_bytes())
}

fn chart(plan: &BatchPlan, rows: &[BatchRow], budget_s: Option<f64>, calls: u64) -> Chart {
    let most = rows.iter().map(|row| row.workers).max().unwrap_or(1);
    let mut counts: Vec<u32> = (1..=40_u32).map(|point| (most * point).div_ceil(40)).collect();
    counts.dedup();
    let rows: Vec<BatchRow> = counts.into_iter().map(|count| plan.on(count)).collect();
    let line = |name: &str, of: fn(&BatchRow) -> f64| Line {
        name: name.to_owned(),
        points: rows.iter().map(|row| (f64::from(row.workers), of(row))).collect(),
    };
    Chart {
        title: "Makespan over the number of workers".to_owned(),
        subtitle: format!("{calls} calls"),
        x: Axis::linear("workers", Unit::Count),
        y: Axis::logarithmic("until all are done", Unit::Seconds),
        lines: vec![
            line("upper bound", |row| row.graham_bound_s),
            line("in order", |row| row.makespan_s),
            line("longest first", |row| row.longest_first_s),
            line("lower bound", |row| row.lower_bound_s),
        ],
        marks: budget_s.map(|budget_s| Mark::Level(budget_s, "budget".to_owned())).into_iter().collect(),
    }
}
