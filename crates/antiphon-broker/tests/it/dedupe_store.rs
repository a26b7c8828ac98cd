use crate::id;
use antiphon_broker::foreign::DedupeStore;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};

#[test]
fn handled_outcomes_are_remembered_over_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("handled");
    let (mut store, ids) = DedupeStore::open(&path).unwrap();
    assert_eq!(ids, []);
    store.append(&[id(1), id(2)]).unwrap();
    store.append(&[id(3)]).unwrap();
    assert_eq!(DedupeStore::open(&path).unwrap_err().kind(), ErrorKind::WouldBlock, "one caller at a time");
    drop(store);
    // A crash in the middle of an id.
    OpenOptions::new().append(true).open(&path).unwrap().write_all(&[9; 5]).unwrap();
    let (mut store, ids) = DedupeStore::open(&path).unwrap();
    assert_eq!(ids, [id(1), id(2), id(3)]);
    store.append(&[id(4)]).unwrap();
    drop(store);
    assert_eq!(DedupeStore::open(&path).unwrap().1, [id(1), id(2), id(3), id(4)]);
}
