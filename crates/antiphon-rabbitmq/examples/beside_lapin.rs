//! Antiphon beside lapin used by hand for the same RPC: quorum queues, publisher confirmations, manual acknowledgements,
//! the answer confirmed before the request is acknowledged. The same server, the same run, alternating.
//!
//! ```sh
//! cargo run --release -p antiphon-rabbitmq --example beside_lapin [amqp://host/%2f] [seconds] [rounds]
//! ```
//! Without a URL it starts a server of its own. One connection for the caller, one for the worker, in one process.

use antiphon::{Antiphon, Failure, Payload, RawProcedureOptions};
use futures_util::StreamExt;
use hdrhistogram::Histogram;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use xtask::services::rabbitmq::Node;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What a run found.
struct Found {
    per_second: f64,
    latencies: Histogram<u64>,
}

/// Runs `call` in so many loops at a time and counts what is answered within `length`.
async fn load<F: Future<Output = ()> + Send + 'static>(
    in_flight: usize,
    length: Duration,
    call: impl Fn() -> F + Send + Sync + 'static,
) -> Result<Found, Error> {
    let call = Arc::new(call);
    let warm = Instant::now() + length / 4;
    let end = warm + length;
    let loops: Vec<_> = (0..in_flight)
        .map(|_| {
            let call = Arc::clone(&call);
            tokio::spawn(async move {
                let mut taken = Vec::new();
                while Instant::now() < end {
                    let start = Instant::now();
                    call().await;
                    if start >= warm && Instant::now() <= end {
                        taken.push(start.elapsed());
                    }
                }
                taken
            })
        })
        .collect();
    let mut latencies = Histogram::new(3)?;
    for looping in loops {
        for taken in looping.await? {
            latencies.record(u64::try_from(taken.as_micros())?.max(1))?;
        }
    }
    Ok(Found { per_second: latencies.len() as f64 / length.as_secs_f64(), latencies })
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments
}

async fn channel(connection: &Connection) -> Result<Channel, Error> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// The RPC by hand: what a careful program does with lapin.
struct ByHand {
    channel: Channel,
    waiting: Arc<Mutex<HashMap<String, oneshot::Sender<Vec<u8>>>>>,
    next: AtomicU64,
    _connections: (Connection, Connection),
}

const REQUESTS: &str = "by-hand.requests";
const REPLIES: &str = "by-hand.replies";

impl ByHand {
    async fn start(url: &str, slots: u16) -> Result<Arc<Self>, Error> {
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let mandatory = BasicPublishOptions { mandatory: true, immediate: false };
        let working = Connection::connect(url, ConnectionProperties::default()).await?;
        let calling = Connection::connect(url, ConnectionProperties::default()).await?;
        let worker = channel(&working).await?;
        worker.queue_declare(REQUESTS.into(), durable, quorum()).await?;
        worker.queue_declare(REPLIES.into(), durable, quorum()).await?;
        worker.basic_qos(slots, BasicQosOptions::default()).await?;
        let consume = BasicConsumeOptions::default();
        let mut requests = worker.basic_consume(REQUESTS.into(), "".into(), consume, FieldTable::default()).await?;
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                let worker = worker.clone();
                tokio::spawn(async move {
                    let reply_to = request.properties.reply_to().clone().unwrap_or_default();
                    let id = request.properties.correlation_id().clone().unwrap_or_default();
                    let properties = BasicProperties::default().with_correlation_id(id).with_delivery_mode(2);
                    let sent = worker.basic_publish("".into(), reply_to, mandatory, &request.data, properties).await;
                    if let Ok(confirm) = sent
                        && confirm.await.is_ok()
                    {
                        drop(request.ack(BasicAckOptions::default()).await);
                    }
                });
            }
        });
        let caller = channel(&calling).await?;
        let reader = channel(&calling).await?;
        reader.basic_qos(4_096, BasicQosOptions::default()).await?;
        let mut replies = reader.basic_consume(REPLIES.into(), "".into(), consume, FieldTable::default()).await?;
        let waiting: Arc<Mutex<HashMap<String, oneshot::Sender<Vec<u8>>>>> = Arc::default();
        let asked = Arc::clone(&waiting);
        tokio::spawn(async move {
            while let Some(Ok(reply)) = replies.next().await {
                let id = reply.properties.correlation_id().clone().unwrap_or_default();
                let asker = asked.lock().expect("nobody panics with it").remove(id.as_str());
                if let Some(asker) = asker {
                    drop(asker.send(reply.data.clone()));
                }
                drop(reply.ack(BasicAckOptions::default()).await);
            }
        });
        let next = AtomicU64::new(0);
        Ok(Arc::new(Self { channel: caller, waiting, next, _connections: (working, calling) }))
    }

    async fn call(&self, payload: &[u8]) {
        let id = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let (sender, reply) = oneshot::channel();
        self.waiting.lock().expect("nobody panics with it").insert(id.clone(), sender);
        let properties = BasicProperties::default()
            .with_correlation_id(id.into())
            .with_reply_to(REPLIES.into())
            .with_content_type("application/json".into())
            .with_delivery_mode(2);
        let mandatory = BasicPublishOptions { mandatory: true, immediate: false };
        let sent = self.channel.basic_publish("".into(), REQUESTS.into(), mandatory, payload, properties).await;
        sent.expect("the connection is up").await.expect("it is confirmed");
        let value = reply.await.expect("it is answered");
        assert_eq!(value, payload);
    }
}

