//! Kafka behind the seam: what it can do, and how its callers and workers are opened.

use crate::address::Address;
use crate::caller_pump::CallerPump;
use crate::chance::random;
use crate::dead_letters::DeadLetters;
use crate::names::{Names, STEPS_MS, TOPIC_BYTES_MAX};
use crate::publisher::{Patience, Publisher};
use crate::reader::{Leases, Reader, Start};
use crate::record;
use crate::topics::{Purpose, Topics, failure};
use crate::worker_pump::{WorkerPump, topics};
use antiphon_broker::foreign::{Admission, DedupeStore, HandingCaller, HandingWorker, LeaseBook, Ledger, Room};
use antiphon_broker::{
    AcceptedMeans, Attach, BoxFuture, Broker, Callbacks, Caller, CancelReach, Capabilities, Delay, Driver, Fencing,
    Idempotency, Inbox, Inspect, LeasesOf, OpenError, Ordering, Questions, Sink, Support, Worker,
};
use antiphon_protocol::{Code, Failure, Offer};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// How long brokers may take to answer for the first time.
const OPEN: Duration = Duration::from_secs(10);
/// The longest delay a caller may ask for, in milliseconds: a week, in hops of ten minutes.
const DELAY_MS_MAX: u64 = 7 * 86_400_000;
/// Brokers take records of a mebibyte unless they are told otherwise: so much of it is for headers.
const PAYLOAD_BYTES_MAX: u32 = (1 << 20) - (64 << 10);

/// Opens `kafka://` URLs: give it to `Antiphon::builder(url).driver(..)`.
#[must_use]
pub fn driver() -> impl Driver {
    KafkaDriver
}

struct KafkaDriver;

impl Driver for KafkaDriver {
    fn schemes(&self) -> &[&str] {
        &["kafka"]
    }

    fn open<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Arc<dyn Broker>, OpenError>> {
        Box::pin(async move { Ok(Arc::new(Kafka::open(url).await?) as Arc<dyn Broker>) })
    }
}

/// A Kafka cluster. Every caller has a reader of its own, every worker one for each procedure; all share a publisher.
pub struct Kafka {
    address: Address,
    config: ClientConfig,
    names: Names,
    topics: Arc<Topics>,
    publisher: Arc<Publisher>,
    leases: Arc<Leases>,
    dead_letters: DeadLetters,
    admission: Arc<Admission>,
    closing: watch::Sender<bool>,
    pumps: Mutex<Vec<JoinHandle<()>>>,
}

impl Kafka {
    /// Reaches the cluster at `url`; see the README for its parameters. Must be called within a tokio runtime, which
    /// everything that is opened runs on.
    ///
    /// # Errors
    /// [`OpenError::Refused`] with `INVALID_ARGUMENT` for a malformed URL, [`OpenError::Unreachable`] when no broker
    /// answers within 10 s.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        let address = Address::parse(url)?;
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &address.brokers)
            .set("client.id", "antiphon")
            .set("allow.auto.create.topics", "false")
            .set("topic.metadata.refresh.fast.interval.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("fetch.wait.max.ms", address.fetch_wait_ms.to_string())
            .set("log_level", "3");
        greet(&config, &address).await?;
        let unusable = |error: KafkaError| OpenError::Unreachable(format!("Kafka at {}: {error}", address.brokers));
        let topics = Arc::new(Topics::open(&config, &address).map_err(unusable)?);
        let publisher = Arc::new(Publisher::open(&config, Arc::clone(&topics)).map_err(unusable)?);
        let names = Names::new(address.prefix.clone());
        let leases = Arc::new(Leases::open(&config, &names.leases()).map_err(unusable)?);
        let dead_letters = DeadLetters {
            config: config.clone(),
            names: names.clone(),
            topics: Arc::clone(&topics),
            publisher: Arc::clone(&publisher),
        };
        Ok(Self {
            names,
            dead_letters,
            leases,
            topics,
            publisher,
            admission: Arc::new(Admission::new(capabilities(), "Kafka".to_owned(), DELAY_MS_MAX)),
            closing: watch::Sender::new(false),
            pumps: Mutex::default(),
            config,
            address,
        })
    }

    fn keep(&self, pump: JoinHandle<()>) {
        let mut pumps = self.pumps.lock().unwrap_or_else(PoisonError::into_inner);
        pumps.retain(|pump| !pump.is_finished());
        pumps.push(pump);
    }

    async fn caller(&self, inbox: Inbox, sink: Arc<dyn Sink>) -> Result<Box<dyn Caller>, OpenError> {
        let named = matches!(inbox, Inbox::Named(_));
        let mut ledger = Ledger::new(named, self.admission.capabilities().durable_by_default);
        let store = DedupeStore::open_for(&mut ledger, self.address.dedupe.as_deref().filter(|_| named))?;
        let topic = self.names.inbox(&inbox);
        let purpose = if named { Purpose::Inbox } else { Purpose::Callers };
        self.topics.ensure(&[(topic.clone(), purpose)]).await.map_err(open_error)?;
        let (told, news) = mpsc::unbounded_channel();
        let start = match named {
            true => Start::Committed { topic: topic.clone() },
            false => Start::End { topic: topic.clone(), random: random() },
        };
        let opened = |error| open_error(failure(&format!("reading the topic {topic:?}"), &error));
        let reader = Reader::start(&self.config, &topic, start, 0, told, None).await.map_err(opened)?;
        let claim = named.then(random);
        if let Some(claim) = claim {
            let claim = record::claim(topic.clone(), claim);
            let claimed = Arc::clone(&self.publisher).insist(claim, Patience::For(OPEN)).await;
            let what = format!("claiming the topic {topic:?}");
            claimed.map_err(|unpublished| open_error(failure(&what, &unpublished.error)))?;
        }
        let (pump, asked) = mpsc::unbounded_channel();
        let room = Arc::new(Room::default());
        // A pump that is gone has said so by its last event.
        let caller = HandingCaller::new(Arc::clone(&room), move |asked| drop(pump.send(asked)));
        let pump = CallerPump {
            names: self.names.clone(),
            topics: Arc::clone(&self.topics),
            publisher: Arc::clone(&self.publisher),
            admission: Arc::clone(&self.admission),
            inbox: topic,
            reader,
            news,
            claim,
            claimed: false,
            sink,
            room,
            asked,
            closing: self.closing.subscribe(),
            store,
            ledger,
            events: Vec::new(),
            submitted: Vec::new(),
            outstanding: HashMap::new(),
        };
        self.keep(tokio::spawn(pump.run()));
        Ok(Box::new(caller))
    }

    async fn worker(&self, offer: Offer, sink: Arc<dyn Sink>) -> Result<Box<dyn Worker>, OpenError> {
        let procedures: Vec<String> = offer.procedures.iter().map(|offered| offered.name.to_string()).collect();
        let needed = topics(&self.names, &procedures);
        if let Some((topic, _)) = needed.iter().find(|(topic, _)| topic.len() > TOPIC_BYTES_MAX) {
            let text = format!("the topic's name {topic:?} has more than {TOPIC_BYTES_MAX} bytes");
            return Err(OpenError::Refused(Failure::new(Code::InvalidArgument, text)));
        }
        self.topics.ensure(&needed).await.map_err(open_error)?;
        let (told, news) = mpsc::unbounded_channel();
        let mut readers = Vec::with_capacity(procedures.len());
        for (number, procedure) in (0..).zip(&procedures) {
            let retries = STEPS_MS.map(|step| self.names.retry(procedure, step));
            let start = Start::Share(retries.into_iter().chain([self.names.procedure(procedure)]).collect());
            let group = self.names.group(procedure);
            let leases = Some(Arc::clone(&self.leases));
            let reader = Reader::start(&self.config, &group, start, number, told.clone(), leases).await;
            readers.push(reader.map_err(|error| open_error(failure(&format!("joining the group {group:?}"), &error)))?);
        }
        let (pump, asked) = mpsc::unbounded_channel();
        let moving = WorkerPump {
            names: self.names.clone(),
            publisher: Arc::clone(&self.publisher),
            procedures,
            readers,
            news,
            sink,
            asked,
            closing: self.closing.subscribe(),
            book: LeaseBook::new(offer.slots),
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            early: BTreeMap::new(),
            sequence: 0,
            events: Vec::new(),
            left: false,
        };
        self.keep(tokio::spawn(moving.run()));
        Ok(Box::new(HandingWorker::new(move |asked| drop(pump.send(asked)))))
    }
}

