//! What cargo says of the workspace: its packages, their dependencies and features. It judges nothing.

use anyhow::{Context, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The members of the workspace.
#[derive(Debug, Deserialize)]
pub struct Workspace {
    pub packages: Vec<Package>,
}

/// One member.
#[derive(Debug, Deserialize)]
pub struct Package {
    pub name: String,
    pub manifest_path: PathBuf,
    pub dependencies: Vec<Dependency>,
    pub features: BTreeMap<String, Vec<String>>,
}

/// A dependency as the manifest states it.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    pub name: String,
    /// `None` is a normal dependency.
    pub kind: Option<Kind>,
    /// Where it lies, if it is one of ours.
    pub path: Option<PathBuf>,
    /// For which builds it is one, if not for all.
    pub target: Option<String>,
}

/// What a dependency is needed for, when not by the crate itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Dev,
    Build,
}

impl Workspace {
    /// Asks cargo.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let output = Command::new("cargo")
            .args(["metadata", "--format-version=1", "--no-deps", "--locked"])
            .current_dir(root)
            .output()
            .context("running cargo metadata")?;
        if !output.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).context("reading the answer of cargo metadata")
    }

    /// The names of the packages in `crates/`.
    pub fn crates(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.packages.iter().filter(|package| package.is_crate()).map(|package| package.name.as_str()).collect();
        names.sort_unstable();
        names
    }
}

impl Package {
    /// The package's directory.
    pub fn directory(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("."))
    }

    /// Whether it lies in `crates/`, rather than being a chore, an example or a benchmark.
    pub fn is_crate(&self) -> bool {
        self.directory().parent().is_some_and(|parent| parent.ends_with("crates"))
    }
}
