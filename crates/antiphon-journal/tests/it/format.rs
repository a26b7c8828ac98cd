//! The bytes on disk: fixed by golden bytes, and by a fixture that is read for ever.
//! When they must change: raise the format, keep the old fixture readable, add a new one beside it.

use std::path::Path;
use std::sync::Arc;

use antiphon_journal::{Directory, Entry, Generation, Journal, OpenError, Recovered, Reserve, Role, dump, verify};

use crate::fault::{Crash, FaultStorage};
use crate::world::small_options;

/// One commit with an entry in each log; then one more, so that a watermark covers the first.
fn journal(storage: &FaultStorage) -> Journal {
    let mut journal = Journal::open(Arc::new(storage.clone()), small_options(), Arc::new(|| {}), &mut |_| {}).unwrap();
    let first = Entry { key: *b"0123456789abcdef", kind: 7, head: b"head", body: &[b"bo", b"dy"] };
    let second = Entry { key: *b"fedcba9876543210", kind: 8, head: b"", body: &[] };
    journal.append(Generation::Young, Role::Base, &first, Reserve::No).unwrap();
    journal.append(Generation::Cold, Role::PinnedDelta, &second, Reserve::Yes).unwrap();
    journal.commit().unwrap();
    journal.append(Generation::Young, Role::Delta, &second, Reserve::Yes).unwrap();
    journal.commit().unwrap();
    journal
}

fn hex(bytes: &[u8]) -> String {
    let lines =
        bytes.chunks(16).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}

fn check(name: &str, bytes: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let actual = hex(bytes) + "\n";
    if std::env::var_os("ANTIPHON_BLESS").is_some() {
        std::fs::write(&path, &actual).unwrap();
    }
    assert_eq!(actual, std::fs::read_to_string(&path).unwrap(), "{name}: the bytes on disk have changed");
}

#[test]
fn the_bytes_on_disk_are_golden() {
    let storage = FaultStorage::new();
    drop(journal(&storage));
    let young = storage.bytes("segment-00000001");
    check("young.hex", &young[..448]);
    assert!(young[448..].iter().all(|byte| *byte == 0));
    check("cold.hex", &storage.bytes("segment-00000002")[..192]);
    let meta = storage.bytes("meta");
    let (first, second) = meta.split_at(meta.len() / 2);
    assert_eq!(first, second);
    check("meta.hex", &first[..128]);
    assert!(first[128..].iter().all(|byte| *byte == 0));
}

#[test]
fn the_index_of_a_sealed_segment_is_golden() {
    let storage = FaultStorage::new();
    let mut journal = journal(&storage);
    let entry = Entry { key: [1; 16], kind: 1, head: b"", body: &[&[7; 3600]] };
    journal.append(Generation::Young, Role::Base, &entry, Reserve::No).unwrap();
    journal.commit().unwrap();
    // Only the next batch says that the seal is on disk.
    journal.append(Generation::Young, Role::Base, &Entry { body: &[], ..entry }, Reserve::Yes).unwrap();
    journal.commit().unwrap();
    drop(journal);
    let report = verify(&storage).unwrap();
    let sealed = report.segments.iter().find(|segment| segment.has_index).unwrap();
    let bytes = storage.bytes(&sealed.file);
    check("index.hex", &bytes[sealed.end as usize..sealed.end as usize + 24 + 2 * 26]);
}

/// What the fixture of format 1 holds: position, lsn, role, kind, head, length of the body.
const FORMAT_1: &str = "\
2:192 1 Young Base 7 b00 5
3:128 2 Cold PinnedDelta 8 d00 0
2:312 3 Young Delta 9 e00 3000
";

fn line(entry: &Recovered<'_>) -> String {
    let head = String::from_utf8_lossy(entry.head).into_owned();
    let Recovered { position, lsn, generation, role, kind, body_len, .. } = entry;
    format!("{position:?} {lsn} {generation:?} {role:?} {kind} {head} {body_len}\n")
}

