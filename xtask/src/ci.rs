//! The steps of `cargo xtask ci`: one line each, all of them run, all failures listed at the end.

use crate::workspace::Workspace;
use crate::{arrows, budgets, code_map, files, first_build, links, prove, words};
use anyhow::{Context, bail};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use xtask::services;

/// Directories whose code follows the rules. This package is left out: its rules have to name what they refuse.
const CODE: &[&str] = &["crates", "examples", "bench", "fuzz"];
/// Directories whose texts follow the rule of words. Decisions are left out: they tell what was not chosen.
const TEXTS: &[&str] = &["docs/guide", "crates"];

/// The program's features, one for each foreign broker: in tests it knows them all.
const FOREIGN: &str = "antiphon-cli/rabbitmq,antiphon-cli/kafka";

/// What a step found: nothing to complain about, with a remark for the line; or what is wrong.
type Found = anyhow::Result<String>;

/// All steps.
pub fn run(root: &Path) -> anyhow::Result<()> {
    let mut steps = Steps::default();
    steps.step("format", || cargo(root, &["fmt", "--all", "--check"], &[]));
    rule_steps(&mut steps, root);
    steps.step("tools", services::tools::install);
    steps.step("clippy", || {
        cargo(
            root,
            &["clippy", "--locked", "--workspace", "--features", FOREIGN, "--all-targets", "--", "-D", "warnings"],
            &[],
        )
    });
    steps.step("services", || services::up().and_then(|()| Ok(services::status()?.join(", "))));
    steps.step("tests", || {
        // All that is wrong is worth knowing at once.
        let what = ["test", "--locked", "--workspace", "--features", FOREIGN, "--no-fail-fast"];
        let kinds = ["--lib", "--bins", "--tests", "--examples"];
        cargo(root, &[&what[..], &kinds[..]].concat(), &[])
    });
    steps.step("services end", || services::down().map(|()| String::new()));
    steps.step("doc tests", || cargo(root, &["test", "--locked", "--workspace", "--doc"], &[]));
    steps.step("prove", || prove::run(root, prove::Scale::Short).map(|()| String::new()));
    // The program's own pages would overwrite those of the library of the same name.
    steps.step("docs", || {
        cargo(root, &["doc", "--locked", "--workspace", "--no-deps", "--lib"], &[("RUSTDOCFLAGS", "-D warnings")])
    });
    steps.step("references", || references(root));
    steps.step("first build", || first_build::measure(root));
    steps.finish()
}

/// The repository's rules alone.
pub fn rules(root: &Path) -> anyhow::Result<()> {
    let mut steps = Steps::default();
    rule_steps(&mut steps, root);
    steps.finish()
}

fn rule_steps(steps: &mut Steps, root: &Path) {
    steps.step("arrows", || {
        let workspace = Workspace::read(root)?;
        none_of(arrows::check(&workspace), format!("{} packages", workspace.packages.len()))
    });
    steps.step("words", || {
        let mut read = files::read(root, CODE, "rs")?;
        read.extend(files::read(root, TEXTS, "md")?);
        none_of(words::check(&read), format!("{} files", read.len()))
    });
    steps.step("code map", || {
        let workspace = Workspace::read(root)?;
        let crates = workspace.crates();
        none_of(code_map::check(root, &crates)?, format!("{} crates", crates.len()))
    });
    steps.step("links", || {
        let mut texts = files::read(root, &["docs", "crates", "examples", "bench", "fuzz"], "md")?;
        texts.extend(files::beside(root, "md")?);
        none_of(links::check(root, &texts), format!("{} pages", texts.len()))
    });
    steps.step("budgets", || {
        let (violations, remark) = budgets::check(root)?;
        none_of(violations, remark)
    });
    steps.step("file lengths", || {
        let long = files::long(&files::read(root, &["crates", "examples", "xtask"], "rs")?);
        for warning in &long {
            println!("warn {warning}");
        }
        Ok(format!("{} warnings", long.len()))
    });
}

/// How the script ends when the package from PyPI cannot be installed.
const NOT_INSTALLED: i32 = 75;

/// Makes the reference values of the formulas again, and holds a package from PyPI against them where it can be installed.
/// The values themselves are kept, so that no test needs Python.
fn references(root: &Path) -> Found {
    let script = root.join("crates/antiphon-queueing/tests/reference/reference.py");
    let output = match Command::new("python3").arg(&script).arg("--check").output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok("not made again: there is no python3; the tests went by the values that are kept".to_owned());
        }
        output => output.context("running python3")?,
    };
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if !output.status.success() {
        bail!("{}\n`reference.py --check` failed", said(&output.stderr));
    }
    let environment = root.join("target/pyqueueing");
    let package = Command::new("python3").arg(script).arg("--package").arg(&environment).output();
    let package = package.context("running python3")?;
    let beside = match package.status.code() {
        Some(0) => said(&package.stdout),
        // Said by the script where the package cannot be had.
        Some(NOT_INSTALLED) => said(&package.stderr),
        _ => bail!("{}{}\n`reference.py --package` failed", said(&package.stdout), said(&package.stderr)),
    };
    Ok(format!("{}; {beside}", said(&output.stdout)))
}

fn none_of(violations: Vec<String>, remark: String) -> Found {
    if violations.is_empty() {
        return Ok(remark);
    }
    bail!(violations.join("\n"))
}

/// Runs cargo and keeps what it says for the case that it fails.
fn cargo(root: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Found {
    let output = Command::new("cargo")
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(root)
        .output()
        .context("running cargo")?;
    if output.status.success() {
        return Ok(String::new());
    }
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    bail!("{}{}\n`cargo {}` failed", said(&output.stdout), said(&output.stderr), arguments.join(" "))
}

/// The steps so far.
#[derive(Default)]
struct Steps {
    failed: Vec<&'static str>,
}

impl Steps {
    fn step(&mut self, name: &'static str, run: impl FnOnce() -> Found) {
        let start = Instant::now();
        let found = run();
        let seconds = start.elapsed().as_secs();
        match found {
            Ok(remark) => println!("ok   {name:<12} {seconds:>4} s  {remark}"),
            Err(error) => {
                println!("{error:#}");
                println!("FAIL {name:<12} {seconds:>4} s");
                self.failed.push(name);
            }
        }
        // The next step may take minutes, and a pipe is not flushed by line.
        if let Err(error) = std::io::stdout().flush() {
            eprintln!("flushing the output: {error}");
        }
    }

    fn finish(self) -> anyhow::Result<()> {
        if self.failed.is_empty() {
            println!("all is well");
            return Ok(());
        }
        bail!("failed: {}", self.failed.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_stops_neither_the_next_nor_the_verdict() {
        let mut steps = Steps::default();
        let mut ran = false;
        steps.step("first", || bail!("no"));
        steps.step("second", || {
            ran = true;
            Ok(String::new())
        });
        steps.step("third", || bail!("no"));
        assert!(ran);
        assert_eq!(steps.finish().unwrap_err().to_string(), "failed: first, third");
    }

    #[test]
    fn a_violation_fails_its_step() {
        assert!(none_of(Vec::new(), String::new()).is_ok());
        assert!(none_of(vec!["a breaks b".to_owned()], String::new()).is_err());
    }
}
