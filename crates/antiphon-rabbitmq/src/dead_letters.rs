//! Questions about dead letters, which RabbitMQ can answer: they are the messages of one queue. To look at them is to take
//! them and give them back, so two who look at the same time each see a part.

use crate::address::Address;
use crate::caller_line::{goodbye, open_error, publisher};
use crate::clock::wall_ms;
use crate::link::connect;
use crate::message::{DEAD, DIED, PROCEDURE, call_again, find, read_request};
use crate::publication::{Published, short};
use crate::topology::Topology;
use antiphon_broker::foreign::{CallHeader, DeadLetter, FAILURE, OutcomeHeader, dead_letters_only, listed, not_dead};
use antiphon_broker::{BoxFuture, Inspect, OpenError};
use antiphon_protocol::{Answer, CallFilter, CallId, CallStatus, Code, Failure, Knowledge, Payload, Query, State};
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicNackOptions};
use lapin::{BasicProperties, Channel};
use std::sync::Arc;

/// How many dead letters are looked at for one question.
const LOOKED_AT_MAX: usize = 10_000;
/// Where the server writes which queue a message died in, and why.
const DEATH_QUEUE: &str = "x-first-death-queue";
const DEATH_REASON: &str = "x-first-death-reason";

/// The questions that are answered.
pub(crate) struct DeadLetters {
    address: Arc<Address>,
}

/// A dead letter that was taken.
struct Taken {
    tag: u64,
    status: CallStatus,
    header: CallHeader,
    payload: Payload,
    properties: BasicProperties,
}

/// The queue of dead letters, opened for one question.
struct Reading {
    topology: Topology,
    channel: Channel,
    last: u64,
}

impl DeadLetters {
    pub(crate) const fn new(address: Arc<Address>) -> Self {
        Self { address }
    }

    async fn answer(&self, query: Query) -> Result<Answer, Failure> {
        let answer = match query {
            Query::Calls(filter) if filter.state == Some(State::Dead) => {
                let mut reading = Reading::open(&self.address).await?;
                let listed = reading.list(&filter).await;
                reading.close().await;
                Answer::Calls(listed?)
            }
            Query::Status(id) => {
                let mut reading = Reading::open(&self.address).await?;
                let found = reading.find(id).await;
                reading.close().await;
                // Nobody but the caller knows of a call that is no dead letter.
                Answer::Status(found?.map_or(Knowledge::TooOldToSay, |taken| Knowledge::Known(taken.status)))
            }
            Query::Revive { dead, id } => {
                let mut reading = Reading::open(&self.address).await?;
                let revived = reading.revive(dead, id).await;
                reading.close().await;
                if revived? { Answer::Revived(id) } else { not_dead(dead) }
            }
            Query::Purge(id) => {
                let mut reading = Reading::open(&self.address).await?;
                let purged = reading.purge(id).await;
                reading.close().await;
                if purged? { Answer::Purged } else { not_dead(id) }
            }
            _ => dead_letters_only("RabbitMQ"),
        };
        Ok(answer)
    }
}

impl Inspect for DeadLetters {
    fn ask(&self, query: Query) -> BoxFuture<'_, Result<Answer, Failure>> {
        Box::pin(self.answer(query))
    }
}

impl Reading {
    async fn open(address: &Address) -> Result<Self, Failure> {
        let opening = async {
            let connection = connect(address, "inspector").await?;
            let channel = publisher(&connection).await?;
            let mut topology = Topology::new(address, connection);
            topology.declare_shared().await.map_err(open_error)?;
            Ok(Self { topology, channel, last: 0 })
        };
        opening.await.map_err(|error| match error {
            OpenError::Refused(failure) => failure,
            other => Failure::new(Code::Unavailable, other.to_string()),
        })
    }

    /// Gives back what was taken and not settled.
    async fn close(self) {
        if self.last > 0 {
            let options = BasicNackOptions { multiple: true, requeue: true };
            // The end of the connection gives them back, too.
            drop(self.channel.basic_nack(self.last, options).await);
        }
        goodbye(self.topology.connection(), "the question is answered").await;
    }

