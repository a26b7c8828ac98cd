//! What bytes of a stranger may not do: panic, take memory, pass a limit.

use crate::golden::bytes;
use antiphon_broker::{Event, Lease, Submission, Wants};
use antiphon_protocol::{Call, CallId, LeaseTag, Name, Payload, Route};
use antiphon_wire::{Arrival, Frame, FrameError, Inbound, Kind, Outbound, Stranger, limits};
use proptest::prelude::*;
use std::sync::Arc;

fn greeted(payload_bytes_max: u32) -> Inbound {
    let mut inbound = Inbound::new();
    inbound.greeted(payload_bytes_max);
    inbound
}

fn submission(payload: Vec<u8>) -> Submission {
    let route = Arc::new(Route::new(Name::from_static("a.b")));
    let call = Call::new(CallId::from_bytes([1; 16]), route, Payload::raw(payload));
    Submission { call, tag: 1, wants: Wants::Outcome, resent: false }
}

/// Everything that is to be sent, as a peer would read it off the socket.
fn drained(outbound: &mut Outbound) -> Vec<u8> {
    let mut all = Vec::new();
    while !outbound.is_empty() {
        let unsent = outbound.unsent().to_vec();
        let count = unsent.len().min(10_000);
        all.extend_from_slice(&unsent[..count]);
        outbound.advance(count);
    }
    all
}

#[test]
fn a_length_above_the_limit_is_refused_before_its_bytes_come() {
    let announced = |length: u32| [&length.to_le_bytes()[..], &[1, 0]].concat();
    for (mut inbound, max) in [(Inbound::new(), 4 << 10), (greeted(1 << 20), limits::FRAME_BYTES_MAX)] {
        let max = u32::try_from(max - 4).unwrap();
        for bytes in [max + 1, 1 << 30, u32::MAX] {
            let refused = inbound.next(&mut announced(bytes).as_slice()).map(|_| ());
            assert_eq!(refused, Err(FrameError::TooLong { bytes, max }));
        }
        assert!(matches!(inbound.next(&mut announced(max).as_slice()), Ok(None)));
    }
}

#[test]
fn nothing_but_the_handshake_is_read_before_the_handshake() {
    for kind in Kind::ALL {
        let frame = [2, 0, 0, 0, kind as u8, 0];
        let read = Inbound::new().next(&mut frame.as_slice()).map(|_| ());
        let allowed = matches!(kind, Kind::Hello | Kind::Welcome | Kind::Refusal | Kind::Goodbye);
        assert_eq!(read == Err(FrameError::OutOfPlace(kind)), !allowed, "{kind:?}");
    }
    let hello = [2, 0, 0, 0, Kind::Hello as u8, 0];
    let second = greeted(1).next(&mut hello.as_slice()).map(|_| ());
    assert_eq!(second, Err(FrameError::OutOfPlace(Kind::Hello)));
}

