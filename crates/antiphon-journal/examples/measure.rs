//! Measures the journal on a real directory: appends per second at several batch sizes, and recovery.
//! `cargo run --release -p antiphon-journal --example measure -- DIR`

use std::error::Error;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use antiphon_journal::{Directory, Entry, Generation, Journal, Options, Reserve, Role};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "antiphon-measure".to_owned());
    let path = Path::new(&path);
    for (bytes, batch) in [(100, 1), (100, 64), (100, 1024), (1024, 64), (1024, 1024), (65_536, 16)] {
        commits(&path.join("commits"), bytes, batch)?;
    }
    for (entries, bytes) in [(1_000_000, 100), (4_000_000, 100), (100_000, 16_384)] {
        recovery(&path.join(format!("recovery-{bytes}")), entries, bytes)?;
    }
    Ok(())
}

fn open(path: &Path, visited: &mut u64) -> Result<(Journal, mpsc::Receiver<()>), Box<dyn Error>> {
    let storage = Arc::new(Directory::create(path)?);
    let (sender, woken) = mpsc::channel();
    let wake = Arc::new(move || sender.send(()).unwrap_or_default());
    let journal = Journal::open(storage, Options::new(), wake, &mut |_| *visited += 1)?;
    Ok((journal, woken))
}

/// Appends and commits on this thread, then overlapped with the writer thread.
fn commits(path: &Path, bytes: usize, batch: u64) -> Result<(), Box<dyn Error>> {
    let (mut journal, woken) = open(path, &mut 0)?;
    journal.start_recycling();
    let body = vec![7; bytes];
    let fill = |journal: &mut Journal| -> Result<(), Box<dyn Error>> {
        for number in 0..batch {
            let key = u128::from(number).to_le_bytes();
            let entry = Entry { key, kind: 1, head: &[1; 24], body: &[&body] };
            journal.append(Generation::Young, Role::Delta, &entry, Reserve::No)?;
        }
        Ok(())
    };
    // Once through all segments first: a log in use has been through them.
    let warm = Instant::now();
    while warm.elapsed() < Duration::from_secs(2) {
        fill(&mut journal)?;
        journal.commit()?;
    }
    let mut times = Vec::new();
    let (start, mut entries) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(2) {
        fill(&mut journal)?;
        let commit = Instant::now();
        journal.commit()?;
        times.push(commit.elapsed());
        entries += batch;
    }
    let inline = entries as f64 / start.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    let (start, mut entries) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(2) {
        fill(&mut journal)?;
        entries += batch;
        if journal.is_committing() {
            woken.recv()?;
            journal.poll()?;
        }
        journal.begin_commit()?;
    }
    journal.commit()?;
    let overlapped = entries as f64 / start.elapsed().as_secs_f64();
    println!(
        "{bytes:>6} B x {batch:<5} inline {inline:>10.0}/s, commit p50 {:?} p99 {:?}; overlapped {overlapped:>10.0}/s",
        at(50),
        at(99)
    );
    Ok(())
}

fn recovery(path: &Path, entries: u64, bytes: usize) -> Result<(), Box<dyn Error>> {
    let (mut journal, _woken) = open(path, &mut 0)?;
    let body = vec![7; bytes.min(1 << 20) - 24];
    for number in 0..entries {
        let key = u128::from(number).to_le_bytes();
        let entry = Entry { key, kind: 1, head: &[1; 24], body: &[&body] };
        journal.append(Generation::Young, Role::Base, &entry, Reserve::No)?;
        if number % 1024 == 1023 {
            journal.commit()?;
        }
    }
    journal.commit()?;
    drop(journal);
    for _ in 0..2 {
        let mut visited = 0;
        let start = Instant::now();
        let (_journal, _woken) = open(path, &mut visited)?;
        let took = start.elapsed();
        println!("recovery of {visited} entries of {bytes} B: {took:?}, {:.0}/s", visited as f64 / took.as_secs_f64());
    }
    std::fs::remove_dir_all(path)?;
    Ok(())
}
