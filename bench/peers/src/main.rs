//! Workers and callers of the systems that Antiphon is measured beside; `antiphon-bench` runs them.

mod jetstream;
mod nats;
mod rabbitmq;
mod redis;
mod replies;
mod tarpc;
mod tonic;

use antiphon_bench::load::{Measured, Plan};
use antiphon_bench::{Part, System, play};
use anyhow::bail;
use clap::Parser;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Part,
}

fn main() -> anyhow::Result<()> {
    let no_broker = |system, _: &std::path::Path| bail!("{system:?} has no broker here");
    play(Arguments::parse().part, no_broker, worker, caller)
}

async fn worker(system: System, address: String) -> anyhow::Result<()> {
    match system {
        System::Tarpc => tarpc::worker().await,
        System::Tonic => tonic::worker().await,
        System::Nats => nats::worker(&address).await,
        System::Jetstream | System::JetstreamSync => jetstream::worker(&address).await,
        System::RedisLists => redis::lists_worker(&address).await,
        System::RedisStreams | System::RedisStreamsSync => redis::streams_worker(&address).await,
        System::RabbitmqDirect => rabbitmq::worker(&address, false).await,
        System::RabbitmqQuorum => rabbitmq::worker(&address, true).await,
        other => bail!("{other:?} is not of this program"),
    }
}

async fn caller(system: System, address: String, plan: Plan) -> anyhow::Result<Measured> {
    match system {
        System::Tarpc => tarpc::caller(&address, &plan).await,
        System::Tonic => tonic::caller(&address, &plan).await,
        System::Nats => nats::caller(&address, &plan).await,
        System::Jetstream | System::JetstreamSync => jetstream::caller(&address, &plan).await,
        System::RedisLists => redis::lists_caller(&address, &plan).await,
        System::RedisStreams | System::RedisStreamsSync => redis::streams_caller(&address, &plan).await,
        System::RabbitmqDirect => rabbitmq::direct_caller(&address, &plan).await,
        System::RabbitmqQuorum => rabbitmq::quorum_caller(&address, &plan).await,
        other => bail!("{other:?} is not of this program"),
    }
}
