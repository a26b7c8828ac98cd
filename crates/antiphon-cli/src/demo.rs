//! `antiphon demo`: real work through callers, a broker and workers in processes of their own, two of which are killed
//! on the way; then the count of what happened, checked against the journal and against a plain count.

mod caller;
mod files;
mod report;
mod stage;
pub mod words;
pub mod worker;

use crate::ending::{Ending, INTERRUPTED};
use crate::output::Output;
use crate::stop::Stops;
use caller::{Asked, DemoCaller};
use clap::Args;
use files::Files;
use report::Report;
use stage::Stage;
use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};
use words::Words;

/// How many calls are made one by one and then all at once.
const FEW: usize = 8;
/// What each of those pretends to take: long enough to see the difference.
const FEW_PACE: Duration = Duration::from_millis(100);
/// Fewer calls than this come back before anybody can be killed.
const CALLS_MIN: usize = 40;
/// How often every slot has to be filled, at least, so that calls are left after each kill.
const ROUNDS_MIN: usize = 6;
/// How long the many calls should take, so that there is something to watch and to kill.
const SHOW: Duration = Duration::from_secs(4);
/// The longest a call pretends to take.
const PACE_MAX: Duration = Duration::from_millis(250);
/// How long everything may take.
const TOO_LONG: Duration = Duration::from_secs(180);
/// Arguments of one merging call: well below the largest payload.
const MERGE_BYTES: usize = 4 << 20;

/// See it work
#[derive(Debug, Args)]
pub struct Demo {
    /// Where the text files are whose words are counted
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// How many worker processes [default: as many as processors, 2 to 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: Option<u32>,
    /// Kill nobody
    #[arg(long)]
    no_kill: bool,
    /// Do not let calls pretend to take longer than they do
    #[arg(long)]
    full_speed: bool,
}

pub async fn run(arguments: Demo, output: &Output) -> Result<(), Ending> {
    let mut stops = Stops::new()?;
    // Whatever ends the demo, its processes and its directory go with it: both are dropped.
    tokio::select! {
        ended = play(&arguments, output) => ended,
        () = stops.next() => Err(Ending::new(INTERRUPTED, "interrupted: the demo's processes were ended")),
        () = tokio::time::sleep(TOO_LONG) => Err(Ending::failed("the demo did not end within 180 s")),
    }
}

async fn play(arguments: &Demo, output: &Output) -> Result<(), Ending> {
    let mut files = Files::read(&arguments.dir)?;
    output.remark(&files.describe());
    let workers = arguments.workers.unwrap_or_else(|| {
        available_parallelism().map_or(2, |processors| u32::try_from(processors.get()).unwrap_or(4)).clamp(2, 4)
    });
    let enough = CALLS_MIN.max(usize::try_from(workers * worker::SLOTS).unwrap_or(0) * ROUNDS_MIN);
    if !arguments.no_kill && files.len() < enough {
        let times = files.repeat(enough);
        output.remark(&format!(
            "These are few: each is counted {times} times, {} calls, so that there is something to kill (--no-kill: once).",
            files.len()
        ));
    }
    let mut stage = Stage::start(workers, output).await?;
    let mut caller = DemoCaller::open(&stage.connection).await?;
    few(&mut caller, &files, output).await?;
    let pace = if arguments.full_speed { Duration::ZERO } else { pace(files.len(), workers) };
    if !pace.is_zero() {
        let ms = pace.as_millis();
        output.remark(&format!(
            "Now every file. Each call also sleeps {ms} ms, so that there is something to watch (--full-speed: none)."
        ));
    }
    let began = Instant::now();
    let asked = caller.words(&files, pace, &mut stage, !arguments.no_kill).await?;
    let elapsed = began.elapsed();
    if !arguments.no_kill && (stage.worker_kills == 0 || stage.broker_kills == 0) {
        let whom = if stage.worker_kills == 0 { "Nobody" } else { "No broker" };
        output.remark(&format!(
            "{whom} was killed: all calls had come back before. More files, or no --full-speed, would help."
        ));
    }
    let merged = caller.merge(asked.words.clone(), MERGE_BYTES).await?;
    finish(stage, caller, &files, asked, &merged, elapsed, output).await
}

/// The same few calls one by one, then all at once.
async fn few(caller: &mut DemoCaller, files: &Files, output: &Output) -> Result<(), Ending> {
    let few: Vec<&files::File> = files.iter().cycle().take(FEW).collect();
    let began = Instant::now();
    for file in &few {
        caller.count(std::slice::from_ref(file), FEW_PACE).await?;
    }
    let one_by_one = began.elapsed();
    let began = Instant::now();
    caller.count(&few, FEW_PACE).await?;
    let at_once = began.elapsed();
    output.remark(&format!(
        "{FEW} calls of {} ms, awaited one by one: {:.2} s; the same, submitted all at once: {:.2} s.",
        FEW_PACE.as_millis(),
        one_by_one.as_secs_f64(),
        at_once.as_secs_f64()
    ));
    Ok(())
}

fn pace(files: usize, workers: u32) -> Duration {
    let slots = u64::from(workers * worker::SLOTS);
    let total = u64::try_from(SHOW.as_millis()).unwrap_or(0) * slots;
    let each = total / u64::try_from(files).unwrap_or(1).max(1);
    Duration::from_millis(each).min(PACE_MAX)
}

async fn finish(
    stage: Stage,
    caller: DemoCaller,
    files: &Files,
    asked: Asked,
    merged: &Words,
    elapsed: Duration,
    output: &Output,
) -> Result<(), Ending> {
    let plain = files.iter().map(|file| words::count(&file.text)).fold(Words::new(), words::add);
    let (broker_kills, worker_kills) = (stage.broker_kills, stage.worker_kills);
    let history = stage.history(&asked).await?;
    let calls = caller.submitted();
    drop(caller);
    let journal = stage.close().await?.count(&calls)?;
    let report = Report { asked, elapsed, history, journal, calls: calls.len(), broker_kills, worker_kills };
    report.print(merged, output)?;
    if *merged != plain {
        return Err(Ending::failed("the merged counts differ from a plain count of the same files"));
    }
    report.verdict()?;
    output.remark("The merged counts equal a plain count of the same files in one process.");
    Ok(())
}
