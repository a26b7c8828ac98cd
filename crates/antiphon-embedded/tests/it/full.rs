//! A journal without room refuses new calls, and still settles those it has.

use antiphon_broker::{Event, Inbox, Lease, Report, Wants};
use antiphon_embedded::{Driver, DriverOptions, Outlet, PeerId, Submit};
use antiphon_protocol::{
    Answer, CallId, CallerId, CancelAnswer, Code, IncarnationId, Name, Offer, OfferedProcedure, Payload, Route,
    Settlement, Start,
};
use std::sync::Arc;

#[derive(Default)]
struct Heard {
    leases: Vec<Lease>,
    accepted: u32,
    refused: Vec<Code>,
    settled: u32,
    cancelled: Vec<CallId>,
}

impl Outlet for Heard {
    fn event(&mut self, _: PeerId, event: Event) {
        match event {
            Event::Lease(lease) => self.leases.push(lease),
            Event::Accepted { .. } => self.accepted += 1,
            Event::Refused { failure, .. } => self.refused.push(failure.code),
            Event::Settled { .. } => self.settled += 1,
            Event::CancelAnswered { id, answer: CancelAnswer::NeverRan } => self.cancelled.push(id),
            _ => {}
        }
    }

    fn answer(&mut self, _: u64, _: Answer) {}
}

fn turn(driver: &mut Driver, heard: &mut Heard) {
    driver.pump(heard);
    driver.commit_here().unwrap();
    driver.pump(heard);
}

#[test]
fn submissions_are_refused_and_settlements_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = DriverOptions { directory: Some(directory.path().to_owned()), ..DriverOptions::default() };
    options.journal.segment_bytes = 64 << 10;
    options.journal.bytes_max = 512 << 10;
    options.journal.threads = false;
    let mut driver = Driver::open(options, Arc::new(|| {})).unwrap();
    let mut heard = Heard::default();
    let caller = driver.open_caller(Inbox::Anonymous(CallerId([1; 16]))).unwrap();
    let route = driver.intern(&Route::new(Name::from_static("p"))).unwrap();
    for number in 0..2_000_u64 {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&number.to_le_bytes());
        let id = CallId::new(number, random);
        let (payload, start, keys, wants) = (Payload::raw(vec![1; 1_000]), Start::Now, None, Wants::Acceptance);
        let submit = Submit { id, tag: number, route, payload, deadline_ms: 0, start, keys, wants, resent: false };
        driver.submit(caller, submit);
        turn(&mut driver, &mut heard);
    }
    let accepted = heard.accepted;
    assert!(accepted > 50, "some fit: {accepted}");
    assert_eq!(heard.refused.len() as u32, 2_000 - accepted);
    assert!(heard.refused.iter().all(|code| *code == Code::ResourceExhausted), "{:?}", heard.refused.first());
    // A worker comes, and everything that was accepted settles all the same.
    let procedure = OfferedProcedure { name: Name::from_static("p"), idempotent: true, schema: None };
    let offer = Offer {
        incarnation: IncarnationId([2; 16]),
        name: Name::from_static("w"),
        procedures: vec![procedure],
        slots: 8,
        labels: Vec::new(),
        held: Vec::new(),
    };
    let worker = driver.open_worker(&offer).unwrap();
    for _ in 0..accepted {
        turn(&mut driver, &mut heard);
        for lease in std::mem::take(&mut heard.leases) {
            let settlement = Settlement::Succeed(Payload::raw(vec![2; 20]));
            driver.report(worker, Report { lease: lease.lease, call: lease.call, settlement });
        }
    }
    turn(&mut driver, &mut heard);
    assert_eq!(heard.settled, accepted, "what was accepted settles on a full disk, too");
    assert!(driver.poisoned().is_none());
}

#[test]
fn what_cannot_be_recorded_is_not_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = DriverOptions { directory: Some(directory.path().to_owned()), ..DriverOptions::default() };
    options.journal.segment_bytes = 64 << 10;
    options.journal.reserve = 0;
    options.journal.threads = false;
    let unbound = options.clone();
    options.journal.bytes_max = 512 << 10;
    let mut driver = Driver::open(options, Arc::new(|| {})).unwrap();
    let mut heard = Heard::default();
    let caller = driver.open_caller(Inbox::Anonymous(CallerId([1; 16]))).unwrap();
    let route = driver.intern(&Route::new(Name::from_static("p"))).unwrap();
    let mut ids = Vec::new();
    for number in 0..600_u64 {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&number.to_le_bytes());
        let id = CallId::new(number, random);
        let (payload, start, keys, wants) = (Payload::raw(vec![1; 1_000]), Start::Now, None, Wants::Acceptance);
        let submit = Submit { id, tag: number, route, payload, deadline_ms: 0, start, keys, wants, resent: false };
        driver.submit(caller, submit);
        ids.push(id);
    }
    turn(&mut driver, &mut heard);
    // There is no reserve: sooner or later a cancellation finds no room, and the journal is done for.
    for id in &ids {
        driver.cancel(caller, *id);
        driver.pump(&mut heard);
        if driver.poisoned().is_some() || driver.commit_here().is_err() {
            break;
        }
        driver.pump(&mut heard);
    }
    driver.pump(&mut heard);
    assert!(driver.poisoned().is_some(), "the disk was full in the end");
    assert!(!heard.cancelled.is_empty());
    drop(driver);
    let driver = Driver::open(unbound, Arc::new(|| {})).unwrap();
    let [.., cancelled, _, _] = driver.status().calls;
    assert!(cancelled >= heard.cancelled.len() as u64, "{cancelled} of {} acknowledged", heard.cancelled.len());
}
