//! What a bench found: a table, a histogram per measurement, or JSON.

use super::caller::Cell;
use crate::ending::Ending;
use crate::output::Output;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// How wide the longest bar of a histogram is.
const BAR: f64 = 40.0;

pub fn print(cells: &[Cell], place: &str, output: &Output) -> Result<(), Ending> {
    let rows = cells.iter().map(|cell| {
        let at = |quantile| micros_text(cell.latency.value_at_quantile(quantile));
        vec![
            cell.plan.mode.name().to_owned(),
            cell.plan.in_flight.to_string(),
            format!("{:.0}", per_second(cell)),
            at(0.5),
            at(0.9),
            at(0.99),
            at(0.999),
            micros_text(cell.latency.max()),
            cell.calls.to_string(),
            cell.errors.to_string(),
        ]
    });
    let columns = ["MODE", "IN FLIGHT", "CALLS/S", "P50", "P90", "P99", "P99.9", "MAX", "CALLS", "ERRORS"];
    output.remark(&format!("{} payload bytes, {place}", cells.first().map_or(0, |cell| cell.plan.payload)));
    output.table(&columns, rows.collect())?;
    for cell in cells {
        output.line(format!("\n{}, {} in flight", cell.plan.mode.name(), cell.plan.in_flight).as_bytes())?;
        for line in bars(&cell.latency) {
            output.line(line.as_bytes())?;
        }
    }
    Ok(())
}

/// A line per step of 1, 2, 5, 10 …, from the first to the last that has calls.
fn bars(latency: &Histogram<u64>) -> Vec<String> {
    let mut counted: Vec<(u64, u64)> = Vec::new();
    let mut below = 0;
    for bound in bounds() {
        let through = latency.count_between(0, bound);
        counted.push((bound, through.saturating_sub(below)));
        below = through;
    }
    let most = counted.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    let first = counted.iter().position(|(_, count)| *count > 0).unwrap_or(0);
    let last = counted.iter().rposition(|(_, count)| *count > 0).unwrap_or(0);
    let shown = counted.iter().take(last + 1).skip(first);
    let total = latency.len().max(1) as f64;
    shown
        .map(|(bound, count)| {
            let width = (*count as f64 / most as f64 * BAR).ceil() as usize;
            let percent = *count as f64 / total * 100.0;
            format!("  up to {:>9} {:<40} {percent:6.2} %", micros_text(*bound), "#".repeat(width))
        })
        .collect()
}

/// 1, 2, 5, 10 … from a microsecond to 100 s, in nanoseconds.
fn bounds() -> impl Iterator<Item = u64> {
    (3..=10).flat_map(|power| [1, 2, 5].map(|step| step * 10_u64.pow(power)))
}

fn micros_text(nanos: u64) -> String {
    match nanos {
        0..1_000_000 => format!("{:.0} µs", nanos as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", nanos as f64 / 1e6),
        _ => format!("{:.1} s", nanos as f64 / 1e9),
    }
}

fn per_second(cell: &Cell) -> f64 {
    cell.calls as f64 / cell.elapsed.as_secs_f64()
}

pub fn to_value(cells: &[Cell], place: &str) -> Value {
    json!({ "broker": place, "cells": cells.iter().map(cell_to_value).collect::<Vec<_>>() })
}

pub fn cell_to_value(cell: &Cell) -> Value {
    let micros = |nanos: u64| nanos as f64 / 1e3;
    let at = |quantile| micros(cell.latency.value_at_quantile(quantile));
    json!({
        "mode": cell.plan.mode.name(),
        "in_flight": cell.plan.in_flight,
        "payload": cell.plan.payload,
        "seconds": cell.elapsed.as_secs_f64(),
        "calls": cell.calls,
        "errors": cell.errors,
        "calls_per_second": per_second(cell).round(),
        "latency_us": {
            "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": micros(cell.latency.max()),
        },
    })
}
