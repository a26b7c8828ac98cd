//! Every workload of a few operations, and after it every crash and every failure there can be. One operation in the
//! ordinary run; `ANTIPHON_PROVE_OPERATIONS=2` or 3 (of three a sample) for more.

use std::io::ErrorKind;

use antiphon_journal::OpenError;

use crate::crash::{STEPS, recover, run};
use crate::fault::{Crash, Fault, FaultStorage};
use crate::world::{History, Step, World, small_options};

/// Up to so many images of one moment are all made; beyond, so many are drawn.
const SUBSETS: u64 = 256;

fn operations() -> usize {
    match std::env::var("ANTIPHON_PROVE_OPERATIONS") {
        Ok(number) => number.parse().expect("ANTIPHON_PROVE_OPERATIONS is 1, 2 or 3"),
        Err(_) => 1,
    }
}

/// All sequences of up to two steps; of three every seventh, because they are too many to try all their images. Each
/// stands between two commits, so that there is something to lose and something that is lost.
fn workloads() -> Vec<Vec<Step>> {
    let mut all = vec![Vec::new()];
    let mut longest = all.clone();
    for length in 1..=operations() {
        longest = longest.iter().flat_map(|steps| STEPS.map(|step| [steps.as_slice(), &[step]].concat())).collect();
        all.extend(longest.iter().step_by(if length > 2 { 7 } else { 1 }).cloned());
    }
    let between = |steps: Vec<Step>| [&[Step::Add(900), Step::Commit], steps.as_slice(), &[Step::Commit]].concat();
    all.into_iter().map(between).collect()
}

/// What a crash now may leave: nothing, everything, torn sectors, and whole writes in any order.
fn images(storage: &FaultStorage, seed: u64) -> Vec<Crash> {
    let (writes, names) = storage.unsynced();
    let choices = (1_u64 << writes.min(32)) * (names as u64 + 1);
    let subset = |number: u64| Crash::Subset {
        writes: number / (names as u64 + 1),
        names: (number % (names as u64 + 1)) as usize,
    };
    let drawn = |n: u64| (seed + n).wrapping_mul(0x9E37_79B9_7F4A_7C15) % choices;
    let subsets: Vec<Crash> = if choices <= SUBSETS {
        (0..choices).map(subset).collect()
    } else {
        (0..SUBSETS).map(|n| subset(drawn(n))).collect()
    };
    [Crash::Lost, Crash::Kept].into_iter().chain((1..5).map(Crash::Torn)).chain(subsets).collect()
}

const AGAIN: [Step; 2] = [Step::Add(60), Step::Commit];

#[test]
fn every_workload_survives_every_crash_at_every_call() {
    let (mut crashes, mut reordered) = (0_u64, 0_u64);
    for steps in workloads() {
        let whole = FaultStorage::new();
        run(&whole, &steps);
        for call in 1..=whole.calls() {
            let storage = FaultStorage::new();
            storage.fault_at(call, Fault::Crash);
            let history = run(&storage, &steps);
            for crash in images(&storage, call) {
                crashes += 1;
                reordered += u64::from(matches!(crash, Crash::Subset { .. }));
                recover(&storage.after(crash), history.clone(), &AGAIN)
                    .unwrap_or_else(|error| panic!("{steps:?}, call {call}, {crash:?}: {error}"));
            }
        }
    }
    println!("{crashes} crash images, {reordered} of them subsets of whole writes");
    assert!(crashes > 2_000 && reordered > 500, "{crashes} and {reordered}");
}

#[test]
fn a_power_cut_after_a_kill_takes_nothing_that_the_next_process_acknowledged() {
    let mut cuts = 0_u64;
    // Making another segment would sync the directory, and hide that nobody else did: there is no room for one.
    let mut options = small_options();
    options.bytes_max = 1;
    for steps in workloads() {
        let whole = FaultStorage::new();
        run(&whole, &steps);
        for call in 1..=whole.calls() {
            let storage = FaultStorage::new();
            storage.fault_at(call, Fault::Crash);
            let history = run(&storage, &steps);
            let mut world = match World::open(&storage.after_kill(), &options, history) {
                Ok(world) => world,
                Err(OpenError::NoSpace { .. }) => continue,
                Err(error) => panic!("{steps:?}, killed at call {call}: {error}"),
            };
            AGAIN.iter().for_each(|step| world.step(*step).unwrap());
            for crash in [Crash::Lost, Crash::Kept, Crash::Torn(1), Crash::Torn(2)] {
                cuts += 1;
                recover(&world.storage.after(crash), world.history.clone(), &AGAIN)
                    .unwrap_or_else(|error| panic!("{steps:?}, killed at call {call}, then {crash:?}: {error}"));
            }
        }
    }
    println!("{cuts} power cuts after a kill");
    assert!(cuts > 300, "{cuts}");
}

