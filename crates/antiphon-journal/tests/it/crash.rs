//! What a crash at any moment may and may not do.

use std::sync::Arc;

use antiphon_journal::{Entry, Generation, Journal, Reserve, Role};

use crate::fault::{Crash, Fault, FaultStorage};
use crate::world::{History, Step, World, small_options};

pub const STEPS: [Step; 8] =
    [Step::Add(40), Step::Add(1500), Step::Change, Step::Forget, Step::Commit, Step::Sweep, Step::Cool, Step::Reopen];

/// Runs the steps until the machine goes off, if it does.
pub fn run(storage: &FaultStorage, steps: &[Step]) -> History {
    let mut history = History::default();
    let mut opened = World::open(storage, &small_options(), history.clone());
    for step in steps {
        let Ok(world) = &mut opened else { return history };
        let went_on = world.step(*step).is_ok();
        history = world.history.clone();
        if !went_on {
            return history;
        }
    }
    history
}

fn crashes() -> Vec<Crash> {
    [Crash::Lost, Crash::Kept].into_iter().chain((1..7).map(Crash::Torn)).collect()
}

/// Every call that changes the disk is once the last one; every kind of crash follows. Returns the images.
fn crash_everywhere(steps: &[Step], again: &[Step]) -> u64 {
    let whole = FaultStorage::new();
    run(&whole, steps);
    let mut images = 0;
    for call in 1..=whole.calls() {
        let storage = FaultStorage::new();
        storage.fault_at(call, Fault::Crash);
        let history = run(&storage, steps);
        for crash in crashes() {
            images += 1;
            recover(&storage.after(crash), history.clone(), again)
                .unwrap_or_else(|error| panic!("{steps:?}, call {call}, {crash:?}: {error}"));
        }
    }
    images
}

/// Opens, checks against the history, works on, and opens once more.
pub fn recover(storage: &FaultStorage, history: History, again: &[Step]) -> Result<(), antiphon_journal::OpenError> {
    let mut world = World::open(storage, &small_options(), history)?;
    for step in again {
        world.step(*step)?;
    }
    world.step(Step::Reopen)
}

#[test]
fn every_acknowledged_entry_survives_a_crash_at_every_call() {
    let mut images = 0;
    for first in STEPS {
        for second in STEPS {
            let steps = [Step::Add(900), Step::Commit, first, second, Step::Commit];
            images += crash_everywhere(&steps, &[Step::Add(60), Step::Commit]);
        }
    }
    println!("{images} crash images");
    assert!(images > 5_000);
}

#[test]
fn every_acknowledged_entry_survives_a_crash_while_rolling_sweeping_and_reopening() {
    let steps = [
        Step::Add(1500),
        Step::Cool,
        Step::Add(1500),
        Step::Commit,
        Step::Add(1500),
        Step::Add(1500),
        Step::Change,
        Step::Commit,
        Step::Sweep,
        Step::Change,
        Step::Commit,
        Step::Forget,
        Step::Add(3000),
        Step::Sweep,
        Step::Commit,
        Step::Reopen,
        Step::Forget,
        Step::Add(5000),
        Step::Commit,
        Step::Sweep,
        Step::Add(10),
        Step::Commit,
        Step::Commit,
    ];
    let mut world = World::open(&FaultStorage::new(), &small_options(), History::default()).unwrap();
    let (mut rolled, mut recycled) = (0, 0);
    for step in steps {
        world.step(step).unwrap();
        let stats = world.journal.as_ref().unwrap().stats();
        (rolled, recycled) = (rolled.max(stats.rolls), recycled.max(stats.recycled));
    }
    assert!(rolled >= 3 && recycled >= 2, "the script rolls ({rolled}) and recycles ({recycled})");
    let images = crash_everywhere(&steps, &[Step::Add(1500), Step::Forget, Step::Commit, Step::Sweep, Step::Commit]);
    println!("{images} crash images");
    assert!(images > 500);
}

#[test]
fn every_acknowledged_entry_survives_a_crash_while_a_large_segment_is_given_back() {
    let steps = [
        Step::Add(5000),
        Step::Commit,
        Step::Add(10),
        Step::Commit,
        Step::Forget,
        Step::Commit,
        Step::Commit,
        Step::Add(5000),
        Step::Commit,
    ];
    let images = crash_everywhere(&steps, &[Step::Add(20), Step::Commit]);
    println!("{images} crash images");
    assert!(images > 300);
}

#[test]
fn a_crash_during_recovery_is_recovered_from() {
    let steps =
        [Step::Add(1500), Step::Commit, Step::Add(1500), Step::Cool, Step::Add(1500), Step::Change, Step::Commit];
    let whole = FaultStorage::new();
    run(&whole, &steps);
    let mut images = 0;
    for call in (1..=whole.calls()).rev().take(8) {
        let storage = FaultStorage::new();
        storage.fault_at(call, Fault::Crash);
        let history = run(&storage, &steps);
        for first in crashes() {
            let opened = storage.after(first);
            World::open(&opened, &small_options(), history.clone()).unwrap();
            for inner in 1..=opened.calls() {
                let storage = storage.after(first);
                storage.fault_at(inner, Fault::Crash);
                let failed = World::open(&storage, &small_options(), history.clone());
                drop(failed);
                for second in crashes() {
                    images += 1;
                    recover(&storage.after(second), history.clone(), &[Step::Add(20), Step::Commit])
                        .unwrap_or_else(|error| panic!("call {call} {first:?}, then {inner} {second:?}: {error}"));
                }
            }
        }
    }
    println!("{images} crash images");
    assert!(images > 1_000);
}

#[test]
fn nothing_behind_a_lost_entry_is_kept_in_either_log() {
    let open = |storage: &FaultStorage, seen: &mut Vec<u64>| {
        let visit = &mut |entry: antiphon_journal::Recovered<'_>| seen.push(entry.lsn.as_u64());
        Journal::open(Arc::new(storage.clone()), small_options(), Arc::new(|| {}), visit).unwrap()
    };
    let run = |storage: &FaultStorage| {
        let mut journal = open(storage, &mut Vec::new());
        let mut append = |generation, len| {
            let body = vec![1; len];
            let entry = Entry { key: [1; 16], kind: 1, head: b"", body: &[&body] };
            drop(journal.append(generation, Role::Base, &entry, Reserve::Yes));
        };
        for len in [20, 700, 30, 1100, 1100, 1100] {
            append(Generation::Young, len);
            append(Generation::Cold, len);
        }
        drop(journal.commit());
        journal.durable().as_u64()
    };
    let whole = FaultStorage::new();
    assert_eq!(run(&whole), 12);
    let mut kept = std::collections::BTreeSet::new();
    for call in whole.calls() - 8..=whole.calls() {
        for seed in 0..40 {
            let storage = FaultStorage::new();
            storage.fault_at(call, Fault::Crash);
            // The first opening must have ended: the faults stand in the commit.
            run(&storage);
            let storage = storage.after(Crash::Torn(seed));
            let mut seen = Vec::new();
            let journal = open(&storage, &mut seen);
            assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>(), "call {call}, seed {seed}");
            assert!(journal.tip().as_u64() >= seen.len() as u64);
            kept.insert(seen.len());
        }
    }
    assert!(kept.len() >= 4, "prefixes of different lengths: {kept:?}");
}
