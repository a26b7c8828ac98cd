//! Peers that know nothing of Antiphon, and workers that come and go.

use antiphon::{Antiphon, Failure, Payload, RawProcedureOptions, Worker};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use xtask::services::kafka::Node;

/// Longer than anything here takes, however loaded the machine is.
const LONG: Duration = Duration::from_secs(60);

async fn connect(node: &Node, parameters: &str) -> Antiphon {
    let url = format!("{}?fetch_wait=10&{parameters}", node.url());
    Antiphon::builder(&url).driver(antiphon_kafka::driver()).connect().await.unwrap()
}

async fn echo(antiphon: &Antiphon, procedure: &str, count: &Arc<AtomicU32>) -> Worker {
    let count = Arc::clone(count);
    let run = move |_, payload: Payload| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok::<_, Failure>(payload)
        }
    };
    antiphon.worker().slots(4).procedure(procedure, RawProcedureOptions::default(), run).start().await.unwrap()
}

fn plain(node: &Node, group: &str) -> (BaseProducer, BaseConsumer) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", node.url().trim_start_matches("kafka://"));
    let producer = config.create().unwrap();
    config.set("group.id", group).set("auto.offset.reset", "earliest");
    (producer, config.create().unwrap())
}

fn publish(producer: &BaseProducer, topic: &str, headers: OwnedHeaders, body: &[u8]) {
    producer.send(BaseRecord::<[u8], [u8]>::to(topic).payload(body).headers(headers)).unwrap();
    producer.flush(LONG).unwrap();
}

/// A record as a plain peer sees it.
struct Seen {
    body: Vec<u8>,
    headers: Vec<(String, Vec<u8>)>,
}

impl Seen {
    fn header(&self, key: &str) -> Vec<u8> {
        self.headers.iter().find(|(found, _)| found == key).unwrap().1.clone()
    }
}

/// The next record.
fn next(consumer: &BaseConsumer) -> Seen {
    let start = Instant::now();
    while start.elapsed() < LONG {
        let Some(record) = consumer.poll(Duration::from_millis(100)) else { continue };
        let Ok(record) = record else { continue };
        let headers = record.headers().unwrap().iter();
        let headers = headers.map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec())).collect();
        return Seen { body: record.payload().unwrap().to_vec(), headers };
    }
    panic!("no record came");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_with_springs_headers_calls_an_antiphon_worker() {
    let node = Node::shared().unwrap();
    let (topic, replies) = (format!("spring-{}", std::process::id()), format!("spring-replies-{}", std::process::id()));
    let antiphon = connect(&node, "partitions=1").await;
    let count = Arc::default();
    let worker = echo(&antiphon, &topic, &count).await;
    // Its own worker makes the topic of replies.
    let other = echo(&antiphon, &replies, &count).await;
    other.stop().await.unwrap();
    let answer = tokio::task::spawn_blocking(move || {
        let (producer, consumer) = plain(&node, &format!("plain-{topic}"));
        consumer.subscribe(&[&replies]).unwrap();
        let headers = OwnedHeaders::new()
            .insert(Header { key: "kafka_correlationId", value: Some(&b"any bytes"[..]) })
            .insert(Header { key: "kafka_replyTopic", value: Some(&replies) })
            .insert(Header { key: "kafka_replyPartition", value: Some(&0_i32.to_be_bytes()) });
        publish(&producer, &topic, headers, b"{\"num\":30}");
        next(&consumer)
    });
    let answer = answer.await.unwrap();
    let correlation = answer.header("kafka_correlationId");
    assert_eq!((&answer.body[..], &correlation[..]), (&b"{\"num\":30}"[..], &b"any bytes"[..]));
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_antiphon_caller_calls_a_peer_with_springs_headers() {
    let node = Node::shared().unwrap();
    let topic = format!("peer-{}", std::process::id());
    let antiphon = connect(&node, "partitions=1").await;
    let call = antiphon.call_raw(&topic, Payload::json("41")).deadline_in(LONG).submit().await.unwrap();
    let peer = tokio::task::spawn_blocking(move || {
        let (producer, consumer) = plain(&node, &format!("plain-{topic}"));
        consumer.subscribe(&[&topic]).unwrap();
        let request = next(&consumer);
        let find = |key: &str| request.header(key);
        let correlation = find("kafka_correlationId");
        let partition = i32::from_be_bytes(find("kafka_replyPartition").try_into().unwrap());
        let replies = String::from_utf8(find("kafka_replyTopic")).unwrap();
        let headers = OwnedHeaders::new().insert(Header { key: "kafka_correlationId", value: Some(&correlation) });
        let record = BaseRecord::<[u8], [u8]>::to(&replies).payload(&b"42"[..]).headers(headers).partition(partition);
        producer.send(record).unwrap();
        producer.flush(LONG).unwrap();
    });
    peer.await.unwrap();
    assert_eq!(call.await.unwrap(), Payload::json("42"));
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_come_and_go_share_the_partitions_and_lose_no_call() {
    let node = Node::shared().unwrap();
    let name = format!("shared-{}", std::process::id());
    let antiphon = connect(&node, "partitions=4").await;
    let [first, second] = [Arc::<AtomicU32>::default(), Arc::default()];
    let one = echo(&antiphon, &name, &first).await;
    let calls =
        (0..400_u32).map(|number| antiphon.call_raw(&name, Payload::json(number.to_string())).deadline_in(LONG));
    let calls = antiphon.submit_all(calls).await;
    let other = connect(&node, "partitions=4").await;
    let two = echo(&other, &name, &second).await;
    for (number, call) in (0_u32..).zip(calls) {
        assert_eq!(call.unwrap().await.unwrap(), Payload::json(number.to_string()));
    }
    two.stop().await.unwrap();
    let after = antiphon.call_raw(&name, Payload::json("7")).deadline_in(LONG).await;
    assert_eq!(after.unwrap(), Payload::json("7"));
    one.stop().await.unwrap();
    assert!(first.load(Ordering::SeqCst) + second.load(Ordering::SeqCst) >= 401);
    assert!(second.load(Ordering::SeqCst) > 0, "the second worker had a share");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_unreachable_and_a_malformed_url_is_refused() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let open = |url: String| async move {
        Antiphon::builder(&url).driver(antiphon_kafka::driver()).connect().await.map(drop).unwrap_err().to_string()
    };
    let text = open(format!("kafka://{free}")).await;
    assert!(text.contains("cannot be reached"), "{text}");
    let text = open("kafka://host?nonsense=1".to_owned()).await;
    assert!(text.contains("no parameter"), "{text}");
}
