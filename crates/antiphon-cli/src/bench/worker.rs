//! The bench's worker process.
use crate::ending::Ending;
use clap::Args;

/// Echo
#[derive(Debug, Args)]
pub struct BenchWorker {}

pub async fn run(_: BenchWorker) -> Result<(), Ending> {
    Err(Ending::failed("not built yet"))
}
