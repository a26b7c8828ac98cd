//! Records on their way to the brokers, and what the brokers say of them.

use crate::topics::Topics;
use bytes::Bytes;
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer};
use std::sync::Arc;
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
    producer: ThreadedProducer<Deliveries>,
    topics: Arc<Topics>,
}

impl Publisher {
    pub(crate) fn open(config: &ClientConfig, topics: Arc<Topics>) -> Result<Self, KafkaError> {
        let producer = config
            .clone()
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "0")
            // Whoever waits gives up by a deadline, not the client: a record that timed out may be written all the same.
            .set("message.timeout.ms", "0")
            .create_with_context(Deliveries)?;
        Ok(Self { producer, topics })
    }

    /// Hands a record over; `None` while the client's own queue is full.
    fn send(&self, publication: &Publication) -> Result<Option<oneshot::Receiver<Published>>, KafkaError> {
        let (told, published) = oneshot::channel();
        let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(&publication.topic, Box::new(told))
            .payload(&publication.body)
            .headers(publication.headers.clone());
        if let Some(partition) = publication.partition {
            record = record.partition(partition);
        }
        match self.producer.send(record) {
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
            let error = match self.send(&publication) {
                Ok(Some(published)) => match published.await {
                    Ok(Ok(())) => return Ok(()),
                    Ok(Err(error)) => error,
                    Err(_) => KafkaError::Canceled,
                },
                Ok(None) => KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull),
                Err(error) => error,
            };
            if !may_pass(&error) || patience.is_some_and(|patience| start.elapsed() > patience) {
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
                | Code::Fatal
                | Code::PolicyViolation
        )
    )
}
