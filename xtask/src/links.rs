//! Links between the repository's texts lead somewhere.

use crate::files::TextFile;
use std::path::{Component, Path, PathBuf};

/// Every relative link in these texts that leads to no file or directory.
pub fn check(root: &Path, texts: &[TextFile]) -> Vec<String> {
    let mut violations = Vec::new();
    for text in texts {
        let directory = Path::new(&text.path).parent().unwrap_or(Path::new(""));
        for target in targets(&text.text) {
            if !root.join(normal(&directory.join(target))).exists() {
                violations.push(format!("{} links to {target}, which is not there", text.path));
            }
        }
    }
    violations
}

/// The files that a text in Markdown links to, as it names them; other sites and places within a page are left out.
fn targets(text: &str) -> Vec<&str> {
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files = links.filter(|link| !link.contains("://") && !link.starts_with('#') && !link.starts_with("mailto:"));
    files.filter_map(|link| link.split(['#', ' ']).next()).filter(|link| !link.is_empty()).collect()
}

/// The path without `..`, so that a link out of a directory that is a link itself is read as people read it.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        if component == Component::ParentDir {
            normal.pop();
        } else {
            normal.push(component);
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_link_that_leads_nowhere_is_named() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("docs/guide")).unwrap();
        fs::write(root.path().join("docs/errors.md"), "").unwrap();
        let text = "[a](../errors.md#codes) [b](https://example.org/x.md) [c](#here)\n[d](../gone.md)";
        let page = TextFile { path: "docs/guide/page.md".to_owned(), text: text.to_owned() };
        assert_eq!(check(root.path(), &[page]), ["docs/guide/page.md links to ../gone.md, which is not there"]);
    }
}
