//! What was measured so far, kept in a file so that a run may be cut in pieces; and medians of it.

use antiphon_bench::System;
use antiphon_bench::load::Measured;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// One combination that is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Cell {
    pub bytes: usize,
    pub system: System,
    pub in_flight: usize,
}

/// Everything measured so far.
#[derive(Default, Serialize, Deserialize)]
pub struct Results {
    pub measurements: Vec<(Cell, Measured)>,
    /// Versions of servers and of this program's commit.
    pub versions: BTreeMap<String, String>,
    /// Microseconds of an fdatasync, measured with each piece of the run.
    pub fsync_us: Vec<f64>,
    /// What the checks found last.
    #[serde(default)]
    pub findings: Vec<Finding>,
}

/// What a check found of one thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub what: String,
    pub found: String,
    pub bar: String,
    pub reached: bool,
}

/// Medians over the repetitions of a cell.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub cpu_us: f64,
    pub cpu_by_process: BTreeMap<String, f64>,
    pub memory_kib: BTreeMap<String, f64>,
    pub repetitions: usize,
    /// Highest over lowest calls a second.
    pub spread: f64,
}

impl Results {
    /// What an earlier piece left; nothing if there was none.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).with_context(|| format!("{} is not of this bench", path.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Takes the place of what was found of the same things before.
    pub fn keep(&mut self, findings: Vec<Finding>) {
        for finding in findings {
            self.findings.retain(|other| other.what != finding.what);
            self.findings.push(finding);
        }
    }

    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        std::fs::write(path, serde_json::to_vec_pretty(self)?).with_context(|| format!("writing {}", path.display()))
    }

    /// The figures of a cell; none if it was never measured.
    pub fn figures(&self, cell: Cell) -> Option<Figures> {
        let all: Vec<&Measured> =
            self.measurements.iter().filter(|(of, _)| *of == cell).map(|(_, measured)| measured).collect();
        let over = |figure: &dyn Fn(&Measured) -> f64| median(all.iter().map(|measured| figure(measured)).collect());
        let per_second = |measured: &Measured| measured.calls as f64 / measured.seconds;
        let first = all.first()?;
        let rates = || all.iter().map(|measured| per_second(measured));
        let by = |of: &dyn Fn(&Measured, &str) -> f64, names: Vec<&String>| {
            names.into_iter().map(|name| (name.clone(), over(&|measured| of(measured, name)))).collect()
        };
        Some(Figures {
            per_second: over(&per_second),
            p50_us: over(&|measured| measured.p50_us),
            p99_us: over(&|measured| measured.p99_us),
            p999_us: over(&|measured| measured.p999_us),
            cpu_us: over(&|measured| measured.cpu_us.values().sum()),
            cpu_by_process: by(
                &|measured, name| measured.cpu_us.get(name).copied().unwrap_or(0.0),
                first.cpu_us.keys().collect(),
            ),
            memory_kib: by(
                &|measured, name| measured.memory_kib.get(name).copied().unwrap_or(0) as f64,
                first.memory_kib.keys().collect(),
            ),
            repetitions: all.len(),
            spread: rates().fold(0.0, f64::max) / rates().fold(f64::INFINITY, f64::min),
        })
    }

    /// A median over all measured fdatasyncs.
    pub fn fsync_us(&self) -> Option<f64> {
        (!self.fsync_us.is_empty()).then(|| median(self.fsync_us.clone()))
    }
}

/// The middle one, or the mean of the two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle.wrapping_sub(1)), values.get(middle)) {
        (Some(low), Some(high)) if values.len().is_multiple_of(2) => (low + high) / 2.0,
        (_, Some(middle)) => *middle,
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(calls: u64) -> Measured {
        let cpu_us = BTreeMap::from([("caller".to_owned(), 1.0), ("worker".to_owned(), calls as f64)]);
        let memory_kib = BTreeMap::new();
        Measured { calls, errors: 0, seconds: 2.0, p50_us: 1.0, p99_us: 2.0, p999_us: 3.0, cpu_us, memory_kib }
    }

    #[test]
    fn figures_are_medians_over_the_repetitions_of_their_cell() {
        let cell = Cell { bytes: 64, system: System::Limit, in_flight: 1 };
        let other = Cell { in_flight: 2, ..cell };
        let mut results = Results::default();
        for (of, calls) in [(cell, 30), (other, 1_000), (cell, 10), (cell, 20)] {
            results.measurements.push((of, measured(calls)));
        }
        let figures = results.figures(cell).expect("it was measured");
        assert!((figures.per_second - 10.0).abs() < 1e-9 && (figures.cpu_us - 21.0).abs() < 1e-9);
        assert!((figures.spread - 3.0).abs() < 1e-9 && figures.repetitions == 3);
        assert!(results.figures(Cell { bytes: 65, ..cell }).is_none());
    }

    #[test]
    fn a_median_of_two_is_their_mean() {
        assert!((median(vec![4.0, 2.0]) - 3.0).abs() < 1e-9);
    }
}
