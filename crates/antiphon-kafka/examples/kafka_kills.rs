//! Durable calls under kills: worker and caller are ended with SIGKILL at random and started again, until every call
//! has its outcome. Then the caller's log is judged: each call that was accepted has exactly one outcome, the right one.
//! The broker of the tests keeps everything in memory, so that it is left alone.
//!
//! ```sh
//! cargo run --release -p antiphon-kafka --example kafka_kills [calls] [kills] [seed]
//! ```

use antiphon::{Antiphon, Failure, Payload, RawProcedureOptions};
use antiphon_broker::Broker;
use antiphon_conformance::storm::{Error, Targets, ask, connected, storm};
use antiphon_kafka::Kafka;
use antiphon_protocol::Name;
use std::path::Path;
use std::time::Duration;
use xtask::services::kafka::Node;

const PROCEDURE: &str = "kills.echo";

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match texts.as_slice() {
        ["worker", url] => tokio::runtime::Runtime::new()?.block_on(work(url)),
        ["caller", url, log, calls] => {
            tokio::runtime::Runtime::new()?.block_on(call(url, Path::new(log), calls.parse()?))
        }
        _ => {
            let mut numbers = texts.iter().map(|text| text.parse::<u64>());
            let calls = numbers.next().transpose()?.unwrap_or(10_000);
            let kills = numbers.next().transpose()?.unwrap_or(20);
            let seed = numbers.next().transpose()?.unwrap_or_else(|| u64::from(std::process::id()));
            all(calls, kills, seed)
        }
    }
}

async fn work(url: &str) -> Result<(), Error> {
    let connect = async || Antiphon::builder(url).driver(antiphon_kafka::driver()).connect().await;
    let antiphon = connected(connect).await;
    let echo = |_, payload: Payload| async {
        tokio::time::sleep(Duration::from_millis(8)).await;
        Ok::<_, Failure>(payload)
    };
    let options = RawProcedureOptions::default;
    let start = async || antiphon.worker().slots(4).procedure(PROCEDURE, options(), echo).start().await;
    let worker = connected(start).await;
    std::future::pending::<()>().await;
    drop(worker);
    Ok(())
}

async fn call(url: &str, log: &Path, calls: u64) -> Result<(), Error> {
    let broker = connected(async || Kafka::open(url).await).await;
    ask(&broker, &Name::from_static(PROCEDURE), log, calls).await?;
    broker.close().await;
    Ok(())
}

fn all(calls: u64, kills: u64, seed: u64) -> Result<(), Error> {
    let directory = std::env::temp_dir().join(format!("antiphon-kafka-kills-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let log = directory.join("log");
    let node = Node::own("kills")?;
    let url = format!("{}?partitions=4&dedupe={}", node.url(), directory.join("handled").display());
    let (log_text, count) = (log.display().to_string(), calls.to_string());
    let targets = Targets {
        worker: &["worker", &url],
        caller: &["caller", &url, &log_text, &count],
        calm: Duration::ZERO,
        server: None,
    };
    storm(calls, kills, seed, &log, &targets)?;
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}
