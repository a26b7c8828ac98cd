//! What brokers answer when something is wrong, from the mock cluster of the client library: it speaks the protocol over
//! sockets and fails as it is told. It makes no topics, so that everything here also works without the right to make them.

use antiphon::{Antiphon, CallBuilder, CallFilter, Failure, OpenError, Payload, RawProcedureOptions, State, Worker};
use antiphon_broker::Broker;
use antiphon_kafka::Kafka;
use antiphon_protocol::{Answer, CallId, CallStatus, Query};
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Wrong};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Longer than anything here takes, however loaded the machine is.
const LONG: Duration = Duration::from_secs(60);
const NAME: &str = "mock.echo";

struct Mock {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Mock {
    /// One broker with the topics that a worker of the procedure and its caller need.
    fn start() -> Self {
        let cluster = MockCluster::new(1).unwrap();
        let retries = [1_000, 30_000, 600_000].map(|step| format!("{NAME}-retry-{step}"));
        let others = [NAME.to_owned(), "antiphon.callers".to_owned()];
        for topic in retries.iter().chain(&others) {
            cluster.create_topic(topic, 1, 1).unwrap();
        }
        // As whoever runs the cluster may have made it.
        cluster.create_topic("antiphon.dead", 3, 1).unwrap();
        Self { cluster }
    }

    fn url(&self) -> String {
        // Its fetches wait for all of the time, whatever comes.
        format!("kafka://{}?fetch_wait=10", self.cluster.bootstrap_servers())
    }

