//! The systems that are measured, and what each consists of.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// One way to call a procedure, with its settings.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[value(rename_all = "kebab-case")]
pub enum System {
    Limit,
    AntiphonVolatile,
    AntiphonDurableIdempotent,
    AntiphonDurable,
    AntiphonDirect,
    AntiphonMemory,
    Tarpc,
    Tonic,
    Nats,
    Jetstream,
    JetstreamSync,
    RedisLists,
    RedisStreams,
    RedisStreamsSync,
    RabbitmqDirect,
    RabbitmqQuorum,
}

/// The process in the middle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Middle {
    /// The caller connects to the worker.
    None,
    /// This program, as the broker of that system.
    Own,
    /// A server from its own package.
    Nats {
        sync: bool,
    },
    Redis {
        sync: bool,
    },
    Rabbitmq,
}

impl System {
    /// What `--peers` calls it; a group stands for all of its systems.
    pub const fn group(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Tarpc => "tarpc",
            Self::Tonic => "tonic",
            Self::Nats | Self::Jetstream | Self::JetstreamSync => "nats",
            Self::RedisLists | Self::RedisStreams | Self::RedisStreamsSync => "redis",
            Self::RabbitmqDirect | Self::RabbitmqQuorum => "rabbitmq",
            _ => "antiphon",
        }
    }

    pub const fn middle(self) -> Middle {
        match self {
            Self::Tarpc | Self::Tonic | Self::AntiphonDirect | Self::AntiphonMemory => Middle::None,
            Self::Limit | Self::AntiphonVolatile | Self::AntiphonDurableIdempotent | Self::AntiphonDurable => {
                Middle::Own
            }
            Self::Nats | Self::Jetstream => Middle::Nats { sync: false },
            Self::JetstreamSync => Middle::Nats { sync: true },
            Self::RedisLists | Self::RedisStreams => Middle::Redis { sync: false },
            Self::RedisStreamsSync => Middle::Redis { sync: true },
            Self::RabbitmqDirect | Self::RabbitmqQuorum => Middle::Rabbitmq,
        }
    }

    /// Whether the worker is a process of its own.
    pub fn has_worker(self) -> bool {
        self != Self::AntiphonMemory
    }

    /// How the report calls it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Limit => "limit: relay with per-call bookkeeping",
            Self::AntiphonVolatile => "**Antiphon**, volatile",
            Self::AntiphonDurableIdempotent => "**Antiphon**, durable, idempotent procedure",
            Self::AntiphonDurable => "**Antiphon**, durable",
            Self::AntiphonDirect => "**Antiphon**, direct: broker in the worker's process",
            Self::AntiphonMemory => "**Antiphon**, `memory:`, all in one process",
            Self::Tarpc => "tarpc (no broker)",
            Self::Tonic => "tonic gRPC (no broker)",
            Self::Nats => "NATS core request–reply",
            Self::Jetstream => "JetStream, default sync (not fsynced before its ack)",
            Self::JetstreamSync => "JetStream, sync always",
            Self::RedisLists => "Redis lists",
            Self::RedisStreams => "Redis streams",
            Self::RedisStreamsSync => "Redis streams, appendfsync always",
            Self::RabbitmqDirect => "RabbitMQ, direct reply-to",
            Self::RabbitmqQuorum => "RabbitMQ, quorum queue, confirms",
        }
    }

    /// The settings, for the report.
    pub const fn settings(self) -> &'static str {
        match self {
            Self::Limit => {
                "a process that copies bytes both ways; ids, a slab of oneshots and coalesced writes in the caller"
            }
            Self::AntiphonVolatile => "`serve` in memory; library `antiphon` in caller and worker",
            Self::AntiphonDurableIdempotent => "one fdatasync a call, shared by a batch",
            Self::AntiphonDurable => "two fdatasyncs a call, shared by a batch",
            Self::AntiphonDirect => "volatile; the server runs on the worker's runtime",
            Self::AntiphonMemory => "caller, broker and worker on one current-thread runtime",
            Self::Tarpc => "bincode, nodelay, 4,096 in flight",
            Self::Tonic => "prost, 1 MiB stream and 128 MiB connection windows",
            Self::Nats => "queue group",
            Self::Jetstream | Self::JetstreamSync => {
                "file work-queue stream, one replica, publish acknowledgement awaited, pull consumer, batches of 2,048, +ACK"
            }
            Self::RedisLists => "RPUSH and BLMPOP COUNT 1024 both ways, no persistence",
            Self::RedisStreams | Self::RedisStreamsSync => {
                "XADD awaited, XREADGROUP COUNT 1024; RPUSH, XACK, XDEL in a pipeline; append-only file"
            }
            Self::RabbitmqDirect => "transient classic queue, automatic acknowledgement",
            Self::RabbitmqQuorum => {
                "durable quorum queue (one node), persistent, confirm and reply awaited, manual acknowledgement, prefetch 1,000"
            }
        }
    }
}
