//! RabbitMQ: direct reply-to over a transient queue, or a quorum queue with confirms and a reply queue.

use crate::replies::{Replies, numbered, reply};
use antiphon_bench::READY;
use antiphon_bench::load::{self, Echo, Measured, Plan};
use anyhow::Context;
use bytes::Bytes;
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};

const DIRECT: &str = "bench-direct";
const QUORUM: &str = "bench-quorum";
const PREFETCH: u16 = 1000;
const PERSISTENT: u8 = 2;

async fn connect(address: &str) -> anyhow::Result<(Connection, Channel)> {
    let connection = Connection::connect(address, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

async fn declare(channel: &Channel, quorum: bool) -> anyhow::Result<()> {
    let mut arguments = FieldTable::default();
    if quorum {
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    }
    let options = QueueDeclareOptions { durable: quorum, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue(quorum).into(), options, arguments).await?;
    Ok(())
}

const fn queue(quorum: bool) -> &'static str {
    if quorum { QUORUM } else { DIRECT }
}

async fn consume(channel: &Channel, queue: &str, no_ack: bool) -> anyhow::Result<Consumer> {
    let options = BasicConsumeOptions { no_ack, ..BasicConsumeOptions::default() };
    Ok(channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?)
}

pub async fn worker(address: &str, quorum: bool) -> anyhow::Result<()> {
    let (_connection, channel) = connect(address).await?;
    declare(&channel, quorum).await?;
    if quorum {
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    }
    let mut calls = consume(&channel, queue(quorum), !quorum).await?;
    println!("{READY}");
    while let Some(call) = calls.next().await {
        let call = call?;
        let to = call.properties.reply_to().clone().context("no reply-to")?;
        let options = BasicPublishOptions::default();
        // Its confirmation is none: the channel is not in that mode.
        drop(channel.basic_publish("".into(), to, options, &call.data, BasicProperties::default()).await?);
        if quorum {
            call.ack(BasicAckOptions::default()).await?;
        }
    }
    anyhow::bail!("the server is gone")
}

#[derive(Clone)]
struct Caller {
    channel: Channel,
    replies: Replies,
    queue: &'static str,
    properties: BasicProperties,
}

impl Echo for Caller {
    async fn call(&self, argument: Bytes) -> anyhow::Result<usize> {
        let (number, receiver) = self.replies.expect();
        let value = numbered(number, &argument);
        let options = BasicPublishOptions::default();
        let published =
            self.channel.basic_publish("".into(), self.queue.into(), options, &value, self.properties.clone());
        published.await?.await?;
        reply(receiver).await
    }
}

async fn caller(address: &str, plan: &Plan, quorum: bool) -> anyhow::Result<Measured> {
    let (_connection, channel) = connect(address).await?;
    let (back, properties) = if quorum {
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let back = channel.queue_declare("".into(), options, FieldTable::default()).await?.name().clone();
        (back, BasicProperties::default().with_delivery_mode(PERSISTENT))
    } else {
        (ShortString::from("amq.rabbitmq.reply-to"), BasicProperties::default())
    };
    let mut incoming = consume(&channel, back.as_str(), true).await?;
    let replies = Replies::new();
    let reading = replies.clone();
    let reader = tokio::spawn(async move {
        while let Some(Ok(message)) = incoming.next().await {
            reading.came(&message.data);
        }
    });
    let properties = properties.with_reply_to(back);
    let measured = load::run(Caller { channel, replies, queue: queue(quorum), properties }, plan).await;
    reader.abort();
    measured
}

pub async fn direct_caller(address: &str, plan: &Plan) -> anyhow::Result<Measured> {
    caller(address, plan, false).await
}

pub async fn quorum_caller(address: &str, plan: &Plan) -> anyhow::Result<Measured> {
    caller(address, plan, true).await
}