    async fn connect(&self) -> Result<Antiphon, OpenError> {
        Antiphon::builder(&self.url()).driver(antiphon_kafka::driver()).connect().await
    }
}

async fn echo(antiphon: &Antiphon, runs: &Arc<AtomicU32>) -> Worker {
    let runs = Arc::clone(runs);
    let run = move |_, payload: Payload| {
        runs.fetch_add(1, Ordering::SeqCst);
        async { Ok::<_, Failure>(payload) }
    };
    antiphon.worker().slots(4).procedure(NAME, RawProcedureOptions::default(), run).start().await.unwrap()
}

/// So many calls, each of which must have its own answer.
async fn calls(antiphon: &Antiphon, count: u32) {
    let calls = (0..count).map(|number| antiphon.call_raw(NAME, Payload::json(number.to_string())).deadline_in(LONG));
    for (number, call) in (0..count).zip(antiphon.submit_all(calls).await) {
        assert_eq!(call.unwrap().await.unwrap(), Payload::json(number.to_string()));
    }
}

async fn dead(antiphon: &Antiphon) -> Vec<CallStatus> {
    let filter = CallFilter { state: Some(State::Dead), ..CallFilter::default() };
    antiphon.inspect().calls(filter).await.unwrap()
}

/// A call that waits in a retry topic before it runs once.
fn later(antiphon: &Antiphon) -> CallBuilder<Payload, Payload, Failure> {
    antiphon.call_raw(NAME, Payload::json("1")).at_most_once().delay(Duration::from_secs(2)).deadline_in(LONG)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_at_most_once_call_of_which_nobody_knows_whether_it_was_published_is_not_published_again() {
    let mock = Mock::start();
    let (antiphon, runs) = (mock.connect().await.unwrap(), Arc::default());
    let worker = echo(&antiphon, &runs).await;
    calls(&antiphon, 1).await;
    let id = later(&antiphon).detach().await.unwrap();
    // The answer to its move.
    mock.cluster.request_errors(Api::Produce, &[Wrong::RD_KAFKA_RESP_ERR_UNKNOWN]);
    let found = async {
        loop {
            if let Some(found) = dead(&antiphon).await.pop() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let found = tokio::time::timeout(LONG, found).await.expect("it becomes a dead letter");
    assert_eq!((found.id, found.history[0].code), (id, antiphon::Code::Unknown));
    // As long as it would have waited until it was published again, and run.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(runs.load(Ordering::SeqCst), 1, "the mock cluster did not write it");
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_at_most_once_call_that_brokers_refuse_was_not_written_and_is_published_later() {
    let mock = Mock::start();
    let (antiphon, runs) = (mock.connect().await.unwrap(), Arc::default());
    let worker = echo(&antiphon, &runs).await;
    calls(&antiphon, 1).await;
    // Somebody waits for it, who could be told that nobody knows.
    let call = later(&antiphon).submit().await.unwrap();
    mock.cluster.request_errors(Api::Produce, &[Wrong::RD_KAFKA_RESP_ERR_POLICY_VIOLATION]);
    assert_eq!(call.await.unwrap(), Payload::json("1"));
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    assert_eq!(dead(&antiphon).await, []);
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_found_and_revived_in_whatever_partition_they_are() {
    let mock = Mock::start();
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", mock.cluster.bootstrap_servers()).create().unwrap();
    let ids = [0, 2].map(|partition: i32| {
        let id = CallId::new(1_700_000_000_000, [u8::try_from(partition).unwrap(); 10]);
        let header = format!("1;id={id};o=d");
        let headers = OwnedHeaders::new()
            .insert(Header { key: "antiphon-call", value: Some(&header) })
            .insert(Header { key: "antiphon-procedure", value: Some(NAME) });
        let record = BaseRecord::<[u8], [u8]>::to("antiphon.dead").partition(partition).payload(b"41");
        producer.send(record.headers(headers)).unwrap();
        id
    });
    tokio::task::block_in_place(|| producer.flush(LONG).unwrap());
    let (antiphon, runs) = (mock.connect().await.unwrap(), Arc::<AtomicU32>::default());
    let worker = echo(&antiphon, &runs).await;
    let kafka = Kafka::open(&mock.url()).await.unwrap();
    for (count, id) in (1..).zip(ids) {
        assert_eq!(dead(&antiphon).await.len(), 3 - usize::try_from(count).unwrap());
        let anew = CallId::new(1_700_000_000_001, [u8::try_from(count).unwrap(); 10]);
        let answer = kafka.inspect().unwrap().ask(Query::Revive { dead: id, id: anew }).await.unwrap();
        assert_eq!(answer, Answer::Revived(anew));
        let ran = async {
            while runs.load(Ordering::SeqCst) < count {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LONG, ran).await.expect("it runs");
    }
    assert_eq!(dead(&antiphon).await, []);
    worker.stop().await.unwrap();
}

/// One record at a time: without a transaction the mock cluster looks at no sequence number, which Kafka does. Where it has
/// refused one request and takes the one that was sent behind it, the client library concludes that the first was written,
/// too, and says so of records that are not there.
#[tokio::test(flavor = "multi_thread")]
async fn what_brokers_refuse_for_a_while_is_published_all_the_same() {
    const WRONG: [Wrong; 5] = [
        Wrong::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        Wrong::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        Wrong::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Wrong::RD_KAFKA_RESP_ERR__TRANSPORT,
        Wrong::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    ];
    let mock = Mock::start();
    let (antiphon, runs) = (mock.connect().await.unwrap(), Arc::<AtomicU32>::default());
    let free = Arc::new(Semaphore::new(2));
    let (ran, wait) = (Arc::clone(&runs), Arc::clone(&free));
    let run = move |_, payload: Payload| {
        ran.fetch_add(1, Ordering::SeqCst);
        let wait = Arc::clone(&wait);
        async move {
            wait.acquire().await.expect("it is not closed").forget();
            Ok::<_, Failure>(payload)
        }
    };
    let worker = antiphon.worker().slots(4).procedure(NAME, RawProcedureOptions::default(), run).start().await.unwrap();
    calls(&antiphon, 1).await;
    // What fails is the second call itself, and the outcome of the third.
    mock.cluster.request_errors(Api::Produce, &WRONG);
    calls(&antiphon, 1).await;
    let third = antiphon.call_raw(NAME, Payload::json("3")).deadline_in(LONG).send();
    let runs_three = async {
        while runs.load(Ordering::SeqCst) < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, runs_three).await.expect("it runs");
    mock.cluster.request_errors(Api::Produce, &WRONG);
    free.add_permits(11);
    assert_eq!(third.await.unwrap(), Payload::json("3"));
    // Nothing is left to fail.
    calls(&antiphon, 10).await;
    assert_eq!(runs.load(Ordering::SeqCst), 13, "each ran once");
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_has_failed_for_good_is_replaced() {
    let mock = Mock::start();
    let (antiphon, runs) = (mock.connect().await.unwrap(), Arc::default());
    let worker = echo(&antiphon, &runs).await;
    calls(&antiphon, 1).await;
    // Once for the caller's record, once for the worker's: they have a connection, and so a producer, in common.
    for _ in 0..2 {
        mock.cluster.request_errors(Api::Produce, &[Wrong::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER]);
        calls(&antiphon, 5).await;
    }
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_fail_are_made_again_and_no_call_is_lost() {
    let mock = Mock::start();
    let (antiphon, runs) = (mock.connect().await.unwrap(), Arc::default());
    let wrong = [
        Wrong::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
        Wrong::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
        Wrong::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
        Wrong::RD_KAFKA_RESP_ERR__TRANSPORT,
    ];
    mock.cluster.request_errors(Api::OffsetCommit, &wrong);
    let worker = echo(&antiphon, &runs).await;
    calls(&antiphon, 20).await;
    worker.stop().await.unwrap();
    // Whoever reads on from what was committed finds nothing left to run.
    let before = runs.load(Ordering::SeqCst);
    let worker = echo(&antiphon, &runs).await;
    calls(&antiphon, 1).await;
    assert_eq!(runs.load(Ordering::SeqCst), before + 1);
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_outlast_brokers_that_are_away_for_a_while() {
    let mock = Mock::start();
    let (antiphon, runs) = (mock.connect().await.unwrap(), Arc::default());
    let worker = echo(&antiphon, &runs).await;
    calls(&antiphon, 1).await;
    mock.cluster.broker_down(-1).unwrap();
    let waiting: Vec<_> =
        (0..5).map(|_| antiphon.call_raw(NAME, Payload::json("1")).deadline_in(LONG).send()).collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    mock.cluster.broker_up(-1).unwrap();
    for call in waiting {
        assert_eq!(call.await.unwrap(), Payload::json("1"));
    }
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_come_late_are_found_by_whoever_tries_again() {
    let mock = Mock::start();
    mock.cluster.broker_down(-1).unwrap();
    let connecting = async {
        loop {
            match mock.connect().await {
                Ok(antiphon) => return antiphon,
                Err(error) => assert!(error.to_string().contains("cannot be reached"), "{error}"),
            }
        }
    };
    let coming = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        mock.cluster.broker_up(-1).unwrap();
    };
    let (antiphon, ()) = tokio::join!(connecting, coming);
    let runs = Arc::default();
    let worker = echo(&antiphon, &runs).await;
    calls(&antiphon, 1).await;
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_may_not_be_used_is_a_refusal_that_says_so() {
    let mock = Mock::start();
    let antiphon = mock.connect().await.unwrap();
    mock.cluster.topic_error(NAME, Wrong::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
    let error = antiphon.call_raw(NAME, Payload::json("1")).deadline_in(LONG).await.unwrap_err();
    assert_eq!(error.code(), antiphon::Code::PermissionDenied, "{error}");
    assert!(!error.may_have_run(), "{error}");
    // A topic that is not there, and that nobody may make.
    let error = antiphon.call_raw("nobody.made-it", Payload::json("1")).deadline_in(LONG).await.unwrap_err();
    assert!(error.to_string().contains("making topics"), "{error}");
    assert!(!error.may_have_run(), "{error}");
}
