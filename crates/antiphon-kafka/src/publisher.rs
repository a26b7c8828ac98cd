//! Records on their way to the brokers, and what the brokers say of them.

use crate::topics::Topics;
use bytes::Bytes;
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// How long to wait before a record that was not taken is offered again, at first and at most.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A record and where it goes.
#[derive(Clone, Debug)]
pub(crate) struct Publication {
    pub(crate) topic: String,
    /// `None` where any partition will do.
    pub(crate) partition: Option<i32>,
    pub(crate) headers: OwnedHeaders,
    pub(crate) body: Bytes,
    /// Whether it must not be written twice: it is not offered again when nobody knows whether it was written.
    pub(crate) once: bool,
}

/// What came of it.
pub(crate) type Published = Result<(), Unpublished>;

/// Why a record is not known to be written.
#[derive(Debug)]
pub(crate) struct Unpublished {
    pub(crate) error: KafkaError,
    /// Whether it may be there all the same, or come to be; otherwise it was refused.
    pub(crate) may_be_written: bool,
}

/// How long a record is offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Patience {
    /// For as long as it takes.
    Endless,
    /// So long in all.
    For(Duration),
    /// For as long as it takes, but only so long while its topic or its partition is not there.
    Homeless(Duration),
}

impl Patience {
    /// What is left of it; `None` is no bound.
    fn left(self, start: Instant) -> Option<Duration> {
        match self {
            Self::For(bound) => Some(bound.saturating_sub(start.elapsed())),
            Self::Endless | Self::Homeless(_) => None,
        }
    }

    fn is_over(self, start: Instant, homeless: Option<Instant>) -> bool {
        match self {
            Self::Endless => false,
            Self::For(bound) => start.elapsed() >= bound,
            Self::Homeless(bound) => homeless.is_some_and(|since| since.elapsed() >= bound),
        }
    }
}

/// What the brokers said of a record.
type Told = Result<(), KafkaError>;

/// Tells whoever waits for a record what came of it.
pub(crate) struct Deliveries;

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<oneshot::Sender<Told>>;

    fn delivery(&self, result: &DeliveryResult<'_>, told: Self::DeliveryOpaque) {
        let said = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.clone()),
        };
        // Nobody may wait for it any more.
        drop(told.send(said));
    }
}

/// Publishes with idempotence and `acks=all`: what is confirmed was written by every replica that is in sync, and once by
/// the producer that offered it. One that has failed is replaced by another, whose numbers the brokers do not compare with
/// its own: what it left unconfirmed is offered again, and may then be written twice, unless it must not be.
pub(crate) struct Publisher {
    config: ClientConfig,
    producer: RwLock<Numbered>,
    topics: Arc<Topics>,
}

/// A producer, and the how manieth it is: one that has failed for good is replaced.
#[derive(Clone)]
struct Numbered {
    number: u64,
    producer: Arc<Producer>,
}

/// A producer. It ends off the threads of the runtime: it waits for its own thread, and half a second for its records.
struct Producer(Option<ThreadedProducer<Deliveries>>);

impl Producer {
    fn open(config: &ClientConfig) -> Result<Arc<Self>, KafkaError> {
        Ok(Arc::new(Self(Some(config.create_with_context(Deliveries)?))))
    }

    /// Hands a record over; `None` while the client's own queue is full.
    fn send(&self, publication: &Publication) -> Result<Option<oneshot::Receiver<Told>>, KafkaError> {
        let (told, said) = oneshot::channel();
        let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(&publication.topic, Box::new(told))
            .payload(&publication.body)
            .headers(publication.headers.clone());
        if let Some(partition) = publication.partition {
            record = record.partition(partition);
        }
        match self.0.as_ref().expect("it is taken only when dropped").send(record) {
            Ok(()) => Ok(Some(said)),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Ok(None),
            Err((error, _)) => Err(error),
        }
    }

