//! Redis: lists both ways, or a stream with a consumer group there and a list back.

use crate::replies::{Replies, numbered, reply};
use antiphon_bench::READY;
use antiphon_bench::load::{self, Echo, Measured, Plan};
use anyhow::Context;
use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Value, cmd};

const CALLS: &str = "calls";
const REPLIES: &str = "replies";
const GROUP: &str = "workers";
/// How many are taken at a time.
const COUNT: usize = 1024;
/// How long a blocking command waits, in seconds and milliseconds; the client's own timeout is switched off.
const BLOCK_S: usize = 0;

async fn connect(address: &str) -> anyhow::Result<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    Ok(Client::open(address)?.get_multiplexed_async_connection_with_config(&config).await?)
}

async fn pop(connection: &mut MultiplexedConnection, list: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let popped: Option<(String, Vec<Vec<u8>>)> =
        cmd("BLMPOP").arg(BLOCK_S).arg(1).arg(list).arg("LEFT").arg("COUNT").arg(COUNT).query_async(connection).await?;
    Ok(popped.map(|(_, values)| values).unwrap_or_default())
}

pub async fn lists_worker(address: &str) -> anyhow::Result<()> {
    let mut connection = connect(address).await?;
    println!("{READY}");
    loop {
        let values = pop(&mut connection, CALLS).await?;
        if !values.is_empty() {
            cmd("RPUSH").arg(REPLIES).arg(values).exec_async(&mut connection).await?;
        }
    }
}

pub async fn streams_worker(address: &str) -> anyhow::Result<()> {
    let mut connection = connect(address).await?;
    let made: redis::RedisResult<()> =
        cmd("XGROUP").arg("CREATE").arg(CALLS).arg(GROUP).arg("$").arg("MKSTREAM").query_async(&mut connection).await;
    // A group that is there already is as good.
    drop(made);
    println!("{READY}");
    loop {
        let mut command = cmd("XREADGROUP");
        command.arg("GROUP").arg(GROUP).arg("one").arg("COUNT").arg(COUNT).arg("BLOCK").arg(BLOCK_S);
        let read: Value = command.arg("STREAMS").arg(CALLS).arg(">").query_async(&mut connection).await?;
        let (ids, values) = entries(read).context("an answer of XREADGROUP")?;
        if ids.is_empty() {
            continue;
        }
        let mut pipeline = redis::pipe();
        pipeline.cmd("RPUSH").arg(REPLIES).arg(values).ignore();
        pipeline.cmd("XACK").arg(CALLS).arg(GROUP).arg(&ids).ignore();
        pipeline.cmd("XDEL").arg(CALLS).arg(&ids).ignore();
        pipeline.exec_async(&mut connection).await?;
    }
}

/// The ids and the only field of all entries.
fn entries(read: Value) -> Option<(Vec<Vec<u8>>, Vec<Vec<u8>>)> {
    type Entry = (Vec<u8>, Vec<Vec<u8>>);
    let streams: Vec<(String, Vec<Entry>)> = redis::from_redis_value(read).ok()?;
    let (mut ids, mut values) = (Vec::new(), Vec::new());
    for (id, mut fields) in streams.into_iter().flat_map(|(_, entries)| entries) {
        ids.push(id);
        values.push(fields.pop()?);
    }
    Some((ids, values))
}

#[derive(Clone)]
struct Caller {
    connection: MultiplexedConnection,
    replies: Replies,
    streams: bool,
}

impl Echo for Caller {
    async fn call(&self, argument: Bytes) -> anyhow::Result<usize> {
        let (number, receiver) = self.replies.expect();
        let value = numbered(number, &argument);
        let mut command = if self.streams { cmd("XADD") } else { cmd("RPUSH") };
        command.arg(CALLS);
        if self.streams {
            command.arg("*").arg("v");
        }
        command.arg(value).exec_async(&mut self.connection.clone()).await?;
        reply(receiver).await
    }
}

async fn caller(address: &str, plan: &Plan, streams: bool) -> anyhow::Result<Measured> {
    let (connection, mut incoming) = (connect(address).await?, connect(address).await?);
    let replies = Replies::new();
    let reading = replies.clone();
    let reader = tokio::spawn(async move {
        while let Ok(values) = pop(&mut incoming, REPLIES).await {
            values.iter().for_each(|value| reading.came(value));
        }
    });
    let measured = load::run(Caller { connection, replies, streams }, plan).await;
    reader.abort();
    measured
}

pub async fn lists_caller(address: &str, plan: &Plan) -> anyhow::Result<Measured> {
    caller(address, plan, false).await
}

pub async fn streams_caller(address: &str, plan: &Plan) -> anyhow::Result<Measured> {
    caller(address, plan, true).await
}
