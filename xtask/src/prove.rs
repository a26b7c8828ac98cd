//! `cargo xtask prove`: every layer that tries to break the claims, one after the other, and a page of what ran.

mod build;
mod layer;
mod log;
mod page;

use anyhow::{Context, bail};
use build::{Build, Programs};
use layer::{LAYERS, Layer, Verdict};
use log::{Entry, Log};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// How much of each layer runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    /// As every change is tried: minutes.
    Short,
    /// As a release is tried. After an end in between, the same command at the same commit goes on.
    Full,
    /// The full form again and again, with other seeds, for so many hours. What ran stays in the log: after an end in
    /// between, the same command goes on.
    Long(u32),
}

impl Scale {
    /// Reads the flags of `cargo xtask prove`.
    pub fn read(flags: &[&str]) -> anyhow::Result<Self> {
        match flags {
            [] => Ok(Self::Full),
            ["--short"] => Ok(Self::Short),
            ["--long", hours] => Ok(Self::Long(hours.parse().context("--long takes a number of hours")?)),
            _ => bail!("usage: cargo xtask prove [--short | --long HOURS]"),
        }
    }
}

/// Runs all layers and writes the page; the short form writes none. Failures of all layers are listed at the end.
pub fn run(root: &Path, scale: Scale) -> anyhow::Result<()> {
    match scale {
        Scale::Short => finish(&round(root, scale, 0, None)?),
        Scale::Full => {
            // What ran at this commit before it was ended in between is not run again.
            let mut log = Log::open(root, "full")?;
            let entries = round(root, scale, 0, Some(&mut log))?;
            page::write(root, &entries)?;
            log.end()?;
            finish(&entries)
        }
        Scale::Long(hours) => {
            let mut log = Log::open(root, "long")?;
            let end = Duration::from_secs(u64::from(hours) * 3_600);
            while log.time() < end {
                let number = log.rounds(LAYERS.len());
                let entries = round(root, scale, number, Some(&mut log))?;
                page::write(root, &log.summed())?;
                finish(&entries)?;
            }
            Ok(())
        }
    }
}

/// Every layer once, but for those that the log has of this round; the number of the round decides the seeds of those that
/// have any of their own.
fn round(root: &Path, scale: Scale, number: u64, mut log: Option<&mut Log>) -> anyhow::Result<Vec<Entry>> {
    let mut entries = log.as_ref().map_or_else(Vec::new, |log| log.unfinished(LAYERS.len()));
    entries.iter().for_each(|entry| println!("{entry} (before)"));
    let mut builds: Vec<Programs> = Vec::new();
    for build in Build::ALL {
        if LAYERS.iter().skip(entries.len()).any(|layer| layer.build == build) {
            let start = Instant::now();
            builds.push(build.make(root)?);
            println!("built {:<22} {:>4} s", build.to_string(), start.elapsed().as_secs());
        }
    }
    for layer in LAYERS.iter().skip(entries.len()) {
        let programs = builds.iter().find(|programs| programs.build == layer.build);
        let entry = try_layer(root, layer, programs.context("its build was made above")?, scale, number);
        if let Some(log) = &mut log {
            log.add(&entry)?;
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn try_layer(root: &Path, layer: &Layer, programs: &Programs, scale: Scale, round: u64) -> Entry {
    let start = Instant::now();
    let verdict = layer.run(root, programs, scale, round);
    let entry = Entry { layer: layer.name.to_owned(), verdict, seconds: start.elapsed().as_secs() };
    println!("{entry}");
    // A pipe is not flushed by line, and the next layer may take minutes.
    if let Err(error) = std::io::stdout().flush() {
        eprintln!("flushing the output: {error}");
    }
    entry
}

/// An error that names the layers that failed, if any did.
fn finish(entries: &[Entry]) -> anyhow::Result<()> {
    let failed: Vec<_> = entries.iter().filter(|entry| matches!(entry.verdict, Verdict::Failed(_))).collect();
    if failed.is_empty() {
        println!("nothing was found");
        return Ok(());
    }
    bail!("found by: {}", failed.iter().map(|entry| entry.layer.as_str()).collect::<Vec<_>>().join(", "))
}
