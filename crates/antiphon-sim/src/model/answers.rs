//! What the broker has to answer, and what it says unasked: each word is held against what the model expects.

use super::Model;
use super::calls::{Known, Phase};
use super::leases::decided_code;
use antiphon_broker::{Event, Lease};
use antiphon_embedded::PeerId;
use antiphon_protocol::{CallId, CancelAnswer, Code, Knowledge, LeaseTag, Outcome, State, Tag};

/// An answer that is owed to a peer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expected {
    Accepted {
        tag: Tag,
        id: CallId,
        duplicate: bool,
        mark: usize,
    },
    Refused {
        tag: Tag,
    },
    /// Accepted, under whatever id, or refused, or told the outcome.
    Either {
        tag: Tag,
    },
    Cancelled {
        id: CallId,
        answer: CancelAnswer,
        mark: usize,
    },
    Settled {
        lease: LeaseTag,
        id: CallId,
        mark: usize,
    },
    Stale {
        lease: LeaseTag,
    },
    /// The same, unasked; its worker may not even know of the lease.
    Lost {
        token: Option<u64>,
    },
    Opened {
        kept: Vec<LeaseTag>,
    },
    Fenced,
}

impl Model {
    pub(super) fn expect(&mut self, peer: PeerId, expected: Expected) {
        self.expected.entry(peer).or_default().push(expected);
    }

    fn take_expected(&mut self, peer: PeerId, is: impl Fn(&Expected) -> bool) -> Option<Expected> {
        let owed = self.expected.get_mut(&peer)?;
        let at = owed.iter().position(is)?;
        Some(owed.remove(at))
    }

    /// Answers that were owed and never came.
    pub fn unanswered(&self) -> Vec<String> {
        let owed = self.expected.iter().flat_map(|(peer, owed)| owed.iter().map(move |one| (peer, one)));
        let owed = owed.filter(|(_, one)| !matches!(one, Expected::Lost { .. } | Expected::Either { .. }));
        owed.map(|(peer, one)| format!("{peer:?} never got {one:?}")).collect()
    }

    /// The broker says something to a peer.
    pub fn hear(&mut self, peer: PeerId, event: &Event) {
        let answered = match event {
            Event::Accepted { tag, id, duplicate, .. } => {
                self.event_told(*id);
                let right = self.take_expected(peer, |one| {
                    matches!(one, Expected::Accepted { tag: t, id: i, duplicate: d, .. } if (t, i, d) == (tag, id, duplicate))
                });
                if let Some(inbox) = self.callers.get(&peer).map(|caller| caller.inbox.clone())
                    && let Some(known) = self.calls.get_mut(id).filter(|_| right.is_none())
                {
                    known.audience.insert(inbox);
                }
                right.or_else(|| self.take_expected(peer, |one| *one == Expected::Either { tag: *tag }))
            }
            Event::Refused { tag, failure } => {
                if let Some(last) = self.wrong.last_mut() {
                    last.push_str(&format!("; call {tag} was refused: {failure}"));
                }
                let refused = self.take_expected(peer, |one| *one == Expected::Refused { tag: *tag });
                // An attach that finds nothing is refused as well; what it may find is the history's to judge.
                refused.or(Some(Expected::Refused { tag: *tag }))
            }
            Event::CancelAnswered { id, answer } => self.take_expected(
                peer,
                |one| matches!(one, Expected::Cancelled { id: i, answer: a, .. } if (i, a) == (id, answer)),
            ),
            Event::Settled { lease } => {
                self.take_expected(peer, |one| matches!(one, Expected::Settled { lease: l, .. } if l == lease))
            }
            Event::Stale { lease } => self.stale(peer, *lease),
            Event::Up { kept, .. } if self.callers.contains_key(&peer) => {
                assert!(kept.is_empty(), "callers hold no leases");
                return;
            }
            Event::Up { kept, .. } => self.take_expected(peer, |one| *one == Expected::Opened { kept: kept.clone() }),
            Event::Down { .. } => self.take_expected(peer, |one| *one == Expected::Fenced),
            Event::Outcome { id, state, outcome, .. } => return self.outcome(peer, *id, *state, outcome),
            Event::Lease(lease) => return self.leased(peer, lease),
            Event::CancelAsked { .. }
            | Event::DrainAsked
            | Event::Writable
            | Event::ProgressEnded { .. }
            | Event::Emitted { .. }
            | Event::Watched { .. } => return,
            Event::Progress { .. } => {
                self.reached.insert("progress that was heard");
                return;
            }
            Event::Resumed { lease } => return self.resumed(peer, *lease),
        };
        match answered {
            None => {
                let owed = self.expected.get(&peer).cloned().unwrap_or_default();
                self.blame(format!("{peer:?} was told {event:?}; what it was owed is {owed:?}"));
            }
            Some(
                Expected::Accepted { id, mark, .. }
                | Expected::Cancelled { id, mark, .. }
                | Expected::Settled { id, mark, .. },
            ) => {
                if let Some(known) = self.calls.get_mut(&id) {
                    known.told(mark);
                }
            }
            Some(_) => {}
        }
    }

