//! Antiphon beside rdkafka used by hand for the same RPC: an idempotent producer with `acks=all` on both sides, the answer
//! confirmed before the offset of its request is committed. The same server, the same run, alternating.
//!
//! ```sh
//! cargo run --release -p antiphon-kafka --example beside_rdkafka [kafka://host] [seconds] [rounds]
//! ```
//! Without a URL it starts a node of its own. Caller and worker are in one process, with clients of their own.

use antiphon::{Antiphon, Failure, Payload, RawProcedureOptions};
use antiphon_conformance::beside::{self, Error};
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use xtask::services::kafka::Node;

const REQUESTS: &str = "by-hand.requests";
const REPLIES: &str = "by-hand.replies";
const CORRELATION: &str = "kafka_correlationId";
/// As the adapter's topics.
const PARTITIONS: i32 = 8;
/// How long a fetch waits where there is nothing: nisshi does not answer sooner when something comes.
const FETCH_WAIT_MS: u64 = 10;

/// Which requests of each partition are not answered yet, and the offset after the last that was read.
type Open = Arc<Mutex<BTreeMap<i32, (BTreeSet<i64>, i64)>>>;

/// What is done once a record is confirmed.
enum Confirmed {
    /// Somebody waits for it.
    Told(oneshot::Sender<()>),
    /// A request is answered.
    Answered(Open, i32, i64),
}

struct Confirming;

impl ClientContext for Confirming {}

impl ProducerContext for Confirming {
    type DeliveryOpaque = Box<Confirmed>;

    fn delivery(&self, result: &DeliveryResult<'_>, confirmed: Self::DeliveryOpaque) {
        assert!(result.is_ok(), "the server takes it");
        match *confirmed {
            Confirmed::Told(sender) => drop(sender.send(())),
            Confirmed::Answered(open, partition, offset) => {
                if let Some((open, _)) = open.lock().expect("nobody panics with it").get_mut(&partition) {
                    open.remove(&offset);
                }
            }
        }
    }
}

/// The RPC by hand: what a careful program does with rdkafka.
struct ByHand {
    producer: ThreadedProducer<Confirming>,
    waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<Vec<u8>>>>>,
    next: AtomicU64,
    ended: Arc<AtomicBool>,
}

fn config(servers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers);
    config
}

fn producer(servers: &str) -> Result<ThreadedProducer<Confirming>, Error> {
    let mut config = config(servers);
    config.set("enable.idempotence", "true").set("acks", "all").set("linger.ms", "0");
    Ok(config.create_with_context(Confirming)?)
}

fn consumer(servers: &str, group: &str) -> Result<BaseConsumer, Error> {
    let mut config = config(servers);
    config.set("group.id", group).set("enable.auto.commit", "false").set("auto.offset.reset", "earliest");
    config.set("fetch.wait.max.ms", FETCH_WAIT_MS.to_string());
    Ok(config.create()?)
}

fn correlation(message: &impl Message) -> Option<Vec<u8>> {
    let headers = message.headers()?;
    headers.iter().find(|header| header.key == CORRELATION)?.value.map(<[u8]>::to_vec)
}

/// Reads requests, answers them, and commits what is answered ten times a second.
fn work(servers: &str, ended: &AtomicBool) -> Result<(), Error> {
    let (reader, producer) = (consumer(servers, "by-hand")?, producer(servers)?);
    reader.subscribe(&[REQUESTS])?;
    let open: Open = Arc::default();
    let mut committed = Instant::now();
    while !ended.load(Ordering::Relaxed) {
        if committed.elapsed() > Duration::from_millis(100) {
            committed = Instant::now();
            let mut list = TopicPartitionList::new();
            for (partition, (open, next)) in &*open.lock().expect("nobody panics with it") {
                let offset = Offset::Offset(open.first().copied().unwrap_or(*next));
                list.add_partition_offset(REQUESTS, *partition, offset)?;
            }
            if list.count() > 0 {
                reader.commit(&list, CommitMode::Async)?;
            }
        }
        let Some(Ok(request)) = reader.poll(Duration::from_millis(10)) else { continue };
        let (partition, offset) = (request.partition(), request.offset());
        {
            let mut open = open.lock().expect("nobody panics with it");
            let (open, next) = open.entry(partition).or_default();
            open.insert(offset);
            *next = offset + 1;
        }
        let id = correlation(&request).ok_or("a request has an id")?;
        let headers = OwnedHeaders::new().insert(Header { key: CORRELATION, value: Some(&id) });
        let confirmed = Box::new(Confirmed::Answered(Arc::clone(&open), partition, offset));
        let body = request.payload().unwrap_or_default();
        let reply = BaseRecord::<[u8], [u8], _>::with_opaque_to(REPLIES, confirmed);
        producer.send(reply.partition(0).payload(body).headers(headers)).map_err(|(error, _)| error)?;
    }
    Ok(())
}

