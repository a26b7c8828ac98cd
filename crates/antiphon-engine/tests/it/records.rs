//! The bytes of records, fixed for ever, and what happens to other bytes.

use antiphon_engine::InboxKey;
use antiphon_engine::{
    Emitted, Kind, Limits, Now, Progress, Record, Replay, Scheduled, Submitted, Subscribed, Ticked, Ties,
};
use antiphon_protocol::{
    CallId, Callback, CallbackOn, CallerId, Epoch, IncarnationId, Key, LeaseTag, Misfire, Name, Overlap, Pattern,
    Recurrence, Route,
};
use proptest::prelude::*;
use std::borrow::Cow;
use std::sync::Arc;

fn head(record: &Record<'_>) -> Vec<u8> {
    let mut head = Vec::new();
    record.encode(&mut head);
    head
}

fn submitted() -> Submitted {
    Submitted {
        id: CallId::from_bytes([9; 16]),
        route: Arc::new(Route::new(Name::from_static("p.q"))),
        submitted_ms: 1,
        deadline_ms: 2,
        due_ms: 3,
        inbox: Some((InboxKey::Anonymous(CallerId([8; 16])), 7)),
        bytes: 100,
        key: None,
        revives: None,
        progress: Progress { started: 1, failed: 0, lost: 0, suspect: false },
        history: Vec::new(),
        ties: None,
    }
}

#[test]
fn a_submitted_record_has_these_bytes() {
    let record = Record::Submitted(Cow::Owned(submitted()));
    let mut expected = vec![0, 3, 0];
    expected.extend_from_slice(b"p.q");
    expected.extend_from_slice(&[4, 3, 0]);
    expected.extend_from_slice(&1_u64.to_le_bytes());
    expected.extend_from_slice(&2_u64.to_le_bytes());
    expected.extend_from_slice(&3_u64.to_le_bytes());
    expected.extend_from_slice(&100_u32.to_le_bytes());
    expected.extend_from_slice(&[1, 0, 0, 0, 0, 0]);
    expected.push(1);
    expected.extend_from_slice(&7_u64.to_le_bytes());
    expected.extend_from_slice(&[8; 16]);
    assert_eq!(head(&record), expected);
    assert_eq!((record.kind() as u8, record.key()), (2, [9; 16]));
}

#[test]
fn what_a_call_hangs_together_with_ends_its_record() {
    let mut tied = submitted();
    let plain = head(&Record::Submitted(Cow::Owned(tied.clone())));
    tied.ties = Some(Box::new(Ties {
        ordering: Some((Key::new("o").unwrap(), 258)),
        concurrency: Some(Key::new("c").unwrap()),
        parent: Some(CallId::from_bytes([6; 16])),
        ..Ties::default()
    }));
    Arc::make_mut(&mut tied.route).lane = Some(Name::from_static("l"));
    Arc::make_mut(&mut tied.route).concurrency = 3;
    Arc::make_mut(&mut tied.route).labels = vec![Name::from_static("gpu")];
    Arc::make_mut(&mut tied.route).slots = 4;
    let mut expected = vec![128, 8 | 16 | 32 | 64, 3, 0];
    expected.extend_from_slice(b"p.q");
    expected.extend_from_slice(&[4, 3, 0]);
    expected.extend_from_slice(b"\x01\0l\x03\0\0\0\x01\x03\0gpu\x04");
    let rest = &plain[9..];
    let (fixed, tail) = rest.split_at(rest.len() - 25);
    expected.extend_from_slice(fixed);
    expected.push(tail[0] | 32);
    expected.extend_from_slice(&tail[1..]);
    expected.extend_from_slice(&[32 | 64 | 128, 2, 1, 0, 0, 0, 0, 0, 0]);
    expected.extend_from_slice(b"\x01\0o\x01\0c");
    expected.extend_from_slice(&[6; 16]);
    let record = Record::Submitted(Cow::Owned(tied));
    assert_eq!(head(&record), expected);
    assert_eq!(Record::decode(2, [9; 16], &expected), Ok(record));
}

#[test]
fn a_tied_record_has_these_bytes() {
    let mut record = submitted();
    let plain = head(&Record::Submitted(Cow::Owned(record.clone())));
    let callback = Callback { on: CallbackOn::Failure, route: Route::new(Name::from_static("r")) };
    Arc::make_mut(&mut record.route).callbacks = vec![callback.clone()];
    record.ties = Some(Box::new(Ties {
        cause: Some(CallId::from_bytes([4; 16])),
        callbacks: vec![callback.clone()],
        made: true,
        groups: vec![(CallId::from_bytes([5; 16]), 6)],
        sealed: true,
        ..Ties::default()
    }));
    let nested = [2, 0, 1, 0, b'r', 4, 3, 0];
    let mut expected = vec![128, 1];
    expected.extend_from_slice(&plain[1..9]);
    expected.push(1);
    expected.extend_from_slice(&nested);
    let tail = plain.len() - 25;
    expected.extend_from_slice(&plain[9..tail]);
    expected.push(1 | 32);
    expected.extend_from_slice(&plain[tail + 1..]);
    expected.push(31);
    expected.extend_from_slice(&[4; 16]);
    expected.push(1);
    expected.extend_from_slice(&nested);
    expected.push(1);
    expected.extend_from_slice(&[5; 16]);
    expected.extend_from_slice(&[6, 0, 0, 0]);
    assert_eq!(head(&Record::Submitted(Cow::Owned(record))), expected);
    let added = Record::CallbackAdded { id: CallId::from_bytes([9; 16]), callback: Cow::Owned(callback) };
    let mut expected = vec![1];
    expected.extend_from_slice(&nested);
    assert_eq!(head(&added), expected);
    let joined = Record::Joined { id: CallId::from_bytes([9; 16]), group: (CallId::from_bytes([5; 16]), 6) };
    let mut expected = vec![5; 16];
    expected.extend_from_slice(&[6, 0, 0, 0]);
    assert_eq!(head(&joined), expected);
    assert_eq!(head(&Record::Sealed { id: CallId::from_bytes([5; 16]) }), []);
}