    fn stale(&mut self, peer: PeerId, lease: LeaseTag) -> Option<Expected> {
        let asked = self.take_expected(peer, |one| *one == Expected::Stale { lease });
        let known = |one: &Expected| *one == Expected::Lost { token: Some(lease.token) };
        let asked = asked.or_else(|| self.take_expected(peer, known));
        asked.or_else(|| self.take_expected(peer, |one| *one == Expected::Lost { token: None }))
    }

    fn outcome(&mut self, peer: PeerId, id: CallId, state: State, outcome: &Outcome) {
        let inbox = self.callers.get(&peer).map(|caller| caller.inbox.clone());
        let Some(known) = self.calls.get_mut(&id) else {
            // It was forgotten between the decision and the fsync that the word of it waited for.
            return;
        };
        let mut wrong = None;
        if known.phase != Phase::Settled(state) {
            wrong = Some(format!("is {:?}", known.phase));
        }
        if inbox.is_none_or(|inbox| !known.audience.contains(&inbox)) {
            wrong = Some("is not that caller's".to_owned());
        }
        match (&known.outcome, outcome) {
            (Some(mine), told) if mine == told => {}
            // What is gathered of a group is the same whoever is told of it.
            (None, told) if known.group.is_some() && matches!(state, State::Succeeded | State::Failed) => {
                known.outcome = Some(told.clone());
            }
            (None, Outcome::Failure(failure)) if failure.code == decided_code(state) => {}
            (None, Outcome::Failure(failure))
                if self.budget && !known.durable && failure.code == Code::ResourceExhausted => {}
            (mine, _) => wrong = Some(format!("ended with {mine:?}")),
        }
        known.told(known.last_mark());
        if let Some(wrong) = wrong {
            self.blame(format!("{peer:?} was told that call {id} is {state}, {outcome:?}; it {wrong}"));
        }
    }

    fn leased(&mut self, peer: PeerId, lease: &Lease) {
        let (id, tag) = (lease.call, lease.lease);
        if !self.tokens.insert(tag.token) {
            self.blame(format!("the token {} was issued twice", tag.token));
        }
        let worker = self.peers.get(&peer).copied();
        let Some(known) = self.calls.get_mut(&id) else {
            // On a slow disk it may have run out, and its call be dead and gone, before the word of it could leave.
            if !self.graveyard.contains_key(&id) {
                self.blame(format!("a lease of call {id}, which is not there"));
            }
            return;
        };
        if known.payload.as_deref().is_some_and(|payload| payload != &lease.payload.bytes[..]) {
            self.wrong.push(format!("call {id} was leased with other arguments than it was submitted with"));
        }
        let current = known.lease.as_mut().filter(|held| Some(held.worker) == worker && held.token.is_none());
        let Some(held) = current else { return };
        if known.started != lease.attempt {
            return;
        }
        held.token = Some(tag.token);
        let gated = held.gated;
        if gated && !known.is_settled() {
            known.told(known.last_mark());
        }
    }

    /// Somebody is told the status of a call.
    pub fn status(&mut self, knowledge: &Knowledge) {
        let Knowledge::Known(status) = knowledge else { return };
        let Some(known) = self.calls.get_mut(&status.id) else { return };
        // The answer waited for the disk; since it was made the call may have gone on.
        let said = |known: &Known| known.marks.iter().rposition(|mark| mark.started == status.attempts);
        let mark = if status.state.is_settled() { Some(known.last_mark()) } else { said(known) };
        if status.state.is_settled() && known.state() != status.state {
            let (id, state) = (status.id, status.state);
            self.blame(format!("somebody was told that call {id} is {state}"));
            return;
        }
        if let Some(mark) = mark.filter(|_| status.state.is_settled()) {
            known.told(mark);
        }
    }
}
