//! Valid inputs, written by the code that writes them in earnest.

use crate::Random;
use crate::scribe::{Choices, broker_says, bytes, client_says};
use crate::session;
use antiphon_journal::Directory;
use antiphon_protocol::{Answer, Schema, SchemaParameter};
use antiphon_wire::{Outbound, Role, Welcome};
use serde::Serialize;
use std::collections::BTreeMap;

/// One of each kind of frame, and a few conversations.
pub(crate) fn frames() -> Vec<Vec<u8>> {
    let mut out = Outbound::new();
    out.hello(&Choices(&[]).hello(Role::Caller));
    let mut frames = vec![bytes(out)];
    let mut out = Outbound::new();
    out.welcome(&welcome());
    frames.push(bytes(out));
    let mut random = Random(1);
    let mut kinds = BTreeMap::new();
    for _ in 0..500 {
        let input: Vec<u8> = (0..40).map(|_| random.number() as u8 % 64).collect();
        for role in [Some(Role::Caller), Some(Role::Worker), Some(Role::Inspector), None] {
            let (mut choices, mut out) = (Choices(&input), Outbound::new());
            match role {
                Some(role) => client_says(role, &mut choices, &mut out),
                None => broker_says(&mut choices, &mut out),
            }
            let frame = bytes(out);
            if let Some(kind) = frame.get(4).copied() {
                kinds.entry(kind).or_insert(frame);
            }
        }
    }
    frames.extend(kinds.into_values());
    frames
}

/// Controls of each type, by the number that [`crate::control`] knows it by.
pub(crate) fn controls() -> Vec<Vec<u8>> {
    let mut random = Random(2);
    let mut all = vec![b"\x05service.procedure".to_vec()];
    for _ in 0..6 {
        let input: Vec<u8> = (0..40).map(|_| random.number() as u8 % 64).collect();
        let mut choices = Choices(&input);
        all.push(numbered(0, &choices.route()));
        all.push(numbered(1, &choices.offer()));
        all.push(numbered(2, &choices.query()));
    }
    for answer in [Answer::Purged, Answer::Asked(3), Answer::Calls(Vec::new()), Answer::Procedures(Vec::new())] {
        all.push(numbered(3, &answer));
    }
    let parameter = SchemaParameter { name: "n".to_owned(), optional: true, type_name: "u32".to_owned() };
    all.push(numbered(4, &Schema { parameters: vec![parameter], returns: "u64".to_owned() }));
    all
}

fn numbered(number: u8, control: &impl Serialize) -> Vec<u8> {
    let bytes = rmp_serde::to_vec_named(control).expect("plain data encodes");
    [&[number], bytes.as_slice()].concat()
}

/// The greeting of a broker that means well.
pub(crate) fn welcome() -> Welcome {
    Welcome {
        version: 1,
        accepted: 1,
        features: u32::MAX,
        broker: [0; 16],
        epoch: 1,
        wall_ms: 1_700_000_000_000,
        payload_bytes_max: 16 << 20,
        heartbeat_ms: 15_000,
        lease_ms: 10_000,
        agent: "fuzz".to_owned(),
    }
}

/// Up to four records of each kind, from the journal of a server that lived through some conversations.
pub(crate) fn records() -> Vec<Vec<u8>> {
    let directory = session::live_through(2_000);
    let storage = Directory::existing(directory.path()).expect("the server left a journal");
    let mut kinds: BTreeMap<u8, Vec<Vec<u8>>> = BTreeMap::new();
    let visit = &mut |entry: antiphon_journal::Recovered<'_>| {
        let of_kind = kinds.entry(entry.kind).or_default();
        let record = [&[entry.kind], entry.key.as_slice(), entry.head].concat();
        if of_kind.len() < 4 && !of_kind.contains(&record) {
            of_kind.push(record);
        }
    };
    antiphon_journal::dump(&storage, visit).expect("the journal is sound");
    kinds.into_values().flatten().collect()
}
