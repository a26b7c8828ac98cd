//! Fixed work whose instructions are counted: `counted PATH TIMES` does one of the paths that every call takes so many
//! times. `cargo xtask bench` runs it under valgrind; a count, unlike a time, is the same on a noisy machine.

use antiphon_broker::{Submission, Wants};
use antiphon_engine::{
    Body, Command, Effect, Effects, End, Engine, Gate, Handle, InboxKey, Limits, Now, Peer, Record, Role, Submit,
    Urgency,
};
use antiphon_journal::{Directory, Entry, Generation, Journal, Options, Reserve};
use antiphon_protocol::{
    Call, CallId, CallerId, IncarnationId, LeaseTag, Name, Offer, OfferedProcedure, Payload, Route, Start,
};
use antiphon_wire::{Inbound, Outbound};
use anyhow::{Context, bail};
use bytes::Bytes;
use std::hint::black_box;
use std::sync::Arc;

const ECHO: Name = Name::from_static("bench.echo");
const BATCH: u64 = 64;
const CALLER: Peer = Peer(0);
const WORKER: Peer = Peer(1);

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("which path")?;
    let times: u64 = arguments.next().context("how many times")?.parse()?;
    match path.as_str() {
        "engine-cycle" => engine(times),
        "frame-encode" => encode(times),
        "frame-decode" => decode(times)?,
        "journal-append" => journal(times)?,
        other => bail!("{other} is no path: engine-cycle, frame-encode, frame-decode, journal-append"),
    }
    Ok(())
}

/// Keeps the leases and outcomes it is told of, and nothing else.
#[derive(Default)]
struct Sink {
    leases: Vec<(LeaseTag, CallId)>,
    outcomes: Vec<CallId>,
    handles: u64,
}

impl Effects for Sink {
    fn record(&mut self, _: &Record<'_>, _: Body, _: Role, _: Urgency) -> Handle {
        self.handles += 1;
        Handle(self.handles)
    }

    fn store(&mut self, _: Body) -> Handle {
        self.handles += 1;
        Handle(self.handles)
    }

    fn release(&mut self, _: Handle) {}

    fn entomb(&mut self, _: CallId) {}

    fn begin_gathering(&mut self) {}

    fn gather(&mut self, _: antiphon_engine::Told) {}

    fn emit(&mut self, _: Gate, effect: Effect) {
        match effect {
            Effect::Lease { grant, .. } => self.leases.push((grant.lease, grant.call)),
            Effect::Outcome { id, .. } => self.outcomes.push(id),
            _ => {}
        }
    }
}

fn call_id(number: u64) -> CallId {
    let [a, b, c, d, e, f, g, h] = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
    CallId::new(1_700_000_000_000, [a, b, c, d, e, f, g, h, 0, 0])
}

/// Submit, lease, settle and acknowledge, in batches.
fn engine(times: u64) {
    let now = Now { monotonic_ms: 1, wall_ms: 1_700_000_000_000 };
    let (mut engine, mut sink) = (Engine::new(Limits::new(true), 42, now), Sink::default());
    let mut route = Route::new(ECHO);
    route.idempotent = true;
    let route = engine.intern(&route).expect("one route fits");
    let inbox = InboxKey::Anonymous(CallerId([7; 16]));
    engine.handle(now, Command::OpenCaller { peer: CALLER, inbox }, &mut sink);
    let procedure = OfferedProcedure { name: ECHO, idempotent: true, schema: None };
    let incarnation = IncarnationId([1; 16]);
    let name = Name::from_static("bench");
    let offer =
        Offer { incarnation, name, procedures: vec![procedure], slots: 1024, labels: Vec::new(), held: Vec::new() };
    engine.handle(now, Command::OpenWorker { peer: WORKER, offer: &offer }, &mut sink);
    let mut number = 0;
    while number < times {
        for _ in 0..BATCH {
            number += 1;
            let submit = Submit {
                peer: CALLER,
                tag: number,
                id: call_id(number),
                route,
                bytes: 64,
                deadline_ms: 30_000,
                start: Start::Now,
                key: None,
                ties: None,
                wants_acceptance: false,
                wants_outcome: true,
                resent: false,
                revives: None,
            };
            engine.handle(now, Command::Submit(submit), &mut sink);
        }
        engine.advance(now, 4_096, &mut sink);
        for (lease, call) in std::mem::take(&mut sink.leases) {
            engine.handle(
                now,
                Command::Report { peer: WORKER, lease, call, end: End::Succeed { bytes: 64 } },
                &mut sink,
            );
        }
        for id in std::mem::take(&mut sink.outcomes) {
            engine.handle(now, Command::Acknowledge { peer: CALLER, id }, &mut sink);
        }
    }
}

fn submission(number: u64, route: &Arc<Route>, payload: &Payload) -> Submission {
    let call = Call::new(call_id(number), Arc::clone(route), payload.clone());
    Submission { call, tag: number, wants: Wants::Outcome, resent: false }
}

/// A submission of 64 bytes, laid down.
fn encode(times: u64) {
    let (route, payload) = (Arc::new(Route::new(ECHO)), Payload::raw(Bytes::from_static(&[7; 64])));
    let mut outbound = Outbound::new();
    let one = submission(1, &route, &payload);
    for number in 1..=times {
        outbound.submit(number, 0, &one);
        if number % BATCH == 0 {
            let unsent = black_box(outbound.unsent()).len();
            outbound.advance(unsent);
        }
    }
}

/// The same, read back.
fn decode(times: u64) -> anyhow::Result<()> {
    let (route, payload) = (Arc::new(Route::new(ECHO)), Payload::raw(Bytes::from_static(&[7; 64])));
    let mut outbound = Outbound::new();
    for number in 0..BATCH {
        outbound.submit(number, 0, &submission(number, &route, &payload));
    }
    let bytes = outbound.unsent().to_vec();
    let mut inbound = Inbound::new();
    inbound.greeted(1 << 20);
    for _ in 0..times.div_ceil(BATCH) {
        let mut input = bytes.as_slice();
        while let Some(arrival) = inbound.next(&mut input)? {
            black_box(arrival);
        }
    }
    Ok(())
}

/// An entry of 100 bytes, appended; a batch of them committed.
fn journal(times: u64) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let storage = Arc::new(Directory::create(directory.path())?);
    let mut journal = Journal::open(storage, Options::new(), Arc::new(|| ()), &mut |_| ())?;
    journal.start_recycling();
    for number in 1..=times {
        let key = u128::from(number).to_le_bytes();
        let entry = Entry { key, kind: 1, head: &[1; 24], body: &[&[7; 64]] };
        journal.append(Generation::Young, antiphon_journal::Role::Delta, &entry, Reserve::No)?;
        if number % BATCH == 0 {
            journal.commit()?;
        }
    }
    Ok(())
}
