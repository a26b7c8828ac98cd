//! What a program pays for depending on `antiphon`: how many crates, and no C compiler.

use anyhow::{Context, bail};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Every crate of the closure is one more to download, compile and trust.
const CRATES_MAX: usize = 120;

/// The platform that is counted: others pull in their own bindings, never ours.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Build dependencies that compile or look for C.
const C_BUILDERS: &[&str] = &["cc", "cmake", "bindgen", "pkg-config", "vcpkg", "nasm-rs", "autotools"];

/// Crates named like bindings that compile no C.
const PURE_RUST: &[&str] = &[
    // Constants and structs of Linux' interface, written out in Rust.
    "linux-raw-sys",
];

/// Checks the closure of the package that users depend on; the remark says how large it is.
pub fn check(root: &Path) -> anyhow::Result<(Vec<String>, String)> {
    let closure = closure(root, "antiphon")?;
    Ok((judge("antiphon", &closure), format!("antiphon needs {} of {CRATES_MAX} crates", closure.len())))
}

/// The names and versions of everything that is compiled for `package`, itself and proc macros included, tests not.
fn closure(root: &Path, package: &str) -> anyhow::Result<BTreeSet<String>> {
    let output = Command::new("cargo")
        .args(["tree", "--locked", "--package", package, "--edges=normal,build", "--target", TARGET])
        .args(["--prefix=none", "--format={p}"])
        .current_dir(root)
        .output()
        .context("running cargo tree")?;
    if !output.status.success() {
        bail!("cargo tree: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// Reads lines such as `bytes v1.12.0`, `serde v1.0.229 (*)`, `antiphon v0.1.0 (/path)`.
fn parse(tree: &str) -> BTreeSet<String> {
    tree.lines()
        .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
        .filter(|line| !line.is_empty())
        .collect()
}

fn judge(package: &str, closure: &BTreeSet<String>) -> Vec<String> {
    let mut violations = Vec::new();
    if closure.len() > CRATES_MAX {
        violations.push(format!("{package} needs {} crates; at most {CRATES_MAX} are allowed", closure.len()));
    }
    for entry in closure {
        let name = entry.split(' ').next().unwrap_or_default();
        let binding = name.ends_with("-sys") && !PURE_RUST.contains(&name);
        if binding || C_BUILDERS.contains(&name) {
            violations.push(format!("{package} needs {entry}, which compiles or links C"));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_counted_once_however_often_it_is_listed() {
        let tree = "antiphon v0.1.0 (/r/crates/antiphon)\nserde v1.0.229\nserde v1.0.229 (*)\n\n";
        assert_eq!(parse(tree).into_iter().collect::<Vec<_>>(), ["antiphon v0.1.0", "serde v1.0.229"]);
    }

    #[test]
    fn too_many_crates_are_refused() {
        let crates = |count: usize| (0..count).map(|number| format!("c{number} v1.0.0")).collect();
        assert_eq!(judge("antiphon", &crates(CRATES_MAX)), Vec::<String>::new());
        assert_eq!(judge("antiphon", &crates(CRATES_MAX + 1)).len(), 1);
    }

    #[test]
    fn whatever_compiles_c_is_refused() {
        for name in ["cc v1.2.0", "openssl-sys v0.9.0", "cmake v0.1.50"] {
            assert_eq!(judge("antiphon", &BTreeSet::from([name.to_owned()])).len(), 1, "{name}");
        }
        assert_eq!(judge("antiphon", &BTreeSet::from(["linux-raw-sys v0.11.0".to_owned()])), Vec::<String>::new());
    }
}
