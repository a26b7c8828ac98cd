//! `antiphon completions`: a script for the shell.

use crate::arguments::Arguments;
use crate::ending::Ending;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::io::{self, Write};

/// Print a script that completes this program's command line
#[derive(Debug, Args)]
pub struct Completions {
    /// For which shell
    shell: Shell,
}

pub fn run(arguments: &Completions) -> Result<(), Ending> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "antiphon", &mut script);
    Ok(io::stdout().lock().write_all(&script)?)
}
