//! The committed inputs of each target.

use crate::{Random, TARGETS, Target, mutate};
use std::path::{Path, PathBuf};

fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

/// Inputs to start from, and changes of them.
pub struct Corpus {
    /// As they stand.
    pub inputs: Vec<Vec<u8>>,
}

impl Corpus {
    /// Reads the committed inputs of a target.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn load(target: &Target) -> std::io::Result<Self> {
        let folder = folder(target);
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(&folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
        files.sort();
        let inputs: Vec<_> = files.iter().map(std::fs::read).collect::<Result<_, _>>()?;
        if inputs.is_empty() {
            return Err(std::io::Error::other(format!("{} is empty", folder.display())));
        }
        Ok(Self { inputs })
    }

    /// One of them, changed.
    pub fn draw(&self, random: &mut Random) -> Vec<u8> {
        let mut pick = || self.inputs.get(random.below(self.inputs.len())).map_or(&[][..], Vec::as_slice);
        let (mut input, other) = (pick().to_vec(), pick());
        mutate(random, &mut input, other);
        input
    }
}

/// Writes what every target was made to read into its corpus; inputs found by fuzzing stay.
///
/// # Errors
/// When a file cannot be written.
pub fn write_corpus() -> std::io::Result<usize> {
    let mut written = 0;
    for target in &TARGETS {
        let folder = folder(target);
        std::fs::create_dir_all(&folder)?;
        for (number, input) in (target.seeds)().iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:02}")), input)?;
            written += 1;
        }
    }
    Ok(written)
}
