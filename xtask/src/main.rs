//! Repository chores: `cargo xtask ci` is the one command that says whether a change may go in.

mod arrows;
mod budgets;
mod ci;
mod code_map;
mod counts;
mod files;
mod first_build;
mod links;
mod prove;
mod words;
mod workspace;

use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use xtask::services;

const USAGE: &str = "usage: cargo xtask <chore>
  ci            everything: format, rules, clippy, tests, doc tests, docs, the first build's time
  rules         the repository's rules alone (seconds)
  first-build   the README's first build in an empty target directory, at most 4 minutes on 2 cores
  prove [--short | --long HOURS]
                everything that tries to break the claims; writes docs/reliability.md (not the short form)
  services up|down|status
                the servers that tests need: start them on free local ports, stop and forget them, say where they are
  bench --check   counts instructions of the paths that every call takes, and fails where there are over 5 % more than
                  committed; needs valgrind
  bench --record  counts them, and writes what is to be committed";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without the backtrace: it would bury the list of what failed.
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let root = root()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["ci"] => ci::run(&root),
        ["rules"] => ci::rules(&root),
        ["first-build"] => {
            println!("{}", first_build::measure(&root)?);
            Ok(())
        }
        ["prove", flags @ ..] => prove::run(&root, prove::Scale::read(flags)?),
        ["services", "up"] => services::up().and_then(|()| print_services()),
        ["services", "down"] => services::down(),
        ["services", "status"] => print_services(),
        ["bench", "--check"] => counts::check(&root),
        ["bench", "--record"] => counts::record(&root),
        _ => bail!(USAGE),
    }
}

fn print_services() -> anyhow::Result<()> {
    services::status()?.iter().for_each(|line| println!("{line}"));
    Ok(())
}

/// The repository's root: the parent of this package.
fn root() -> anyhow::Result<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(package.parent().context("xtask lies in the workspace")?.to_path_buf())
}
