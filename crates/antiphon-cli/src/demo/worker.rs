//! The demo's worker process: a typed service, as a program of one's own would have it.

use super::words::{self, Text, Words};
use crate::ending::Ending;
use crate::stop::{self, Stops};
use antiphon::{Antiphon, Failure, Name};
use clap::Args;
use std::time::Duration;
use tokio::time::sleep;

/// How many calls one of these processes runs at a time.
pub const SLOTS: u32 = 4;
/// The names that the service below gives its procedures.
pub const WORDS: Name = Name::from_static("text.words");
pub const MERGE: Name = Name::from_static("text.merge");

/// Words of texts.
#[antiphon::service(name = "text")]
trait Counting {
    /// Counts the words of a text.
    #[procedure(idempotent)]
    async fn words(&self, text: Text) -> Result<Words, Failure>;

    /// Adds counts.
    #[procedure(idempotent)]
    async fn merge(&self, counts: Vec<Words>) -> Result<Words, Failure>;
}

struct Counter;

impl Counting for Counter {
    async fn words(&self, text: Text) -> Result<Words, Failure> {
        sleep(Duration::from_millis(text.pace_ms)).await;
        Ok(words::count(&text.text))
    }

    async fn merge(&self, counts: Vec<Words>) -> Result<Words, Failure> {
        Ok(counts.into_iter().fold(Words::new(), words::add))
    }
}

/// Serve the demo's procedures
#[derive(Debug, Args)]
pub struct DemoWorker {
    #[arg(long)]
    name: String,
}

pub async fn run(arguments: DemoWorker, url: Option<&str>) -> Result<(), Ending> {
    stop::when_stdin_ends();
    let mut stops = Stops::new()?;
    let antiphon = Antiphon::connect(url.unwrap_or_default()).await?;
    let worker = antiphon.worker().service(CountingService::new(Counter)).slots(SLOTS).name(arguments.name);
    let worker = worker.start().await?;
    worker.run_until(stops.next()).await.map_err(|failure| Ending::refused(&failure))
}
