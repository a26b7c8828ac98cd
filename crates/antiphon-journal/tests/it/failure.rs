//! Calls that fail: nothing wrong is acknowledged, nothing is tried twice, full disks pass.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use antiphon_journal::{
    AppendError, BODY_BYTES_MAX, Directory, Entry, Generation, HEAD_BYTES_MAX, Journal, OpenError, Reserve, Role,
};

use crate::fault::{Crash, Fault, FaultStorage};
use crate::world::{History, Step, World, small_options};

const STEPS: [Step; 12] = [
    Step::Add(1500),
    Step::Commit,
    Step::Cool,
    Step::Change,
    Step::Commit,
    Step::Add(1500),
    Step::Add(1500),
    Step::Commit,
    Step::Forget,
    Step::Sweep,
    Step::Commit,
    Step::Commit,
];

fn run(storage: &FaultStorage) -> (History, bool) {
    let Ok(mut world) = World::open(storage, &small_options(), History::default()) else {
        return (History::default(), false);
    };
    for step in STEPS {
        world.step(step).unwrap();
    }
    let poisoned = world.journal.as_ref().unwrap().stats().poisoned;
    if poisoned {
        let before = storage.syncs().len();
        assert!(world.journal.as_mut().unwrap().commit().is_err());
        assert!(world.journal.as_mut().unwrap().poll().is_err());
        assert!(world.journal.as_mut().unwrap().begin_commit().is_err());
        assert_eq!(storage.syncs().len(), before, "no fsync is tried again");
    }
    (world.history.clone(), poisoned)
}

#[test]
fn a_call_that_fails_anywhere_loses_nothing_acknowledged() {
    let whole = FaultStorage::new();
    run(&whole);
    let mut poisonings = 0;
    for call in 1..=whole.calls() {
        for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
            let storage = FaultStorage::new();
            storage.fault_at(call, Fault::Error(kind));
            let (history, poisoned) = run(&storage);
            poisonings += u32::from(poisoned);
            for crash in [Crash::Lost, Crash::Kept, Crash::Torn(1), Crash::Torn(2)] {
                World::open(&storage.after(crash), &small_options(), history.clone())
                    .unwrap_or_else(|error| panic!("call {call} {kind}, {crash:?}: {error}"));
            }
        }
    }
    assert!(poisonings > 10, "{poisonings}");
}

fn entry(body: &[u8]) -> (Vec<u8>, [&[u8]; 1]) {
    (vec![9; 24], [body])
}

fn try_append(journal: &mut Journal, len: usize, reserve: Reserve) -> Result<(), AppendError> {
    let bytes = vec![3; len];
    let (head, body) = entry(&bytes);
    let entry = Entry { key: [5; 16], kind: 1, head: &head, body: &body };
    journal.append(Generation::Young, Role::Base, &entry, reserve).map(|_| ())
}

fn open(storage: &FaultStorage, reserve: usize) -> Journal {
    let mut options = small_options();
    options.reserve = reserve;
    Journal::open(Arc::new(storage.clone()), options, Arc::new(|| {}), &mut |_| {}).unwrap()
}

#[test]
fn a_failed_fsync_poisons_for_ever_with_the_first_error() {
    let storage = FaultStorage::new();
    let mut journal = open(&storage, 0);
    try_append(&mut journal, 10, Reserve::No).unwrap();
    storage.fault_at(storage.calls() + 2, Fault::Error(ErrorKind::Other));
    let durable = journal.durable();
    let first = journal.commit().unwrap_err().to_string();
    assert!(first.contains("fsync") && first.contains("segment-"), "{first}");
    for _ in 0..3 {
        assert_eq!(journal.commit().unwrap_err().to_string(), first);
        let refused = try_append(&mut journal, 10, Reserve::Yes).unwrap_err();
        assert!(matches!(&refused, AppendError::Poisoned(_)) && refused.to_string() == first);
    }
    assert_eq!(journal.durable(), durable, "nothing became durable");
    assert!(journal.sweep().is_none());
}

#[test]
fn a_full_disk_refuses_new_work_but_not_the_reserve_and_passes() {
    let storage = FaultStorage::new();
    let mut journal = open(&storage, 2);
    journal.start_recycling();
    storage.limit(Some(storage.used() + (5 << 12)));
    let full = loop {
        match try_append(&mut journal, 1000, Reserve::No) {
            Ok(()) => journal.commit().unwrap(),
            Err(error) => break error,
        };
    };
    assert!(matches!(full, AppendError::Full { free: 0, needed: 4096 }), "{full}");
    assert_eq!(journal.stats().segments_free, 2, "the reserve is whole");
    let large = try_append(&mut journal, 10_000, Reserve::No).unwrap_err();
    assert!(matches!(large, AppendError::Full { .. }), "{large}");
    let mut settled = 0;
    while try_append(&mut journal, 1000, Reserve::Yes).is_ok() {
        journal.commit().unwrap();
        settled += 1;
    }
    assert!(settled >= 4, "{settled}");
    assert!(!journal.stats().poisoned);
    storage.limit(None);
    try_append(&mut journal, 1000, Reserve::No).unwrap();
    journal.commit().unwrap();
    assert_eq!(journal.stats().segments_free, 3, "the reserve is whole again");
}

