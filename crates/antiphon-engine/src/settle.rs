//! The end of a call: recorded once, told to whoever waits.

use crate::Engine;
use crate::call::gate_of;
use crate::call::{AWAITED, DURABLE, NONE};
use crate::effect::{Body, Effect, Effects, Ending, Gate, Handle, Peer, Reason, Role, Urgency};
use crate::planted::planted;
use crate::record::{Record, Settled, Submitted};
use crate::tail::Ties;
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use antiphon_protocol::{GroupCounts, State, Tag};

/// What a call ends with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    /// The body that came with the command, of this many bytes.
    Told(u32),
    /// What the engine itself decided.
    Decided(Reason),
    /// What was gathered of the children of a group.
    Gathered { met: bool, counts: GroupCounts },
}

impl Engine {
    /// Settles a call. Its place in line must have been left, and its lease either ended or left to stop.
    pub(crate) fn settle(&mut self, index: u32, state: State, verdict: Verdict, effects: &mut impl Effects) {
        self.discount_unsettled(index);
        if matches!(self.calls.get(index).state, State::Scheduled | State::Ready) {
            self.end_wait(index);
        }
        let call = self.calls.get_mut(index);
        assert!(!call.state.is_settled() && state.is_settled(), "a terminal state never changes");
        let (before, old) = (call.state, call.handle);
        call.state = state;
        call.at_ms = self.now.wall_ms;
        (call.bytes, call.reason) = match verdict {
            // The arguments of a dead letter are kept, so they go on counting.
            Verdict::Told(bytes) if state == State::Dead => (bytes.saturating_add(call.bytes), 0),
            Verdict::Told(bytes) => (bytes, 0),
            Verdict::Gathered { .. } => (0, 0),
            Verdict::Decided(reason) => (if state == State::Dead { call.bytes } else { 0 }, reason as u8),
        };
        let runs = call.lease != NONE;
        let (plain, procedure) = (self.is_plain(index), self.procedure_of(index));
        if !plain {
            self.discount_tied(index);
            if !runs {
                self.leave_lane(index);
            }
        }
        self.counters.settled += 1;
        let counts = self.procedures.get_mut(procedure);
        counts.count(before, -1);
        counts.count(state, 1);
        counts.total += 1;
        if !plain {
            self.free_key_if_never_run(index, procedure);
        }
        self.record_settled(index, old, verdict, effects);
        self.strike_deadline(index);
        self.deliver(index, effects);
        if !plain {
            self.make_callbacks(index, effects);
            self.count_child(index);
            self.leave_children(index);
            self.untie(index);
        }
        self.keep_settled(index, procedure, effects);
    }

    fn record_settled(&mut self, index: u32, old: Handle, verdict: Verdict, effects: &mut impl Effects) {
        let dead = self.calls.get(index).state == State::Dead;
        let body = match verdict {
            Verdict::Told(_) => Body::Command,
            Verdict::Gathered { met, counts } => Body::Gathered { met, counts },
            Verdict::Decided(_) => Body::None,
        };
        let told = body != Body::None;
        let handle =
            if self.calls.get(index).has(DURABLE) && !(planted!("cancellation not recorded") && body == Body::None) {
                let mut settled = self.settled(index);
                // Callbacks that a crash cuts off behind this record are made again from it.
                settled.ties = settled
                    .ties
                    .map(|ties| Box::new(Ties { made: false, ..*ties }))
                    .filter(|ties| **ties != Ties::default());
                if planted!("settled twice") {
                    effects.record(&Record::Settled(Cow::Borrowed(&settled)), Body::None, Role::Base, Urgency::Now);
                }
                effects.record(&Record::Settled(Cow::Borrowed(&settled)), body, Role::Base, Urgency::Now)
            } else if told {
                effects.store(body)
            } else {
                Handle::NONE
            };
        if dead {
            self.calls.extra_mut(index).arguments = old;
        } else {
            if old != Handle::NONE {
                effects.release(old);
            }
            self.hold_event(index, -1);
        }
        self.calls.get_mut(index).handle = handle;
    }

    /// A call that ends before its first lease frees its idempotency key.
    fn free_key_if_never_run(&mut self, index: u32, procedure: u32) {
        if self.calls.get(index).started == 0
            && !planted!("a call that never ran keeps its key")
            && !self.is_group(index)
            && let Some((key, _)) = self.calls.extra(index).and_then(|extra| extra.key.clone())
        {
            self.keyed.remove(procedure, &key, index);
            self.calls.extra_mut(index).key = None;
        }
    }

