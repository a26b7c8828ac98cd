//! Runs the targets for long, on every core, without a nightly compiler.
//!
//! ```text
//! cargo run --release -p antiphon-fuzz -- [--executions 50000000] [--target NAME] [--seed N]
//! cargo run --release -p antiphon-fuzz -- --input FILE --target NAME      one input again
//! cargo run --release -p antiphon-fuzz -- --write-corpus                  the inputs to start from, anew
//! ```

use antiphon_fuzz::{Corpus, Random, TARGETS, Target, target, write_corpus};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

type Fault = Box<dyn std::error::Error + Send + Sync>;

#[derive(Default)]
struct Order {
    executions: u64,
    target: Option<&'static Target>,
    seed: u64,
    input: Option<String>,
    write_corpus: bool,
}

impl Order {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, Fault> {
        let mut order = Self { executions: 1_000_000, seed: 1, ..Self::default() };
        while let Some(flag) = arguments.next() {
            if flag == "--write-corpus" {
                order.write_corpus = true;
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--executions" => order.executions = value.parse()?,
                "--seed" => order.seed = value.parse()?,
                "--input" => order.input = Some(value),
                "--target" => {
                    let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
                    order.target =
                        Some(target(&value).ok_or_else(|| format!("no target {value}; one of {}", names.join(", ")))?);
                }
                _ => return Err(format!("unknown flag {flag}").into()),
            }
        }
        Ok(order)
    }
}

fn main() -> ExitCode {
    match Order::read(std::env::args().skip(1)).and_then(|order| carry_out(&order)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(order: &Order) -> Result<(), Fault> {
    if order.write_corpus {
        println!("{} inputs written", write_corpus()?);
        return Ok(());
    }
    if let Some(path) = &order.input {
        let target = order.target.ok_or("--input needs --target")?;
        (target.run)(&std::fs::read(path)?);
        println!("{path}: nothing found");
        return Ok(());
    }
    let shares: u64 = TARGETS.iter().map(|target| u64::from(target.share)).sum();
    for target in &TARGETS {
        let executions = match order.target {
            Some(only) if only.name != target.name => continue,
            Some(_) => order.executions,
            None => (order.executions * u64::from(target.share) / shares).max(1),
        };
        let start = Instant::now();
        on_all_cores(target, executions, order.seed)?;
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{:8} {executions:>12} executions in {seconds:.1} s, {:.0} a second",
            target.name,
            executions as f64 / seconds
        );
    }
    Ok(())
}

fn on_all_cores(target: &'static Target, executions: u64, seed: u64) -> Result<(), Fault> {
    let corpus = Corpus::load(target)?;
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..threads)
            .map(|thread| {
                let (corpus, failed) = (&corpus, &failed);
                let share = executions / threads + u64::from(thread < executions % threads);
                scope.spawn(move || run(target, corpus, Random(seed ^ thread << 48), share, failed))
            })
            .collect();
        runs.into_iter().try_for_each(|run| run.join().map_err(|_| "a thread of the fuzzer panicked")?)
    })
}

fn run(
    target: &Target,
    corpus: &Corpus,
    mut random: Random,
    executions: u64,
    failed: &AtomicBool,
) -> Result<(), Fault> {
    for _ in 0..executions {
        if failed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let input = corpus.draw(&mut random);
        if catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_err() {
            failed.store(true, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("antiphon-{}-{:016x}", target.name, random.number()));
            std::fs::write(&path, &input)?;
            let again = format!("cargo run -p antiphon-fuzz -- --target {} --input {}", target.name, path.display());
            return Err(format!("{} failed; again: {again}", target.name).into());
        }
    }
    Ok(())
}
