//! Antiphon beside lapin used by hand for the same RPC: the same quorum queues, publisher confirmations, prefetch and manual
//! acknowledgements, the answer confirmed before the request is acknowledged. The same server, the same run, in turns, with
//! new connections and queues for each round.
//!
//! ```sh
//! cargo run --release -p antiphon-rabbitmq --example beside_lapin [amqp://host/%2f] [seconds] [rounds] [in flight]
//! ```
//! Without a URL it starts a server of its own. One connection for the caller, one for the worker, in one process.

use antiphon::{Antiphon, Failure, Payload, RawProcedureOptions, Worker};
use antiphon_conformance::beside::{self, Error, Side};
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;
use xtask::services::rabbitmq::Node;

/// How many answers may be with the caller unacknowledged, as with the adapter.
const REPLIES_MAX: u16 = 4_096;
const PAYLOAD: &[u8] = br#"{"num":30}"#;

/// A queue as the adapter declares it: what it costs to keep it safe costs both.
fn quorum(others: &[(&str, AMQPValue)]) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    for (key, value) in others {
        arguments.insert((*key).into(), value.clone());
    }
    arguments
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
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
    requests: String,
    replies: String,
    connections: [Connection; 2],
}

impl ByHand {
    async fn start(url: &str, slots: u16, name: &str) -> Result<Self, Error> {
        let (requests_queue, replies_queue) = (format!("by-hand.requests-{name}"), format!("by-hand.replies-{name}"));
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let mandatory = BasicPublishOptions { mandatory: true, immediate: false };
        let working = Connection::connect(url, ConnectionProperties::default()).await?;
        let calling = Connection::connect(url, ConnectionProperties::default()).await?;
        let worker = channel(&working).await?;
        let requests = quorum(&[
            ("x-delivery-limit", AMQPValue::LongLongInt(20)),
            ("x-overflow", text("reject-publish")),
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text("by-hand.dead")),
        ]);
        worker.queue_declare("by-hand.dead".into(), durable, quorum(&[])).await?;
        worker.queue_declare(requests_queue.as_str().into(), durable, requests).await?;
        let expiring = quorum(&[("x-expires", AMQPValue::LongLongInt(30_000))]);
        worker.queue_declare(replies_queue.as_str().into(), durable, expiring).await?;
        worker.basic_qos(slots, BasicQosOptions::default()).await?;
        let consume = BasicConsumeOptions::default();
        let mut requests =
            worker.basic_consume(requests_queue.as_str().into(), "".into(), consume, FieldTable::default()).await?;
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
        reader.basic_qos(REPLIES_MAX, BasicQosOptions::default()).await?;
        let mut replies =
            reader.basic_consume(replies_queue.as_str().into(), "".into(), consume, FieldTable::default()).await?;
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
        let connections = [working, calling];
        Ok(Self { channel: caller, waiting, next, requests: requests_queue, replies: replies_queue, connections })
    }
}

impl Side for ByHand {
    async fn call(&self) {
        let id = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let (sender, reply) = oneshot::channel();
        self.waiting.lock().expect("nobody panics with it").insert(id.clone(), sender);
        let properties = BasicProperties::default()
            .with_correlation_id(id.into())
            .with_reply_to(self.replies.as_str().into())
            .with_content_type("application/json".into())
            .with_delivery_mode(2);
        let mandatory = BasicPublishOptions { mandatory: true, immediate: false };
        let sent =
            self.channel.basic_publish("".into(), self.requests.as_str().into(), mandatory, PAYLOAD, properties).await;
        sent.expect("the connection is up").await.expect("it is confirmed");
        let value = reply.await.expect("it is answered");
        assert_eq!(value, PAYLOAD);
    }

    async fn close(&self) -> Result<(), Error> {
        self.channel.queue_delete(self.requests.as_str().into(), QueueDeleteOptions::default()).await?;
        for connection in &self.connections {
            connection.close(200, "the round is over".into()).await?;
        }
        Ok(())
    }
}

/// The same with Antiphon, with a connection for each side, too.
struct Ours {
    calling: Antiphon,
    working: Antiphon,
    worker: Mutex<Option<Worker>>,
    name: String,
}

impl Ours {
    async fn start(url: &str, slots: u32, name: &str) -> Result<Self, Error> {
        let connect = || Antiphon::builder(url).driver(antiphon_rabbitmq::driver()).connect();
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
    let given = arguments.iter().find(|argument| argument.starts_with("amqp"));
    let mut numbers = arguments.iter().filter_map(|argument| argument.parse::<u32>().ok());
    let (seconds, rounds) = (numbers.next().unwrap_or(2), numbers.next().unwrap_or(9));
    let only = numbers.next();
    let node = if given.is_some() { None } else { Some(Node::own("beside-lapin")?) };
    let url = given.cloned().or_else(|| node.as_ref().map(|node| node.url().to_owned())).unwrap_or_default();
    let runtime = tokio::runtime::Runtime::new()?;
    for in_flight in
        [1_u16, 64, 1024].into_iter().filter(|in_flight| only.is_none_or(|only| only == u32::from(*in_flight)))
    {
        let length = Duration::from_secs(seconds.into());
        let name = |round| format!("{}-{in_flight}-{round}", std::process::id());
        let hand = async |round| ByHand::start(&url, in_flight, &name(round)).await;
        let ours = async |round| Ours::start(&url, in_flight.into(), &name(round)).await;
        runtime.block_on(beside::compare(in_flight.into(), length, rounds.into(), hand, ours))?;
    }
    Ok(())
}
