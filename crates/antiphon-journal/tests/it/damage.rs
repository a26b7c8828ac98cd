//! Bytes that rot, files that vanish or come from elsewhere: refused and named, or cut, never served.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use antiphon_journal::{Journal, OpenError, ReadError, Recovered, dump, verify};

use crate::fault::{Crash, FaultStorage};
use crate::world::{BASE, DELTA, History, Step, Values, World, body, key_in, small_options};

/// Several sealed segments of both logs, and a last commit that no watermark covers.
fn journal() -> (FaultStorage, History, u64) {
    let storage = FaultStorage::new();
    let mut world = World::open(&storage, &small_options(), History::default()).unwrap();
    let steps = [
        Step::Add(700),
        Step::Add(900),
        Step::Commit,
        Step::Cool,
        Step::Change,
        Step::Commit,
        Step::Add(2500),
        Step::Commit,
        Step::Add(30),
        Step::Add(40),
        Step::Commit,
    ];
    steps.iter().for_each(|step| world.step(*step).unwrap());
    let certain = world.journal.as_ref().unwrap().durable().as_u64();
    world.add(50);
    world.add(60);
    assert!(world.commit());
    let history = world.history.clone();
    drop(world);
    (storage.after(Crash::Lost), history, certain)
}

fn segment_files(storage: &FaultStorage) -> Vec<String> {
    let names = storage.names().into_iter().filter(|name| name.starts_with("segment-"));
    names.filter(|name| storage.bytes(name).starts_with(b"ANTIPHON")).collect()
}

/// Opens and checks every value and body; what is refused is returned.
fn open_and_check(storage: &FaultStorage, history: &History, certain: u64) -> Result<(), OpenError> {
    let mut values = Values::new();
    let mut bases = Vec::new();
    let mut last = certain;
    let visit = &mut |entry: Recovered<'_>| {
        last = last.max(entry.lsn.as_u64());
        let value = u64::from_le_bytes(entry.head[..8].try_into().unwrap());
        match entry.kind {
            BASE | DELTA => values.insert(key_in(&entry.key), value),
            _ => values.remove(&key_in(&entry.key)),
        };
        if entry.kind == BASE {
            bases.push((entry.position, key_in(&entry.key)));
        }
    };
    let journal = Journal::open(Arc::new(storage.clone()), small_options(), Arc::new(|| {}), visit)?;
    let expected: BTreeMap<_, _> =
        history.values_after.range(..=last).next_back().map(|(_, values)| values.clone()).unwrap_or_default();
    assert_eq!(values, expected, "a prefix with everything certain");
    for (position, key) in bases {
        match journal.read(position) {
            Ok(entry) => assert_eq!(entry.body, body(key, entry.body.len())),
            Err(error) => assert!(matches!(error, ReadError::Damaged(_)), "{error}"),
        }
    }
    Ok(())
}

fn flip(storage: &FaultStorage, name: &str, at: usize, bit: u8) {
    let mut bytes = storage.bytes(name);
    bytes[at] ^= 1 << bit;
    storage.put(name, bytes);
}

#[test]
fn a_flipped_bit_in_any_byte_is_never_served() {
    let (storage, history, certain) = journal();
    let (mut refused, mut opened) = (0, 0);
    for name in segment_files(&storage) {
        for at in 0..storage.bytes(&name).len() {
            let storage = storage.after(Crash::Kept);
            flip(&storage, &name, at, (at % 8) as u8);
            match open_and_check(&storage, &history, certain) {
                Ok(()) => opened += 1,
                Err(OpenError::Damaged { file, from, to, .. }) => {
                    assert!(file == name && from <= at as u64 && (at as u64) < to, "{name} {at}: {file} {from}..{to}");
                    refused += 1;
                }
                Err(error) => panic!("{name} {at}: {error}"),
            }
        }
    }
    println!("{refused} refused, {opened} opened");
    assert!(refused > 500 && opened > 500);
}

#[test]
fn one_rotten_copy_of_the_meta_file_harms_nothing() {
    let (storage, history, certain) = journal();
    let len = storage.bytes("meta").len();
    for at in (0..200).chain((200..len).step_by(997)).chain(len / 2..len / 2 + 200) {
        let storage = storage.after(Crash::Kept);
        flip(&storage, "meta", at, (at % 8) as u8);
        open_and_check(&storage, &history, certain).unwrap_or_else(|error| panic!("{at}: {error}"));
    }
    flip(&storage, "meta", 50, 0);
    flip(&storage, "meta", len / 2 + 60, 0);
    let error = open_and_check(&storage, &history, certain).unwrap_err();
    assert!(matches!(&error, OpenError::Damaged { file, .. } if file == "meta"), "{error}");
}

