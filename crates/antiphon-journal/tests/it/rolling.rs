//! A segment that is begun, and then gets nothing: what was promised of the one before it stays true.

use std::sync::Arc;

use antiphon_journal::{Entry, Generation, Journal, Reserve, Role};

use crate::fault::{Crash, FaultStorage};
use crate::world::small_options;

fn open(storage: &FaultStorage) -> (Journal, Vec<u8>) {
    let mut kinds = Vec::new();
    let visit = &mut |entry: antiphon_journal::Recovered<'_>| kinds.push(entry.kind);
    let mut journal = Journal::open(Arc::new(storage.clone()), small_options(), Arc::new(|| {}), visit).unwrap();
    journal.start_recycling();
    (journal, kinds)
}

fn append(journal: &mut Journal, kind: u8) {
    let entry = Entry { key: [kind; 16], kind, head: b"", body: &[b"body"] };
    journal.append(Generation::Young, Role::Base, &entry, Reserve::Yes).unwrap();
}

/// More than a segment holds.
fn larger_than_a_segment() -> usize {
    small_options().segment_bytes as usize
}

#[test]
fn a_segment_that_was_left_empty_is_no_damage() {
    let storage = FaultStorage::new();
    let (mut journal, _) = open(&storage);
    append(&mut journal, 1);
    let large = larger_than_a_segment();
    journal.make_room(Generation::Young, large, Reserve::Yes).unwrap();
    journal.make_room(Generation::Young, 2 * large, Reserve::Yes).unwrap();
    journal.commit().unwrap();
    append(&mut journal, 2);
    journal.commit().unwrap();
    drop(journal);
    assert_eq!(open(&storage.after(Crash::Kept)).1, [1, 2]);
}

#[test]
fn entries_before_an_empty_segment_stay_acknowledged() {
    let storage = FaultStorage::new();
    let (mut journal, _) = open(&storage);
    append(&mut journal, 1);
    journal.commit().unwrap();
    append(&mut journal, 2);
    // What was to begin the new segment was refused.
    journal.make_room(Generation::Young, larger_than_a_segment(), Reserve::Yes).unwrap();
    journal.commit().unwrap();
    append(&mut journal, 3);
    journal.commit().unwrap();
    drop(journal);
    assert_eq!(open(&storage.after(Crash::Kept)).1, [1, 2, 3]);
}