#[test]
fn a_journal_opens_on_a_full_disk_from_its_reserve() {
    let storage = FaultStorage::new();
    let mut journal = open(&storage, 2);
    try_append(&mut journal, 1000, Reserve::No).unwrap();
    journal.commit().unwrap();
    drop(journal);
    storage.limit(Some(storage.used()));
    let journal = open(&storage, 2);
    assert_eq!(journal.stats().recovered, 1);
    drop(journal);
    let empty = FaultStorage::new();
    open(&empty, 0);
    let names: Vec<_> = empty.names().into_iter().filter(|name| name.starts_with("segment-0000000")).collect();
    empty.delete(names.last().unwrap());
    empty.limit(Some(empty.used()));
    let refused = Journal::open(Arc::new(empty), small_options(), Arc::new(|| {}), &mut |_| {}).err().unwrap();
    assert!(matches!(refused, OpenError::NoSpace { needed: 4096 }), "{refused}");
}

#[test]
fn what_is_too_large_is_refused_before_it_is_journaled() {
    let mut journal = open(&FaultStorage::new(), 0);
    let refused = try_append(&mut journal, BODY_BYTES_MAX + 1, Reserve::No).unwrap_err();
    assert!(matches!(refused, AppendError::TooLarge { .. }), "{refused}");
    let head = vec![0; HEAD_BYTES_MAX + 1];
    let entry = Entry { key: [0; 16], kind: 0, head: &head, body: &[] };
    let refused = journal.append(Generation::Young, Role::Base, &entry, Reserve::No).unwrap_err();
    assert!(matches!(refused, AppendError::TooLarge { limit, .. } if limit == HEAD_BYTES_MAX as u64));
    assert_eq!((journal.tip().as_u64(), journal.pending_bytes()), (0, 0));
}

#[test]
fn an_entry_larger_than_a_segment_gets_one_of_its_own() {
    let storage = FaultStorage::new();
    let mut journal = open(&storage, 0);
    for len in [10, 100_000, 3_000_000, 10] {
        try_append(&mut journal, len, Reserve::No).unwrap();
    }
    journal.commit().unwrap();
    drop(journal);
    let mut lens = Vec::new();
    let mut positions = Vec::new();
    let visit = &mut |entry: antiphon_journal::Recovered<'_>| {
        lens.push(entry.body_len);
        positions.push(entry.position);
    };
    let journal = Journal::open(Arc::new(storage.after(Crash::Lost)), small_options(), Arc::new(|| {}), visit).unwrap();
    assert_eq!(lens, [10, 100_000, 3_000_000, 10]);
    for (position, len) in positions.iter().zip(lens) {
        assert_eq!(journal.read(*position).unwrap().body, vec![3; len as usize]);
        assert_eq!(journal.reader().read(*position).unwrap().body.len(), len as usize);
    }
}

#[test]
fn a_second_opener_is_told_the_pid() {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let storage = Arc::new(Directory::create(directory.path().join("data")).unwrap());
        Journal::open(storage, small_options(), Arc::new(|| {}), &mut |_| {})
    };
    let first = open().unwrap();
    let refused = open().err().unwrap();
    assert!(matches!(refused, OpenError::InUse { pid } if pid == std::process::id()), "{refused}");
    let storage = Directory::existing(directory.path().join("data")).unwrap();
    assert!(matches!(antiphon_journal::verify(&storage), Err(OpenError::InUse { .. })));
    drop(first);
    open().unwrap();
}

#[test]
fn files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    let storage = Arc::new(Directory::create(&path).unwrap());
    let _journal = Journal::open(storage, small_options(), Arc::new(|| {}), &mut |_| {}).unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for file in std::fs::read_dir(&path).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
}

#[test]
fn a_newer_format_is_refused_by_its_number() {
    let storage = FaultStorage::new();
    drop(open(&storage, 0));
    let mut meta = storage.bytes("meta");
    let half = meta.len() / 2;
    (meta[8], meta[half + 8]) = (9, 9);
    storage.put("meta", meta);
    let refused = Journal::open(Arc::new(storage), small_options(), Arc::new(|| {}), &mut |_| {}).err().unwrap();
    assert!(matches!(refused, OpenError::NewerFormat { found: 9, known: 1 }), "{refused}");
}

#[test]
fn a_background_commit_wakes_its_owner_and_the_next_batch_fills_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let (sender, woken) = std::sync::mpsc::channel();
    let wakes = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&wakes);
    let wake = Arc::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
        sender.send(()).unwrap();
    });
    let mut options = small_options();
    options.threads = true;
    options.segment_bytes = 1 << 20;
    let storage = Arc::new(Directory::create(directory.path()).unwrap());
    let mut journal = Journal::open(storage, options, wake, &mut |_| {}).unwrap();
    for round in 1..=50u64 {
        try_append(&mut journal, 100, Reserve::No).unwrap();
        assert!(journal.begin_commit().unwrap());
        try_append(&mut journal, 100, Reserve::No).unwrap();
        assert!(journal.pending_bytes() > 0);
        woken.recv().unwrap();
        assert!(journal.poll().unwrap().as_u64() >= round * 2 - 1);
        assert!(!journal.is_committing());
    }
    assert_eq!(journal.commit().unwrap(), journal.tip());
    assert!(!journal.begin_commit().unwrap(), "there is nothing to write");
    assert_eq!(wakes.load(Ordering::SeqCst), 50);
    assert!(journal.last_sync() > std::time::Duration::ZERO);
}

#[test]
fn a_directory_that_may_not_be_written_is_refused_as_such() {
    for kind in [ErrorKind::ReadOnlyFilesystem, ErrorKind::PermissionDenied] {
        let storage = FaultStorage::new();
        storage.fault_at(1, Fault::Error(kind));
        let refused = Journal::open(Arc::new(storage), small_options(), Arc::new(|| {}), &mut |_| {}).err().unwrap();
        assert!(matches!(refused, OpenError::ReadOnly { .. }), "{refused}");
    }
}