    async fn next(&mut self) -> Result<Option<Taken>, Failure> {
        let dead = self.topology.names.dead();
        let got = self.channel.basic_get(short(&dead), BasicGetOptions { no_ack: false }).await;
        let got = got.map_err(|error| crate::link::failure(&format!("reading the queue {dead:?}"), &error))?;
        let Some(got) = got else { return Ok(None) };
        let delivery = got.delivery;
        self.last = delivery.delivery_tag;
        let (tag, properties) = (delivery.delivery_tag, delivery.properties);
        let nobody = || CallId::from_bytes([0; 16]);
        let request = read_request(&properties, delivery.data, false, nobody);
        let (header, payload) = match request {
            Ok(request) => (request.header, request.payload),
            Err(_) => (CallHeader::plain(nobody()), Payload::default()),
        };
        Ok(Some(Taken { tag, status: status(&header, &payload, &properties), header, payload, properties }))
    }

    async fn list(&mut self, filter: &CallFilter) -> Result<Vec<CallStatus>, Failure> {
        let mut dead = Vec::new();
        for _ in 0..LOOKED_AT_MAX {
            let Some(taken) = self.next().await? else { break };
            dead.push(taken.status);
        }
        Ok(listed(dead, filter))
    }

    async fn find(&mut self, id: CallId) -> Result<Option<Taken>, Failure> {
        for _ in 0..LOOKED_AT_MAX {
            match self.next().await? {
                Some(taken) if taken.status.id == id => return Ok(Some(taken)),
                Some(_) => (),
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    async fn forget(&mut self, taken: &Taken) -> Result<(), Failure> {
        let forgotten = self.channel.basic_ack(taken.tag, BasicAckOptions { multiple: false }).await;
        forgotten.map_err(|error| crate::link::failure("forgetting a dead letter", &error))
    }

    async fn purge(&mut self, id: CallId) -> Result<bool, Failure> {
        let Some(taken) = self.find(id).await? else { return Ok(false) };
        self.forget(&taken).await?;
        Ok(true)
    }

    /// Publishes a dead letter anew, then forgets it: a crash in between leaves both.
    async fn revive(&mut self, dead: CallId, id: CallId) -> Result<bool, Failure> {
        let Some(taken) = self.find(dead).await? else { return Ok(false) };
        let queue = self.topology.names.procedure(&taken.status.procedure);
        self.topology.procedure(&queue).await?;
        let header = taken.header.revived(id);
        let asker = crate::message::Asker {
            reply_to: taken.properties.reply_to().clone(),
            correlation: Some(short(&id.to_string())),
            plain: false,
        };
        let trace = find(&taken.properties, antiphon_broker::foreign::TRACEPARENT);
        let publication = call_again(&header, &taken.payload, trace, &asker, &queue);
        match publication.publish(&self.channel).await {
            Published::Confirmed => self.forget(&taken).await.map(|()| true),
            other => {
                let text = format!("the dead letter was not published anew ({other:?}); it is kept");
                Err(Failure::new(Code::Unavailable, text))
            }
        }
    }
}

/// Where a dead letter stands, from what is written on it: by a worker of ours, or by the server.
fn status(header: &CallHeader, payload: &Payload, properties: &BasicProperties) -> CallStatus {
    let died = find(properties, DEAD).and_then(|text| OutcomeHeader::read(text).ok());
    let reason = find(properties, DEATH_REASON).unwrap_or("for no reason it says");
    let theirs = format!("the server dead-lettered it: {reason}");
    let message = if died.is_some() { find(properties, FAILURE).unwrap_or_default() } else { &theirs };
    let procedure = find(properties, PROCEDURE).or_else(|| find(properties, DEATH_QUEUE)).unwrap_or_default();
    let died_ms = find(properties, DIED).and_then(|text| text.parse().ok()).unwrap_or_else(wall_ms);
    DeadLetter { header, payload, procedure, died, died_ms, message }.status()
}
