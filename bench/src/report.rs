//! The report: tables, the bars and whether they are reached, charts.

use crate::bars::{self, Against, Bar, Quantity};
use crate::chart::{self, Row};
use crate::results::{Cell, Figures, Finding, Results};
use antiphon_bench::System;
use anyhow::Context;
use clap::ValueEnum;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Writes `REPORT.md` and its charts into a directory.
pub fn write(results: &Results, directory: &Path, machine: &str) -> anyhow::Result<()> {
    let mut text = String::new();
    head(&mut text, results, machine)?;
    bar_table(&mut text, results)?;
    findings(&mut text, results)?;
    charts(&mut text, results, directory)?;
    for bytes in sizes(results) {
        table(&mut text, results, bytes)?;
    }
    settings(&mut text, results)?;
    let path = directory.join("REPORT.md");
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}

fn sizes(results: &Results) -> BTreeSet<usize> {
    results.measurements.iter().map(|(cell, _)| cell.bytes).collect()
}

fn in_flights(results: &Results, bytes: usize) -> BTreeSet<usize> {
    results.measurements.iter().filter(|(cell, _)| cell.bytes == bytes).map(|(cell, _)| cell.in_flight).collect()
}

/// The systems that were measured with this size, with their figures by calls in flight.
fn rows(results: &Results, bytes: usize, in_flight: usize) -> Vec<(System, Figures)> {
    let figures =
        |system: &System| results.figures(Cell { bytes, system: *system, in_flight }).map(|figures| (*system, figures));
    System::value_variants().iter().filter_map(figures).collect()
}

fn head(text: &mut String, results: &Results, machine: &str) -> anyhow::Result<()> {
    writeln!(text, "# Antiphon beside its peers\n")?;
    writeln!(
        text,
        "Made by `cargo run --release -p antiphon-bench`; do not edit. An echo procedure; caller, broker and worker in \
         processes of their own over loopback TCP, one connection each, each of ours on one thread; closed loop. Medians \
         over repetitions that were interleaved with those of the other systems.\n"
    )?;
    writeln!(text, "- Machine: {machine}")?;
    if let Some(fsync) = results.fsync_us() {
        writeln!(text, "- One fdatasync of 4 KiB there: {fsync:.0} µs (median)")?;
    }
    for (name, version) in &results.versions {
        writeln!(text, "- {name}: {version}")?;
    }
    let cells = results.measurements.iter().map(|(cell, _)| *cell).collect::<BTreeSet<_>>();
    let repetitions = cells.iter().filter_map(|cell| results.figures(*cell)).map(|figures| figures.repetitions);
    let seconds = results.measurements.iter().map(|(_, measured)| measured.seconds).fold(0.0, f64::max);
    let (least, most) = repetitions.fold((usize::MAX, 0), |(least, most), n| (least.min(n), most.max(n)));
    let wide = cells.iter().filter_map(|cell| results.figures(*cell)).filter(|figures| figures.spread > 1.2).count();
    writeln!(
        text,
        "- {} cells, {least} to {most} repetitions of at most {seconds:.1} s; in {wide} cells the best and the worst repetition differ by more than 20 %\n",
        cells.len()
    )?;
    Ok(())
}

fn bar_table(text: &mut String, results: &Results) -> anyhow::Result<()> {
    writeln!(
        text,
        "## The bars\n\nRatios within this run. `must` is what has to be reached, `aim` what is aimed for.\n"
    )?;
    writeln!(
        text,
        "| mode | what | ours | against | theirs | ratio | must | aim |\n|---|---|--:|---|--:|--:|--:|--:|"
    )?;
    for bar in bars::bars() {
        let Some(held) = bar.hold(results) else {
            writeln!(text, "| {} | {} | not measured | {} | | | | |", bar.system.title(), what(&bar), against(&bar))?;
            continue;
        };
        let unit = |value: f64| match bar.quantity {
            Quantity::Rate(_) => rate(value),
            Quantity::Latency | Quantity::Cpu => format!("{value:.2} µs"),
        };
        let mark = |bound: Option<f64>, reached: Option<bool>| match (bound, reached) {
            (Some(bound), Some(reached)) => format!("{} {}", bar_text(&bar, bound), if reached { "✓" } else { "✗" }),
            _ => "–".to_owned(),
        };
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {:.2} | {} | {} |",
            bar.system.title(),
            what(&bar),
            unit(held.ours),
            against(&bar),
            unit(held.theirs),
            held.ratio,
            mark(bar.must, held.reaches_must),
            mark(bar.aim, held.reaches_aim)
        )?;
    }
    writeln!(text)?;
    Ok(())
}

