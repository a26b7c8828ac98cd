//! Questions about dead letters, which are the records of one topic. Nothing is deleted from a topic at once: what was revived
//! or purged is said to be gone by a record behind it.

use crate::chance::{new_id, wall_ms};
use crate::names::Names;
use crate::publisher::{Patience, Publisher, Unpublished};
use crate::record::{self, Request, Written, read_dead_letter, read_gone, read_request};
use crate::topics::{Purpose, Topics, failure};
use antiphon_broker::foreign::{DeadLetter, dead_letters_only, listed, not_dead};
use antiphon_broker::{BoxFuture, Inspect};
use antiphon_protocol::{Answer, CallId, CallStatus, Failure, Knowledge, Query, State};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many records of a partition are looked at for one question: the newest.
const LOOKED_AT_MAX: i64 = 10_000;
/// How long the brokers may take to hand them over.
const READING: Duration = Duration::from_secs(10);

/// The questions that are answered.
pub(crate) struct DeadLetters {
    pub(crate) config: ClientConfig,
    pub(crate) names: Names,
    pub(crate) topics: Arc<Topics>,
    pub(crate) publisher: Arc<Publisher>,
}

/// A dead letter that was read.
struct Letter {
    status: CallStatus,
    partition: i32,
    /// The call, of the one that is wanted: thousands of them could be more than there is memory.
    request: Option<Request>,
}

impl DeadLetters {
    async fn answer(&self, query: Query) -> Result<Answer, Failure> {
        Ok(match query {
            Query::Calls(filter) if filter.state == Some(State::Dead) => {
                let letters = self.read(None).await?;
                Answer::Calls(listed(letters.into_values().map(|letter| letter.status), &filter))
            }
            Query::Status(id) => {
                let found = self.read(None).await?.remove(&id);
                // Nobody but the caller knows of a call that is no dead letter.
                Answer::Status(found.map_or(Knowledge::TooOldToSay, |letter| Knowledge::Known(letter.status)))
            }
            Query::Revive { dead, id } => match self.read(Some(dead)).await?.remove(&dead) {
                Some(Letter { status, partition, request: Some(request) }) => {
                    self.revive(&status, &request, id).await?;
                    self.forget(dead, partition).await?;
                    Answer::Revived(id)
                }
                _ => not_dead(dead),
            },
            Query::Purge(id) => match self.read(None).await?.remove(&id) {
                None => not_dead(id),
                Some(letter) => {
                    self.forget(id, letter.partition).await?;
                    Answer::Purged
                }
            },
            _ => dead_letters_only("Kafka"),
        })
    }

    /// All that are not gone, with the call of the one that is wanted.
    async fn read(&self, wanted: Option<CallId>) -> Result<HashMap<CallId, Letter>, Failure> {
        let topic = self.names.dead();
        self.topics.ensure(&[(topic.clone(), Purpose::Dead)]).await?;
        let (config, named) = (self.config.clone(), topic.clone());
        let reading = tokio::task::spawn_blocking(move || read(&config, &named, wanted)).await;
        let read = reading.unwrap_or(Err(KafkaError::Canceled));
        read.map_err(|error| failure(&format!("reading the topic {topic:?}"), &error))
    }

    /// Publishes a dead letter anew. It is said to be gone only then: a crash in between leaves both.
    async fn revive(&self, status: &CallStatus, request: &Request, id: CallId) -> Result<(), Failure> {
        let Request { header, payload, trace, asker } = request;
        let topic = self.names.procedure(&status.procedure);
        self.topics.ensure(&[(topic.clone(), Purpose::Calls)]).await?;
        let mut asker = asker.clone();
        asker.correlation = Some(id.to_bytes().to_vec());
        let call = record::call_again(&header.revived(id), payload, trace.as_deref(), &asker, topic);
        let revived = Arc::clone(&self.publisher).insist(call, Patience::For(READING)).await;
        revived.map_err(|Unpublished { error, may_be_written }| match may_be_written {
            false => failure("publishing a dead letter anew; it is kept", &error),
            true => failure("publishing a dead letter anew; it may run all the same, and is listed still", &error)
                .may_have_run(),
        })
    }

    /// In the partition where it is, which alone says what came later.
    async fn forget(&self, id: CallId, partition: i32) -> Result<(), Failure> {
        let gone = record::gone(self.names.dead(), partition, id);
        let gone = Arc::clone(&self.publisher).insist(gone, Patience::For(READING)).await;
        gone.map_err(|unpublished| failure("forgetting a dead letter", &unpublished.error))
    }
}

impl Inspect for DeadLetters {
    fn ask(&self, query: Query) -> BoxFuture<'_, Result<Answer, Failure>> {
        Box::pin(self.answer(query))
    }
}

/// Reads the topic as far as it goes now. Letters are written to its first partition, but whoever made it may have given
/// it more, and others may have written there.
fn read(config: &ClientConfig, topic: &str, wanted: Option<CallId>) -> KafkaResult<HashMap<CallId, Letter>> {
    let mut config = config.clone();
    // It commits nothing, and joins nothing: the name is for the client's sake.
    config.set("group.id", "antiphon-inspector").set("enable.auto.commit", "false").set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create()?;
    let start = Instant::now();
    let metadata = consumer.fetch_metadata(Some(topic), READING)?;
    let partitions = metadata.topics().first().map_or(&[][..], |topic| topic.partitions());
    let mut letters = HashMap::new();
    for partition in partitions {
        letters.extend(read_partition(&consumer, topic, partition.id(), wanted, start)?);
    }
    Ok(letters)
}

/// Reads one of its partitions, until all took too long.
fn read_partition(
    consumer: &BaseConsumer,
    topic: &str,
    partition: i32,
    wanted: Option<CallId>,
    start: Instant,
) -> KafkaResult<HashMap<CallId, Letter>> {
    let (low, high) = consumer.fetch_watermarks(topic, partition, READING)?;
    let from = low.max(high - LOOKED_AT_MAX);
    let mut letters = HashMap::new();
    if from >= high {
        return Ok(letters);
    }
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(from))?;
    consumer.assign(&list)?;
    while start.elapsed() < READING {
        let record = match consumer.poll(Duration::from_millis(100)) {
            None => continue,
            Some(Err(KafkaError::PartitionEOF(ended))) if ended == partition => return Ok(letters),
            // Of the partition before.
            Some(Err(KafkaError::PartitionEOF(_))) => continue,
            Some(record) => record?,
        };
        if record.partition() != partition {
            continue;
        }
        let headers = record.headers().map(|headers| headers.detach());
        let body = record.payload().unwrap_or_default().to_vec();
        if let Some(gone) = read_gone(headers.as_ref()) {
            letters.remove(&gone);
        } else if let Ok(request) = read_request(headers.as_ref(), body, new_id) {
            let Written { procedure, died, died_ms, message } = read_dead_letter(headers.as_ref());
            let (header, payload) = (&request.header, &request.payload);
            let died_ms = died_ms.unwrap_or_else(wall_ms);
            let status = DeadLetter { header, payload, procedure, died, died_ms, message }.status();
            let request = (wanted == Some(status.id)).then_some(request);
            letters.insert(status.id, Letter { status, partition, request });
        }
        if record.offset() + 1 >= high {
            return Ok(letters);
        }
    }
    Err(KafkaError::Canceled)
}
