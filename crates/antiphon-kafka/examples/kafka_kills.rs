//! Durable calls under kills: worker, caller and server are ended with SIGKILL at random and started again, until every call
//! has its outcome. Then the caller's log is judged: each call that was accepted has exactly one outcome, the right one.
//!
//! ```sh
//! cargo run --release -p antiphon-kafka --example kafka_kills [calls] [kills] [seed]
//! ```

use antiphon::{Antiphon, Failure, Payload, RawProcedureOptions};
use antiphon_broker::Broker;
use antiphon_conformance::storm::{Error, Role, Size, ask, connected};
use antiphon_kafka::Kafka;
use antiphon_protocol::Name;
use std::path::Path;
use std::time::Duration;
use xtask::services::kafka::Node;

const PROCEDURE: &str = "kills.echo";

fn main() -> Result<(), Error> {
    match Role::read()? {
        Role::Worker(url) => tokio::runtime::Runtime::new()?.block_on(work(&url)),
        Role::Caller { url, log, calls } => tokio::runtime::Runtime::new()?.block_on(call(&url, &log, calls)),
        Role::Storm(size) => all(&size),
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

fn all(size: &Size) -> Result<(), Error> {
    let node = Node::durable("kills")?;
    // nisshi answers a fetch that finds nothing only when its time is over.
    let url = format!("{}?partitions=4&fetch_wait=100", node.url());
    size.run("kafka", &url, Duration::ZERO, Some(&|| Ok(node.kill().and_then(|()| node.start())?)))
}
