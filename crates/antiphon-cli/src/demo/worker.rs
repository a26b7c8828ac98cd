//! The demo's worker process.
use crate::ending::Ending;
use crate::output::Output;
use clap::Args;

/// Serve the demo's procedures
#[derive(Debug, Args)]
pub struct DemoWorker {}

pub async fn run(_: DemoWorker, _: &Output) -> Result<(), Ending> {
    Err(Ending::failed("not built yet"))
}