/// Makes the fixture; run with `ANTIPHON_BLESS` only when a format is added.
fn make_fixture(path: &Path) {
    let storage = || Arc::new(Directory::create(path).unwrap());
    drop(Journal::open(storage(), small_options(), Arc::new(|| {}), &mut |_| {}).unwrap());
    let mut journal = Journal::open(storage(), small_options(), Arc::new(|| {}), &mut |_| {}).unwrap();
    let append = |journal: &mut Journal, generation, role, kind, head: &str, body: &[u8]| {
        let entry = Entry { key: [kind; 16], kind, head: head.as_bytes(), body: &[body] };
        journal.append(generation, role, &entry, Reserve::Yes).unwrap();
    };
    append(&mut journal, Generation::Young, Role::Base, 7, "b00", b"body!");
    append(&mut journal, Generation::Cold, Role::PinnedDelta, 8, "d00", b"");
    journal.commit().unwrap();
    append(&mut journal, Generation::Young, Role::Delta, 9, "e00", &[7; 3000]);
    journal.commit().unwrap();
    append(&mut journal, Generation::Young, Role::Base, 10, "t00", &[8; 2000]);
    append(&mut journal, Generation::Cold, Role::Base, 11, "t01", &[9; 20]);
    journal.commit().unwrap();
}

/// A copy in memory, so that opening does not change the fixture.
fn fixture(name: &str) -> FaultStorage {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    if std::env::var_os("ANTIPHON_BLESS").is_some() && !path.exists() {
        make_fixture(&path);
        std::fs::remove_file(path.join("lock")).unwrap();
    }
    let storage = FaultStorage::new();
    for file in std::fs::read_dir(path).unwrap() {
        let file = file.unwrap();
        storage.put(file.file_name().to_str().unwrap(), std::fs::read(file.path()).unwrap());
    }
    storage
}

#[test]
fn a_journal_of_format_1_is_read_for_ever() {
    let storage = fixture("format-1");
    assert!(verify(&storage).unwrap().is_intact());
    let mut dumped = String::new();
    dump(&storage, &mut |entry| dumped += &line(&entry)).unwrap();
    let mut opened = String::new();
    let visit = &mut |entry: Recovered<'_>| opened += &line(&entry);
    let journal = Journal::open(Arc::new(storage.after(Crash::Kept)), small_options(), Arc::new(|| {}), visit).unwrap();
    let (durable, tail) = opened.split_at(FORMAT_1.len());
    assert_eq!(durable, FORMAT_1);
    assert!(dumped.starts_with(FORMAT_1));
    // Opening has moved the last commit to a new segment of each log.
    assert_eq!(
        tail.lines().map(|line| line.split_once(' ').unwrap().1).collect::<Vec<_>>(),
        ["4 Young Base 10 t00 2000", "5 Cold Base 11 t01 20"]
    );
    assert_eq!((journal.stats().recovered, journal.stats().rewritten), (5, 2));
}

#[test]
fn a_journal_of_a_newer_format_is_refused_by_name_and_left_alone() {
    let storage = fixture("format-1");
    let mut meta = storage.bytes("meta");
    let half = meta.len() / 2;
    // The format's number stands behind the checksum and the mark, in both copies.
    (meta[8], meta[half + 8]) = (2, 2);
    storage.put("meta", meta);
    let before: Vec<_> = storage.names().iter().map(|name| storage.bytes(name)).collect();
    let opened = Journal::open(Arc::new(storage.clone()), small_options(), Arc::new(|| {}), &mut |_| {});
    let Err(OpenError::NewerFormat { found: 2, known: 1 }) = opened else { panic!("{:?}", opened.map(|_| ())) };
    let told = OpenError::NewerFormat { found: 2, known: 1 }.to_string();
    assert_eq!(told, "the journal has format 2, this program knows up to 1: use a newer program");
    let after: Vec<_> = storage.names().iter().map(|name| storage.bytes(name)).collect();
    assert!(before == after, "a journal that is refused is left as it was");
}