    /// Offers a record, and waits for as long as is `left`; `None` is no bound.
    async fn offer(&self, publication: &Publication, left: Option<Duration>) -> Published {
        let refused = |error| Unpublished { error, may_be_written: false };
        let said = match self.send(publication) {
            Ok(Some(said)) => said,
            Ok(None) => return Err(refused(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull))),
            Err(error) => return Err(refused(error)),
        };
        let timed_out = Ok(Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut)));
        let said = match left {
            // The client keeps it, and may write it yet.
            Some(left) => tokio::time::timeout(left, said).await.unwrap_or(timed_out),
            None => said.await,
        };
        let error = match said {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => KafkaError::Canceled,
        };
        Err(Unpublished { may_be_written: !is_homeless(&error) && !is_refused(&error), error })
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let producer = self.0.take();
        // Without a runtime it ends here, where it holds up nobody.
        if let Ok(runtime) = Handle::try_current() {
            drop(runtime.spawn_blocking(move || drop(producer)));
        }
    }
}

impl Publisher {
    pub(crate) fn open(config: &ClientConfig, topics: Arc<Topics>) -> Result<Self, KafkaError> {
        let mut config = config.clone();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "0")
            // Whoever waits gives up by a deadline, not the client: a record that timed out may be written all the same.
            .set("message.timeout.ms", "0");
        let producer = Producer::open(&config)?;
        Ok(Self { config, producer: RwLock::new(Numbered { number: 0, producer }), topics })
    }

    fn current(&self) -> Numbered {
        self.producer.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces a producer whose numbers and the brokers' no longer agree: it publishes nothing any more.
    fn replace(&self, failed: u64) {
        let mut current = self.producer.write().unwrap_or_else(PoisonError::into_inner);
        if current.number != failed {
            return;
        }
        match Producer::open(&self.config) {
            Ok(producer) => *current = Numbered { number: failed + 1, producer },
            Err(error) => tracing::error!(%error, "making a new producer; it is tried again"),
        }
    }

    /// Publishes, and waits until the brokers have confirmed. What is not taken now is offered again, for as long as
    /// there is `patience`; what can never be taken is not.
    pub(crate) async fn insist(self: Arc<Self>, publication: Publication, patience: Patience) -> Published {
        let start = Instant::now();
        let mut pause = PAUSE;
        let (mut may_be_written, mut homeless) = (false, None);
        loop {
            let Numbered { number, producer } = self.current();
            let offered = producer.offer(&publication, patience.left(start)).await;
            drop(producer);
            let Err(unpublished) = offered else { return Ok(()) };
            // What an earlier producer may have written stays so.
            may_be_written |= unpublished.may_be_written;
            let error = unpublished.error;
            homeless = if is_homeless(&error) { homeless.or(Some(Instant::now())) } else { None };
            let mut over = patience.is_over(start, homeless) || (publication.once && may_be_written);
            if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
                tracing::warn!(%error, "the producer has failed and is replaced");
                self.replace(number);
            } else {
                over |= !may_pass(&error);
            }
            if over {
                return Err(Unpublished { error, may_be_written });
            }
            // A partition that is not there does not come by making its topic.
            if homeless.is_some() && error.rdkafka_error_code() != Some(RDKafkaErrorCode::UnknownPartition) {
                self.topics.forget(&publication.topic);
                // What comes of it, the next try tells.
                drop(self.topics.like(&publication.topic).await);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

fn is_homeless(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{UnknownPartition, UnknownTopic, UnknownTopicOrPartition};
    matches!(error.rdkafka_error_code(), Some(UnknownTopic | UnknownTopicOrPartition | UnknownPartition))
}

/// Whether the same record may be taken later.
fn may_pass(error: &KafkaError) -> bool {
    error.rdkafka_error_code().is_some() && !is_refused(error)
}

/// Whether a record was turned down for what it is, or for who offers it, and so was not written.
fn is_refused(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::MessageSizeTooLarge
                | Code::InvalidMessageSize
                | Code::InvalidMessage
                | Code::TopicAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::InvalidTopic
                // What the client says of a name that is too long for a topic.
                | Code::InvalidArgument
                | Code::PolicyViolation
        )
    )
}
