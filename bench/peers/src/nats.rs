//! NATS core: request and reply, a queue group of one worker.

use antiphon_bench::READY;
use antiphon_bench::load::{self, Echo, Measured, Plan};
use anyhow::Context;
use async_nats::Client;
use bytes::Bytes;
use futures_util::StreamExt;

const SUBJECT: &str = "bench.echo";

pub async fn worker(address: &str) -> anyhow::Result<()> {
    let client = connect(address).await?;
    let mut calls = client.queue_subscribe(SUBJECT, "workers".to_owned()).await?;
    client.flush().await?;
    println!("{READY}");
    while let Some(call) = calls.next().await {
        client.publish(call.reply.context("no reply subject")?, call.payload).await?;
    }
    anyhow::bail!("the server is gone")
}

/// Buffers for as many calls as are in flight: the client must not be what is waited for.
pub async fn connect(address: &str) -> anyhow::Result<Client> {
    let options = async_nats::ConnectOptions::new().subscription_capacity(1 << 16).client_capacity(1 << 13);
    Ok(options.connect(address).await?)
}

#[derive(Clone)]
struct Caller(Client);

impl Echo for Caller {
    async fn call(&self, argument: Bytes) -> anyhow::Result<usize> {
        Ok(self.0.request(SUBJECT, argument).await?.payload.len())
    }
}

pub async fn caller(address: &str, plan: &Plan) -> anyhow::Result<Measured> {
    load::run(Caller(connect(address).await?), plan).await
}
