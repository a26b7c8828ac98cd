//! Antiphon beside rdkafka used by hand for the same RPC: an idempotent producer with `acks=all` on both sides, the answer
//! confirmed before the offset of its request is committed. The same server, the same run, in turns,
//! with new clients and topics for each round.
//!
//! ```sh
//! cargo run --release -p antiphon-kafka --example beside_rdkafka [kafka://host] [seconds] [rounds] [in flight]
//! ```
//! Without a URL it starts a node of its own. Caller and worker are in one process, with clients of their own.

use antiphon::{Antiphon, Failure, Payload, RawProcedureOptions, Worker};
use antiphon_conformance::beside::{self, Error, Side};
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
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use xtask::services::kafka::Node;

const PAYLOAD: &[u8] = br#"{"num":30}"#;
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

/// The topics of a round.
#[derive(Clone)]
struct Names {
    requests: String,
    replies: String,
}

/// The RPC by hand: what a careful program does with rdkafka.
struct ByHand {
    producer: ThreadedProducer<Confirming>,
    waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<Vec<u8>>>>>,
    next: AtomicU64,
    names: Names,
    ended: Arc<AtomicBool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
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
fn work(servers: &str, names: &Names, ended: &AtomicBool) -> Result<(), Error> {
    let (reader, producer) = (consumer(servers, &names.requests)?, producer(servers)?);
    reader.subscribe(&[&names.requests])?;
    let open: Open = Arc::default();
    let mut committed = Instant::now();
    while !ended.load(Ordering::Relaxed) {
        if committed.elapsed() > Duration::from_millis(100) {
            committed = Instant::now();
            let mut list = TopicPartitionList::new();
            for (partition, (open, next)) in &*open.lock().expect("nobody panics with it") {
                let offset = Offset::Offset(open.first().copied().unwrap_or(*next));
                list.add_partition_offset(&names.requests, *partition, offset)?;
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
        let reply = BaseRecord::<[u8], [u8], _>::with_opaque_to(&names.replies, confirmed);
        producer.send(reply.partition(0).payload(body).headers(headers)).map_err(|(error, _)| error)?;
    }
    Ok(())
}

impl ByHand {
    async fn start(servers: &str, name: &str) -> Result<Self, Error> {
        let names = Names { requests: format!("by-hand.requests-{name}"), replies: format!("by-hand.replies-{name}") };
        let admin: AdminClient<DefaultClientContext> = config(servers).create()?;
        let requests = NewTopic::new(&names.requests, PARTITIONS, TopicReplication::Fixed(-1));
        let replies = NewTopic::new(&names.replies, 1, TopicReplication::Fixed(-1));
        admin.create_topics(&[requests, replies], &AdminOptions::new()).await?;
        let ended = Arc::new(AtomicBool::new(false));
        let (working, of, end) = (servers.to_owned(), names.clone(), Arc::clone(&ended));
        let worker = std::thread::spawn(move || work(&working, &of, &end).expect("the worker goes on"));
        let reader = consumer(servers, &names.replies)?;
        let (_, high) = reader.fetch_watermarks(&names.replies, 0, Duration::from_secs(10))?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&names.replies, 0, Offset::Offset(high))?;
        reader.assign(&list)?;
        let waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<Vec<u8>>>>> = Arc::default();
        let (asked, end) = (Arc::clone(&waiting), Arc::clone(&ended));
        let caller = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let Some(Ok(reply)) = reader.poll(Duration::from_millis(10)) else { continue };
                let id = correlation(&reply).and_then(|id| id.try_into().ok()).map(u64::from_be_bytes);
                let asker = id.and_then(|id| asked.lock().expect("nobody panics with it").remove(&id));
                if let Some(asker) = asker {
                    drop(asker.send(reply.payload().unwrap_or_default().to_vec()));
                }
            }
        });
        let (next, threads) = (AtomicU64::new(0), Mutex::new(vec![worker, caller]));
        Ok(Self { producer: producer(servers)?, waiting, next, names, ended, threads })
    }
}

