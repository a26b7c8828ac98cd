//! One function per decoder, fed with any bytes. Each returns normally whatever it is given: a panic, an abort or
//! memory without bound is the finding. `libfuzzer/` drives them with coverage, `tests/smoke.rs` with fixed seeds.

use antiphon_engine::Record;
use antiphon_journal::{Directory, Journal, Options};
use antiphon_wire::{Address, Inbound, Stranger};
use std::path::Path;
use std::sync::Arc;

/// The fixture whose files [`journal`] damages: a small journal that is read for ever.
pub const JOURNAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/antiphon-journal/tests/fixtures/format-1");

/// Frames before and after the handshake, arriving in two pieces.
pub fn frames(data: &[u8]) {
    let Some((split, bytes)) = data.split_first() else { return };
    let cut = usize::from(*split).min(bytes.len());
    for greeted in [false, true] {
        let mut inbound = Inbound::new();
        if greeted {
            inbound.greeted(1 << 20);
        }
        let (mut first, _) = bytes.split_at(cut);
        while matches!(inbound.next(&mut first), Ok(Some(_))) {}
        let mut whole = bytes;
        while matches!(inbound.next(&mut whole), Ok(Some(_))) {}
    }
    assert!(Stranger::recognise(bytes).is_none_or(|stranger| !stranger.farewell().is_empty()));
}

/// A record of the journal, by its kind, key and head.
pub fn record(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let Some((key, head)) = rest.split_first_chunk() else { return };
    if let Ok(record) = Record::decode(*kind, *key, head) {
        let mut again = Vec::new();
        record.encode(&mut again);
        assert_eq!(Record::decode(*kind, *key, &again).as_ref(), Ok(&record), "what was read is written alike");
    }
}

/// The text of an address.
pub fn address(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(address) = text.parse::<Address>()
    {
        assert_eq!(
            address.to_string().parse::<Address>().as_ref(),
            Ok(&address),
            "an address is read as it is printed"
        );
    }
}

/// Recovery of a journal whose files were damaged: `data` is a list of (file, offset, byte) to put there.
///
/// # Panics
/// When the fixture cannot be copied.
pub fn journal(data: &[u8]) {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
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

fn walk(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).expect("the fixture is there").flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
