//! Runs seeds, reruns one, and shrinks what fails.

use antiphon_sim::{
    Coverage, EVENTS, Explored, Ran, STEPS, Setup, Wired, batch, explore, replay, run, shrink, shrink_wired, wired,
    wired_again, wires,
};
use anyhow::{Context, bail};
use std::process::ExitCode;

const USAGE: &str = "usage: antiphon-sim <what>
  seeds [--from S] [--count N] [--events E] [--threads T]   run seeds; fails when a judge finds something, when a run is
                                                            not the same twice, or when the batch proves too little
  wire [--from S] [--count N] [--steps E] [--threads T]     run seeds of clients on connections that fail
  wire-seed S [--steps E] [--keep 1,2,3]                    run one of those, or only some of its steps
  planted [--seeds N] [--threads T] [--only NAME]           switch each planted bug on and run seeds until one shows it;
                                                            fails when one is not found. Needs a build with --cfg planting
  model [--depth D] [--states N] [--threads T]              look at every order of events of a small world
  planted-model [--states N]                                switch on each planted bug of the protocol and look at every
                                                            order of events until one shows it. Needs --cfg planting
  seed S [--events E] [--keep 1,2,3]                        run one seed, or only those of its events, and say what happens";

fn main() -> ExitCode {
    // What the broker panics with is caught and told as a finding.
    std::panic::set_hook(Box::new(|_| {}));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["seeds", options @ ..] => seeds(options),
        ["wire", options @ ..] => wire(options),
        ["wire-seed", seed, options @ ..] => one_wire(seed, options),
        ["planted", options @ ..] => planted(options),
        ["model", options @ ..] => model(options),
        ["planted-model", options @ ..] => planted_model(options),
        ["seed", seed, options @ ..] => one(seed, options),
        _ => Err(anyhow::anyhow!(USAGE)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The number behind an option.
fn number(options: &[&str], name: &str, default: u64) -> anyhow::Result<u64> {
    let Some(at) = options.iter().position(|option| *option == name) else { return Ok(default) };
    let text = options.get(at + 1).with_context(|| format!("{name} needs a number"))?;
    text.parse().with_context(|| format!("{name} {text} is not a number"))
}

fn seeds(options: &[&str]) -> anyhow::Result<()> {
    let (from, count) = (number(options, "--from", 0)?, number(options, "--count", 2_000)?);
    let (events, threads) = (number(options, "--events", EVENTS)?, number(options, "--threads", 2)?);
    let start = std::time::Instant::now();
    let batch = batch(from, count, events, threads as usize);
    report(&batch.coverage, batch.twice, start.elapsed().as_secs());
    for ran in &batch.failed {
        println!("seed {} failed after {} events: {}", ran.seed, ran.trace.len(), first(ran));
    }
    if let Some(ran) = batch.failed.first() {
        tell(ran, events);
    }
    for seed in &batch.differed {
        println!("seed {seed} is not the same run twice");
    }
    // A few seeds cannot reach everything.
    let gaps = if count >= 500 { batch.coverage.gaps() } else { Vec::new() };
    for gap in &gaps {
        println!("gap: {gap}");
    }
    if !batch.failed.is_empty() || !batch.differed.is_empty() || !gaps.is_empty() {
        let (failed, differed) = (batch.failed.len(), batch.differed.len());
        bail!("{failed} seeds failed, {differed} were not the same twice, {} gaps", gaps.len());
    }
    Ok(())
}

fn wire(options: &[&str]) -> anyhow::Result<()> {
    let (from, count) = (number(options, "--from", 0)?, number(options, "--count", 300)?);
    let (steps, threads) = (number(options, "--steps", STEPS)?, number(options, "--threads", 2)?);
    let start = std::time::Instant::now();
    let wires = wires(from, count, steps, threads as usize);
    println!("{} seeds, {} steps in {} s", wires.runs, wires.steps, start.elapsed().as_secs());
    println!("{}", wires.counts.iter().map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>().join(", "));
    for ran in &wires.failed {
        println!("seed {} failed after {} steps: {}", ran.seed, ran.trace.len(), ran.wrong.join("; "));
    }
    if let Some(ran) = wires.failed.first() {
        tell_wire(ran, steps);
    }
    for seed in &wires.differed {
        println!("seed {seed} is not the same run twice");
    }
    // A few seeds cannot reach everything.
    let happened = |what: &&&str| !wires.counts.contains_key(**what);
    let gaps: Vec<_> = if count >= 100 { WIRE_FAULTS.iter().filter(happened).collect() } else { Vec::new() };
    gaps.iter().for_each(|gap| println!("gap: there were no {gap}"));
    if wires.failed.is_empty() && wires.differed.is_empty() && gaps.is_empty() {
        return Ok(());
    }
    bail!("{} seeds failed, {} were not the same twice, {} gaps", wires.failed.len(), wires.differed.len(), gaps.len())
}

/// What must have happened in a batch.
const WIRE_FAULTS: [&str; 6] = [
    "resets",
    "connections dropped by the broker",
    "half open, up",
    "half open, down",
    "kills of the broker",
    "power losses",
];

fn tell_wire(ran: &Wired, steps: u64) {
    let (small, wrong) = shrink_wired(ran);
    println!("seed {}, shrunk to {} steps:", ran.seed, small.len());
    for (number, step) in &small {
        println!("  {number:>5}  {step:?}");
    }
    wrong.iter().take(5).for_each(|wrong| println!("  found: {}", wrong.chars().take(500).collect::<String>()));
    let steps = if steps == STEPS { String::new() } else { format!(" --steps {steps}") };
    let numbers: Vec<String> = small.iter().map(|(number, _)| number.to_string()).collect();
    let numbers = numbers.join(",");
    println!("again: cargo run --profile prove -p antiphon-sim -- wire-seed {}{steps} --keep {numbers}", ran.seed);
}

fn one_wire(seed: &str, options: &[&str]) -> anyhow::Result<()> {
    let seed = seed.parse().with_context(|| format!("{seed} is not a seed"))?;
    let steps = number(options, "--steps", STEPS)?;
    let whole = wired(seed, steps);
    let ran = match kept(options)? {
        None => whole,
        Some(kept) => {
            let steps: Vec<_> = whole.trace.into_iter().filter(|(number, _)| kept.contains(number)).collect();
            wired_again(seed, &steps)
        }
    };
    println!("seed {seed}: {} steps, fingerprint {:016x}, {:?}", ran.trace.len(), ran.fingerprint.0, ran.counts);
    if ran.wrong.is_empty() {
        return Ok(());
    }
    if kept(options)?.is_none() {
        tell_wire(&ran, steps);
    }
    bail!("{}", ran.wrong.join("\n"))
}

/// The numbers behind `--keep`.
fn kept(options: &[&str]) -> anyhow::Result<Option<Vec<usize>>> {
    let kept = options.iter().position(|option| *option == "--keep").and_then(|at| options.get(at + 1));
    let numbers = kept.map(|kept| kept.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>());
    numbers.transpose().context("--keep 1,2,3")
}

#[cfg(not(planting))]
fn planted(_options: &[&str]) -> anyhow::Result<()> {
    bail!("this build has no planted bugs: build with RUSTFLAGS=\"--cfg planting\", in a target directory of its own")
}

#[cfg(planting)]
fn planted(options: &[&str]) -> anyhow::Result<()> {
    let (seeds, threads) = (number(options, "--seeds", 1_000)?, number(options, "--threads", 2)?);
    let only = options.iter().position(|option| *option == "--only").and_then(|at| options.get(at + 1));
    let bugs: Vec<_> = antiphon_sim::BUGS.iter().copied().filter(|bug| only.is_none_or(|only| only == bug)).collect();
    if bugs.is_empty() {
        bail!("there is no planted bug of that name");
    }
    let caught = antiphon_sim::hunt(&bugs, seeds, EVENTS, threads as usize);
    let mut missed = Vec::new();
    for one in &caught {
        match &one.by {
            Some((seed, found)) => {
                println!("{}: seed {seed}: {}", one.bug, found.chars().take(160).collect::<String>());
            }
            None => missed.push(one.bug),
        }
    }
    let tried: u64 = caught.iter().map(|one| one.seeds).sum();
    println!("{} of {} planted bugs found, in {tried} seeds", caught.len() - missed.len(), caught.len());
    if missed.is_empty() { Ok(()) } else { bail!("not found in {seeds} seeds: {}", missed.join(", ")) }
}

/// The small worlds that are explored: some faults each, so that every order of events is looked at; then all of them, as
/// far as the number of states allows.
const SETUPS: [Setup; 5] = [
    Setup { at_most_once: false, crashes: 1, drops: 0, duplicates: 0, reconnects: 0, passes: 1 },
    Setup { at_most_once: true, crashes: 1, drops: 0, duplicates: 0, reconnects: 0, passes: 0 },
    Setup { at_most_once: true, crashes: 0, drops: 1, duplicates: 1, reconnects: 0, passes: 1 },
    Setup { at_most_once: true, crashes: 0, drops: 0, duplicates: 1, reconnects: 1, passes: 1 },
    Setup { at_most_once: true, crashes: 1, drops: 1, duplicates: 1, reconnects: 1, passes: 1 },
];

fn model(options: &[&str]) -> anyhow::Result<()> {
    let depth = number(options, "--depth", 64)?;
    let (states, threads) = (number(options, "--states", 2_000_000)?, number(options, "--threads", 2)?);
    for setup in SETUPS {
        let explored = explore(setup, u32::try_from(depth)?, usize::try_from(states)?, threads as usize);
        let Explored { states, transitions, ends, depth, complete, wrong } = explored;
        let extent = if complete { "all there are" } else { "no further" };
        let Setup { at_most_once, crashes, drops, duplicates, reconnects, passes } = setup;
        let once = if at_most_once { ", one call at most once" } else { "" };
        println!(
            "{crashes} crashes, {drops} lost and {duplicates} doubled frames, {reconnects} reconnections, {passes} leases over{once}: {states} states, {transitions} transitions, {ends} ends, {depth} steps deep, {extent}"
        );
        if let Some((wrong, path)) = wrong {
            path.iter().for_each(|choice| println!("  {choice:?}"));
            bail!("{wrong}");
        }
    }
    Ok(())
}

#[cfg(not(planting))]
fn planted_model(_options: &[&str]) -> anyhow::Result<()> {
    planted(&[])
}

#[cfg(planting)]
fn planted_model(options: &[&str]) -> anyhow::Result<()> {
    let states = usize::try_from(number(options, "--states", 30_000)?)?;
    let mut missed = Vec::new();
    for bug in antiphon_sim::PROTOCOL_BUGS {
        let found = SETUPS
            .iter()
            .find_map(|setup| antiphon_sim::with_planted(bug, || explore(*setup, u32::MAX, states, 1)).wrong);
        match found {
            Some((wrong, path)) => println!("{bug}: after {} steps: {wrong}", path.len()),
            None => missed.push(*bug),
        }
    }
    let all = antiphon_sim::PROTOCOL_BUGS.len();
    println!("{} of {all} planted bugs of the protocol found", all - missed.len());
    if missed.is_empty() { Ok(()) } else { bail!("not found: {}", missed.join(", ")) }
}

fn report(coverage: &Coverage, twice: u64, seconds: u64) {
    println!("{} seeds, {} events in {seconds} s; {twice} seeds run twice", coverage.runs, coverage.events);
    println!(
        "{} submissions, {} starts of the broker, {} refused ({} for rot), {} journals given up, {} records audited",
        coverage.submitted,
        coverage.starts,
        coverage.refused_starts,
        coverage.refused_rot,
        coverage.poisoned,
        coverage.audited
    );
    let fired: Vec<String> = coverage.faults.iter().map(|(fault, count)| format!("{fault} {count}")).collect();
    println!("faults: {}", fired.join(", "));
    println!("{} runs had every fault that they had enabled", coverage.whole);
    println!("accepted in quiet times: {} of {}", coverage.quiet_accepted, coverage.quiet);
}

fn first(ran: &Ran) -> String {
    ran.wrong.first().map_or_else(String::new, |wrong| wrong.chars().take(300).collect())
}

/// Shrinks a failure, and says how to run what is left.
fn tell(ran: &Ran, events: u64) {
    let small = shrink(ran);
    println!("seed {}, shrunk to {} events:", small.seed, small.actions.len());
    for (number, action) in &small.actions {
        println!("  {number:>5}  {action:?}");
    }
    for wrong in small.wrong.iter().take(5) {
        println!("  found: {}", wrong.chars().take(500).collect::<String>());
    }
    let events = if events == EVENTS { String::new() } else { format!(" --events {events}") };
    println!(
        "again: cargo run --profile prove -p antiphon-sim -- seed {}{events} --keep {}",
        small.seed,
        small.numbers()
    );
}

fn one(seed: &str, options: &[&str]) -> anyhow::Result<()> {
    let seed = seed.parse().with_context(|| format!("{seed} is not a seed"))?;
    let events = number(options, "--events", EVENTS)?;
    let whole = run(seed, events);
    let kept = kept(options)?;
    let ran = match &kept {
        None => whole,
        Some(kept) => {
            let actions: Vec<_> = whole.trace.into_iter().filter(|(number, _)| kept.contains(number)).collect();
            replay(seed, &actions)
        }
    };
    println!("seed {seed}: {} events, fingerprint {:016x}", ran.trace.len(), ran.fingerprint.0);
    if ran.wrong.is_empty() {
        return Ok(());
    }
    if kept.is_none() {
        tell(&ran, events);
    }
    bail!("{}", ran.wrong.join("\n"))
}
