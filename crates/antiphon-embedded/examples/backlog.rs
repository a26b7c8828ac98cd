//! What a backlog costs: `cargo run --release -p antiphon-embedded --example backlog -- [CALLS] [DIRECTORY]`.
//!
//! Queues that many durable calls with 100-byte arguments (default 1,000,000), then opens the directory again, and
//! prints time and resident memory of both. Run it a second time with `--reopen` as third argument to measure the
//! restart in a process of its own.

use antiphon_broker::{Event, Inbox, Wants};
use antiphon_embedded::{Driver, DriverOptions, Outlet, PeerId, Submit};
use antiphon_protocol::{Answer, CallId, CallerId, Name, Payload, Route, Start};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Counts acceptances.
#[derive(Default)]
struct Count {
    accepted: u64,
    refused: Option<String>,
}

impl Outlet for Count {
    fn event(&mut self, _: PeerId, event: Event) {
        match event {
            Event::Accepted { .. } => self.accepted += 1,
            Event::Refused { failure, .. } => self.refused = Some(failure.to_string()),
            _ => {}
        }
    }

    fn answer(&mut self, _: u64, _: Answer) {}
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let calls = arguments.next().and_then(|text| text.replace('_', "").parse().ok()).unwrap_or(1_000_000_u64);
    let directory = PathBuf::from(arguments.next().unwrap_or_else(|| "backlog-data".to_owned()));
    if arguments.next().is_none() {
        fill(calls, &directory);
        println!("now measure the restart: the same command with --reopen");
    } else {
        reopen(calls, &directory);
    }
}

fn options(directory: &std::path::Path) -> DriverOptions {
    let mut options = DriverOptions { directory: Some(directory.to_owned()), ..DriverOptions::default() };
    options.limits.calls_max = u32::MAX;
    options
}

fn fill(calls: u64, directory: &std::path::Path) {
    let mut driver = Driver::open(options(directory), Arc::new(|| {})).expect("the directory can be opened");
    let mut count = Count::default();
    let caller = driver.open_caller(Inbox::Anonymous(CallerId([1; 16]))).expect("an anonymous inbox can be opened");
    let route = driver.intern(&Route::new(Name::from_static("bench.echo"))).expect("one route fits");
    let payload = Payload::raw(vec![7; 100]);
    let start = Instant::now();
    for number in 0..calls {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
        let id = CallId::new(1_790_000_000_000 + number / 1_000, random);
        let payload = payload.clone();
        let (start, wants) = (Start::Now, Wants::Acceptance);
        let submit =
            Submit { id, tag: number, route, payload, deadline_ms: 0, start, keys: None, wants, resent: false };
        driver.submit(caller, submit);
        if number % 1_024 == 1_023 {
            driver.commit_here().expect("the disk takes it");
            driver.pump(&mut count);
        }
    }
    driver.commit_here().expect("the disk takes it");
    driver.pump(&mut count);
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(count.accepted, calls, "refused: {:?}", count.refused);
    report("queued", calls, seconds);
}

fn reopen(calls: u64, directory: &std::path::Path) {
    let before = resident_bytes();
    let start = Instant::now();
    let driver = Driver::open(options(directory), Arc::new(|| {})).expect("the directory can be opened");
    let seconds = start.elapsed().as_secs_f64();
    let ready: u64 = driver.status().calls.iter().take(3).sum();
    assert_eq!(ready, calls, "every acknowledged call is there after the restart");
    println!("resident before: {} MiB", before >> 20);
    report("recovered", calls, seconds);
}

#[allow(clippy::cast_precision_loss)]
fn report(what: &str, calls: u64, seconds: f64) {
    let resident = resident_bytes();
    println!(
        "{what} {calls} calls in {seconds:.2} s ({:.2} M/s); resident {} MiB, {:.0} bytes a call",
        calls as f64 / seconds / 1e6,
        resident >> 20,
        resident as f64 / calls as f64
    );
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}
