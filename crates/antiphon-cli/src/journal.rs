//! `antiphon journal`: look into a data directory that no broker has open.

mod entry;

use crate::ending::Ending;
use crate::output::{Format, Output};
use antiphon_journal::{Damage, Directory, OpenError, Recovered, Report, SegmentReport};
use antiphon_protocol::CallId;
use clap::Subcommand;
use serde_json::{Value, json};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Look into a data directory
#[derive(Debug, Subcommand)]
pub enum Journal {
    /// Read every byte that matters and name every damaged range
    Verify {
        /// The data directory
        dir: PathBuf,
    },
    /// Print every record that a broker would recover
    Dump {
        /// The data directory
        dir: PathBuf,
    },
}

pub fn run(arguments: Journal, output: &Output) -> Result<(), Ending> {
    match arguments {
        Journal::Verify { dir } => verify(&dir, output),
        Journal::Dump { dir } => dump(&open(&dir)?, output),
    }
}

fn open(dir: &Path) -> Result<Directory, Ending> {
    let failed = |error| Ending::usage(format!("cannot read the data directory {}: {error}", dir.display()));
    let directory = Directory::existing(dir).map_err(failed)?;
    // Only a journal may get a lock file.
    match dir.join("meta").try_exists() {
        Ok(true) => Ok(directory),
        Ok(false) => Err(Ending::usage(format!("{} holds no journal: name a broker's data directory", dir.display()))),
        Err(error) => Err(failed(error)),
    }
}

fn verify(dir: &Path, output: &Output) -> Result<(), Ending> {
    let report = antiphon_journal::verify(&open(dir)?).map_err(Ending::failed)?;
    if output.format == Format::Table {
        print_report(&report, output)?;
    } else {
        output.json(&to_value(&report))?;
    }
    match report.damages.len() {
        0 => Ok(()),
        1 => Err(Ending::failed("1 range is damaged: restore the directory from a copy")),
        n => Err(Ending::failed(format!("{n} ranges are damaged: restore the directory from a copy"))),
    }
}

fn print_report(report: &Report, output: &Output) -> Result<(), Ending> {
    let rows = report.segments.iter().map(|segment| {
        let SegmentReport { number, file, generation, length, end, entries, has_index, .. } = segment;
        let generation = format!("{generation:?}").to_lowercase();
        let index = if *has_index { "yes" } else { "no" }.to_owned();
        vec![
            number.to_string(),
            file.clone(),
            generation,
            length.to_string(),
            end.to_string(),
            entries.to_string(),
            index,
        ]
    });
    output.table(&["SEGMENT", "FILE", "LOG", "BYTES", "DURABLE", "ENTRIES", "INDEX"], rows.collect())?;
    for damage in &report.damages {
        let Damage { file, from, to, what, keys, .. } = damage;
        output.line(format!("damaged: {file} bytes {from}..{to}: {what}").as_bytes())?;
        for key in keys {
            output.line(format!("  touches call {}", CallId::from_bytes(*key)).as_bytes())?;
        }
    }
    let Report { entries, tail_entries, tail_cut, free_files, .. } = report;
    let intact = if report.is_intact() { "intact" } else { "damaged" };
    output.line(
        format!(
            "{intact}: {entries} durable entries through {}, {tail_entries} in the tail, {tail_cut} to be cut, {free_files} free files",
            report.durable_through.as_u64()
        )
        .as_bytes(),
    )
}

fn to_value(report: &Report) -> Value {
    let segments = report.segments.iter().map(|segment| {
        json!({
            "segment": segment.number, "file": segment.file, "log": format!("{:?}", segment.generation).to_lowercase(),
            "bytes": segment.length, "durable_bytes": segment.end, "entries": segment.entries,
            "has_index": segment.has_index,
        })
    });
    let damages = report.damages.iter().map(|damage| {
        json!({
            "file": damage.file, "segment": damage.segment, "from": damage.from, "to": damage.to, "what": damage.what,
            "calls": damage.keys.iter().map(|key| CallId::from_bytes(*key)).collect::<Vec<_>>(),
        })
    });
    json!({
        "intact": report.is_intact(), "entries": report.entries, "tail_entries": report.tail_entries,
        "tail_cut": report.tail_cut, "durable_through": report.durable_through.as_u64(),
        "free_files": report.free_files, "segments": segments.collect::<Vec<_>>(),
        "damages": damages.collect::<Vec<_>>(),
    })
}

/// Prints entry by entry: a journal may be larger than memory.
fn dump(directory: &Directory, output: &Output) -> Result<(), Ending> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut count = 0_u64;
    let mut wrote = Ok(());
    if output.format == Format::Json {
        out.write_all(b"[")?;
    }
    let mut visit = |entry: Recovered<'_>| {
        if wrote.is_ok() {
            wrote = print_entry(&mut out, &entry, output.format, count);
            count += 1;
        }
    };
    let dumped = antiphon_journal::dump(directory, &mut visit);
    wrote?;
    if output.format == Format::Json {
        out.write_all(b"\n]\n")?;
    }
    out.flush()?;
    dumped.map_err(|error: OpenError| Ending::failed(error))
}

fn print_entry(out: &mut impl Write, entry: &Recovered<'_>, format: Format, count: u64) -> io::Result<()> {
    match format {
        Format::Table => writeln!(out, "{}", entry::line(entry)),
        Format::Jsonl => writeln!(out, "{}", entry::to_value(entry)),
        Format::Json => {
            let comma = if count == 0 { "" } else { "," };
            write!(out, "{comma}\n  {}", entry::to_value(entry))
        }
    }
}
