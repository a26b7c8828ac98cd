//! One connection of a worker: its channels, and a consumer for each procedure while there are slots.

use crate::acks::Acks;
use crate::address::Address;
use crate::caller_line::{consume, goodbye, open_error, publisher, refuse, timely};
use crate::control::WORKERS;
use crate::link::connect;
use crate::topology::Topology;
use antiphon_broker::OpenError;
use futures_util::stream::{BoxStream, SelectAll};
use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicCancelOptions, BasicQosOptions};
use lapin::types::ShortString;
use lapin::{Channel, Consumer};
use std::sync::Arc;

/// What a consumer gives: a delivery, or its end.
pub(crate) struct Handed {
    /// The place of the procedure in the offer.
    pub(crate) procedure: usize,
    /// Which consumer of it: those that were replaced go on for a moment.
    pub(crate) generation: u32,
    /// `None` when the server has cancelled it, or the connection broke.
    pub(crate) delivery: Option<Delivery>,
}

/// A worker's connection.
pub(crate) struct WorkerLine {
    pub(crate) topology: Topology,
    /// Publishes, with confirmations.
    pub(crate) channel: Arc<Channel>,
    /// Consumes.
    pub(crate) deliveries: Channel,
    pub(crate) handed: SelectAll<BoxStream<'static, Handed>>,
    pub(crate) acks: Acks,
    pub(crate) control: Consumer,
    pub(crate) generation: u32,
    consumers: Vec<ShortString>,
}

impl WorkerLine {
    pub(crate) async fn open(address: &Address, queues: &[String], slots: u32) -> Result<Self, OpenError> {
        timely(Self::set_up(address, queues, slots)).await
    }

    async fn set_up(address: &Address, queues: &[String], slots: u32) -> Result<Self, OpenError> {
        let connection = connect(address, "worker").await?;
        let channel = Arc::new(publisher(&connection).await?);
        let mut topology = Topology::new(address, connection);
        let control_queue = topology.control(&[WORKERS]).await.map_err(open_error)?;
        let control_channel = topology.connection().create_channel().await.map_err(refuse("opening a channel"))?;
        let control = consume(&control_channel, &control_queue, true).await?;
        let deliveries = topology.connection().create_channel().await.map_err(refuse("opening a channel"))?;
        let mut line = Self {
            topology,
            channel,
            deliveries,
            handed: SelectAll::new(),
            acks: Acks::default(),
            control,
            generation: 0,
            consumers: Vec::new(),
        };
        line.consume(queues, slots).await?;
        Ok(line)
    }

    /// Reads the queues, each with as many calls at a time as there are slots; those without a slot wait in the worker.
    /// Replaces the consumers there were.
    pub(crate) async fn consume(&mut self, queues: &[String], slots: u32) -> Result<(), OpenError> {
        self.pause();
        for queue in queues {
            self.topology.procedure(queue).await.map_err(open_error)?;
        }
        if slots == 0 {
            return Ok(());
        }
        let prefetch = u16::try_from(slots).unwrap_or(u16::MAX);
        let qos = self.deliveries.basic_qos(prefetch, BasicQosOptions::default()).await;
        qos.map_err(refuse("setting a prefetch"))?;
        for (procedure, queue) in queues.iter().enumerate() {
            let consumer = consume(&self.deliveries, queue, false).await?;
            self.consumers.push(consumer.tag());
            let generation = self.generation;
            let handed = consumer.map(Result::ok).chain(futures_util::stream::once(std::future::ready(None)));
            let handed = handed.map(move |delivery| Handed { procedure, generation, delivery });
            self.handed.push(handed.boxed());
        }
        Ok(())
    }

    /// Reads no more; what was handed over stays.
    pub(crate) fn pause(&mut self) {
        self.generation += 1;
        for tag in self.consumers.drain(..) {
            // The frame is on its way after the first poll; the consumer's end tells the rest.
            drop(self.deliveries.basic_cancel(tag, BasicCancelOptions { nowait: true }).now_or_never());
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        let connection = self.topology.connection().status().connected();
        connection && self.channel.status().connected() && self.deliveries.status().connected()
    }

    /// Says goodbye to the server, which hands what is not settled to others.
    pub(crate) async fn close(self) {
        goodbye(self.topology.connection(), "the worker is closed").await;
    }
}
