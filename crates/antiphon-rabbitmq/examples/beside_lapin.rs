//! Antiphon beside lapin used by hand for the same RPC: quorum queues, publisher confirmations, manual acknowledgements,
//! the answer confirmed before the request is acknowledged. The same server, the same run, alternating.
//!
//! ```sh
//! cargo run --release -p antiphon-rabbitmq --example beside_lapin [amqp://host/%2f] [seconds] [rounds]
//! ```
//! Without a URL it starts a server of its own. One connection for the caller, one for the worker, in one process.

use antiphon::{Antiphon, Failure, Payload, RawProcedureOptions};
use antiphon_conformance::beside::{self, Error};
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;
use xtask::services::rabbitmq::Node;

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
    println!("{}", beside::HEAD);
    for in_flight in [1_usize, 64, 1024] {
        let slots = u16::try_from(in_flight)?;
        let payload = br#"{"num":30}"#;
        let by_hand = ByHand::start(url, slots).await?;
        let (calling, worker) = antiphon(url, slots).await?;
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
        println!("{}", beside::compare(in_flight, length, rounds, hand, ours).await?);
        worker.stop().await?;
        calling.close().await;
    }
    Ok(())
}
