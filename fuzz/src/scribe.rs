//! Turns an input into a conversation: each few bytes choose a frame and its fields; what is left over is sent as it
//! stands.

use crate::choices::Choices;
use antiphon_broker::{Emission, Event, Progress, ProgressReport, Report, Watch};
use antiphon_protocol::{Answer, Code, Epoch, Outcome, State};
use antiphon_wire::{Outbound, Role};

/// What a client says: mostly what one of its role may say, sometimes what only another may.
pub(crate) fn client_says(role: Role, choices: &mut Choices<'_>, out: &mut Outbound) {
    const CALLER: [u8; 12] = [0, 1, 2, 1, 3, 4, 5, 13, 14, 15, 1, 0];
    const WORKER: [u8; 12] = [7, 8, 9, 10, 8, 7, 11, 13, 16, 17, 18, 8];
    let menu = match role {
        Role::Caller => CALLER,
        Role::Worker => WORKER,
        Role::Inspector => [12; 12],
    };
    let choice = choices.byte();
    let in_role = menu.get(usize::from(choice % 12)).copied().unwrap_or(13);
    match if choice >= 250 { choices.byte() % 19 } else { in_role } {
        0 => out.route(choices.number() as u32 % 4, &choices.route()),
        1 | 2 => {
            let (tag, route, submission) = (choices.number(), choices.number() as u32 % 4, choices.submission());
            out.submit(tag, route, &submission);
        }
        3 => out.attach(choices.number(), choices.id()),
        4 => out.acknowledge(choices.id()),
        5 => out.cancel(choices.id()),
        6 => out.offer(&choices.offer()),
        7 => out.credit(choices.number() as i32),
        8 | 9 => {
            let (lease, call, settlement) = (choices.lease(), choices.id(), choices.settlement());
            out.report(&Report { lease, call, settlement });
        }
        10 => out.extend(choices.lease()),
        11 => out.drain(),
        12 => out.query(choices.number() as u32, &choices.query()),
        14 => out.follow(choices.id(), choices.number(), choices.number()),
        15 => {
            let (tag, after, pattern) = (choices.number(), choices.number(), choices.pattern());
            out.watch(&Watch { tag, pattern, after });
        }
        16 => {
            let (lease, call, payload) = (choices.lease(), choices.id(), choices.payload());
            out.progress(&ProgressReport { lease, call, payload });
        }
        17 => {
            let awaits = (choices.byte().is_multiple_of(2)).then(|| choices.id());
            out.park(choices.lease(), awaits);
        }
        18 => out.resume(choices.lease()),
        _ => out.ping(choices.number()),
    }
}

/// What a broker may say.
pub(crate) fn broker_says(choices: &mut Choices<'_>, out: &mut Outbound) {
    let event = match choices.byte() % 18 {
        0 => Event::Accepted { tag: choices.number(), id: choices.id(), duplicate: choices.byte() == 0, wait_ms: None },
        1 => Event::Refused { tag: choices.number(), failure: choices.failure() },
        2 | 3 => {
            let states = [State::Succeeded, State::Failed, State::Cancelled, State::Dead, State::Leased];
            let state = states.get(usize::from(choices.below(5))).copied().unwrap_or(State::Ready);
            let outcome = match choices.below(2) {
                0 => Outcome::Reply(choices.payload()),
                _ => Outcome::Failure(choices.failure()),
            };
            Event::Outcome { tag: choices.number(), id: choices.id(), state, attempts: 1, outcome }
        }
        4 => Event::CancelAnswered { id: choices.id(), answer: choices.cancel_answer() },
        5 | 6 => Event::Lease(choices.granted()),
        7 => Event::CancelAsked { lease: choices.lease() },
        8 => Event::Settled { lease: choices.lease() },
        9 => Event::Stale { lease: choices.lease() },
        10 => Event::DrainAsked,
        11 => Event::Up { epoch: Epoch(choices.number() as u32), kept: vec![choices.lease()] },
        12 => {
            let (tag, id, sequence, attempt) = (choices.number(), choices.id(), choices.number(), 1);
            Event::Progress { tag, id, progress: Progress { sequence, attempt, payload: choices.payload() } }
        }
        13 => Event::ProgressEnded { tag: choices.number() },
        14 => {
            let (number, id, topic, emitted_ms) = (choices.number(), choices.id(), choices.topic(), choices.number());
            let (durable, payload) = (choices.byte().is_multiple_of(2), choices.payload());
            let emission = Emission { number, id, topic, emitted_ms, durable, payload };
            Event::Emitted { tag: choices.number(), emission, last: choices.byte().is_multiple_of(2) }
        }
        15 => {
            let failure = (choices.byte().is_multiple_of(2)).then(|| choices.failure());
            Event::Watched { tag: choices.number(), through: choices.number(), failure }
        }
        16 => Event::Resumed { lease: choices.lease() },
        _ => {
            let ticket = choices.number() as u32;
            return match choices.below(4) {
                0 => out.answer(ticket, &Answer::Purged),
                1 => out.goodbye(Code::Unavailable, choices.byte() == 0, "enough"),
                2 => out.pong(choices.number()),
                _ => out.answer(ticket, &Answer::Asked(3)),
            };
        }
    };
    out.event(&event);
}

/// All that is to be sent, as bytes.
pub(crate) fn bytes(mut out: Outbound) -> Vec<u8> {
    let mut all = Vec::new();
    while !out.is_empty() {
        let next = out.unsent().to_vec();
        out.advance(next.len());
        all.extend(next);
    }
    all
}
