//! Recovery of a journal whose files were damaged.

use antiphon_journal::{Directory, Journal, Options};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The fixture whose files is damaged: a small journal that is read for ever.
const JOURNAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/antiphon-journal/tests/fixtures/format-1");

/// Recovery of a journal whose files were damaged: `data` is a list of (file, offset, byte) to put there.
///
/// # Panics
/// When the fixture cannot be copied.
pub(crate) fn run(data: &[u8]) {
    // In memory where the system has such a place: what is tried here is reading, not the disk.
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let directory = directory.expect("a temporary directory can be made");
    copy_damaged(Path::new(JOURNAL), directory.path(), data);
    let Ok(storage) = Directory::existing(directory.path()) else { return };
    let mut options = Options::new();
    options.threads = false;
    options.segment_bytes = 64 << 10;
    let mut bodies = Vec::new();
    let opened = Journal::open(Arc::new(storage), options, Arc::new(|| {}), &mut |entry| bodies.push(entry.position));
    if let Ok(journal) = opened {
        for position in bodies {
            // Damage of a body is found when it is read, and is an error then.
            drop(journal.read(position));
        }
    }
}

/// One place, two places, none.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    vec![vec![0, 0, 8, 9], vec![1, 2, 0, 255, 2, 0, 64, 1], Vec::new()]
}

fn copy_damaged(from: &Path, to: &Path, data: &[u8]) {
    let mut files: Vec<_> = walk(from);
    files.sort();
    for (number, file) in files.iter().enumerate() {
        let mut bytes = std::fs::read(file).expect("the fixture can be read");
        for step in data.chunks_exact(4) {
            let [which, high, low, byte] = step else { continue };
            let offset = usize::from(u16::from_be_bytes([*high, *low]));
            if usize::from(*which) % files.len() == number
                && let Some(place) = bytes.get_mut(offset)
            {
                *place = *byte;
            }
        }
        let name = file.file_name().expect("a file has a name");
        std::fs::write(to.join(name), bytes).expect("the copy can be written");
    }
}

fn walk(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("the fixture is there").flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