fn findings(text: &mut String, results: &Results) -> anyhow::Result<()> {
    if results.findings.is_empty() {
        return Ok(());
    }
    writeln!(text, "## Of Antiphon alone\n\n| what | found | must |\n|---|--:|--:|")?;
    for Finding { what, found, bar, reached } in &results.findings {
        writeln!(text, "| {what} | {found} | {bar} {} |", if *reached { "✓" } else { "✗" })?;
    }
    writeln!(text)?;
    Ok(())
}

fn bar_text(bar: &Bar, bound: f64) -> String {
    match bar.quantity {
        Quantity::Rate(_) => format!("≥ {bound}"),
        Quantity::Latency | Quantity::Cpu => format!("≤ {bound}"),
    }
}

fn what(bar: &Bar) -> String {
    let size = size_text(bar.bytes);
    match bar.quantity {
        Quantity::Latency => format!("{size}, p50 with 1 in flight"),
        Quantity::Rate(in_flight) => format!("{size}, calls/s with {in_flight} in flight"),
        Quantity::Cpu => format!("{size}, CPU a call with 1024 in flight"),
    }
}

fn against(bar: &Bar) -> String {
    match bar.against {
        Against::System(system) => plain(system),
        Against::WithSyncs(system, syncs) => format!("{} + {syncs} fdatasync", plain(system)),
        Against::Fixed(figure) if figure > 1_000.0 => format!("{} calls/s", rate(figure)),
        Against::Fixed(figure) => format!("{figure} µs"),
    }
}

fn plain(system: System) -> String {
    system.title().replace("**", "").replace('`', "")
}

fn size_text(bytes: usize) -> String {
    if bytes >= 1024 { format!("{} KiB", bytes / 1024) } else { format!("{bytes} B") }
}

fn rate(value: f64) -> String {
    match value {
        1e6.. => format!("{:.2} M", value / 1e6),
        1e4.. => format!("{:.0} k", value / 1e3),
        1e3.. => format!("{:.1} k", value / 1e3),
        _ => format!("{value:.0}"),
    }
}

fn charts(text: &mut String, results: &Results, directory: &Path) -> anyhow::Result<()> {
    for bytes in sizes(results) {
        for in_flight in in_flights(results, bytes) {
            let latency = in_flight == 1;
            let row = |(system, figures): (System, Figures)| Row {
                label: plain(system),
                value: if latency { figures.p50_us } else { figures.per_second },
                text: if latency { format!("{:.0} µs", figures.p50_us) } else { rate(figures.per_second) },
                ours: system.group() == "antiphon",
            };
            let mut rows: Vec<Row> = rows(results, bytes, in_flight).into_iter().map(row).collect();
            rows.sort_by(|one, other| {
                let order = other.value.total_cmp(&one.value);
                if latency { order.reverse() } else { order }
            });
            let size = size_text(bytes);
            let (title, name) = if latency {
                (format!("Median latency, one call in flight, {size} (logarithmic)"), format!("latency-{bytes}.svg"))
            } else {
                let title = format!("Calls per second, {in_flight} in flight, {size} (logarithmic)");
                (title, format!("rate-{bytes}-{in_flight}.svg"))
            };
            fs::create_dir_all(directory.join("charts"))?;
            fs::write(directory.join("charts").join(&name), chart::svg(&title, &rows))?;
            writeln!(text, "![{title}](charts/{name})\n")?;
        }
    }
    Ok(())
}

fn table(text: &mut String, results: &Results, bytes: usize) -> anyhow::Result<()> {
    writeln!(text, "## {}\n", size_text(bytes))?;
    writeln!(
        text,
        "| system | in flight | calls/s | p50 µs | p99 µs | p99.9 µs | CPU µs a call | by process | memory MiB |"
    )?;
    writeln!(text, "|---|--:|--:|--:|--:|--:|--:|---|---|")?;
    for in_flight in in_flights(results, bytes) {
        for (system, figures) in rows(results, bytes, in_flight) {
            let by: Vec<String> = figures.cpu_by_process.iter().map(|(name, us)| format!("{name} {us:.2}")).collect();
            let memory: Vec<String> =
                figures.memory_kib.iter().map(|(name, kib)| format!("{name} {:.0}", kib / 1024.0)).collect();
            writeln!(
                text,
                "| {} | {in_flight} | {} | {:.1} | {:.1} | {:.1} | {:.2} | {} | {} |",
                system.title(),
                rate(figures.per_second),
                figures.p50_us,
                figures.p99_us,
                figures.p999_us,
                figures.cpu_us,
                by.join(", "),
                memory.join(", ")
            )?;
        }
    }
    writeln!(text)?;
    Ok(())
}

fn settings(text: &mut String, results: &Results) -> anyhow::Result<()> {
    writeln!(text, "## Settings\n\n| system | settings |\n|---|---|")?;
    let measured: BTreeSet<System> = results.measurements.iter().map(|(cell, _)| cell.system).collect();
    for system in measured {
        writeln!(text, "| {} | {} |", system.title(), system.settings())?;
    }
    Ok(())
}
