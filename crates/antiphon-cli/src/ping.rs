//! `antiphon ping`: whether the broker is there, how fast it answers, and how it is.

use crate::connection::{Connection, unexpected};
use crate::ending::Ending;
use crate::output::{Format, Output};
use antiphon_protocol::{Answer, BrokerStatus, Query, State};
use clap::Args;
use serde_json::json;
use std::time::Instant;

/// Ask the broker whether it is there
#[derive(Debug, Args)]
pub struct Ping {}

pub async fn run(_: Ping, url: Option<&str>, output: &Output) -> Result<(), Ending> {
    let connection = Connection::open(url).await?;
    let asked = Instant::now();
    let broker = broker(&connection).await?;
    let micros = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
    if output.format != Format::Table {
        return output.json(&json!({ "url": connection.address, "round_trip_us": micros, "broker": broker }));
    }
    let class = if broker.durable { "durable" } else { "volatile" };
    output.line(
        format!(
            "{} answers in {:.2} ms: antiphon {}, start {}, {class}",
            connection.address,
            micros as f64 / 1e3,
            broker.version,
            broker.epoch.0
        )
        .as_bytes(),
    )?;
    output.table(&[], rows(&broker))
}

/// The broker's own counters.
pub async fn broker(connection: &Connection) -> Result<BrokerStatus, Ending> {
    match connection.ask(Query::Broker).await? {
        Answer::Broker(broker) => Ok(broker),
        other => Err(unexpected(&other)),
    }
}

fn rows(broker: &BrokerStatus) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, value: u64| rows.push(vec![name.to_owned(), value.to_string()]);
    for (state, count) in State::ALL.iter().zip(broker.calls) {
        row(state.name(), count);
    }
    row("accepted", broker.accepted);
    row("refused", broker.refused);
    row("duplicates", broker.duplicates);
    row("leases", broker.leased);
    row("lost leases", broker.lost_leases);
    row("stale", broker.stale);
    row("settled", broker.settled);
    row("outcomes rejected", broker.outcomes_rejected);
    row("connections", broker.connections);
    row("fsyncs", broker.syncs);
    row("microseconds an fsync", broker.sync_us);
    row("journal bytes", broker.journal_bytes);
    rows
}
