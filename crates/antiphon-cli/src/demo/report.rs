//! What the demo says at its end.

use super::caller::Asked;
use super::stage::{History, Recorded};
use super::words::{self, Words};
use crate::ending::Ending;
use crate::output::{Format, Output};
use serde_json::json;
use std::time::Duration;

/// How many words are shown.
const TOP: usize = 8;

pub struct Report {
    pub asked: Asked,
    pub elapsed: Duration,
    pub history: History,
    pub journal: Recorded,
    /// All calls of the demo: the few, the many, the merging ones.
    pub calls: usize,
    pub broker_kills: u32,
    pub worker_kills: u32,
}

impl Report {
    pub fn print(&self, merged: &Words, output: &Output) -> Result<(), Ending> {
        let top = words::top(merged, TOP);
        if output.format != Format::Table {
            return output.json(&self.to_value(&top));
        }
        let shown = top.iter().map(|(word, count)| format!("{word} {count}")).collect::<Vec<_>>().join(", ");
        let mut rows = self.rows();
        rows.push(vec!["top words".to_owned(), shown]);
        output.line(b"")?;
        output.table(&[], rows)
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let Recorded { once, twice, never } = &self.journal;
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        vec![
            row("calls of text.words", self.asked.words.len().to_string()),
            row("attempts", self.attempts().to_string()),
            row("failed attempts", self.history.failed_attempts.to_string()),
            row("lost leases", self.history.lost_leases.to_string()),
            row("killed", format!("workers {}, brokers {}", self.worker_kills, self.broker_kills)),
            row("outcomes seen twice", self.asked.twice.to_string()),
            row("outcomes recorded twice", format!("{twice} (the journal has {once} of {} once)", self.calls)),
            row("outcomes missing", never.to_string()),
            row("calls per second", format!("{:.0}", self.per_second())),
            row("latency p50 / p99", format!("{} / {} (waiting included)", self.at(0.5), self.at(0.99))),
        ]
    }

    fn attempts(&self) -> u64 {
        self.asked.attempts.iter().copied().map(u64::from).sum()
    }

    fn per_second(&self) -> f64 {
        self.asked.words.len() as f64 / self.elapsed.as_secs_f64()
    }

    fn at(&self, quantile: f64) -> String {
        format!("{:.1} ms", self.asked.latency.value_at_quantile(quantile) as f64 / 1e3)
    }

    fn to_value(&self, top: &[(&str, u64)]) -> serde_json::Value {
        let latency = |quantile| self.asked.latency.value_at_quantile(quantile);
        json!({
            "calls": self.asked.words.len(),
            "attempts": self.attempts(),
            "failed_attempts": self.history.failed_attempts,
            "lost_leases": self.history.lost_leases,
            "killed_workers": self.worker_kills,
            "killed_brokers": self.broker_kills,
            "outcomes_seen_twice": self.asked.twice,
            "outcomes_recorded_twice": self.journal.twice,
            "outcomes_missing": self.journal.never,
            "calls_per_second": self.per_second().round(),
            "latency_us": { "p50": latency(0.5), "p99": latency(0.99) },
            "top_words": top.iter().map(|(word, count)| json!({ "word": word, "count": count })).collect::<Vec<_>>(),
        })
    }

    /// Whether every call has exactly one outcome.
    pub fn verdict(&self) -> Result<(), Ending> {
        let Recorded { twice, never, .. } = self.journal;
        if twice + never + self.asked.twice > 0 {
            return Err(Ending::failed("an outcome is missing or was recorded twice: this is a bug"));
        }
        Ok(())
    }
}
