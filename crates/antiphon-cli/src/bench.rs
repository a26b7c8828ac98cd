//! `antiphon bench`.
pub mod worker;
use crate::ending::Ending;
use crate::output::Output;
use clap::Args;

/// Measure
#[derive(Debug, Args)]
pub struct Bench {}

pub fn run(_: Bench, _: Option<&str>, _: &Output) -> Result<(), Ending> {
    Err(Ending::failed("not built yet"))
}
