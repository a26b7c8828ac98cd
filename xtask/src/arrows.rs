//! Which of our crates may depend on which, that the innermost are `no_std`, and that libraries have no features.

use crate::workspace::{Dependency, Kind, Package, Workspace};
use std::fs;

/// A crate and the crates of ours it may depend on. A crate without a row is refused, so that a new one is placed on
/// purpose.
struct Row {
    name: &'static str,
    may_use: &'static [&'static str],
    /// What its tests may use beyond that.
    tests_may_use: &'static [&'static str],
}

const fn row(name: &'static str, may_use: &'static [&'static str], tests_may_use: &'static [&'static str]) -> Row {
    Row { name, may_use, tests_may_use }
}

/// The house. Read a row as: the crate, what it stands on, what its tests may use in addition.
/// Engine and journal never know each other, and `antiphon` knows no foreign broker.
const ROWS: &[Row] = &[
    row("antiphon-protocol", &[], &[]),
    row("antiphon-engine", &["antiphon-protocol"], &[]),
    row("antiphon-journal", &[], &[]),
    row("antiphon-macros", &[], &["antiphon", "antiphon-protocol"]),
    row("antiphon-broker", &["antiphon-protocol"], &[]),
    row(
        "antiphon-embedded",
        &["antiphon-protocol", "antiphon-engine", "antiphon-journal", "antiphon-broker"],
        &["antiphon-conformance"],
    ),
    row(
        "antiphon-wire",
        &["antiphon-protocol", "antiphon-broker"],
        &["antiphon-conformance", "antiphon-embedded", "antiphon-server"],
    ),
    // The engine and the journal only through the embedded driver; of the seam only its words (Event, Report).
    row(
        "antiphon-server",
        &["antiphon-protocol", "antiphon-broker", "antiphon-embedded", "antiphon-wire"],
        // The journal's storage, for disks that stall.
        &["antiphon-conformance", "antiphon-journal"],
    ),
    row("antiphon-gateway", &["antiphon-protocol", "antiphon-server"], &["antiphon-wire", "antiphon-embedded"]),
    row(
        "antiphon",
        &["antiphon-protocol", "antiphon-macros", "antiphon-broker", "antiphon-embedded", "antiphon-wire"],
        &["antiphon-server"],
    ),
    row("antiphon-rabbitmq", &["antiphon-protocol", "antiphon-broker"], &["antiphon", "antiphon-conformance", "xtask"]),
    row("antiphon-kafka", &["antiphon-protocol", "antiphon-broker"], &["antiphon", "antiphon-conformance", "xtask"]),
    row("antiphon-nats", &["antiphon-protocol", "antiphon-broker"], &["antiphon", "antiphon-conformance"]),
    row("antiphon-postgres", &["antiphon-protocol", "antiphon-broker"], &["antiphon", "antiphon-conformance"]),
    row("antiphon-conformance", &["antiphon-protocol", "antiphon-broker"], &[]),
    row("antiphon-queueing", &["antiphon-protocol", "antiphon-engine"], &[]),
    // The switch for bugs planted on purpose: whoever has a site depends on it in builds with `--cfg planting` alone.
    row("antiphon-planted", &[], &[]),
    row(
        "antiphon-sim",
        &[
            "antiphon-protocol",
            "antiphon-engine",
            "antiphon-journal",
            "antiphon-broker",
            "antiphon-embedded",
            "antiphon-wire",
        ],
        &[],
    ),
    row(CLI, ALL, ALL),
    row("antiphon-examples", &["antiphon", "antiphon-server"], &["antiphon-embedded", "antiphon-queueing"]),
    row("antiphon-bench", ALL, ALL),
    // Whatever decodes bytes that somebody else may have written.
    row(
        "antiphon-fuzz",
        &[
            "antiphon-protocol",
            "antiphon-engine",
            "antiphon-journal",
            "antiphon-broker",
            "antiphon-embedded",
            "antiphon-wire",
            "antiphon-server",
        ],
        &[],
    ),
    row("xtask", &[], &[]),
];

/// The program: it may use every crate, and alone has features, one per foreign broker.
const CLI: &str = "antiphon-cli";

/// Stands for every crate of ours.
const ALL: &[&str] = &["*"];

/// Crates that must compile without the standard library.
const NO_STD: &[&str] = &["antiphon-protocol", "antiphon-engine"];

/// Everything in the workspace that breaks the house.
pub fn check(workspace: &Workspace) -> Vec<String> {
    let mut violations = Vec::new();
    for package in &workspace.packages {
        check_arrows(package, &mut violations);
        check_features(package, &mut violations);
        if NO_STD.contains(&package.name.as_str()) {
            let lib = fs::read_to_string(package.directory().join("src/lib.rs")).unwrap_or_default();
            check_no_std(&package.name, &lib, &mut violations);
        }
    }
    violations
}

fn check_arrows(package: &Package, violations: &mut Vec<String>) {
    let name = &package.name;
    let Some(row) = ROWS.iter().find(|row| row.name == name) else {
        violations.push(format!("{name} has no row in xtask/src/arrows.rs: say there what it may depend on"));
        return;
    };
    let ours = package.dependencies.iter().filter(|dependency| dependency.path.is_some());
    for dependency in ours.filter(|dependency| !is_planted(dependency)) {
        let allowed = |list: &[&str]| list == ALL || list.contains(&dependency.name.as_str());
        let (fine, purpose) = match dependency.kind {
            None => (allowed(row.may_use), "depends on"),
            Some(Kind::Build) => (allowed(row.may_use), "is built with"),
            Some(Kind::Dev) => (allowed(row.may_use) || allowed(row.tests_may_use), "is tested with"),
        };
        if !fine {
            violations.push(format!("{name} {purpose} {}: that arrow is not allowed", dependency.name));
        }
    }
}

/// The switch for planted bugs, which no ordinary build has.
fn is_planted(dependency: &Dependency) -> bool {
    dependency.name == "antiphon-planted" && dependency.target.as_deref() == Some("cfg(planting)")
}

fn check_features(package: &Package, violations: &mut Vec<String>) {
    if package.name == CLI {
        return;
    }
    for feature in package.features.keys() {
        violations.push(format!("{} has the feature `{feature}`: a crate will do instead", package.name));
    }
}

fn check_no_std(name: &str, lib: &str, violations: &mut Vec<String>) {
    if !lib.lines().any(|line| line.trim() == "#![no_std]") {
        violations.push(format!("{name} must be `#![no_std]`"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    fn package(name: &str, dependencies: &[(&str, Option<Kind>)]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|(name, kind)| Dependency {
                name: (*name).to_owned(),
                kind: *kind,
                path: Some(PathBuf::from("x")),
                target: None,
            })
            .collect();
        Package {
            name: name.to_owned(),
            manifest_path: PathBuf::from(format!("/r/crates/{name}/Cargo.toml")),
            dependencies,
            features: BTreeMap::new(),
        }
    }

    fn arrows(name: &str, dependencies: &[(&str, Option<Kind>)]) -> Vec<String> {
        let mut violations = Vec::new();
        check_arrows(&package(name, dependencies), &mut violations);
        violations
    }

    #[test]
    fn engine_and_journal_never_know_each_other() {
        assert_eq!(arrows("antiphon-engine", &[("antiphon-protocol", None)]).len(), 0);
        for kind in [None, Some(Kind::Dev), Some(Kind::Build)] {
            assert_eq!(arrows("antiphon-engine", &[("antiphon-journal", kind)]).len(), 1);
            assert_eq!(arrows("antiphon-journal", &[("antiphon-engine", kind)]).len(), 1);
        }
    }

    #[test]
    fn the_journal_depends_on_none_of_ours() {
        assert_eq!(arrows("antiphon-journal", &[("antiphon-protocol", None)]).len(), 1);
    }

    #[test]
    fn tests_may_go_wider_where_the_row_says_so() {
        assert_eq!(arrows("antiphon", &[("antiphon-server", Some(Kind::Dev))]).len(), 0);
        assert_eq!(arrows("antiphon", &[("antiphon-server", None)]).len(), 1);
        assert_eq!(arrows("antiphon", &[("antiphon-server", Some(Kind::Build))]).len(), 1);
        assert_eq!(arrows("antiphon", &[("antiphon-kafka", Some(Kind::Dev))]).len(), 1);
    }

    #[test]
    fn a_crate_from_the_registry_is_no_arrow() {
        let mut engine = package("antiphon-engine", &[("hashbrown", None)]);
        for dependency in &mut engine.dependencies {
            dependency.path = None;
        }
        let mut violations = Vec::new();
        check_arrows(&engine, &mut violations);
        assert_eq!(violations.len(), 0);
    }

    #[test]
    fn a_crate_without_a_row_is_refused() {
        assert_eq!(arrows("antiphon-surprise", &[]).len(), 1);
        assert_eq!(arrows(CLI, &[("antiphon-surprise", None)]).len(), 0);
    }

    #[test]
    fn a_library_has_no_features() {
        let mut violations = Vec::new();
        let mut library = package("antiphon", &[]);
        library.features.insert("tls".to_owned(), Vec::new());
        check_features(&library, &mut violations);
        assert_eq!(violations.len(), 1);

        let mut program = package(CLI, &[]);
        program.features.insert("kafka".to_owned(), Vec::new());
        check_features(&program, &mut violations);
        assert_eq!(violations.len(), 1);
    }

    #[test]
    fn the_innermost_crates_are_no_std() {
        let mut violations = Vec::new();
        check_no_std("antiphon-engine", "//! Text.\n#![no_std]\n", &mut violations);
        assert_eq!(violations.len(), 0);
        check_no_std("antiphon-engine", "//! Not `#![no_std]` at all.\n", &mut violations);
        assert_eq!(violations.len(), 1);
    }
}
