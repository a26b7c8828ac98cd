//! ARCHITECTURE.md names exactly the crates there are, and stays short enough to be read.

use anyhow::Context;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A map longer than this is not read before the first change.
const LINES_MAX: usize = 200;

/// Words that look like a crate and are none: the default data directory.
const NO_CRATES: &[&str] = &["antiphon-data"];

/// Reads the map and compares it with the crates.
pub fn check(root: &Path, crates: &[&str]) -> anyhow::Result<Vec<String>> {
    let map = fs::read_to_string(root.join("ARCHITECTURE.md")).context("reading ARCHITECTURE.md")?;
    Ok(compare(&map, crates))
}

fn compare(map: &str, crates: &[&str]) -> Vec<String> {
    let mut violations = Vec::new();
    for name in crates {
        if !map.contains(&format!("`crates/{name}`")) {
            violations.push(format!("ARCHITECTURE.md has no paragraph that names `crates/{name}`"));
        }
    }
    for name in named(map) {
        if !crates.contains(&name) && !NO_CRATES.contains(&name) {
            violations.push(format!("ARCHITECTURE.md names {name}, which is not a crate"));
        }
    }
    let lines = map.lines().count();
    if lines >= LINES_MAX {
        violations.push(format!("ARCHITECTURE.md has {lines} lines; it must stay under {LINES_MAX}"));
    }
    violations
}

/// Everything in the text that reads like one of our crates with a second name.
fn named(map: &str) -> BTreeSet<&str> {
    map.split(|character: char| !(character.is_ascii_alphanumeric() || character == '-'))
        .filter(|word| word.starts_with("antiphon-"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "## `crates/antiphon`\n\n## `crates/antiphon-wire`\nKeeps ./antiphon-data.\n";

    #[test]
    fn a_true_map_passes() {
        assert_eq!(compare(MAP, &["antiphon", "antiphon-wire"]), Vec::<String>::new());
    }

    #[test]
    fn a_crate_that_is_not_on_the_map_is_named() {
        let violations = compare(MAP, &["antiphon", "antiphon-wire", "antiphon-sim"]);
        assert_eq!(violations, ["ARCHITECTURE.md has no paragraph that names `crates/antiphon-sim`"]);
    }

    #[test]
    fn a_crate_that_is_gone_is_named() {
        let violations = compare(MAP, &["antiphon"]);
        assert_eq!(violations, ["ARCHITECTURE.md names antiphon-wire, which is not a crate"]);
    }

    #[test]
    fn a_long_map_is_refused() {
        let long = format!("{MAP}{}", "\n".repeat(LINES_MAX));
        assert_eq!(compare(&long, &["antiphon", "antiphon-wire"]).len(), 1);
    }
}