#[test]
fn a_large_payload_lets_small_frames_pass_and_arrives_whole() {
    let payload: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut outbound = Outbound::new();
    outbound.submit(1, 0, &submission(payload.clone()));
    outbound.submit(1, 0, &submission(payload.clone()));
    let first = outbound.unsent().to_vec();
    assert!(first.len() < 300_000, "a small frame would wait behind {} bytes", first.len());
    outbound.ping(7);
    let all = drained(&mut outbound);
    let (mut inbound, mut input, mut seen) = (greeted(16 << 20), all.as_slice(), Vec::new());
    while let Some(arrival) = inbound.next(&mut input).expect("all frames are valid") {
        match arrival {
            Arrival::Frame(Frame::Ping(7)) => seen.push("ping"),
            Arrival::Frame(Frame::Submit(submitted)) => {
                assert_eq!(submitted.payload.bytes, payload);
                seen.push("submit");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, ["ping", "submit", "submit"]);
}

#[test]
fn the_sum_of_the_chunks_is_held_to_the_payload_limit_and_the_connection_goes_on() {
    let mut outbound = Outbound::new();
    outbound.submit(1, 0, &submission(vec![0; 1_000_001]));
    outbound.submit(2, 0, &submission(vec![0; 1_000_000]));
    let all = drained(&mut outbound);
    let (mut inbound, mut input) = (greeted(1_000_000), all.as_slice());
    let first = inbound.next(&mut input);
    assert!(matches!(first, Ok(Some(Arrival::Oversized(Frame::Submit(_), 1_000_001)))), "{first:?}");
    assert!(all.len() - input.len() < 200, "refused at once, not after {} bytes", all.len() - input.len());
    let second = inbound.next(&mut input);
    assert!(matches!(second, Ok(Some(Arrival::Frame(Frame::Submit(submitted)))) if submitted.tag == 2));
    assert!(input.is_empty());
}

#[test]
fn a_limit_below_an_inline_payload_holds_too() {
    let laid = bytes(|out| out.submit(1, 0, &submission(vec![0; 11])));
    let read = greeted(10).next(&mut laid.as_slice()).map(|arrival| matches!(arrival, Some(Arrival::Oversized(_, 11))));
    assert_eq!(read, Ok(true));
}

#[test]
fn chunks_out_of_place_end_the_connection() {
    let chunk = |bytes: &[u8], flags: u8| {
        let length = u32::try_from(bytes.len() + 2).unwrap();
        [&length.to_le_bytes()[..], &[Kind::Chunk as u8, flags], bytes].concat()
    };
    let head = |payload: usize| {
        let mut outbound = Outbound::new();
        outbound.submit(1, 0, &submission(vec![0; payload]));
        let bytes = outbound.unsent();
        let length = u32::from_le_bytes(*bytes.first_chunk().unwrap()) as usize + 4;
        bytes[..length].to_vec()
    };
    let cases = [
        ("without a head", chunk(b"x", 0)),
        ("empty", [head(70_000), chunk(b"", 0)].concat()),
        ("two heads", [head(70_000), head(70_000)].concat()),
        ("too many bytes", [head(70_000), chunk(&[0; 65_536], 0), chunk(&[0; 4_465], 0)].concat()),
    ];
    for (name, bytes) in cases {
        let (mut inbound, mut input) = (greeted(1 << 20), bytes.as_slice());
        let mut read = inbound.next(&mut input).map(|arrival| arrival.is_some());
        while read == Ok(true) {
            read = inbound.next(&mut input).map(|arrival| arrival.is_some());
        }
        assert_eq!(read, Err(FrameError::Chunk), "{name}");
    }
    let abandoned = [head(70_000), chunk(b"", 1), bytes(|out| out.ping(1))].concat();
    let read = greeted(1 << 20).next(&mut abandoned.as_slice()).map(|arrival| format!("{arrival:?}"));
    assert_eq!(read.unwrap(), "Some(Frame(Ping(1)))");
}

#[test]
fn deep_messagepack_is_refused() {
    // An unknown field whose value nests 100,000 arrays.
    let body = [&[0x81, 0xa1, b'x'][..], &[0x91; 60_000], &[0xc0]].concat();
    let length = u32::try_from(body.len()).unwrap();
    let frame = [&(length + 7).to_le_bytes()[..], &[Kind::Offer as u8, 0, 1], &length.to_le_bytes(), &body].concat();
    let read = greeted(1).next(&mut frame.as_slice()).map(|_| ());
    assert_eq!(read, Err(FrameError::Field("MessagePack body")));
}

#[test]
fn more_entries_than_a_batch_holds_are_refused() {
    let frame = |count: usize| {
        let body = vec![0_u8; count * 16];
        let length = u32::try_from(body.len() + 2).unwrap();
        [&length.to_le_bytes()[..], &[Kind::Cancel as u8, 0], &body].concat()
    };
    assert!(greeted(1).next(&mut frame(limits::BATCH_MAX).as_slice()).is_ok());
    assert!(greeted(1).next(&mut frame(limits::BATCH_MAX + 1).as_slice()).is_err());
    // And none are laid down: the 1,025th begins a frame of its own.
    let laid = bytes(|out| (0..1025).for_each(|_| out.cancel(CallId::from_bytes([0; 16]))));
    let (mut inbound, mut input, mut frames) = (greeted(1), laid.as_slice(), 0);
    while inbound.next(&mut input).expect("valid").is_some() {
        frames += 1;
    }
    assert_eq!(frames, 2);
}

#[test]
fn strangers_are_recognised_by_their_first_bytes() {
    assert_eq!(Stranger::recognise(b"GET / HTTP/1.1\r\n"), Some(Stranger::Http));
    assert_eq!(Stranger::recognise(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]), Some(Stranger::Tls));
    assert_eq!(Stranger::recognise(&[0x33, 0, 0, 0, 1, 0]), None);
    let farewell = std::str::from_utf8(Stranger::Http.farewell()).unwrap();
    let (head, body) = farewell.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
}

fn lease(payload: Vec<u8>) -> Event {
    Event::Lease(Lease {
        lease: LeaseTag { slot: 1, token: 2 },
        call: CallId::from_bytes([3; 16]),
        procedure: 0,
        attempt: 1,
        attempts_max: 3,
        lease_ms: 10_000,
        attempt_timeout_ms: 0,
        deadline_ms: 0,
        payload: Payload::raw(payload),
        trace: None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(kind in 0_u8..0x60, flags in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let length = u32::try_from(body.len() + 2).unwrap();
        let frame = [&length.to_le_bytes()[..], &[kind, flags], &body].concat();
        for mut inbound in [Inbound::new(), greeted(100)] {
            let mut input = frame.as_slice();
            while let Ok(Some(_)) = inbound.next(&mut input) {}
        }
    }

    #[test]
    fn damaged_frames_do_not_panic(at in 0_usize..100, to in any::<u8>(), cut in 0_usize..100) {
        let mut laid = bytes(|out| {
            out.submit(1, 0, &submission(vec![1; 20]));
            out.event(&lease(vec![1; 20]));
            out.route(0, &Route::new(Name::from_static("a.b")));
        });
        if let Some(byte) = laid.get_mut(at) { *byte = to; }
        let (mut inbound, mut input) = (greeted(100), &laid[..laid.len() - cut.min(laid.len())]);
        while let Ok(Some(_)) = inbound.next(&mut input) {}
    }

    #[test]
    fn frames_are_read_the_same_however_they_are_cut(sizes in proptest::collection::vec(1_usize..50_000, 1..30)) {
        let mut outbound = Outbound::new();
        for size in [0, 10, 65_536, 65_537, 200_000] { outbound.event(&lease(vec![5; size])); }
        let (all, mut inbound) = (drained(&mut outbound), greeted(1 << 20));
        let (mut kept, mut seen, mut sizes, mut at) = (Vec::new(), Vec::new(), sizes.into_iter().cycle(), 0);
        while at < all.len() {
            let end = (at + sizes.next().unwrap()).min(all.len());
            kept.extend_from_slice(&all[at..end]);
            at = end;
            let mut input = kept.as_slice();
            while let Some(arrival) = inbound.next(&mut input).unwrap() {
                let Arrival::Frame(Frame::Event(Event::Lease(lease))) = arrival else { panic!("not a lease") };
                seen.push(lease.payload.bytes.len());
            }
            let rest = input.to_vec();
            kept = rest;
        }
        prop_assert_eq!(seen, vec![0, 10, 65_536, 65_537, 200_000]);
    }
}
