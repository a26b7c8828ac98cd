//! The demo's input: the text files below a directory, within bounds that are said.

use crate::ending::Ending;
use std::fs;
use std::path::{Path, PathBuf};

/// A file larger than this is left out: its text travels as an argument.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// So many files at most, so that the demo ends soon.
const FILES_MAX: usize = 4_000;
/// So many bytes at most, for the same reason.
const BYTES_MAX: u64 = 64 << 20;
/// So many directories deep: a link that turns in circles is not followed, but trees may be deep.
const DEPTH_MAX: usize = 32;

/// A text file.
#[derive(Clone)]
pub struct File {
    pub path: String,
    pub text: String,
}

/// The text files below a directory.
pub struct Files {
    directory: PathBuf,
    files: Vec<File>,
    bytes: u64,
    /// Binary, unreadable, or too large.
    skipped: usize,
    /// Whether there was more than the bounds allow.
    more: bool,
}

impl Files {
    pub fn read(directory: &Path) -> Result<Self, Ending> {
        let shown = directory.display();
        fs::read_dir(directory)
            .map_err(|error| Ending::usage(format!("cannot read the directory {shown}: {error}")))?;
        let mut files = Self { directory: directory.to_owned(), files: Vec::new(), bytes: 0, skipped: 0, more: false };
        files.walk(directory, 0);
        if files.files.is_empty() {
            return Err(Ending::usage(format!("there is no text file below {shown}: name another directory")));
        }
        Ok(files)
    }

    fn walk(&mut self, directory: &Path, depth: usize) {
        let Ok(entries) = fs::read_dir(directory) else {
            self.skipped += 1;
            return;
        };
        let mut entries: Vec<fs::DirEntry> = entries.flatten().collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            let hidden = name.as_encoded_bytes().first() == Some(&b'.');
            match entry.file_type() {
                _ if hidden => (),
                Ok(kind) if kind.is_dir() && name != "target" && depth < DEPTH_MAX => {
                    self.walk(&entry.path(), depth + 1)
                }
                Ok(kind) if kind.is_file() => self.take(&entry),
                _ => (),
            }
        }
    }

    fn take(&mut self, entry: &fs::DirEntry) {
        if self.files.len() >= FILES_MAX || self.bytes >= BYTES_MAX {
            self.more = true;
            return;
        }
        let small = entry.metadata().is_ok_and(|metadata| metadata.len() <= FILE_BYTES_MAX);
        let text = small.then(|| fs::read(entry.path()).ok()).flatten().and_then(|bytes| String::from_utf8(bytes).ok());
        match text.filter(|text| !text.contains('\0')) {
            Some(text) => {
                self.bytes += text.len() as u64;
                self.files.push(File { path: entry.path().display().to_string(), text });
            }
            None => self.skipped += 1,
        }
    }

    pub const fn len(&self) -> usize {
        self.files.len()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, File> {
        self.files.iter()
    }

    /// Takes the files again and again until there are at least so many; how often each is there.
    pub fn repeat(&mut self, least: usize) -> usize {
        let once = self.files.len();
        let times = least.div_ceil(once.max(1)).max(1);
        self.files = self.files.iter().cycle().take(once * times).cloned().collect();
        times
    }

    /// What was taken, and what not.
    pub fn describe(&self) -> String {
        let mut text = format!(
            "Counting the words of {} text files below {} ({:.1} MB)",
            self.files.len(),
            self.directory.display(),
            self.bytes as f64 / 1e6
        );
        if self.skipped > 0 {
            text.push_str(&format!("; {} are binary, unreadable or above 1 MiB and left out", self.skipped));
        }
        if self.more {
            text.push_str(&format!("; there are more: the demo takes {FILES_MAX} files or 64 MiB at most"));
        }
        text.push('.');
        text
    }
}
