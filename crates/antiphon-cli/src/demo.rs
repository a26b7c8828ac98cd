//! `antiphon demo`.
pub mod worker;
use crate::ending::Ending;
use crate::output::Output;
use clap::Args;

/// See it work
#[derive(Debug, Args)]
pub struct Demo {}

pub async fn run(_: Demo, _: &Output) -> Result<(), Ending> {
    Err(Ending::failed("not built yet"))
}
