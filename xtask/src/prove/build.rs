//! The programs that the layers run, built once for all of them: what a layer takes is then what it runs.

use anyhow::{Context, bail};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A way to build.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Build {
    /// Optimised, with debug assertions.
    Plain,
    /// The same, with bugs that can be switched on.
    Planting,
    /// On a scheduler that tries orders of threads.
    Shuttle,
}

impl Build {
    pub const ALL: [Self; 3] = [Self::Plain, Self::Planting, Self::Shuttle];

    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Planting => "planting",
            Self::Shuttle => "shuttle",
        }
    }

    /// Arguments of `cargo test --no-run`. One list for each: packages that are built together share what they need.
    const fn arguments(self) -> &'static str {
        match self {
            Self::Plain => {
                "--profile prove -p antiphon-sim -p antiphon-engine -p antiphon-journal -p antiphon-fuzz -p antiphon-cli --test it --test smoke"
            }
            Self::Planting => "--profile prove -p antiphon-sim -p antiphon-engine --test it",
            Self::Shuttle => "-p antiphon-journal -p antiphon-embedded --test it",
        }
    }

    /// Builds it; says what can be run.
    pub fn make(self, root: &Path) -> anyhow::Result<Programs> {
        let mut command = Command::new("cargo");
        command.current_dir(root).args(["test", "--no-run", "--locked", "--message-format=json-render-diagnostics"]);
        command.args(self.arguments().split(' ')).stderr(Stdio::piped());
        if self != Self::Plain {
            // Other flags are another build: they must not throw away the ordinary one.
            command.env("CARGO_TARGET_DIR", target(root).join(self.name()));
            command.env("RUSTFLAGS", format!("--cfg {}", self.name()));
        }
        let output = command.output().context("running cargo")?;
        if !output.status.success() {
            bail!("{}\n`{command:?}` failed", String::from_utf8_lossy(&output.stderr));
        }
        let said = String::from_utf8_lossy(&output.stdout);
        Ok(Programs { build: self, all: said.lines().filter_map(|line| program(root, line)).collect() })
    }
}

impl std::fmt::Display for Build {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Where cargo builds.
pub fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into)
}

/// What a build can run.
#[derive(Debug)]
pub struct Programs {
    pub build: Build,
    all: Vec<Program>,
}

#[derive(Debug, PartialEq, Eq)]
struct Program {
    /// The folder of its package, from the root.
    package: PathBuf,
    name: String,
    path: PathBuf,
}

impl Programs {
    /// The program or test of this name, to be run in the folder of its package as cargo does.
    pub fn command(&self, root: &Path, package: &str, name: &str) -> anyhow::Result<Command> {
        let is_it = |program: &&Program| program.package == Path::new(package) && program.name == name;
        let program = self.all.iter().find(is_it);
        let program = program.with_context(|| format!("the {} build has no {name} of {package}", self.build))?;
        let mut command = Command::new(&program.path);
        command.current_dir(root.join(package));
        Ok(command)
    }
}

/// A line of what cargo tells.
#[derive(Deserialize)]
struct Told {
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

fn program(root: &Path, line: &str) -> Option<Program> {
    let told: Told = serde_json::from_str(line).ok()?;
    let package = told.manifest_path?.parent()?.strip_prefix(root).ok()?.to_path_buf();
    Some(Program { package, name: told.target?.name, path: told.executable? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_what_cargo_says_it_made() {
        let line = r#"{"reason":"compiler-artifact","manifest_path":"/r/crates/a/Cargo.toml","target":{"name":"it"},"executable":"/t/it-1"}"#;
        let found = program(Path::new("/r"), line);
        let expected = Program { package: "crates/a".into(), name: "it".to_owned(), path: "/t/it-1".into() };
        assert_eq!(found, Some(expected));
        assert_eq!(program(Path::new("/r"), &line.replace("\"/t/it-1\"", "null")), None, "a library");
        assert_eq!(program(Path::new("/r"), r#"{"reason":"build-finished","success":true}"#), None);
    }
}
