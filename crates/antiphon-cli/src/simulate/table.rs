//! What policies did, as a table.

use crate::ending::Ending;
use crate::output::Output;
use crate::plan::figures::{percent, plain, seconds};
use antiphon_queueing::experiment::{Measured, Results, Scenario};

const COLUMNS: [&str; 14] = [
    "POLICY", "LOAD", "SOURCE", "BUSY", "IN TIME", "EXPIRED", "REFUSED", "FAILED", "ATTEMPTS", "WAIT", "RESPONSE",
    "P50", "P99", "P99.9",
];

pub fn print(scenario: &Scenario, results: &[Results], output: &Output) -> Result<(), Ending> {
    output.line(scenario.title.as_bytes())?;
    output.line(b"")?;
    let mut rows = Vec::new();
    for result in results {
        if scenario.source.len() > 1 {
            for source in &result.sources {
                rows.push(row(result, &source.source, &source.measured));
            }
        }
        rows.push(row(result, if scenario.source.len() > 1 { "all" } else { "" }, &result.all));
    }
    // A column in which nothing happened is left out.
    let idle =
        |column: usize| rows.iter().all(|row| row.get(column).is_none_or(|cell| cell.is_empty() || cell == "0 %"));
    let kept: Vec<usize> = (0..COLUMNS.len()).filter(|column| !idle(*column)).collect();
    let columns: Vec<&str> = kept.iter().filter_map(|column| COLUMNS.get(*column).copied()).collect();
    let rows = rows.iter().map(|row| kept.iter().filter_map(|column| row.get(*column).cloned()).collect());
    output.table(&columns, rows.collect())?;
    for lost in results.iter().filter(|result| result.lost > 0) {
        let text = format!("{} calls of {:?} had not ended when the experiment did", lost.lost, lost.policy);
        output.remark(&text);
    }
    Ok(())
}

fn row(result: &Results, source: &str, measured: &Measured) -> Vec<String> {
    let counts = &measured.counts;
    let share = |count: u64| percent(count as f64 / counts.submitted.max(1) as f64);
    let error = seconds(measured.mean_response_error_s);
    vec![
        result.policy.clone(),
        percent(result.load),
        source.to_owned(),
        percent(result.utilisation),
        percent(measured.in_time_share),
        share(counts.expired),
        share(counts.refused),
        share(counts.failed),
        plain(counts.attempts as f64 / counts.submitted.max(1) as f64),
        seconds(measured.mean_wait_s),
        format!("{} ± {error}", seconds(measured.mean_response_s)),
        seconds(measured.response_s.p50),
        seconds(measured.response_s.p99),
        seconds(measured.response_s.p999),
    ]
}
