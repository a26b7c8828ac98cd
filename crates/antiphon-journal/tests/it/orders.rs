//! The journal's hand-offs between threads, in many of the orders in which they may run. Compiled only with
//! `--cfg shuttle`; a deadlock, a lost wake-up or a panic in any order fails. `ANTIPHON_PROVE_SCHEDULES` sets how many.

use std::io::ErrorKind;
use std::sync::Arc;

use antiphon_journal::{Entry, Generation, Journal, Lsn, Options, Position, Reserve, Role, Wake};
use shuttle::sync::mpsc::{Receiver, channel};

use crate::fault::{Crash, Fault, FaultStorage};
use crate::world::small_options;

fn schedules() -> usize {
    std::env::var("ANTIPHON_PROVE_SCHEDULES").map_or(2_000, |number| number.parse().expect("a number of schedules"))
}

/// Half of the schedules at random, half by priorities that change at three points.
fn explore(model: fn()) {
    shuttle::check_random(model, schedules() / 2);
    shuttle::check_pct(model, schedules() / 2, 3);
    println!("{} schedules of {}", schedules(), std::thread::current().name().unwrap_or("a model"));
}

fn options() -> Options {
    let mut options = small_options();
    options.threads = true;
    options
}

fn open(storage: &FaultStorage) -> (Journal, Receiver<()>) {
    let (sender, woken) = channel();
    let wake: Wake = Arc::new(move || sender.send(()).unwrap_or_default());
    let storage = Arc::new(storage.clone());
    (Journal::open(storage, options(), wake, &mut |_| {}).unwrap(), woken)
}

fn append(journal: &mut Journal, len: usize) -> Option<Position> {
    let body = vec![7; len];
    let entry = Entry { key: [5; 16], kind: 1, head: b"", body: &[&body] };
    journal.append(Generation::Young, Role::Base, &entry, Reserve::Yes).ok()
}

fn survivors(storage: &FaultStorage, crash: Crash) -> u64 {
    let mut options = options();
    options.threads = false;
    let mut last = 0;
    let visit = &mut |entry: antiphon_journal::Recovered<'_>| last = entry.lsn.as_u64();
    drop(Journal::open(Arc::new(storage.after(crash)), options, Arc::new(|| {}), visit).unwrap());
    last
}

#[test]
fn every_commit_wakes_its_owner_and_what_it_acknowledged_is_on_disk() {
    explore(|| {
        let storage = FaultStorage::new();
        let (mut journal, woken) = open(&storage);
        let mut durable = Lsn::from_u64(0);
        for _ in 0..3 {
            append(&mut journal, 100).unwrap();
            assert!(journal.begin_commit().unwrap());
            append(&mut journal, 100).unwrap();
            // Asking early is allowed, and takes nothing from the wake-up.
            let early = journal.poll().unwrap();
            woken.recv().unwrap();
            let now = journal.poll().unwrap();
            assert!(now >= early && now > durable && !journal.is_committing());
            durable = now;
            assert!(survivors(&storage, Crash::Lost) >= durable.as_u64());
        }
        append(&mut journal, 100).unwrap();
        journal.begin_commit().unwrap();
        append(&mut journal, 100).unwrap();
        // This waits for the commit under way, then carries out the next.
        assert_eq!(journal.commit().unwrap(), journal.tip());
    });
}

#[test]
fn a_failed_commit_wakes_its_owner_too() {
    explore(|| {
        let storage = FaultStorage::new();
        let (mut journal, woken) = open(&storage);
        append(&mut journal, 100).unwrap();
        storage.fault_at(storage.calls() + 2, Fault::Error(ErrorKind::Other));
        if journal.begin_commit().is_ok() {
            woken.recv().unwrap();
        }
        // The failure may have met the thread that makes segments; then this commit stands.
        if journal.poll().is_err() {
            assert!(append(&mut journal, 10).is_none() && journal.commit().is_err());
        }
        let durable = journal.durable().as_u64();
        drop(journal);
        assert!(survivors(&storage, Crash::Lost) >= durable);
    });
}

#[test]
fn segments_are_taken_while_they_are_made_and_a_full_disk_only_refuses() {
    explore(|| {
        let storage = FaultStorage::new();
        let (mut journal, _woken) = open(&storage);
        journal.start_recycling();
        storage.limit(Some(storage.used() + (2 << 12)));
        let mut appended = 0;
        while append(&mut journal, 1_500).is_some() {
            journal.commit().unwrap();
            appended += 1;
            assert!(appended < 20, "a full disk refuses");
        }
        storage.limit(None);
        // The first attempt may be refused once more: it is the one that finds out.
        assert!((0..3).any(|_| append(&mut journal, 1_500).is_some()), "room is found again");
        journal.commit().unwrap();
        let durable = journal.durable().as_u64();
        drop(journal);
        assert_eq!(survivors(&storage, Crash::Lost), durable);
    });
}

#[test]
fn a_journal_closes_at_any_moment() {
    explore(|| {
        let storage = FaultStorage::new();
        let (mut journal, woken) = open(&storage);
        append(&mut journal, 1_500).unwrap();
        journal.begin_commit().unwrap();
        append(&mut journal, 1_500).unwrap();
        drop(journal);
        // A commit that was handed over is carried out.
        assert!(survivors(&storage, Crash::Lost) >= 1);
        drop(woken);
    });
}