#[test]
fn a_missing_cut_or_foreign_segment_is_refused_and_named() {
    let (storage, history, certain) = journal();
    let names = segment_files(&storage);
    assert!(names.len() >= 3);
    let refused = |storage: &FaultStorage, name: &String| {
        let error = open_and_check(storage, &history, certain).unwrap_err();
        assert!(matches!(&error, OpenError::Damaged { file, .. } if file == name), "{name}: {error}");
        assert!(!verify(storage).unwrap().is_intact());
        error.to_string()
    };
    for name in &names {
        let gone = storage.after(Crash::Kept);
        gone.delete(name);
        assert!(refused(&gone, name).contains("missing"));
        let cut = storage.after(Crash::Kept);
        cut.put(name, storage.bytes(name)[..3000].to_vec());
        refused(&cut, name);
    }
    let swapped = storage.after(Crash::Kept);
    swapped.put(&names[0], storage.bytes(&names[1]));
    swapped.put(&names[1], storage.bytes(&names[0]));
    refused(&swapped, &names[0]);
}

#[test]
fn segments_without_a_meta_file_are_not_taken_for_an_empty_directory() {
    let (storage, history, certain) = journal();
    storage.delete("meta");
    let error = open_and_check(&storage, &history, certain).unwrap_err();
    assert!(matches!(&error, OpenError::Damaged { file, .. } if file == "meta"), "{error}");
    assert!(segment_files(&storage).len() >= 3, "nothing was deleted");
}

#[test]
fn a_refused_journal_is_left_as_it_was() {
    let (storage, history, certain) = journal();
    let name = segment_files(&storage)[0].clone();
    flip(&storage, &name, 200, 3);
    let calls = storage.calls();
    open_and_check(&storage, &history, certain).unwrap_err();
    assert_eq!(storage.calls(), calls, "not one call changed the disk");
}

#[test]
fn damage_in_the_middle_of_the_active_segment_is_not_taken_for_its_end() {
    let storage = FaultStorage::new();
    let mut world = World::open(&storage, &small_options(), History::default()).unwrap();
    for _ in 0..4 {
        world.add(100);
        assert!(world.commit());
    }
    let history = world.history.clone();
    drop(world);
    let name = segment_files(&storage)[0].clone();
    for at in [64 + 64 + 10, 64 + 64 + 300] {
        let storage = storage.after(Crash::Lost);
        flip(&storage, &name, at, 0);
        assert!(matches!(open_and_check(&storage, &history, 3), Err(OpenError::Damaged { .. })));
    }
}

#[test]
fn verify_names_every_damaged_range_and_the_keys_in_it() {
    let (storage, ..) = journal();
    let whole = verify(&storage).unwrap();
    assert!(whole.is_intact() && whole.entries > 5 && whole.tail_entries == 2 && whole.tail_cut == 0, "{whole:?}");
    let mut shown = 0;
    dump(&storage, &mut |_| shown += 1).unwrap();
    assert_eq!(shown, whole.entries + whole.tail_entries);
    let sealed = whole.segments.iter().find(|segment| segment.has_index && segment.entries > 1).unwrap();
    // Behind the empty batch of the opening: the first entry's body. In another segment: an entry's header.
    let at = 64 + 64 + 64 + 44 + 16 + 5;
    flip(&storage, &sealed.file, at, 1);
    let other = whole.segments.iter().find(|segment| segment.number != sealed.number).unwrap();
    flip(&storage, &other.file, 64 + 64 + 20, 1);
    let report = verify(&storage).unwrap();
    assert_eq!(report.damages.len(), 2, "{:?}", report.damages);
    let body = report.damages.iter().find(|damage| damage.segment == sealed.number).unwrap();
    assert!((body.from..body.to).contains(&(at as u64)) && body.keys.len() == 1);
    let entry = report.damages.iter().find(|damage| damage.segment == other.number).unwrap();
    assert!(entry.from <= 148 && 148 < entry.to);
    assert!(dump(&storage, &mut |_| {}).is_err());
}

#[test]
fn stale_bytes_of_a_recycled_segment_are_never_taken_for_entries() {
    let storage = FaultStorage::new();
    let mut options = small_options();
    options.ahead = 1;
    let mut world = World::open(&storage, &options, History::default()).unwrap();
    // Batches of one size, so that old batches stand exactly where the new log ends.
    for _ in 0..100 {
        world.add(400);
        world.step(Step::Forget).unwrap();
        world.commit();
        let history = world.history.clone();
        let copy = storage.after(Crash::Kept);
        World::open(&copy, &options, history).unwrap();
    }
    let stats = world.journal.as_ref().unwrap().stats();
    assert!(stats.recycled >= 5 && stats.segments_young <= 3, "{stats:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_anywhere_is_refused_or_cut_without_panic(
        file: prop::sample::Index, at: prop::sample::Index, garbage in proptest::collection::vec(any::<u8>(), 1..900),
    ) {
        let (storage, history, _) = journal();
        let names: Vec<_> = storage.names().into_iter().filter(|name| name != "lock").collect();
        let name = file.get(&names);
        let mut bytes = storage.bytes(name);
        let at = at.index(bytes.len());
        let len = garbage.len().min(bytes.len() - at);
        bytes[at..at + len].copy_from_slice(&garbage[..len]);
        storage.put(name, bytes);
        verify(&storage).unwrap();
        // Garbage may take the last batches together with every header that vouches for them: what is then
        // left is a prefix, but a shorter one.
        match open_and_check(&storage, &history, 0) {
            Ok(()) | Err(OpenError::Damaged { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
