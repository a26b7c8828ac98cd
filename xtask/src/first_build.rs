//! The README's first build, measured as a newcomer meets it: nothing compiled yet.

use anyhow::{Context, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Longer than this and a newcomer has gone elsewhere.
const LIMIT: Duration = Duration::from_secs(4 * 60);

/// The promise is made for a machine with this many cores; more are not used.
const CORES: &str = "2";

/// Builds into an empty target directory and says how long it took; fails over the limit.
pub fn measure(root: &Path) -> anyhow::Result<String> {
    let directory = target_directory(root).join("first-build");
    empty(&directory)?;
    // What is downloaded does not depend on us; what is compiled does.
    run(Command::new("cargo").args(["fetch", "--locked"]).current_dir(root))?;

    let start = Instant::now();
    let mut build = Command::new("cargo");
    build.args(["build", "--locked", "--release", "--package", "antiphon-cli", "--jobs", CORES, "--target-dir"]);
    let built = run(build.arg(&directory).current_dir(root));
    let took = start.elapsed();
    empty(&directory)?;
    built?;
    judge(took)
}

fn judge(took: Duration) -> anyhow::Result<String> {
    let (took, limit) = (took.as_secs(), LIMIT.as_secs());
    if took > limit {
        bail!("the first build took {took} s with {CORES} cores; {limit} s are allowed");
    }
    Ok(format!("the first build took {took} s of {limit} s with {CORES} cores"))
}

fn target_directory(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

fn empty(directory: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("emptying {}", directory.display()))
        }
        _ => Ok(()),
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().context("running cargo")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_first_build_is_refused() {
        assert!(judge(LIMIT).is_ok());
        assert!(judge(LIMIT + Duration::from_secs(1)).is_err());
    }
}
