//! Instruction counts of the paths that every call takes, held against those that are committed: a regression shows on
//! a machine too noisy for times.

use anyhow::{Context, bail, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The paths, as `bench/src/bin/counted.rs` knows them.
const PATHS: &[&str] = &["engine-cycle", "frame-encode", "frame-decode", "journal-append"];
/// Where the counts are committed.
const FILE: &str = "bench/instructions.txt";
/// How many instructions more than committed pass.
const SLACK: f64 = 0.05;
/// A path is run this often and twice as often: the difference is without start and end.
const TIMES: u64 = 6_400;

/// Counts, and fails where more than the slack is above what is committed.
pub fn check(root: &Path) -> anyhow::Result<()> {
    let committed = read(&fs::read_to_string(root.join(FILE)).with_context(|| format!("reading {FILE}"))?)?;
    let counted = count(root)?;
    let mut regressions = Vec::new();
    for (path, now) in &counted {
        let before = committed.get(path).with_context(|| format!("{FILE} has no count of {path}: record it"))?;
        let change = now / before - 1.0;
        println!("{path:<16} {now:>8.0} instructions, {:+.1} % of {before:.0}", change * 100.0);
        regressions.extend(is_regression(*before, *now).then(|| format!("{path} {:+.1} %", change * 100.0)));
    }
    ensure!(regressions.is_empty(), "more instructions than committed: {}", regressions.join(", "));
    Ok(())
}

/// Counts, and writes what is to be committed.
pub fn record(root: &Path) -> anyhow::Result<()> {
    let mut text =
        String::from("# Instructions of one turn through each path; `cargo xtask bench --record` writes this.\n");
    for (path, now) in count(root)? {
        println!("{path:<16} {now:>8.0} instructions");
        text += &format!("{path} {now:.0}\n");
    }
    fs::write(root.join(FILE), text).with_context(|| format!("writing {FILE}"))
}

fn is_regression(before: f64, now: f64) -> bool {
    now > before * (1.0 + SLACK)
}

fn read(text: &str) -> anyhow::Result<BTreeMap<String, f64>> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (path, count) = line.split_once(' ').with_context(|| format!("{FILE}: {line:?} is no count"))?;
            Ok((path.to_owned(), count.parse().with_context(|| format!("{FILE}: {line:?} is no count"))?))
        })
        .collect()
}

fn count(root: &Path) -> anyhow::Result<BTreeMap<String, f64>> {
    let program = build(root)?;
    PATHS
        .iter()
        .map(|path| {
            let (once, twice) = (instructions(&program, path, TIMES)?, instructions(&program, path, 2 * TIMES)?);
            Ok(((*path).to_owned(), (twice - once) / TIMES as f64))
        })
        .collect()
}

fn build(root: &Path) -> anyhow::Result<PathBuf> {
    let build = ["build", "--release", "--quiet", "-p", "antiphon-bench", "--bin", "counted"];
    let output = Command::new("cargo")
        .args(build)
        .args(["--message-format", "json"])
        .current_dir(root)
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("running cargo")?;
    ensure!(output.status.success(), "the counted program cannot be built");
    let built = String::from_utf8_lossy(&output.stdout);
    let executable =
        built.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()).find_map(|message| {
            let is_it = message.get("target")?.get("name")? == "counted";
            is_it.then(|| message.get("executable")?.as_str().map(PathBuf::from)).flatten()
        });
    executable.context("cargo did not say where the counted program is")
}

fn instructions(program: &Path, path: &str, times: u64) -> anyhow::Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(program)
        .args([path, &times.to_string()])
        .output()
        .context("running valgrind: it is needed to count instructions (`apt install valgrind`)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{path} failed under valgrind:\n{said}");
    }
    references(&said).with_context(|| format!("valgrind did not say how many instructions {path} took:\n{said}"))
}

/// The figure behind "I refs:".
fn references(said: &str) -> Option<f64> {
    let line = said.lines().find(|line| line.contains("refs:") && line.contains(" I "))?;
    line.rsplit_once(':')?.1.trim().replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_a_twentieth_above_is_a_regression() {
        assert!(is_regression(1_000.0, 1_051.0));
        assert!(!is_regression(1_000.0, 1_049.0) && !is_regression(1_000.0, 500.0));
    }

    #[test]
    fn the_count_is_found_in_what_valgrind_says() {
        let said = "==7== Command: counted\n==7== \n==7== I   refs:      1,234,567\n";
        assert_eq!(references(said), Some(1_234_567.0));
        assert_eq!(references("==7== nothing"), None);
    }

    #[test]
    fn committed_counts_are_read_and_others_refused() {
        let counts = read("# a remark\nengine-cycle 5000\n").expect("it is well-formed");
        assert_eq!(counts.get("engine-cycle"), Some(&5_000.0));
        assert!(read("engine-cycle many\n").is_err());
    }
}
