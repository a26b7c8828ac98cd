//! A caller: what it has submitted and what of that it must say again on a new connection, by the rules that
//! `docs/wire-format.md` gives to clients.

use crate::action::{Shape, Want};
use crate::history::Seen;
use crate::link::Up;
use crate::routes::{self, name};
use antiphon_broker::{Event, Inbox, Submission, Wants};
use antiphon_protocol::{Call, CallId, CallerId, Epoch, Key, Keys, Payload, Start, Tag};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// How far a call is, as its caller knows.
#[derive(Clone, Debug)]
enum Stage {
    Unanswered { submission: Box<Submission>, sent: bool, deadline_at_ms: u64 },
    Outstanding,
    Done,
}

#[derive(Clone, Debug)]
struct Own {
    id: CallId,
    volatile: bool,
    wants: Wants,
    stage: Stage,
}

/// One caller; its lives share the place.
#[derive(Debug)]
pub(crate) struct Caller {
    pub place: u8,
    pub life: u32,
    pub inbox: Inbox,
    calls: BTreeMap<u32, Own>,
    /// Outcomes it has not acknowledged.
    pub unacknowledged: VecDeque<CallId>,
    cancelling: Vec<CallId>,
    epoch: Option<Epoch>,
}

impl Caller {
    pub fn new(place: u8, life: u32, named: bool) -> Self {
        let inbox = if named {
            Inbox::Named(name(&format!("inbox{place}")))
        } else {
            let mut id = [0x0C; 16];
            id[0] = place;
            id[1..5].copy_from_slice(&life.to_le_bytes());
            Inbox::Anonymous(CallerId(id))
        };
        Self {
            place,
            life,
            inbox,
            calls: BTreeMap::new(),
            unacknowledged: VecDeque::new(),
            cancelling: Vec::new(),
            epoch: None,
        }
    }

    /// Makes a call and, on a connection, hands it over.
    pub fn submit(
        &mut self,
        number: u32,
        id: CallId,
        (shape, group): (&Shape, Option<CallId>),
        now_ms: u64,
        wall_ms: u64,
    ) -> Seen {
        let submission = submission(number, id, shape, group, wall_ms);
        let payload = submission.call.payload.bytes.to_vec();
        let deadline_at_ms = if shape.deadline_ms == 0 { 0 } else { now_ms + u64::from(shape.deadline_ms) };
        let wants = submission.wants;
        let stage = Stage::Unanswered { submission: Box::new(submission), sent: false, deadline_at_ms };
        self.calls.insert(number, Own { id, volatile: shape.volatile, wants, stage });
        let (caller, life, shape) = (self.place, self.life, *shape);
        Seen::Submitted { caller, life, call: number, id, shape, payload }
    }

    /// What to say about a call that is unanswered, or outstanding on an earlier connection.
    pub fn say(&mut self, number: u32, now_ms: u64) -> Option<Up> {
        let own = self.calls.get_mut(&number)?;
        match &mut own.stage {
            Stage::Unanswered { submission, sent, deadline_at_ms } => {
                submission.resent |= *sent;
                *sent = true;
                if *deadline_at_ms != 0 {
                    submission.call.deadline_ms = deadline_at_ms.saturating_sub(now_ms).max(1);
                }
                Some(Up::Submit((**submission).clone()))
            }
            Stage::Outstanding => Some(Up::Attach(own.id, Tag::from(number))),
            Stage::Done => None,
        }
    }

    pub fn attach(&mut self, number: u32, id: CallId) -> Option<Up> {
        if self.calls.contains_key(&number) {
            return None;
        }
        let own = Own { id, volatile: false, wants: Wants::Outcome, stage: Stage::Outstanding };
        self.calls.insert(number, own);
        Some(Up::Attach(id, Tag::from(number)))
    }

    pub fn follow(number: u32, id: CallId) -> Up {
        Up::Follow(id, Tag::from(number))
    }

    pub fn acknowledge(&mut self) -> Option<Up> {
        self.unacknowledged.pop_front().map(Up::Acknowledge)
    }

    pub fn cancel(&mut self, id: CallId) -> Up {
        if !self.cancelling.contains(&id) {
            self.cancelling.push(id);
        }
        Up::Cancel(id)
    }

    /// Whether something of it is not answered yet.
    pub fn waits(&self) -> bool {
        !self.unacknowledged.is_empty()
            || !self.cancelling.is_empty()
            || self.calls.values().any(|own| !matches!(own.stage, Stage::Done))
    }

