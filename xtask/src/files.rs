//! The text files of the repository that rules read, with their lines.

use anyhow::Context;
use std::fs;
use std::path::{Path, PathBuf};

/// Longer than this, ask which second noun is hiding in the file: of the projects we learn from, nine files in ten
/// are shorter.
const LINES_WANTED: usize = 500;

/// A text file.
#[derive(Debug)]
pub struct TextFile {
    /// Relative to the root, with `/` between the parts.
    pub path: String,
    pub text: String,
}

/// All files below `directories` with this extension, sorted by path. A directory that is not there has none.
pub fn read(root: &Path, directories: &[&str], extension: &str) -> anyhow::Result<Vec<TextFile>> {
    let mut files = Vec::new();
    for directory in directories {
        let path = root.join(directory);
        if path.is_dir() {
            walk(root, &path, extension, &mut files)?;
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// The files with this extension in the root itself.
pub fn beside(root: &Path, extension: &str) -> anyhow::Result<Vec<TextFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root).with_context(|| format!("listing {}", root.display()))? {
        let path = entry?.path();
        if path.is_file() && path.extension().is_some_and(|found| found == extension) {
            files.push(read_one(root, path)?);
        }
    }
    Ok(files)
}

fn walk(root: &Path, directory: &Path, extension: &str, files: &mut Vec<TextFile>) -> anyhow::Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("listing {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden || path.ends_with("target") {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, extension, files)?;
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(read_one(root, path)?);
        }
    }
    Ok(())
}

fn read_one(root: &Path, path: PathBuf) -> anyhow::Result<TextFile> {
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
    Ok(TextFile { path: relative, text })
}

/// Files that are longer than we like; a warning, not a violation.
pub fn long(files: &[TextFile]) -> Vec<String> {
    files
        .iter()
        .map(|file| (file.path.as_str(), file.text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_WANTED)
        .map(|(path, lines)| format!("{path} has {lines} lines, over {LINES_WANTED}: is there a second noun in it?"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_named_and_a_short_one_is_not() {
        let file = |lines| TextFile { path: "crates/a/src/lib.rs".to_owned(), text: "\n".repeat(lines) };
        assert_eq!(long(&[file(500)]), Vec::<String>::new());
        assert_eq!(long(&[file(501)]).len(), 1);
    }

    #[test]
    fn only_files_with_the_extension_are_read_and_no_target_directory() {
        let root = tempfile::tempdir().unwrap();
        for path in ["crates/a/src/lib.rs", "crates/a/README.md", "crates/a/target/debug/made.rs"] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let files = read(root.path(), &["crates", "missing"], "rs").unwrap();
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["crates/a/src/lib.rs"]);
    }
}
