//! Every page with Rust in it is compiled, every decision is listed.

use std::fs;
use std::path::Path;

#[test]
fn every_page_with_rust_is_compiled_as_a_doc_test() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR"));
    let included = fs::read_to_string(examples.join("src/lib.rs")).unwrap();
    let mut missing = Vec::new();
    for directory in ["..", "../docs", "../docs/guide/src", "../docs/decisions"] {
        for entry in fs::read_dir(examples.join(directory)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let rust = name.ends_with(".md") && fs::read_to_string(&path).unwrap().contains("```rust");
            if rust && !included.contains(&format!("include_str!(\"../{directory}/{name}\")")) {
                missing.push(format!("{directory}/{name}"));
            }
        }
    }
    assert!(missing.is_empty(), "examples/src/lib.rs does not include {missing:?}");
}

#[test]
fn every_decision_is_listed() {
    let decisions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/decisions");
    let list = fs::read_to_string(decisions.join("README.md")).unwrap();
    for entry in fs::read_dir(&decisions).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let page = fs::read_to_string(decisions.join(&name)).unwrap();
        let title = page.lines().next().unwrap().trim_start_matches("# ").replacen(": ", " ", 1);
        let line = if name.starts_with("0000") { "[0000 template]".to_owned() } else { format!("[{title}]") };
        let listed = list.contains(&format!("- {line}({name})"));
        assert!(listed || name == "README.md", "docs/decisions/README.md does not list {name} as {line}");
    }
}
