#![doc = include_str!("../README.md")]

mod acks;
mod address;
mod batch;
mod caller_line;
mod caller_pump;
mod clock;
mod control;
mod dead_letters;
mod delay;
mod link;
mod message;
mod names;
mod publication;
mod rabbitmq;
mod settling;
mod sleep;
mod topology;
mod worker_line;
mod worker_pump;

pub use rabbitmq::{RabbitMq, driver};
