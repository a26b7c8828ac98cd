//! SIGSTOP past the lease: workers that finish after they were given up, a broker that was away, callers that wake late.
//! Whatever was acknowledged has exactly one outcome in the end.

use crate::load::{self, CONFIG, Ledgers, Random};
use crate::stage::{Broker, Process};
use std::process::Command;
use std::thread;
use std::time::Duration;

fn signal(name: &str, process: &Process) {
    let status = Command::new("kill").args([name, &process.0.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn every_acknowledged_call_has_one_outcome_however_long_processes_stand_still() {
    let mut random = Random::seeded();
    let mut broker = Broker::start_with(CONFIG);
    let ledgers = Ledgers::in_directory_of(&broker);
    let workers: Vec<_> = (0..2).map(|_| load::worker(&broker.url)).collect();
    let callers: Vec<_> = (0..2).map(|_| ledgers.caller(&broker.url)).collect();
    crate::stage::until("there is load", || ledgers.lines() > 50);
    for _ in 0..load::faults(8) {
        let paused = match random.up_to(4) {
            0 => &broker.process,
            1 => &callers[0],
            2 => &callers[1],
            number => &workers[number as usize - 3],
        };
        signal("-STOP", paused);
        // The lease is one second: half of the pauses outlast it.
        thread::sleep(Duration::from_millis(400 + random.up_to(1_400)));
        signal("-CONT", paused);
        thread::sleep(Duration::from_millis(random.up_to(300)));
    }
    drop(callers);
    load::settle(&broker);
    drop(workers);
    broker.stop();
    let accepted = load::check(broker.data(), &ledgers);
    assert!(accepted > 200, "there was hardly any load: {accepted} calls");
}