/// A start on what a crash left, until the machine goes off.
fn start_again(storage: &FaultStorage, history: &History) -> History {
    World::open(storage, &small_options(), history.clone()).map_or_else(|_| history.clone(), |world| world.history)
}

/// What a crash may leave for the next start: of the process alone, or of the machine.
fn left(storage: &FaultStorage, kind: usize) -> Option<FaultStorage> {
    match kind {
        0 => Some(storage.after(Crash::Lost)),
        _ if storage.unsynced() == (0, 0) => None,
        1 => Some(storage.after_kill()),
        2 => Some(storage.after(Crash::Torn(2))),
        _ => None,
    }
}

#[test]
fn every_workload_survives_a_power_cut_at_every_call_of_the_start_after_a_crash() {
    let (mut cuts, mut killed) = (0_u64, 0_u64);
    // All begin alike: what they have in common is gone through once.
    let mut begun = 0;
    for steps in workloads() {
        let whole = FaultStorage::new();
        run(&whole, &steps);
        let first = begun + 1;
        if begun == 0 {
            let whole = FaultStorage::new();
            run(&whole, &[Step::Add(900), Step::Commit]);
            begun = whole.calls();
        }
        for call in first..=whole.calls() {
            let storage = FaultStorage::new();
            storage.fault_at(call, Fault::Crash);
            let history = run(&storage, &steps);
            for kind in 0..3 {
                let Some(whole) = left(&storage, kind) else { break };
                start_again(&whole, &history);
                for inner in 1..=whole.calls() {
                    let storage = left(&storage, kind).expect("it was there before");
                    storage.fault_at(inner, Fault::Crash);
                    let history = start_again(&storage, &history);
                    let calm = storage.unsynced() == (0, 0);
                    let seconds = if calm { &[Crash::Lost][..] } else { &[Crash::Lost, Crash::Torn(4)] };
                    for second in seconds {
                        cuts += 1;
                        killed += u64::from(kind == 1);
                        recover(&storage.after(*second), history.clone(), &AGAIN).unwrap_or_else(|error| {
                            panic!("{steps:?}, call {call}, left {kind}, then call {inner}, {second:?}: {error}")
                        });
                    }
                }
            }
        }
    }
    println!("{cuts} power cuts while starting after a crash, {killed} of them after the process alone was killed");
    assert!(cuts > 1_000 && killed > 200, "{cuts} and {killed}");
}

/// Steps that go on after a failure: an opening that failed is tried again.
fn run_through(storage: &FaultStorage, steps: &[Step]) -> History {
    let mut opened = World::open(storage, &small_options(), History::default());
    if opened.is_err() {
        opened = World::open(storage, &small_options(), History::default());
    }
    let Ok(mut world) = opened else { return History::default() };
    for step in steps {
        if world.step(*step).is_err() {
            break;
        }
    }
    world.history.clone()
}

#[test]
fn every_workload_loses_nothing_when_any_one_operation_fails() {
    let (mut changes, mut looks) = (0_u64, 0_u64);
    let after = [Crash::Lost, Crash::Kept, Crash::Torn(1)];
    for steps in workloads() {
        let steps = [steps.as_slice(), &[Step::Reopen, Step::Change, Step::Commit]].concat();
        let check = |storage: &FaultStorage, history: &History, what: &str| {
            for crash in after {
                recover(&storage.after(crash), history.clone(), &AGAIN)
                    .unwrap_or_else(|error| panic!("{steps:?}, {what}, {crash:?}: {error}"));
            }
        };
        let whole = FaultStorage::new();
        run(&whole, &steps);
        for call in 1..=whole.calls() {
            for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
                let storage = FaultStorage::new();
                storage.fault_at(call, Fault::Error(kind));
                let history = run_through(&storage, &steps);
                changes += 1;
                check(&storage, &history, &format!("{kind} at call {call}"));
            }
        }
        for look in 1..=whole.looks() {
            let storage = FaultStorage::new();
            storage.blind_at(look);
            let history = run_through(&storage, &steps);
            looks += 1;
            check(&storage, &history, &format!("look {look} failed"));
        }
    }
    println!("{changes} failed changes, {looks} failed looks");
    assert!(changes > 500 && looks > 200, "{changes} and {looks}");
}
