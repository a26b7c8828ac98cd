//! Topics: made where they are needed, and found where somebody has made them otherwise.

use crate::address::Address;
use antiphon_protocol::{Code, Failure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the brokers may take to make a topic.
const MAKING: Duration = Duration::from_secs(20);
/// How long inboxes and dead letters are kept: 30 days.
const KEPT_MS: &str = "2592000000";
/// How long the outcomes of callers without a name are kept: an hour, longer than they wait for one after a reconnect.
const CALLERS_MS: &str = "3600000";
/// Calls wait for as long as it takes: nothing deletes them before they were read.
const FOR_EVER_MS: &str = "-1";

/// What a topic is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    Calls,
    Callers,
    Inbox,
    Dead,
}

/// A topic that was seen.
struct Known {
    purpose: Purpose,
    /// Until somebody deletes it.
    there: bool,
}

/// Which topics are known to be there.
pub(crate) struct Topics {
    admin: Arc<AdminClient<DefaultClientContext>>,
    partitions: i32,
    replication: Option<i32>,
    known: Mutex<HashMap<String, Known>>,
}

impl Topics {
    pub(crate) fn open(config: &ClientConfig, address: &Address) -> Result<Self, KafkaError> {
        Ok(Self {
            admin: Arc::new(config.create()?),
            partitions: address.partitions,
            replication: address.replication,
            known: Mutex::default(),
        })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody deleted a topic: it is made again when it is needed next.
    pub(crate) fn forget(&self, topic: &str) {
        if let Some(known) = self.known().get_mut(topic) {
            known.there = false;
        }
    }

    /// Makes a topic that was forgotten again, for what it was for. Never one that was not needed here before: askers may
    /// name any topic for their outcomes, and have it made themselves.
    pub(crate) async fn like(&self, topic: &str) -> Result<(), Failure> {
        let Some(purpose) = self.known().get(topic).map(|known| known.purpose) else { return Ok(()) };
        self.ensure(&[(topic.to_owned(), purpose)]).await
    }

    /// Makes those of the topics that are not there. Brokers are asked first: whoever may not make topics may use those
    /// that are there.
    pub(crate) async fn ensure(&self, topics: &[(String, Purpose)]) -> Result<(), Failure> {
        let unknown: Vec<(String, Purpose)> = {
            let known = self.known();
            topics.iter().filter(|(topic, _)| !known.get(topic).is_some_and(|known| known.there)).cloned().collect()
        };
        if unknown.is_empty() {
            return Ok(());
        }
        let mut missing = self.look(unknown).await?;
        if missing.is_empty() {
            return Ok(());
        }
        let new: Vec<NewTopic<'_>> = missing.iter().map(|(topic, purpose)| self.new_topic(topic, *purpose)).collect();
        let options = AdminOptions::new().request_timeout(Some(MAKING)).operation_timeout(Some(MAKING));
        let made = self.admin.create_topics(&new, &options).await;
        let made = made.map_err(|error| failure("making topics", &error))?;
        drop(new);
        for (made, (topic, purpose)) in made.into_iter().zip(missing.drain(..)) {
            match made {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => self.found(topic, purpose),
                Err((_, code)) => {
                    return Err(failure(&format!("making the topic {topic:?}"), &KafkaError::AdminOp(code)));
                }
            }
        }
        Ok(())
    }

    /// Asks which of the topics are there; gives back the others.
    async fn look(&self, topics: Vec<(String, Purpose)>) -> Result<Vec<(String, Purpose)>, Failure> {
        let admin = Arc::clone(&self.admin);
        let looking = tokio::task::spawn_blocking(move || {
            let is_there = |topic: &str| -> Result<bool, KafkaError> {
                let metadata = admin.inner().fetch_metadata(Some(topic), MAKING)?;
                let error = metadata.topics().first().and_then(|found| found.error()).map(RDKafkaErrorCode::from);
                match error {
                    Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(false),
                    Some(code @ (RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::InvalidTopic)) => {
                        Err(KafkaError::MetadataFetch(code))
                    }
                    // One that has no leader at the moment is there.
                    _ => Ok(true),
                }
            };
            let there: Result<Vec<bool>, _> = topics.iter().map(|(topic, _)| is_there(topic)).collect();
            there.map(|there| (topics, there))
        });
        let looked = looking.await.unwrap_or(Err(KafkaError::Canceled));
        let (topics, there) = looked.map_err(|error| failure("asking which topics there are", &error))?;
        let mut missing = Vec::new();
        for ((topic, purpose), there) in topics.into_iter().zip(there) {
            if there {
                self.found(topic, purpose);
            } else {
                missing.push((topic, purpose));
            }
        }
        Ok(missing)
    }

    fn found(&self, topic: String, purpose: Purpose) {
        self.known().insert(topic, Known { purpose, there: true });
    }

    fn new_topic<'a>(&self, topic: &'a str, purpose: Purpose) -> NewTopic<'a> {
        let (partitions, retention) = match purpose {
            Purpose::Calls => (self.partitions, FOR_EVER_MS),
            Purpose::Callers => (self.partitions, CALLERS_MS),
            Purpose::Inbox => (1, KEPT_MS),
            Purpose::Dead => (1, KEPT_MS),
        };
        // -1 is the cluster's own default.
        let replication = TopicReplication::Fixed(self.replication.unwrap_or(-1));
        NewTopic::new(topic, partitions, replication).set("retention.ms", retention)
    }
}

/// What a failed operation means for whoever wanted it.
pub(crate) fn failure(what: &str, error: &KafkaError) -> Failure {
    use RDKafkaErrorCode as Kafka;
    let code = match error.rdkafka_error_code() {
        Some(Kafka::TopicAuthorizationFailed | Kafka::GroupAuthorizationFailed | Kafka::ClusterAuthorizationFailed) => {
            Code::PermissionDenied
        }
        Some(Kafka::MessageSizeTooLarge) => Code::ResourceExhausted,
        Some(Kafka::InvalidTopic | Kafka::InvalidReplicationFactor | Kafka::InvalidPartitions) => Code::InvalidArgument,
        Some(Kafka::PolicyViolation) => Code::FailedPrecondition,
        _ => Code::Unavailable,
    };
    Failure::new(code, format!("{what}: {error}"))
}
