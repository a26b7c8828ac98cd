//! One connection of a caller: its channels and consumers, from being set up until it breaks.

use crate::acks::Acks;
use crate::address::Address;
use crate::control::{Claim, Told};
use crate::link::{connect, failure};
use crate::publication::short;
use crate::topology::Topology;
use antiphon_broker::{Inbox, OpenError};
use antiphon_protocol::{Code, Failure};
use lapin::options::{BasicConsumeOptions, BasicQosOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer};
use std::sync::Arc;
use std::time::Duration;

/// How many outcomes may be with a caller unacknowledged: more in flight than one connection gains by.
const PREFETCH: u16 = 4_096;
/// How long the server may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long everything may take that a caller or worker needs at its start.
const OPEN: Duration = Duration::from_secs(30);
/// The queue by which the server hands answers straight to the channel that asked.
pub(crate) const DIRECT: &str = "amq.rabbitmq.reply-to";

/// A caller's connection.
pub(crate) struct CallerLine {
    pub(crate) topology: Topology,
    /// Publishes, with confirmations; answers to volatile calls come by it.
    pub(crate) channel: Arc<Channel>,
    pub(crate) direct: Consumer,
    pub(crate) inbox_channel: Channel,
    pub(crate) inbox: Consumer,
    pub(crate) acks: Acks,
    pub(crate) control: Consumer,
    pub(crate) control_queue: String,
    /// The inbox's queue.
    pub(crate) queue: String,
    /// Whether that was there before.
    pub(crate) found: bool,
}

/// Gives up on a server that lets somebody in and then does not answer.
pub(crate) async fn timely<T>(opening: impl Future<Output = Result<T, OpenError>>) -> Result<T, OpenError> {
    match tokio::time::timeout(OPEN, opening).await {
        Ok(opened) => opened,
        Err(_) => Err(OpenError::Unreachable(format!("RabbitMQ does not answer within {} s", OPEN.as_secs()))),
    }
}

/// An operation's error, as whoever opens something is told it.
pub(crate) fn refuse(what: &str) -> impl Fn(lapin::Error) -> OpenError {
    move |error| open_error(failure(what, &error))
}

/// A failure, as whoever opens something is told it.
pub(crate) fn open_error(failure: Failure) -> OpenError {
    if failure.code == Code::Unavailable {
        OpenError::Unreachable(failure.message)
    } else {
        OpenError::Refused(failure)
    }
}

impl CallerLine {
    pub(crate) async fn open(address: &Address, inbox: &Inbox, claim: Claim) -> Result<Self, OpenError> {
        timely(Self::set_up(address, inbox, claim)).await
    }

    async fn set_up(address: &Address, inbox: &Inbox, claim: Claim) -> Result<Self, OpenError> {
        let connection = connect(address, "caller").await?;
        let channel = publisher(&connection).await?;
        let direct = consume(&channel, DIRECT, true).await?;
        let mut topology = Topology::new(address, connection);
        let queue = topology.names.inbox(inbox);
        let found = topology.inbox(inbox).await.map_err(open_error)?;
        let keys = if matches!(inbox, Inbox::Named(_)) { vec![queue.as_str()] } else { Vec::new() };
        let control_queue = topology.control(&keys).await.map_err(open_error)?;
        let control_channel = topology.connection().create_channel().await.map_err(refuse("opening a channel"))?;
        let control = consume(&control_channel, &control_queue, true).await?;
        if matches!(inbox, Inbox::Named(_)) {
            // Before its outcomes are asked for: whoever has them now gives them back.
            let answer_to = Some(short(&control_queue));
            let told = Told::Claimed { claim, answer_to }.broadcast(&topology.names, &queue);
            told.publish(&channel).await;
        }
        let (inbox_channel, inbox) = Self::consume_inbox(&topology, &queue).await?;
        let acks = Acks::default();
        let channel = Arc::new(channel);
        Ok(Self { topology, channel, direct, inbox_channel, inbox, acks, control, control_queue, queue, found })
    }

    async fn consume_inbox(topology: &Topology, queue: &str) -> Result<(Channel, Consumer), OpenError> {
        let channel = topology.connection().create_channel().await.map_err(refuse("opening a channel"))?;
        let qos = channel.basic_qos(PREFETCH, BasicQosOptions::default()).await;
        qos.map_err(refuse("setting a prefetch"))?;
        let inbox = consume(&channel, queue, false).await?;
        Ok((channel, inbox))
    }

    /// Somebody deleted the inbox: makes another.
    pub(crate) async fn replace_inbox(&mut self, inbox: &Inbox) -> Result<(), OpenError> {
        self.topology.forget(&self.queue);
        self.topology.inbox(inbox).await.map_err(open_error)?;
        (self.inbox_channel, self.inbox) = Self::consume_inbox(&self.topology, &self.queue).await?;
        self.acks = Acks::default();
        Ok(())
    }

    pub(crate) fn is_up(&self) -> bool {
        self.topology.connection().status().connected() && self.channel.status().connected()
    }

    /// Says goodbye to the server.
    pub(crate) async fn close(self) {
        goodbye(self.topology.connection(), "the caller is closed").await;
    }
}

/// Closes a connection, unless it is gone already. Whoever closes does not wait for a server that does not answer.
pub(crate) async fn goodbye(connection: &Connection, why: &str) {
    if connection.status().connected() {
        drop(tokio::time::timeout(GOODBYE, connection.close(200, short(why))).await);
    }
}

/// A channel that confirms what is published on it.
pub(crate) async fn publisher(connection: &Connection) -> Result<Channel, OpenError> {
    let channel = connection.create_channel().await.map_err(refuse("opening a channel"))?;
    let selected = channel.confirm_select(ConfirmSelectOptions::default()).await;
    selected.map_err(refuse("asking for confirmations"))?;
    Ok(channel)
}

/// Consumes a queue.
pub(crate) async fn consume(channel: &Channel, queue: &str, no_ack: bool) -> Result<Consumer, OpenError> {
    let options = BasicConsumeOptions { no_ack, ..BasicConsumeOptions::default() };
    let consumer = channel.basic_consume(short(queue), short(""), options, FieldTable::default()).await;
    consumer.map_err(refuse(&format!("reading the queue {queue:?}")))
}
