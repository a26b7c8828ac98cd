//! SIGKILL, again and again: the broker, workers and callers under load. Whatever was acknowledged has exactly one
//! outcome in the end.

use crate::load::{self, CONFIG, Ledgers, Random};
use crate::stage::{Broker, Process};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often the broker is killed unless more is asked for; workers and callers are killed at least as often.
const KILLS: u32 = 40;
const CALLERS: usize = 2;
const WORKERS: usize = 2;

#[test]
fn every_acknowledged_call_has_one_outcome_however_often_processes_are_killed() {
    let mut random = Random::seeded();
    let wanted = load::faults(KILLS);
    let mut broker = Broker::start_with(CONFIG);
    let ledgers = Arc::new(Ledgers::in_directory_of(&broker));
    let stop = Arc::new(AtomicBool::new(false));
    let kills: [Arc<AtomicU32>; 2] = Default::default();
    let mut threads = Vec::new();
    for _ in 0..WORKERS {
        let url = broker.url.clone();
        threads.push(killing(random.branch(), &stop, &kills[0], move || load::worker(&url)));
    }
    for _ in 0..CALLERS {
        let (url, ledgers) = (broker.url.clone(), Arc::clone(&ledgers));
        threads.push(killing(random.branch(), &stop, &kills[1], move || ledgers.caller(&url)));
    }
    let began = Instant::now();
    for _ in 0..wanted {
        thread::sleep(Duration::from_millis(random.up_to(300)));
        broker.kill_and_restart();
    }
    while kills.iter().any(|kills| kills.load(Ordering::Relaxed) < wanted) {
        thread::sleep(Duration::from_millis(50));
    }
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    println!("killed after {:?}: broker {wanted}, workers {:?}, callers {:?}", began.elapsed(), kills[0], kills[1]);
    load::settle(&broker);
    println!("settled after {:?}", began.elapsed());
    broker.stop();
    let accepted = load::check(broker.data(), &ledgers);
    assert!(accepted > 500, "there was hardly any load: {accepted} calls");
}

/// Starts a process, kills it after a while, and starts another, until told to stop.
fn killing(
    mut random: Random,
    stop: &Arc<AtomicBool>,
    kills: &Arc<AtomicU32>,
    start: impl Fn() -> Process + Send + 'static,
) -> thread::JoinHandle<()> {
    let (stop, kills) = (Arc::clone(stop), Arc::clone(kills));
    thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let mut process = start();
            thread::sleep(Duration::from_millis(50 + random.up_to(600)));
            process.kill();
            kills.fetch_add(1, Ordering::Relaxed);
        }
    })
}
