//! `cargo xtask prove`: every layer that tries to break the claims, one after the other, and a page of what ran.

mod layer;
mod log;
mod page;

use anyhow::{Context, bail};
use layer::{LAYERS, Layer, Verdict};
use log::{Entry, Log};
use std::path::Path;
use std::time::{Duration, Instant};

/// How much of each layer runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    /// As every change is tried: minutes.
    Short,
    /// As a release is tried: about ten minutes more than the short form.
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
        Scale::Short => finish(&round(root, scale, 0)),
        Scale::Full => {
            let entries = round(root, scale, 0);
            page::write(root, &entries)?;
            finish(&entries)
        }
        Scale::Long(hours) => {
            let mut log = Log::open(root)?;
            let end = Duration::from_secs(u64::from(hours) * 3_600);
            while log.time() < end {
                let entries = round(root, scale, log.rounds());
                log.add(&entries)?;
                page::write(root, &log.summed())?;
                finish(&entries)?;
            }
            Ok(())
        }
    }
}

/// Every layer once; the number of the round decides the seeds of those that have any of their own.
fn round(root: &Path, scale: Scale, number: u64) -> Vec<Entry> {
    LAYERS.iter().map(|layer| try_layer(root, layer, scale, number)).collect()
}

fn try_layer(root: &Path, layer: &Layer, scale: Scale, round: u64) -> Entry {
    let start = Instant::now();
    let verdict = layer.run(root, scale, round);
    let entry = Entry { layer: layer.name.to_owned(), verdict, seconds: start.elapsed().as_secs() };
    println!("{entry}");
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
