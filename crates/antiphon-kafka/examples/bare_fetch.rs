//! Whether the broker of the tests can be read, shown with the client library alone: a partition with so many batches is
//! read from its middle on, with one bound after another on how long an empty fetch waits.
//!
//! nisshi lists all batches of a partition for each fetch, and gives up where the bound on waiting is over: a partition
//! whose list takes longer than that is never read again. Kafka's bound is only for fetches that find nothing.
//!
//! ```sh
//! cargo run --release -p antiphon-kafka --example bare_fetch [batches] [waits in milliseconds]
//! ```

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::time::{Duration, Instant};
use xtask::services::kafka::Node;

type Error = Box<dyn std::error::Error + Send + Sync>;

const TOPIC: &str = "bare";
/// How long a reader may find nothing before it is given up.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<(), Error> {
    let numbers = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<Vec<u64>, _>>()?;
    let batches = numbers.first().copied().unwrap_or(10_000);
    let waits = if numbers.len() > 1 { numbers.get(1..).unwrap_or_default() } else { &[500, 100, 20, 10] };
    let node = Node::own("bare-fetch")?;
    let servers = node.url().trim_start_matches("kafka://").to_owned();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &servers);
    // Each record is a batch of its own, as they are where each answers another.
    let producer: BaseProducer = config.clone().set("batch.num.messages", "1").create()?;
    for number in 0..batches {
        while producer.send(BaseRecord::<[u8], [u8]>::to(TOPIC).payload(b"x").partition(0)).is_err() {
            producer.poll(Duration::from_millis(10));
        }
        if number % 100 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(Duration::from_secs(120))?;
    let from = i64::try_from(batches / 2)?;
    for wait in waits {
        let mut config = config.clone();
        config.set("group.id", "bare").set("fetch.wait.max.ms", wait.to_string());
        let consumer: BaseConsumer = config.create()?;
        let (_, high) = consumer.fetch_watermarks(TOPIC, 0, PATIENCE)?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(TOPIC, 0, Offset::Offset(from))?;
        consumer.assign(&list)?;
        let (start, mut read, mut last) = (Instant::now(), 0, Instant::now());
        while read < high - from && last.elapsed() < PATIENCE {
            if let Some(Ok(_)) = consumer.poll(Duration::from_millis(100)) {
                (read, last) = (read + 1, Instant::now());
            }
        }
        let seconds = (last - start).as_secs_f64();
        println!("waiting {wait:>3} ms: read {read} of {} records in {seconds:.1} s", high - from);
    }
    Ok(())
}
