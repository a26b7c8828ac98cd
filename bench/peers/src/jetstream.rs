//! JetStream: a work-queue stream in a file, a pull consumer; replies on core NATS.

use crate::nats::connect;
use crate::replies::{Replies, numbered, reply};
use antiphon_bench::READY;
use antiphon_bench::load::{self, Echo, Measured, Plan};
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{Config, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use futures_util::StreamExt;

const STREAM: &str = "bench";
const SUBJECT: &str = "bench.calls";
const REPLIES: &str = "benchreplies";

pub async fn worker(address: &str) -> anyhow::Result<()> {
    let client = connect(address).await?;
    let stream = jetstream::new(client.clone())
        .get_or_create_stream(Config {
            name: STREAM.to_owned(),
            subjects: vec![SUBJECT.to_owned()],
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::File,
            num_replicas: 1,
            ..Config::default()
        })
        .await?;
    let config = pull::Config {
        durable_name: Some("workers".to_owned()),
        ack_policy: AckPolicy::Explicit,
        max_ack_pending: 20_000,
        ..pull::Config::default()
    };
    let consumer = stream.get_or_create_consumer("workers", config).await?;
    let mut calls = consumer.stream().max_messages_per_batch(2048).messages().await?;
    println!("{READY}");
    while let Some(call) = calls.next().await {
        let call = call?;
        client.publish(REPLIES, call.payload.clone()).await?;
        call.ack().await.map_err(|error| anyhow::anyhow!("{error}"))?;
    }
    anyhow::bail!("the server is gone")
}

#[derive(Clone)]
struct Caller {
    context: Context,
    replies: Replies,
}

impl Echo for Caller {
    async fn call(&self, argument: Bytes) -> anyhow::Result<usize> {
        let (number, receiver) = self.replies.expect();
        self.context.publish(SUBJECT, numbered(number, &argument).into()).await?.await?;
        reply(receiver).await
    }
}

pub async fn caller(address: &str, plan: &Plan) -> anyhow::Result<Measured> {
    let client = connect(address).await?;
    let mut incoming = client.subscribe(REPLIES).await?;
    let replies = Replies::new();
    let reading = replies.clone();
    let reader = tokio::spawn(async move {
        while let Some(message) = incoming.next().await {
            reading.came(&message.payload);
        }
    });
    let context = jetstream::ContextBuilder::new().max_ack_inflight(1 << 16).build(client);
    let measured = load::run(Caller { context, replies }, plan).await;
    reader.abort();
    measured
}
