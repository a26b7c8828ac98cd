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
pub(crate) type Published = Result<(), KafkaError>;

/// Tells whoever waits for a record what came of it.
pub(crate) struct Deliveries;

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<oneshot::Sender<Published>>;

    fn delivery(&self, result: &DeliveryResult<'_>, told: Self::DeliveryOpaque) {
        let published = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.clone()),
        };
        // Nobody may wait for it any more.
        drop(told.send(published));
    }
}

/// Publishes with idempotence and `acks=all`: what is confirmed was written by every replica that is in sync, once.
pub(crate) struct Publisher {
    config: ClientConfig,
    producer: RwLock<Numbered>,
    topics: Arc<Topics>,
}

/// A producer, and the how manieth it is: one that has failed for good is replaced.
#[derive(Clone)]
struct Numbered {
    number: u64,
    producer: Arc<ThreadedProducer<Deliveries>>,
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
        let producer = Arc::new(config.create_with_context(Deliveries)?);
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
        match self.config.create_with_context(Deliveries) {
            Ok(producer) => *current = Numbered { number: failed + 1, producer: Arc::new(producer) },
            Err(error) => tracing::error!(%error, "making a new producer; it is tried again"),
        }
    }

    /// Hands a record over; `None` while the client's own queue is full.
    fn send(
        producer: &ThreadedProducer<Deliveries>,
        publication: &Publication,
    ) -> Result<Option<oneshot::Receiver<Published>>, KafkaError> {
        let (told, published) = oneshot::channel();
        let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(&publication.topic, Box::new(told))
            .payload(&publication.body)
            .headers(publication.headers.clone());
        if let Some(partition) = publication.partition {
            record = record.partition(partition);
        }
        match producer.send(record) {
            Ok(()) => Ok(Some(published)),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Ok(None),
            Err((error, _)) => Err(error),
        }
    }

    /// Publishes, and waits until the brokers have confirmed. What is not taken now is offered again, for as long as
    /// `patience` if there is such; what can never be taken is not.
    pub(crate) async fn insist(self: Arc<Self>, publication: Publication, patience: Option<Duration>) -> Published {
        let start = Instant::now();
        let mut pause = PAUSE;
        loop {
            let Numbered { number, producer } = self.current();
            let mut unknown = false;
            let error = match Self::send(&producer, &publication) {
                Ok(Some(published)) => match published.await {
                    Ok(Ok(())) => return Ok(()),
                    told => {
                        let error = told.unwrap_or(Err(KafkaError::Canceled)).err().unwrap_or(KafkaError::Canceled);
                        unknown = !is_homeless(&error);
                        error
                    }
                },
                Ok(None) => KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull),
                Err(error) => error,
            };
            drop(producer);
            if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
                tracing::warn!(%error, "the producer has failed and is replaced");
                self.replace(number);
            } else if !may_pass(&error) {
                return Err(error);
            }
            if (unknown && publication.once) || patience.is_some_and(|patience| start.elapsed() > patience) {
                return Err(error);
            }
            if is_homeless(&error) {
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
    use RDKafkaErrorCode as Code;
    !matches!(
        error.rdkafka_error_code(),
        None | Some(
            Code::MessageSizeTooLarge
                | Code::InvalidMessageSize
                | Code::InvalidMessage
                | Code::TopicAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::InvalidTopic
                | Code::PolicyViolation
        )
    )
}
