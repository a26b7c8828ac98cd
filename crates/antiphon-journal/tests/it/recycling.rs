//! Which segments may go, and when.

use std::sync::Arc;

use antiphon_journal::{Entry, Generation, Journal, Options, Position, ReadError, Reserve, Role};
use proptest::prelude::*;

use crate::fault::{Crash, FaultStorage};
use crate::world::{History, Step, World, small_options};

fn open(storage: &FaultStorage) -> Journal {
    let mut journal = Journal::open(Arc::new(storage.clone()), small_options(), Arc::new(|| {}), &mut |_| {}).unwrap();
    journal.start_recycling();
    journal
}

fn append(journal: &mut Journal, role: Role, len: usize) -> Position {
    let body = vec![1; len];
    let entry = Entry { key: [1; 16], kind: 1, head: b"", body: &[&body] };
    let position = journal.append(Generation::Young, role, &entry, Reserve::Yes).unwrap();
    journal.commit().unwrap();
    position
}

#[test]
fn a_dead_segment_stays_while_an_older_one_lives() {
    let mut journal = open(&FaultStorage::new());
    let base = append(&mut journal, Role::Base, 3000);
    let filler = append(&mut journal, Role::Base, 3000);
    let delta = append(&mut journal, Role::Delta, 10);
    let newest = append(&mut journal, Role::Base, 3000);
    assert!(base.segment() < delta.segment() && delta.segment() == filler.segment());
    assert!(delta.segment() < newest.segment());
    journal.release(filler);
    journal.commit().unwrap();
    assert!(journal.holds(base) && journal.holds(delta));
    assert!(journal.read(delta).is_ok());
    journal.release(base);
    journal.commit().unwrap();
    assert!(!journal.holds(base) && !journal.holds(delta) && journal.holds(newest));
    assert!(matches!(journal.read(delta), Err(ReadError::Gone(_))));
    assert_eq!(journal.oldest(Generation::Young), Some(journal.tip()));
}

#[test]
fn a_pinned_delta_keeps_its_segment_until_it_is_swept() {
    let storage = FaultStorage::new();
    let mut journal = open(&storage);
    let pinned = append(&mut journal, Role::PinnedDelta, 10);
    for _ in 0..4 {
        let filler = append(&mut journal, Role::Base, 3000);
        journal.release(filler);
    }
    journal.commit().unwrap();
    assert!(journal.holds(pinned));
    let mut sweep = journal.sweep().unwrap();
    assert_eq!((sweep.segment(), sweep.generation()), (pinned.segment(), Generation::Young));
    assert!(journal.sweep().is_none_or(|other| other.segment() != pinned.segment()), "offered once");
    let swept: Vec<_> =
        std::iter::from_fn(|| Some(sweep.next_batch(1).unwrap()).filter(|batch| !batch.is_empty())).flatten().collect();
    assert_eq!((swept[0].position, swept[0].role, swept[0].key), (pinned, Role::PinnedDelta, [1; 16]));
    journal.retire(sweep);
    journal.commit().unwrap();
    assert!(!journal.holds(pinned));
}

#[test]
fn nothing_is_recycled_before_the_owner_has_said_what_lives() {
    let storage = FaultStorage::new();
    let mut journal = open(&storage);
    let base = append(&mut journal, Role::Base, 3000);
    append(&mut journal, Role::Base, 3000);
    drop(journal);
    let mut journal = Journal::open(Arc::new(storage), small_options(), Arc::new(|| {}), &mut |_| {}).unwrap();
    for _ in 0..3 {
        append(&mut journal, Role::Base, 3000);
    }
    assert!(journal.sweep().is_none());
    assert!(journal.holds(base));
    journal.retain(base);
    journal.start_recycling();
    journal.commit().unwrap();
    assert!(journal.holds(base));
    journal.release(base);
    journal.commit().unwrap();
    assert!(!journal.holds(base));
}

#[test]
fn a_segment_goes_only_when_what_superseded_its_entries_is_durable() {
    let storage = FaultStorage::new();
    let mut journal = open(&storage);
    let base = append(&mut journal, Role::Base, 3000);
    append(&mut journal, Role::Base, 3000);
    let entry = Entry { key: [1; 16], kind: 2, head: b"", body: &[] };
    journal.append(Generation::Young, Role::Delta, &entry, Reserve::Yes).unwrap();
    journal.release(base);
    assert!(journal.holds(base), "the delta is only pending");
    journal.commit().unwrap();
    assert!(journal.holds(base), "the manifest of this commit was written before the delta");
    journal.commit().unwrap();
    assert!(!journal.holds(base));
}

#[test]
fn a_long_run_takes_bounded_space() {
    let storage = FaultStorage::new();
    let mut world = World::open(&storage, &small_options(), History::default()).unwrap();
    for round in 0..800 {
        world.add(100 + round % 700);
        if round >= 5 {
            world.step(Step::Forget).unwrap();
        }
        if round % 3 == 0 {
            world.step(Step::Cool).unwrap();
        }
        assert!(world.commit());
        while world.sweep() {
            assert!(world.commit());
        }
        if round % 100 == 99 {
            world.history.values_after.retain(|lsn, _| *lsn + 50 > world.history.durable);
            world.step(Step::Reopen).unwrap();
        }
    }
    let stats = world.journal.as_ref().unwrap().stats();
    assert!(stats.bytes < 40 * 4096, "{stats:?}");
}

#[test]
fn a_journal_may_move_to_another_thread_and_readers_too() {
    fn is_send<T: Send>(_: &T) {}
    let journal = open(&FaultStorage::new());
    is_send(&journal);
    is_send(&journal.reader());
    is_send(&Options::new());
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..2500).prop_map(Step::Add),
        3 => Just(Step::Change),
        3 => Just(Step::Forget),
        4 => Just(Step::Commit),
        4 => Just(Step::Sweep),
        3 => Just(Step::Cool),
        1 => Just(Step::Reopen),
        1 => (4000usize..9000).prop_map(Step::Add),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sweeping_and_retiring_keep_every_survivor(steps in proptest::collection::vec(step(), 1..120), seed in any::<u64>()) {
        let storage = FaultStorage::new();
        let mut world = World::open(&storage, &small_options(), History::default()).unwrap();
        for step in steps {
            world.step(step).unwrap();
        }
        let history = world.history.clone();
        for crash in [Crash::Lost, Crash::Kept, Crash::Torn(seed)] {
            World::open(&storage.after(crash), &small_options(), history.clone()).unwrap();
        }
        world.commit();
        world.step(Step::Reopen).unwrap();
    }
}