async fn antiphon(url: &str, slots: u16) -> Result<(Antiphon, antiphon::Worker), Error> {
    let connect = || Antiphon::builder(url).driver(antiphon_rabbitmq::driver()).connect();
    let (calling, working) = (connect().await?, connect().await?);
    let echo = |_, payload: Payload| async { Ok::<_, Failure>(payload) };
    let worker =
        working.worker().slots(u32::from(slots)).procedure("beside.echo", RawProcedureOptions::default(), echo);
    Ok((calling, worker.start().await?))
}

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = arguments.iter().find(|argument| argument.starts_with("amqp"));
    let mut numbers = arguments.iter().filter_map(|argument| argument.parse::<u64>().ok());
    let (seconds, rounds) = (numbers.next().unwrap_or(4), numbers.next().unwrap_or(3));
    let node = if given.is_some() { None } else { Some(Node::own("beside-lapin")?) };
    let url = given.cloned().or_else(|| node.as_ref().map(|node| node.url().to_owned())).unwrap_or_default();
    tokio::runtime::Runtime::new()?.block_on(compare(&url, Duration::from_secs(seconds), rounds))
}

async fn compare(url: &str, length: Duration, rounds: u64) -> Result<(), Error> {
    println!(
        "in flight | by hand: calls/s  p50 µs  p99 µs | antiphon: calls/s  p50 µs  p99 µs | throughput  p50 latency"
    );
    for in_flight in [1_usize, 64, 1024] {
        let slots = u16::try_from(in_flight)?;
        let payload = br#"{"num":30}"#;
        let by_hand = ByHand::start(url, slots).await?;
        let (calling, worker) = antiphon(url, slots).await?;
        let mut both: [Vec<Found>; 2] = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            let hand = Arc::clone(&by_hand);
            both[0].push(
                load(in_flight, length, move || {
                    let hand = Arc::clone(&hand);
                    async move { hand.call(payload).await }
                })
                .await?,
            );
            let calling = calling.clone();
            let call = move || {
                let call = calling.call_raw("beside.echo", Payload::json(&payload[..]));
                async move {
                    let value = call.await.expect("it is answered");
                    assert_eq!(&value.bytes[..], payload);
                }
            };
            both[1].push(load(in_flight, length, call).await?);
        }
        let middle = |found: &mut Vec<Found>| {
            found.sort_by(|one, other| one.per_second.total_cmp(&other.per_second));
            found.remove(found.len() / 2)
        };
        let [hand, ours] = &mut both;
        let (hand, ours) = (middle(hand), middle(ours));
        let at = |found: &Found, quantile| found.latencies.value_at_quantile(quantile);
        println!(
            "{in_flight:>9} | {:>17.0} {:>7} {:>7} | {:>18.0} {:>7} {:>7} | {:>9.2}× {:>11.2}×",
            hand.per_second,
            at(&hand, 0.5),
            at(&hand, 0.99),
            ours.per_second,
            at(&ours, 0.5),
            at(&ours, 0.99),
            ours.per_second / hand.per_second,
            at(&ours, 0.5) as f64 / at(&hand, 0.5) as f64,
        );
        worker.stop().await?;
        calling.close().await;
    }
    Ok(())
}