impl Side for ByHand {
    async fn call(&self) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, reply) = oneshot::channel();
        self.waiting.lock().expect("nobody panics with it").insert(id, sender);
        let headers = OwnedHeaders::new()
            .insert(Header { key: CORRELATION, value: Some(&id.to_be_bytes()) })
            .insert(Header { key: "kafka_replyTopic", value: Some(&self.names.replies) })
            .insert(Header { key: "content-type", value: Some("application/json") });
        let (told, confirmed) = oneshot::channel();
        let record = BaseRecord::<[u8], [u8], _>::with_opaque_to(&self.names.requests, Box::new(Confirmed::Told(told)));
        self.producer.send(record.payload(PAYLOAD).headers(headers)).map_err(|(error, _)| error).expect("it has room");
        confirmed.await.expect("it is confirmed");
        let value = reply.await.expect("it is answered");
        assert_eq!(value, PAYLOAD);
    }

    async fn close(&self) -> Result<(), Error> {
        self.producer.flush(Duration::from_secs(5))?;
        self.ended.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut *self.threads.lock().expect("nobody panics with it"));
        for thread in threads {
            tokio::task::spawn_blocking(|| thread.join()).await?.map_err(|_| "a thread of it panicked")?;
        }
        Ok(())
    }
}

/// The same with Antiphon, with clients of their own for each side, too.
struct Ours {
    calling: Antiphon,
    working: Antiphon,
    worker: Mutex<Option<Worker>>,
    name: String,
}

impl Ours {
    async fn start(url: &str, slots: u32, name: &str) -> Result<Self, Error> {
        let url = format!("{url}?fetch_wait={FETCH_WAIT_MS}&partitions={PARTITIONS}");
        let connect = || Antiphon::builder(&url).driver(antiphon_kafka::driver()).connect();
        let (calling, working) = (connect().await?, connect().await?);
        let name = format!("beside.echo-{name}");
        let echo = |_, payload: Payload| async { Ok::<_, Failure>(payload) };
        let worker = working.worker().slots(slots).procedure(&name, RawProcedureOptions::default(), echo);
        let worker = Mutex::new(Some(worker.start().await?));
        Ok(Self { calling, working, worker, name })
    }
}

impl Side for Ours {
    async fn call(&self) {
        let call = self.calling.call_raw(&self.name, Payload::json(PAYLOAD));
        let value = call.await.expect("it is answered");
        assert_eq!(&value.bytes[..], PAYLOAD);
    }

    async fn close(&self) -> Result<(), Error> {
        let worker = self.worker.lock().expect("nobody panics with it").take();
        if let Some(worker) = worker {
            worker.stop().await?;
        }
        self.working.close().await;
        self.calling.close().await;
        Ok(())
    }
}

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = arguments.iter().find(|argument| argument.starts_with("kafka"));
    let mut numbers = arguments.iter().filter_map(|argument| argument.parse::<u32>().ok());
    let (seconds, rounds) = (numbers.next().unwrap_or(2), numbers.next().unwrap_or(9));
    let only = numbers.next();
    let runtime = tokio::runtime::Runtime::new()?;
    for in_flight in [1_u32, 64, 1024].into_iter().filter(|in_flight| only.is_none_or(|only| only == *in_flight)) {
        // nisshi reads the slower the more it holds: each has a node of its own.
        let node = if given.is_some() { None } else { Some(Node::own(&format!("beside-{in_flight}"))?) };
        let url = given.cloned().or_else(|| node.as_ref().map(|node| node.url().to_owned())).unwrap_or_default();
        let servers = url.trim_start_matches("kafka://");
        let length = Duration::from_secs(seconds.into());
        let name = |round| format!("{}-{in_flight}-{round}", std::process::id());
        let hand = async |round| ByHand::start(servers, &name(round)).await;
        let ours = async |round| Ours::start(&url, in_flight, &name(round)).await;
        runtime.block_on(beside::compare(usize::try_from(in_flight)?, length, rounds.into(), hand, ours))?;
    }
    Ok(())
}