/// Asks the brokers who they are: a client is made without them, and would wait for ever.
async fn greet(config: &ClientConfig, address: &Address) -> Result<(), OpenError> {
    let (config, brokers) = (config.clone(), address.brokers.clone());
    let greeting = tokio::task::spawn_blocking(move || {
        let client: BaseConsumer = config.create()?;
        client.fetch_metadata(None, OPEN).map(drop)
    });
    let error = match greeting.await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    Err(OpenError::Unreachable(format!("Kafka at {brokers} cannot be reached: {error}")))
}

/// A failure, as whoever opens something is told it.
fn open_error(failure: Failure) -> OpenError {
    if failure.code == Code::Unavailable {
        OpenError::Unreachable(failure.message)
    } else {
        OpenError::Refused(failure)
    }
}

impl Broker for Kafka {
    fn capabilities(&self) -> &Capabilities {
        self.admission.capabilities()
    }

    fn open_caller(&self, inbox: Inbox, sink: Arc<dyn Sink>) -> BoxFuture<'_, Result<Box<dyn Caller>, OpenError>> {
        Box::pin(self.caller(inbox, sink))
    }

    fn open_worker(&self, offer: Offer, sink: Arc<dyn Sink>) -> BoxFuture<'_, Result<Box<dyn Worker>, OpenError>> {
        Box::pin(self.worker(offer, sink))
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        Some(&self.dead_letters)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.closing.send_replace(true);
        let pumps = std::mem::take(&mut *self.pumps.lock().unwrap_or_else(PoisonError::into_inner));
        Box::pin(async move {
            for pump in pumps {
                // One that panicked has said so.
                drop(pump.await);
            }
        })
    }
}

const fn capabilities() -> Capabilities {
    Capabilities {
        accepted: AcceptedMeans::Replicated,
        durable_by_default: true,
        fencing: Fencing::AtCaller,
        cancel: CancelReach::None,
        attach: Attach::InboxOnly,
        ordering: Ordering::None,
        idempotency: Idempotency::ById,
        delay: Delay::Stepped,
        callbacks: Callbacks::None,
        groups: Support::Refused,
        progress: Support::Refused,
        events: Support::Refused,
        schedules: Support::Refused,
        late_binding: Support::Refused,
        priorities: Support::Refused,
        tenants: Support::Refused,
        leases: LeasesOf::Connection,
        questions: Questions::DeadLetters,
        concurrency_keys: Support::Refused,
        needs: Support::Refused,
        parking: Support::Refused,
        named_inboxes: Support::Native,
        payload_bytes_max: PAYLOAD_BYTES_MAX,
    }
}