    /// Takes an event; what it answers with.
    pub fn take(&mut self, event: Event, now_ms: u64, seen: &mut Vec<Seen>) -> Vec<Up> {
        let (caller, life) = (self.place, self.life);
        match event {
            Event::Up { epoch, .. } => {
                seen.push(Seen::Epoch { epoch });
                return self.restore(epoch, now_ms, seen);
            }
            Event::Accepted { tag, id, duplicate, .. } => {
                let number = tag as u32;
                seen.push(Seen::Accepted { caller, life, call: number, id, duplicate });
                if let Some(own) = self.calls.get_mut(&number) {
                    own.id = id;
                    if matches!(own.stage, Stage::Unanswered { .. }) {
                        own.stage = if own.wants == Wants::Acceptance { Stage::Done } else { Stage::Outstanding };
                    }
                }
            }
            Event::Refused { tag, failure } => {
                let (call, code, may_have_run) = (tag as u32, failure.code, failure.may_have_run);
                seen.push(Seen::Refused { caller, call, code, may_have_run });
                if let Some(own) = self.calls.get_mut(&call) {
                    own.stage = Stage::Done;
                }
            }
            Event::Outcome { tag, id, state, outcome, .. } => {
                seen.push(Seen::Outcome { caller, life, id, state, outcome });
                for own in self.calls.values_mut().filter(|own| own.id == id) {
                    own.stage = Stage::Done;
                }
                if let Some(own) = self.calls.get_mut(&(tag as u32)) {
                    own.stage = Stage::Done;
                }
                if !self.unacknowledged.contains(&id) {
                    self.unacknowledged.push_back(id);
                }
            }
            Event::Progress { id, progress, .. } => {
                let (sequence, payload) = (progress.sequence, progress.payload.bytes.to_vec());
                seen.push(Seen::Heard { id, sequence, payload });
            }
            Event::CancelAnswered { id, answer } => {
                seen.push(Seen::Cancelled { caller, id, answer });
                self.cancelling.retain(|other| *other != id);
            }
            _ => {}
        }
        Vec::new()
    }

    /// A connection is up: what must be said again, in the order of submission.
    fn restore(&mut self, epoch: Epoch, now_ms: u64, seen: &mut Vec<Seen>) -> Vec<Up> {
        if self.epoch.replace(epoch).is_some_and(|before| before != epoch) {
            self.bury_volatile(seen);
        }
        let numbers: Vec<u32> = self.calls.keys().copied().collect();
        let mut said: Vec<Up> = numbers.into_iter().filter_map(|number| self.say(number, now_ms)).collect();
        said.extend(self.cancelling.iter().map(|id| Up::Cancel(*id)));
        said
    }

    /// Volatile calls of another start of the broker are gone with it.
    fn bury_volatile(&mut self, seen: &mut Vec<Seen>) {
        for (call, own) in self.calls.iter_mut().filter(|(_, own)| own.volatile) {
            let gone = match &own.stage {
                Stage::Outstanding => true,
                Stage::Unanswered { submission, sent, .. } => {
                    *sent && (!submission.call.route.idempotent || submission.call.route.at_most_once)
                }
                Stage::Done => false,
            };
            if gone {
                own.stage = Stage::Done;
                let code = antiphon_protocol::Code::Unavailable;
                seen.push(Seen::Refused { caller: self.place, call: *call, code, may_have_run: true });
            }
        }
    }
}

fn submission(number: u32, id: CallId, shape: &Shape, group: Option<CallId>, wall_ms: u64) -> Submission {
    let mut payload = match shape.key {
        0 => format!("call {number} "),
        key => format!("key {key} variant {} ", shape.variant),
    };
    payload.extend(std::iter::repeat_n('.', usize::from(shape.filler)));
    let mut call = Call::new(id, Arc::new(routes::route(shape)), Payload::raw(payload));
    if shape.topic > 0 {
        return Submission { call, tag: Tag::from(number), wants: Wants::Acceptance, resent: false };
    }
    call.deadline_ms = u64::from(shape.deadline_ms);
    let delay_ms = u64::from(shape.delay_ms);
    call.start = match delay_ms {
        0 => Start::Now,
        _ if shape.delay_is_wall => Start::At(wall_ms + delay_ms),
        _ => Start::In(delay_ms),
    };
    let key = |letter: char, number: u8| (number > 0).then(|| Key::new(&format!("{letter}{number}")).ok()).flatten();
    let (idempotency, ordering) = (key('k', shape.key), key('o', shape.order));
    let keys = Keys { idempotency, ordering, concurrency: key('c', shape.together), group, ..Keys::default() };
    if keys != Keys::default() {
        call.keys = Some(Box::new(keys));
    }
    let wants = match shape.wants {
        Want::Both => Wants::AcceptanceAndOutcome,
        Want::Outcome => Wants::Outcome,
        Want::Acceptance => Wants::Acceptance,
    };
    Submission { call, tag: Tag::from(number), wants, resent: false }
}