    fn strike_deadline(&mut self, index: u32) {
        let call = self.calls.get(index);
        if call.deadline_ms != 0 {
            let calls = &self.calls;
            self.deadlines.strike(|due| calls.live(due.index, due.stamp).is_some_and(|call| !call.state.is_settled()));
        }
    }

    pub(crate) fn outcome_for(&self, index: u32, peer: Peer, tag: Tag) -> Effect {
        let call = self.calls.get(index);
        let ending = match Reason::from_number(call.reason) {
            Some(reason) => Ending::Decided(reason),
            None => Ending::Stored(call.handle),
        };
        let (id, state, attempts) = (call.id, call.state, call.started);
        Effect::Outcome { peer, tag, id, state, attempts, ending }
    }

    /// What the journal keeps of a call that is not settled.
    pub(crate) fn submitted(&self, index: u32) -> Submitted {
        let call = self.calls.get(index);
        let extra = self.calls.extra(index);
        let later = call.state == State::Scheduled && !self.is_sealed(index);
        Submitted {
            id: call.id,
            route: Arc::clone(&self.routes.get(call.route).route),
            submitted_ms: call.submitted_ms,
            deadline_ms: self.wall_of(call.deadline_ms),
            due_ms: if later { self.wall_of(call.at_ms) } else { 0 },
            inbox: self.inboxes.get(call.inbox).map(|inbox| (inbox.key.clone(), call.tag)),
            bytes: call.bytes,
            key: extra.and_then(|extra| extra.key.clone()).filter(|_| !planted!("key lost with the settlement")),
            revives: extra.and_then(|extra| extra.revives),
            progress: self.progress(index),
            history: extra.map_or_else(Vec::new, |extra| extra.history.clone()),
            ties: self.recorded_ties(index),
        }
    }

    /// What the journal keeps of a call that is settled.
    pub(crate) fn settled(&self, index: u32) -> Settled {
        let call = self.calls.get(index);
        let extra = self.calls.extra(index);
        Settled {
            id: call.id,
            route: Arc::clone(&self.routes.get(call.route).route),
            state: call.state,
            reason: call.reason,
            submitted_ms: call.submitted_ms,
            settled_ms: call.at_ms,
            inbox: self.inboxes.get(call.inbox).map(|inbox| (inbox.key.clone(), call.tag)),
            bytes: call.bytes,
            key: extra.and_then(|extra| extra.key.clone()),
            progress: self.progress(index),
            history: extra.map_or_else(Vec::new, |extra| extra.history.clone()),
            ties: self.recorded_ties(index),
        }
    }

    /// What the journal keeps of what it hangs together with: of a settled call, only what is still to be held.
    fn recorded_ties(&self, index: u32) -> Option<Box<Ties>> {
        if self.is_plain(index) {
            return None;
        }
        let extra = self.calls.extra(index);
        let added = extra.map_or(&[][..], |extra| extra.callbacks.as_slice());
        let mut ties = extra.and_then(|extra| extra.ties.clone()).unwrap_or_default();
        ties.callbacks = added.iter().map(|planned| self.callback_of(*planned)).collect();
        let groups = extra.map_or(&[][..], |extra| extra.groups.as_slice());
        ties.groups = groups.iter().map(|member| (self.calls.get(member.group).id, member.place)).collect();
        ties.sealed = self.is_sealed(index);
        let call = self.calls.get(index);
        if call.state.is_settled() && call.lease == NONE && call.state != State::Dead {
            (ties.ordering, ties.concurrency, ties.parent) = (None, None, None);
        }
        ties.made = self.calls.get(index).state.is_settled() && self.planned(index).next().is_some();
        (*ties != Ties::default()).then_some(ties)
    }

    /// Whether nothing hangs on the call: it has no key, history, watcher, callback, lane or group, and is none.
    pub(crate) fn is_plain(&self, index: u32) -> bool {
        let call = self.calls.get(index);
        call.extra == NONE && self.routes.get(call.route).plain
    }

    /// Whether nobody but the caller that awaits it knows of this call.
    pub(crate) fn is_private(&self, index: u32) -> bool {
        let call = self.calls.get(index);
        call.has(AWAITED) && !call.has(DURABLE)
    }

    /// What an effect about this call waits for.
    pub(crate) fn gate(&self, index: u32) -> Gate {
        gate_of(self.calls.get(index))
    }
}
