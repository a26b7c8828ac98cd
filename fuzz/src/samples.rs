//! Valid inputs, written by the code that writes them in earnest.

use crate::Random;
use crate::choices::{Choices, QUERIES};
use crate::scribe::{broker_says, bytes, client_says};
use crate::session;
use antiphon_journal::Directory;
use antiphon_protocol::{
    Answer, BrokerStatus, BulkAnswer, CallId, CancelAnswer, Cause, Change, Changed, ChildStatus, Code, Explanation,
    Fate, Group, GroupCounts, GroupKind, GroupStatus, Knowledge, Name, Schema, SchemaParameter, Setting, Settings,
    Standing, State,
};
use antiphon_wire::{Kind, Outbound, Refusal, Role, Welcome};
use serde::Serialize;
use std::collections::BTreeMap;

/// A chunk that gives up the payload before it.
const GIVEN_UP: [u8; 6] = [2, 0, 0, 0, Kind::Chunk as u8, 1];

/// One of each kind of frame, and a few conversations.
pub(crate) fn frames() -> Vec<Vec<u8>> {
    let mut out = Outbound::new();
    out.hello(&Choices(&[]).hello(Role::Caller));
    let mut frames = vec![bytes(out)];
    let mut out = Outbound::new();
    out.welcome(&welcome());
    frames.push(bytes(out));
    let mut out = Outbound::new();
    out.offer(&Choices(&[3; 20]).offer());
    frames.push(bytes(out));
    let mut out = Outbound::new();
    out.refusal(&Refusal::new(Code::Unauthenticated, "no"));
    frames.push(bytes(out));
    let mut random = Random(1);
    let mut kinds = BTreeMap::new();
    for _ in 0..2_000 {
        let input: Vec<u8> = (0..40).map(|_| random.number() as u8 % 64).collect();
        for role in [Some(Role::Caller), Some(Role::Worker), Some(Role::Inspector), None] {
            let (mut choices, mut out) = (Choices(&input), Outbound::new());
            match role {
                Some(role) => client_says(role, &mut choices, &mut out),
                None => broker_says(&mut choices, &mut out),
            }
            let frame = bytes(out);
            // The shortest of each kind: changes of it are about its fields.
            if let Some(kind) = frame.get(4).copied() {
                let shortest = kinds.entry(kind).or_insert_with(|| frame.clone());
                if frame.len() < shortest.len() {
                    *shortest = frame;
                }
            }
        }
    }
    frames.extend(kinds.into_values());
    frames.push(GIVEN_UP.to_vec());
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
    }
    for which in 0..QUERIES {
        let input: Vec<u8> = (0..40).map(|_| random.number() as u8 % 64).collect();
        all.push(numbered(2, &Choices(&input).query_of(which)));
    }
    answers().iter().for_each(|answer| all.push(numbered(3, answer)));
    let parameter = SchemaParameter { name: "n".to_owned(), optional: true, type_name: "u32".to_owned() };
    all.push(numbered(4, &Schema { parameters: vec![parameter], returns: "u64".to_owned() }));
    all
}

/// An answer to each question.
fn answers() -> Vec<Answer> {
    let (id, name) = (CallId::from_bytes([7; 16]), Name::from_static("a.b"));
    let explained = |standing| Answer::Explained(Explanation { id, procedure: Some(name.clone()), standing });
    let worker = || name.clone();
    let (attempt, since_ms) = (1, 5);
    let waiting = Standing::Waiting { cause: Cause::SlotsBusy { ahead: 3, workers: 1, slots: 2 }, starts_ms: Some(9) };
    let changed = |fate| Changed { id, procedure: name.clone(), fate };
    let fates = [None, Some(Fate::Cancelled(CancelAnswer::NeverRan)), Some(Fate::Revived(id)), Some(Fate::Purged)];
    vec![
        Answer::Status(Knowledge::NeverSeen),
        explained(waiting),
        explained(Standing::Running { attempt, worker: worker(), since_ms, worker_away: false }),
        explained(Standing::Parked { attempt, worker: worker(), since_ms, awaits: Some(id) }),
        explained(Standing::Settled { state: State::Dead, at_ms: since_ms }),
        Answer::Calls(Vec::new()),
        Answer::Procedures(Vec::new()),
        Answer::Workers(Vec::new()),
        Answer::Broker(BrokerStatus::default()),
        Answer::Asked(3),
        Answer::Revived(id),
        Answer::Purged,
        Answer::Bulk(BulkAnswer { calls: fates.map(changed).into(), next: Some(3) }),
        Answer::CallbackAdded(id),
        Answer::Group(GroupStatus {
            id,
            state: State::Scheduled,
            group: Group::new(GroupKind::First(2)),
            sealed: false,
            counts: GroupCounts { children: 1, open: 1, succeeded: 0 },
            children: vec![ChildStatus { place: 0, id, procedure: name.clone(), state: State::Leased }],
        }),
        Answer::Sealed,
        Answer::Joined,
        Answer::Settings(Settings([(Setting::RateCount, 5)].into())),
        Answer::Changed(Change::Replaced),
        Answer::Schedules(Vec::new()),
        Answer::Subscriptions(Vec::new()),
        Answer::Refused { code: Code::NotFound, message: "no".to_owned() },
    ]
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

#[cfg(test)]
mod tests {
    use super::frames;
    use antiphon_wire::Kind;
    use std::collections::BTreeSet;

    #[test]
    fn there_is_a_frame_of_every_kind() {
        let mut seen = BTreeSet::new();
        for mut rest in frames() {
            while let Some(length) = rest.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize) {
                seen.insert(rest[4]);
                rest.drain(..4 + length);
            }
        }
        let all: BTreeSet<u8> = Kind::ALL.into_iter().map(|kind| kind as u8).collect();
        assert_eq!(seen, all);
    }
}