#[test]
fn a_leased_record_has_these_bytes() {
    let record = Record::Leased {
        id: CallId::from_bytes([9; 16]),
        lease: LeaseTag { slot: 5, token: 6 },
        incarnation: IncarnationId([1; 16]),
        worker: Name::from_static("w"),
        attempt: 2,
        wall_ms: 3,
    };
    let mut expected = Vec::new();
    expected.extend_from_slice(&5_u32.to_le_bytes());
    expected.extend_from_slice(&6_u64.to_le_bytes());
    expected.extend_from_slice(&[1; 16]);
    expected.extend_from_slice(&2_u16.to_le_bytes());
    expected.extend_from_slice(&3_u64.to_le_bytes());
    expected.extend_from_slice(&[1, 0, b'w']);
    assert_eq!(head(&record), expected);
}

#[test]
fn kinds_keep_their_numbers() {
    let record = Record::Started { epoch: Epoch(3), wall_ms: 4 };
    assert_eq!(head(&record), [3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
    let kinds = [
        Kind::Started,
        Kind::Submitted,
        Kind::Leased,
        Kind::Returned,
        Kind::Settled,
        Kind::Acknowledged,
        Kind::InboxOpened,
        Kind::Forgotten,
        Kind::InboxRemoved,
        Kind::Horizon,
        Kind::Entombed,
        Kind::CallbackAdded,
        Kind::Joined,
        Kind::Sealed,
        Kind::Configured,
        Kind::Emitted,
        Kind::Distributed,
        Kind::Subscribed,
        Kind::Unsubscribed,
        Kind::Scheduled,
        Kind::Ticked,
        Kind::LaneJoined,
        Kind::Stopped,
    ];
    let numbers: Vec<u8> = (1..=15).chain(17..=22).chain(24..=25).collect();
    assert_eq!(kinds.map(|kind| kind as u8).as_slice(), numbers);
    let document = include_str!("../../../../docs/journal-format.md").split("## Records of the broker").nth(1);
    let rows = document.expect("the records are documented").lines().filter_map(|line| line.strip_prefix("| "));
    let documented: Vec<u8> = rows
        .flat_map(|row| row.split('|').next().unwrap_or_default().split(','))
        .filter_map(|number| number.trim().parse().ok())
        .collect();
    let mut sorted = documented.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, numbers, "docs/journal-format.md has a row for each");
}

/// The bytes of a route that says nothing but its procedure, as they stand in other records.
fn plain_route(procedure: &'static str) -> Vec<u8> {
    let subscribed = Subscribed {
        id: CallId::from_bytes([9; 16]),
        number: 0,
        ended: 0,
        name: Name::from_static("n"),
        pattern: Pattern::new("a").expect("a pattern"),
        route: Route::new(Name::from_static(procedure)),
    };
    // Two numbers, a name and a pattern of a letter each.
    head(&Record::Subscribed(Cow::Owned(subscribed))).split_off(8 + 8 + 3 + 3)
}

#[test]
fn the_records_of_events_have_these_bytes() {
    let id = CallId::from_bytes([9; 16]);
    let emitted = Emitted { id, topic: Name::from_static("a.b"), number: 1, cursor: 2, emitted_ms: 3, bytes: 4 };
    let record = Record::Emitted(Cow::Owned(emitted));
    let numbers: Vec<u8> = [1_u64, 2, 3].iter().flat_map(|number| number.to_le_bytes()).collect();
    let expected = [&numbers[..], &[4, 0, 0, 0], &[3, 0], b"a.b"].concat();
    assert_eq!((head(&record), record.kind() as u8, record.key()), (expected, 17, [9; 16]));
    let record = Record::Distributed { id, cursor: 7 };
    assert_eq!((head(&record), record.kind() as u8, record.key()), (7_u64.to_le_bytes().to_vec(), 18, [9; 16]));
    let subscribed = Subscribed {
        id,
        number: 5,
        ended: 6,
        name: Name::from_static("sub"),
        pattern: Pattern::new("a.>").expect("a pattern"),
        route: Route::new(Name::from_static("p.q")),
    };
    let record = Record::Subscribed(Cow::Owned(subscribed));
    let numbers: Vec<u8> = [5_u64, 6].iter().flat_map(|number| number.to_le_bytes()).collect();
    // The route as in a submitted call: flags, its procedure, its class, its attempts.
    let expected = [&numbers[..], &[3, 0], b"sub", &[3, 0], b"a.>", &[0, 3, 0], b"p.q", &[4, 3, 0]].concat();
    assert_eq!((head(&record), record.kind() as u8, record.key()), (expected, 19, [9; 16]));
    let record = Record::Unsubscribed { id, at: 8 };
    assert_eq!((head(&record), record.kind() as u8, record.key()), (8_u64.to_le_bytes().to_vec(), 20, [9; 16]));
}

#[test]
fn the_records_of_schedules_have_these_bytes() {
    let id = CallId::from_bytes([9; 16]);
    let ticked = Ticked { cursor_ms: 1, last_ms: 2, queued_ms: 3, paused: true };
    let progress: Vec<u8> = [1_u64, 2, 3].iter().flat_map(|number| number.to_le_bytes()).chain([1]).collect();
    let record = Record::Ticked { id, ticked };
    assert_eq!((head(&record), record.kind() as u8, record.key()), (progress.clone(), 22, [9; 16]));
    let every = [&[1][..], &60_000_u64.to_le_bytes()].concat();
    let cron = [&[2][..], &[9, 0], b"0 9 * * *", &[3, 0], b"UTC"].concat();
    let cases = [
        (Recurrence::Every(60_000), every, Misfire::Once, 0_u16),
        (Recurrence::Cron { expression: "0 9 * * *".into(), zone: "UTC".into() }, cron, Misfire::Skip, u16::MAX),
    ];
    for (recurrence, written, misfire, number) in cases {
        let scheduled = Scheduled {
            id,
            name: Name::from_static("s"),
            recurrence,
            overlap: Overlap::Queue,
            misfire,
            arguments: (4, 5),
            added_ms: 6,
            ticked,
            route: Route::new(Name::from_static("p.q")),
        };
        let record = Record::Scheduled(Cow::Owned(scheduled));
        let rest = [&[3][..], &number.to_le_bytes(), &4_u32.to_le_bytes(), &5_u64.to_le_bytes()].concat();
        let added = 6_u64.to_le_bytes();
        let expected = [&[1, 0][..], b"s", &written, &rest, &added, &progress, &plain_route("p.q")].concat();
        assert_eq!((head(&record), record.kind() as u8, record.key()), (expected, 21, [9; 16]));
    }
}

#[test]
fn ties_that_tie_nothing_are_none() {
    let mut bytes = head(&Record::Submitted(Cow::Owned(submitted())));
    let tail = bytes.len() - 25;
    bytes[tail] |= 32;
    bytes.push(0);
    assert_eq!(Record::decode(2, [9; 16], &bytes), Ok(Record::Submitted(Cow::Owned(submitted()))));
}

proptest! {
    #[test]
    fn any_bytes_are_a_record_or_an_error_and_never_a_panic(kind: u8, key: [u8; 16], head in prop::collection::vec(any::<u8>(), 0..200)) {
        // What was decoded says the same once more.
        if let Ok(record) = Record::decode(kind, key, &head) {
            let mut again = Vec::new();
            record.encode(&mut again);
            prop_assert_eq!(Record::decode(kind, key, &again), Ok(record));
        }
    }

    #[test]
    fn a_record_cut_short_is_an_error(cut in 0_usize..60) {
        let whole = head(&Record::Submitted(Cow::Owned(submitted())));
        prop_assume!(cut < whole.len());
        prop_assert!(Record::decode(2, [9; 16], &whole[..cut]).is_err());
    }
}

/// Routes that differ in length, in one byte, and in what follows the flags.
fn routes() -> Vec<Arc<Route>> {
    let plain = Route::new(Name::from_static("p.q"));
    let longer = Route::new(Name::from_static("p.qr"));
    let tenant = Route { tenant: Some(Name::from_static("t")), ..plain.clone() };
    let nested = Callback { on: CallbackOn::Failure, route: plain.clone() };
    let calling = Route { callbacks: vec![nested], ..plain.clone() };
    [plain, longer, tenant, calling].into_iter().map(Arc::new).collect()
}

proptest! {
    #[test]
    fn records_read_one_after_the_other_are_what_they_are_alone(
        order in proptest::collection::vec((0_usize..4, any::<u32>(), any::<bool>()), 1..20)
    ) {
        let mut replay = Replay::new(Limits::new(true), 1, Now::default());
        for (at, bytes, torn) in order {
            let route = Arc::clone(routes().get(at).expect("there are four"));
            let written = Record::Submitted(Cow::Owned(Submitted { route, bytes, ..submitted() }));
            let mut encoded = head(&written);
            if torn {
                encoded.truncate(bytes as usize % encoded.len());
            }
            let read = replay.decode(2, [9; 16], &encoded);
            prop_assert_eq!(&read, &Record::decode(2, [9; 16], &encoded));
            prop_assert!(torn || read == Ok(written));
        }
    }
}
