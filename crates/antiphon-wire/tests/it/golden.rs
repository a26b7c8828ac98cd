//! The bytes of every frame, as `docs/wire-format.md` gives them: a changed byte is another version of the wire.

use antiphon_broker::{Emission, Event, Lease, Progress, ProgressReport, Report, Submission, Wants, Watch};
use antiphon_protocol::{
    Answer, Call, CallId, CancelAnswer, Code, Epoch, Failure, HeldLease, IncarnationId, Key, Keys, LeaseTag, Name,
    Offer, OfferedProcedure, Outcome, Pattern, Payload, Query, Route, Settlement, Start, State, Topic,
};
use antiphon_wire::{Arrival, Frame, Hello, Inbound, Kind, Outbound, Refusal, Role, Welcome};
use std::sync::Arc;

const ID: CallId = CallId::from_bytes([0xc1; 16]);
const LEASE: LeaseTag = LeaseTag { slot: 7, token: 0x0102_0304_0506_0708 };

pub fn bytes(lay: impl FnOnce(&mut Outbound)) -> Vec<u8> {
    let mut outbound = Outbound::new();
    lay(&mut outbound);
    outbound.unsent().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a frame are these, and reading them gives what was laid down.
#[track_caller]
fn check(greeted: bool, lay: impl FnOnce(&mut Outbound), expected: &str, frame: &str) {
    let bytes = bytes(lay);
    let expected: String = expected.split_whitespace().collect();
    assert_eq!(hex(&bytes), expected);
    let mut inbound = Inbound::new();
    if greeted {
        inbound.greeted(1 << 20);
    }
    let mut input = bytes.as_slice();
    let Some(Arrival::Frame(read)) = inbound.next(&mut input).expect("the frame is valid") else {
        panic!("not a whole frame")
    };
    assert!(input.is_empty());
    let text = match read {
        Frame::Attach(entries) => format!("{:?}", entries.collect::<Vec<_>>()),
        Frame::Acknowledge(entries) | Frame::Cancel(entries) => format!("{:?}", entries.collect::<Vec<_>>()),
        Frame::Accepted(entries) => format!("{:?}", entries.collect::<Vec<_>>()),
        Frame::Follow(entries) => format!("{:?}", entries.collect::<Vec<_>>()),
        Frame::ProgressEnded(entries) => format!("{:?}", entries.collect::<Vec<_>>()),
        Frame::Extend(entries) | Frame::CancelAsked(entries) | Frame::Settled(entries) | Frame::Stale(entries) => {
            format!("{:?}", entries.map(|lease| (lease.slot, lease.token)).collect::<Vec<_>>())
        }
        other => format!("{other:?}"),
    };
    assert!(text.contains(frame), "{text}\ndoes not contain\n{frame}");
}

fn submission(keys: Option<Box<Keys>>, start: Start) -> Submission {
    let route = Arc::new(Route::new(Name::from_static("math.fib")));
    let mut call = Call::new(ID, route, Payload::json("40"));
    call.deadline_ms = 0x1388;
    call.start = start;
    call.keys = keys;
    Submission { call, tag: 9, wants: Wants::AcceptanceAndOutcome, resent: false }
}

#[test]
fn handshake_frames_keep_their_bytes() {
    let hello = Hello {
        version_min: 1,
        version_max: 1,
        role: Role::Caller,
        auth: 0,
        peer: [0xaa; 16],
        session: 3,
        inbox: Some(Name::from_static("billing")),
        credentials: Vec::new(),
        agent: "t/1".to_owned(),
    };
    check(
        false,
        |out| out.hello(&hello),
        "33000000 01 00 414e5450 0100 0100 01 00 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 0300000000000000 07 62696c6c696e67
         0000 0300 742f31",
        "session: 3, inbox: Some(\"billing\")",
    );
    let welcome = Welcome {
        version: 1,
        accepted: 1,
        features: 3,
        broker: [0xbb; 16],
        epoch: 5,
        wall_ms: 0x0190_0000_0000,
        payload_bytes_max: 16 << 20,
        heartbeat_ms: 15_000,
        lease_ms: 10_000,
        agent: "b".to_owned(),
    };
    check(
        false,
        |out| out.welcome(&welcome),
        "34000000 02 00 0100 01 03000000 bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 05000000 0000000090010000 00000001 983a0000
         10270000 0100 62",
        "epoch: 5",
    );
    check(
        false,
        |out| out.refusal(&Refusal::new(Code::Unimplemented, "no")),
        "0b000000 03 00 0c 0100 0100 0200 6e6f",
        "code: Unimplemented, version_min: 1",
    );
}

#[test]
fn frames_of_both_sides_keep_their_bytes() {
    check(true, |out| out.ping(1), "0a000000 05 00 0100000000000000", "Ping(1)");
    check(true, |out| out.pong(1), "0a000000 06 00 0100000000000000", "Pong(1)");
    check(
        true,
        |out| out.goodbye(Code::Unavailable, true, "bye"),
        "08000000 04 01 0e 0300 627965",
        "Goodbye { code: Unavailable, last: true, text: \"bye\" }",
    );
}

#[test]
fn frames_of_callers_keep_their_bytes() {
    check(
        true,
        |out| out.submit(9, 2, &submission(None, Start::Now)),
        "2d000000 11 01 0900000000000000 c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1 02000000 8813000000000000 02 02000000 3430",
        "tag: 9",
    );
    let keys = Keys { idempotency: Some(Key::new("k").unwrap()), trace: Some("00-t".into()), ..Keys::default() };
    check(
        true,
        |out| out.submit(9, 2, &submission(Some(Box::new(keys)), Start::In(256))),
        "3d000000 11 19 0900000000000000 c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1 02000000 8813000000000000 0001000000000000
         01 6b 0400 30302d74 02 02000000 3430",
        "start: In(256), keys: Some(Keys { idempotency: Some(Key(\"k\")), trace: Some(\"00-t\"),",
    );
    let keys = Keys {
        ordering: Some(Key::new("o").unwrap()),
        concurrency: Some(Key::new("c").unwrap()),
        parent: Some(ID),
        group: Some(ID),
        ..Keys::default()
    };
    check(
        true,
        |out| out.submit(9, 2, &submission(Some(Box::new(keys)), Start::Now)),
        "55000000 11 49 0900000000000000 c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1 02000000 8813000000000000
         00 0000 0f c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1 01 6f 01 63 c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1 02 02000000 3430",
        "ordering: Some(Key(\"o\")), concurrency: Some(Key(\"c\")), parent: Some(",
    );
    check(
        true,
        |out| {
            out.attach(1, ID);
            out.attach(2, ID);
        },
        "32000000 12 00 0100000000000000 c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1 0200000000000000
         c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1",
        "[(1, c1c1c1c1-c1c1-c1c1-c1c1-c1c1c1c1c1c1), (2, ",
    );
    let entry = "12000000 13 00 c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1";
    check(true, |out| out.acknowledge(ID), entry, "[c1c1c1c1-");
    check(true, |out| out.cancel(ID), &entry.replace(" 13 ", " 14 "), "[c1c1c1c1-");
}

#[test]
fn frames_to_callers_keep_their_bytes() {
    check(
        true,
        |out| out.event(&Event::Accepted { tag: 9, id: ID, duplicate: true, wait_ms: Some(258) }),
        "1f000000 20 00 0900000000000000 c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1 01 02010000",
        "tag: 9, id: c1c1c1c1-c1c1-c1c1-c1c1-c1c1c1c1c1c1, duplicate: true, wait_ms: Some(258)",
    );
    let failure = Failure::new(Code::ResourceExhausted, "full").retry_after_ms(2000).may_have_run();
    check(
        true,
        |out| out.event(&Event::Refused { tag: 9, failure: failure.clone() }),
        "1b000000 21 00 0900000000000000 08 03 d0070000 0400 66756c6c 00 00000000",
        "retry_after_ms: Some(2000), may_have_run: true",
    );
    let outcome = |state, outcome| Event::Outcome { tag: 9, id: ID, state, attempts: 2, outcome };
    check(
        true,
        |out| out.event(&outcome(State::Succeeded, Outcome::Reply(Payload::json("1")))),
        "23000000 22 00 0900000000000000 c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1 03 0200 02 01000000 31",
        "state: Succeeded, attempts: 2, outcome: Reply(",
    );
    let failure = Failure::new(Code::OutOfRange, "n").details(Payload::raw("d"));
    check(
        true,
        |out| out.event(&outcome(State::Failed, Outcome::Failure(failure))),
        "2c000000 22 01 0900000000000000 c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1 04 0200 0b 00 00000000 0100 6e
         03 01000000 64",
        "details: Some(",
    );
    let answers = [
        (CancelAnswer::NeverRan, "15000000 23 00 c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1 00 00 00", "NeverRan"),
        (
            CancelAnswer::Stopping { worker: Name::from_static("w") },
            "16000000 23 00 c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1 01 00 01 77",
            "Stopping",
        ),
        (
            CancelAnswer::AlreadySettled(State::Dead),
            "15000000 23 00 c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1 02 07 00",
            "AlreadySettled(Dead)",
        ),
        (CancelAnswer::Children, "15000000 23 00 c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1 06 00 00", "Children"),
        (CancelAnswer::NotFound, "15000000 23 00 c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1 03 00 00", "NotFound"),
        (CancelAnswer::NotReached, "15000000 23 00 c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1 05 00 00", "NotReached"),
    ];
    for (answer, expected, frame) in answers {
        check(true, |out| out.event(&Event::CancelAnswered { id: ID, answer }), expected, frame);
    }
}

#[test]
fn frames_of_events_keep_their_bytes() {
    let watch = Watch { tag: 7, pattern: Pattern::new("a.>").expect("a pattern"), after: 9 };
    check(
        true,
        |out| out.watch(&watch),
        "16000000 19 00 0700000000000000 0900000000000000 03 612e3e",
        &format!("{watch:?}"),
    );
    let emission = |durable| Emission {
        number: 9,
        id: ID,
        topic: Topic::new("a.b").expect("a topic"),
        emitted_ms: 5,
        durable,
        payload: Payload::json("1"),
    };
    for (durable, last, flags) in [(true, false, "00"), (false, false, "01"), (true, true, "02")] {
        let event = Event::Emitted { tag: 7, emission: emission(durable), last };
        let expected = format!(
            "34000000 2a {flags} 0700000000000000 c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1 0900000000000000 0500000000000000 \
             03 612e62 02 01000000 31"
        );
        check(true, |out| out.event(&event), &expected, &format!("{event:?}"));
    }
    let event = Event::Watched { tag: 7, through: 9, failure: None };
    check(true, |out| out.event(&event), "12000000 2b 00 0700000000000000 0900000000000000", &format!("{event:?}"));
    let event = Event::Watched { tag: 7, through: 9, failure: Some(Failure::new(Code::DataLoss, "no")) };
    check(
        true,
        |out| out.event(&event),
        "17000000 2b 01 0700000000000000 0900000000000000 0f 0200 6e6f",
        &format!("{event:?}"),
    );
}

#[test]
fn frames_of_progress_keep_their_bytes() {
    let follow = "[(c1c1c1c1-c1c1-c1c1-c1c1-c1c1c1c1c1c1, 7, 9)]";
    check(
        true,
        |out| out.follow(ID, 7, 9),
        "22000000 18 00 c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1 0700000000000000 0900000000000000",
        follow,
    );
    check(true, |out| out.event(&Event::ProgressEnded { tag: 7 }), "0a000000 29 00 0700000000000000", "[7]");
    let payload = Payload::json("1");
    let progress = Progress { sequence: 9, attempt: 2, payload: payload.clone() };
    let event = Event::Progress { tag: 7, id: ID, progress };
    let expected = format!("{event:?}");
    check(
        true,
        |out| out.event(&event),
        "2a000000 28 00 0700000000000000 c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1 0900000000000000 0200 02 01000000 31",
        &expected,
    );
    let lease = LeaseTag { slot: 3, token: 4 };
    let report = ProgressReport { lease, call: ID, payload };
    let expected = format!("{report:?}");
    check(
        true,
        |out| out.progress(&report),
        "24000000 38 00 03000000 0400000000000000 c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1 02 01000000 31",
        &expected,
    );
}

#[test]
fn frames_of_workers_keep_their_bytes() {
    let report = |settlement| Report { lease: LEASE, call: ID, settlement };
    let fields = "07000000 0807060504030201 c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1";
    let cases = [
        (Settlement::Succeed(Payload::json("1")), "25000000 32 00 00", "02 01000000 31", "Succeed"),
        (
            Settlement::Fail(Failure::new(Code::NotFound, "x")),
            "2d000000 32 00 01",
            "05 00 00000000 0100 78 00 00000000",
            "Fail",
        ),
        (
            Settlement::Retry(Failure::new(Code::NotFound, "x")),
            "2d000000 32 00 02",
            "05 00 00000000 0100 78 00 00000000",
            "Retry",
        ),
        (
            Settlement::Bury(Failure::new(Code::NotFound, "x")),
            "2d000000 32 00 03",
            "05 00 00000000 0100 78 00 00000000",
            "Bury",
        ),
        (Settlement::Release, "24000000 32 00 04", "00 00000000", "Release"),
        (Settlement::Stop, "24000000 32 00 05", "00 00000000", "Stop"),
    ];
    for (settlement, before, after, frame) in cases {
        check(true, |out| out.report(&report(settlement)), &format!("{before} {fields} {after}"), frame);
    }
    check(true, |out| out.credit(-2), "06000000 31 00 feffffff", "Credit(-2)");
    check(true, |out| out.drain(), "02000000 34 00", "Drain");
    check(true, |out| out.extend(LEASE), "0e000000 33 00 07000000 0807060504030201", "[(7, 72623859790382856)]");
}

#[test]
fn frames_to_workers_keep_their_bytes() {
    let lease = Lease {
        lease: LEASE,
        call: ID,
        procedure: 1,
        attempt: 2,
        attempts_max: 3,
        lease_ms: 10_000,
        attempt_timeout_ms: 0,
        deadline_ms: 5_000,
        payload: Payload::json("40"),
        trace: Some("00-t".into()),
    };
    check(
        true,
        |out| out.event(&Event::Lease(lease)),
        "43000000 41 01 07000000 0807060504030201 c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1 01000000 0200 0300 10270000 00000000
         8813000000000000 0400 30302d74 02 02000000 3430",
        "attempt: 2, attempts_max: 3, lease_ms: 10000",
    );
    let tags = [
        (Event::CancelAsked { lease: LEASE }, "42"),
        (Event::Settled { lease: LEASE }, "43"),
        (Event::Stale { lease: LEASE }, "44"),
    ];
    for (event, kind) in tags {
        check(true, |out| out.event(&event), &format!("0e000000 {kind} 00 07000000 0807060504030201"), "[(7, ");
    }
    check(true, |out| out.event(&Event::DrainAsked), "02000000 45 00", "DrainAsked");
    check(
        true,
        |out| out.event(&Event::Up { epoch: Epoch(5), kept: vec![LEASE] }),
        "17000000 40 00 05000000 03 0c000000 07000000 0807060504030201",
        "epoch: Epoch(5), kept: [LeaseTag { slot: 7",
    );
}

/// MessagePack may be written in several ways; ours is held so that a change is noticed, and others' are read too.
#[test]
fn control_frames_keep_their_bytes() {
    let mut route = Route::new(Name::from_static("math.fib"));
    route.tenant = Some(Name::from_static("acme"));
    let laid = bytes(|out| out.route(2, &route));
    assert_eq!(laid.get(..15).map(hex).unwrap(), "ad00000010000200000001a2000000");
    let text = String::from_utf8_lossy(&laid);
    assert!(text.contains("procedure\u{fffd}math.fib\u{fffd}tenant\u{fffd}acme\u{fffd}priority\u{4}"), "{text}");
    let mut inbound = Inbound::new();
    inbound.greeted(1 << 20);
    let Ok(Some(Arrival::Frame(Frame::Route { index: 2, route: read }))) = inbound.next(&mut laid.as_slice()) else {
        panic!("not a route")
    };
    assert_eq!(*read, route);
    let offer = Offer {
        incarnation: IncarnationId([1; 16]),
        name: Name::from_static("w"),
        procedures: vec![OfferedProcedure { name: Name::from_static("math.fib"), idempotent: true, schema: None }],
        slots: 4,
        labels: Vec::new(),
        held: vec![HeldLease { call: ID, lease: LEASE }],
    };
    let laid = bytes(|out| out.offer(&offer));
    let Ok(Some(Arrival::Frame(Frame::Offer(read)))) = inbound.next(&mut laid.as_slice()) else {
        panic!("not an offer")
    };
    assert_eq!(*read, offer);
    check(
        true,
        |out| out.query(4, &Query::Status(ID)),
        "25000000 50 00 04000000 01 1a000000 81 a6 737461747573 c410 c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1",
        "Query { ticket: 4, query: Status(",
    );
    check(
        true,
        |out| out.answer(4, &Answer::Asked(3)),
        "13000000 51 00 04000000 01 08000000 81 a5 61736b6564 03",
        "Answer { ticket: 4, answer: Asked(3) }",
    );
}

/// What a client in another language may leave out takes its default.
#[test]
fn control_maps_may_leave_out_what_has_a_default() {
    let control = |kind: Kind, fields: &[u8], body: &[u8]| {
        let length = u32::try_from(body.len()).unwrap();
        let body = [fields, &[1], &length.to_le_bytes(), body].concat();
        let length = u32::try_from(body.len() + 2).unwrap();
        [&length.to_le_bytes()[..], &[kind as u8, 0], &body].concat()
    };
    let mut inbound = Inbound::new();
    inbound.greeted(1);
    let laid = control(Kind::Route, &[0; 4], b"\x82\xa9procedure\xa3a.b\xa6future\x92\x01\x02");
    let read = inbound.next(&mut laid.as_slice());
    let Ok(Some(Arrival::Frame(Frame::Route { route, .. }))) = read else { panic!("{read:?}") };
    assert_eq!(*route, Route::new(Name::from_static("a.b")));
    let incarnation = [&[0xdc, 0, 16][..], &[7; 16]].concat();
    let body =
        [&b"\x84\xabincarnation"[..], &incarnation, b"\xa4name\xa1w\xaaprocedures\x91\x81\xa4name\xa3a.b\xa5slots\x04"];
    let laid = control(Kind::Offer, &[], &body.concat());
    let read = inbound.next(&mut laid.as_slice());
    let Ok(Some(Arrival::Frame(Frame::Offer(offer)))) = read else { panic!("{read:?}") };
    assert_eq!((offer.slots, offer.held.len(), offer.procedures[0].idempotent), (4, 0, false));
}

#[test]
fn every_kind_has_its_own_number() {
    for number in 0..=u8::MAX {
        let known = Kind::ALL.into_iter().find(|kind| *kind as u8 == number);
        assert_eq!(Kind::from_number(number), known);
    }
}