impl ByHand {
    async fn start(servers: &str) -> Result<Self, Error> {
        let admin: AdminClient<DefaultClientContext> = config(servers).create()?;
        let topic = |name, partitions| NewTopic::new(name, partitions, TopicReplication::Fixed(-1));
        admin.create_topics(&[topic(REQUESTS, PARTITIONS), topic(REPLIES, 1)], &AdminOptions::new()).await?;
        let ended = Arc::new(AtomicBool::new(false));
        let (working, end) = (servers.to_owned(), Arc::clone(&ended));
        std::thread::spawn(move || work(&working, &end).expect("the worker goes on"));
        let reader = consumer(servers, "by-hand-replies")?;
        let (_, high) = reader.fetch_watermarks(REPLIES, 0, Duration::from_secs(10))?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(REPLIES, 0, Offset::Offset(high))?;
        reader.assign(&list)?;
        let waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<Vec<u8>>>>> = Arc::default();
        let (asked, end) = (Arc::clone(&waiting), Arc::clone(&ended));
        std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let Some(Ok(reply)) = reader.poll(Duration::from_millis(10)) else { continue };
                let id = correlation(&reply).and_then(|id| id.try_into().ok()).map(u64::from_be_bytes);
                let asker = id.and_then(|id| asked.lock().expect("nobody panics with it").remove(&id));
                if let Some(asker) = asker {
                    drop(asker.send(reply.payload().unwrap_or_default().to_vec()));
                }
            }
        });
        Ok(Self { producer: producer(servers)?, waiting, next: AtomicU64::new(0), ended })
    }

    async fn call(&self, payload: &[u8]) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, reply) = oneshot::channel();
        self.waiting.lock().expect("nobody panics with it").insert(id, sender);
        let headers = OwnedHeaders::new()
            .insert(Header { key: CORRELATION, value: Some(&id.to_be_bytes()) })
            .insert(Header { key: "kafka_replyTopic", value: Some(REPLIES) })
            .insert(Header { key: "content-type", value: Some("application/json") });
        let (told, confirmed) = oneshot::channel();
        let record = BaseRecord::<[u8], [u8], _>::with_opaque_to(REQUESTS, Box::new(Confirmed::Told(told)));
        self.producer.send(record.payload(payload).headers(headers)).map_err(|(error, _)| error).expect("it has room");
        confirmed.await.expect("it is confirmed");
        let value = reply.await.expect("it is answered");
        assert_eq!(value, payload);
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        drop(self.producer.flush(Duration::from_secs(5)));
    }
}

async fn antiphon(url: &str, slots: u32) -> Result<(Antiphon, antiphon::Worker), Error> {
    let connect = || Antiphon::builder(url).driver(antiphon_kafka::driver()).connect();
    let (calling, working) = (connect().await?, connect().await?);
    let echo = |_, payload: Payload| async { Ok::<_, Failure>(payload) };
    let worker = working.worker().slots(slots).procedure("beside.echo", RawProcedureOptions::default(), echo);
    Ok((calling, worker.start().await?))
}

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = arguments.iter().find(|argument| argument.starts_with("kafka"));
    let mut numbers = arguments.iter().filter_map(|argument| argument.parse::<u64>().ok());
    let (seconds, rounds) = (numbers.next().unwrap_or(4), numbers.next().unwrap_or(3));
    let only = numbers.next();
    let runtime = tokio::runtime::Runtime::new()?;
    println!("{}", beside::HEAD);
    for in_flight in [1_u32, 64, 1024] {
        if only.is_some_and(|only| only != u64::from(in_flight)) {
            continue;
        }
        // nisshi reads the slower the more it holds: each row has a node of its own.
        let node = if given.is_some() { None } else { Some(Node::own(&format!("beside-{in_flight}"))?) };
        let url = given.cloned().or_else(|| node.as_ref().map(|node| node.url().to_owned())).unwrap_or_default();
        let row = runtime.block_on(compare(&url, in_flight, Duration::from_secs(seconds), rounds))?;
        println!("{row}");
    }
    Ok(())
}

async fn compare(url: &str, in_flight: u32, length: Duration, rounds: u64) -> Result<String, Error> {
    let payload = br#"{"num":30}"#;
    let by_hand = Arc::new(ByHand::start(url.trim_start_matches("kafka://")).await?);
    let url = format!("{url}?fetch_wait={FETCH_WAIT_MS}&partitions={PARTITIONS}");
    let (calling, worker) = antiphon(&url, in_flight).await?;
    let hand = move || {
        let hand = Arc::clone(&by_hand);
        async move { hand.call(payload).await }
    };
    let asking = calling.clone();
    let ours = move || {
        let call = asking.call_raw("beside.echo", Payload::json(&payload[..]));
        async move {
            let value = call.await.expect("it is answered");
            assert_eq!(&value.bytes[..], payload);
        }
    };
    let row = beside::compare(usize::try_from(in_flight)?, length, rounds, hand, ours).await?;
    worker.stop().await?;
    calling.close().await;
    Ok(row)
}
