//! The demo's worker process.
use crate::ending::Ending;
use clap::Args;

/// Serve the demo's procedures
#[derive(Debug, Args)]
pub struct DemoWorker {}

pub fn run(_: &DemoWorker) -> Result<(), Ending> {
    Err(Ending::failed("not built yet"))
}
