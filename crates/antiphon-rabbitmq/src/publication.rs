//! Messages on their way to the server, and what the server says of them.

use crate::names::DELAY_HEADER;
use bytes::Bytes;
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, ConnectionStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long to wait before a message that the server did not take is offered again, at first and at most.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long a confirmation may take before the connection is made anew.
const SILENCE: Duration = Duration::from_secs(10);

/// A message and where it goes.
#[derive(Clone, Debug)]
pub(crate) struct Publication {
    pub(crate) exchange: ShortString,
    pub(crate) key: ShortString,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Bytes,
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Published {
    /// The queue has it: written by a majority of its servers.
    Confirmed,
    /// The queue does not take it now: it is full, or too few of its servers are up.
    Nacked,
    /// There is no such queue.
    Unroutable,
    /// The server has said nothing for [`SILENCE`]: most likely the queue was deleted and declared anew, which a
    /// channel that has published to the old one does not survive.
    Silent,
    /// The connection went first.
    Broken,
}

impl Publication {
    /// To a queue, by the default exchange.
    pub(crate) fn to_queue(queue: &str, properties: BasicProperties, body: Bytes) -> Self {
        Self { exchange: ShortString::default(), key: short(queue), properties, body }
    }

    /// The same, to wait first for one of the steps of the delay exchange.
    pub(crate) fn delayed(self, exchange: &str, ms: u64) -> Self {
        let mut headers = self.properties.headers().clone().unwrap_or_default();
        headers.insert(short(DELAY_HEADER), AMQPValue::LongString(ms.to_string().into()));
        Self { exchange: short(exchange), properties: self.properties.with_headers(headers), ..self }
    }

    /// Publishes and waits until the server has confirmed. The frames are on their way after the first poll.
    pub(crate) async fn publish(&self, channel: &Channel) -> Published {
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let sent = channel.basic_publish(
            self.exchange.clone(),
            self.key.clone(),
            options,
            &self.body,
            self.properties.clone(),
        );
        let Ok(confirm) = sent.await else { return Published::Broken };
        match confirm.await {
            Ok(Confirmation::Ack(None) | Confirmation::NotRequested) => Published::Confirmed,
            Ok(Confirmation::Ack(Some(_))) => Published::Unroutable,
            Ok(Confirmation::Nack(_)) => Published::Nacked,
            Err(_) => Published::Broken,
        }
    }

    /// The same, offered again while it is not taken, and no longer than `patience` if there is such.
    pub(crate) async fn insist(
        self,
        channel: Arc<Channel>,
        connection: ConnectionStatus,
        patience: Option<Duration>,
    ) -> Published {
        let start = Instant::now();
        let mut pause = PAUSE;
        loop {
            let mut publishing = std::pin::pin!(self.publish(&channel));
            let mut published = tokio::time::timeout(SILENCE, &mut publishing).await;
            // A server that is out of memory or disk says so, and confirms when it has room again.
            while published.is_err() && connection.connected() && connection.blocked() {
                published = tokio::time::timeout(SILENCE, &mut publishing).await;
            }
            match published {
                Ok(Published::Nacked) if patience.is_some_and(|patience| start.elapsed() > patience) => {
                    return Published::Nacked;
                }
                Ok(Published::Nacked) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                Ok(other) => return other,
                Err(_) => return Published::Silent,
            }
        }
    }
}

/// A name for the protocol, which allows 255 bytes; whatever comes here was checked before.
pub(crate) fn short(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap_or_default()
}
