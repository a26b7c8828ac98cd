//! What a broker tells a session: a batch of events is taken under one lock, and woken after it.

use crate::CallFailure;
use crate::call_error::{Ending, SettledCall};
use crate::session::{Acceptance, Link, Session, State};
use antiphon_broker::Event;
use antiphon_protocol::{CallId, Code, Failure, Tag};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// What is left to do when the lock is released.
#[derive(Default)]
struct After {
    wakers: Vec<Waker>,
    flush: bool,
    /// Calls whose progress is to be asked for.
    follow: Vec<(CallId, Tag, u64)>,
    acknowledge: bool,
    /// A caller that was given up is dropped outside the lock: it calls the broker.
    closed: Option<Link>,
}

impl Session {
    /// Takes a batch of events.
    pub(crate) fn take(self: &Arc<Self>, events: &mut Vec<Event>) {
        let mut after = After::default();
        {
            let mut state = self.lock();
            for event in events.drain(..) {
                self.take_one(&mut state, event, &mut after);
            }
        }
        after.wakers.into_iter().for_each(Waker::wake);
        if !after.follow.is_empty()
            && let Some(caller) = self.caller()
        {
            caller.follow(&after.follow);
        }
        if after.acknowledge {
            self.acknowledge_all();
        }
        if after.flush {
            self.flush();
        }
        drop(after.closed);
    }

    fn take_one(self: &Arc<Self>, state: &mut State, event: Event, after: &mut After) {
        match event {
            Event::Accepted { tag, id, duplicate, wait_ms } => {
                if duplicate {
                    state.pending.rename(tag, id);
                }
                if let Some(call) = state.pending.find(tag) {
                    call.id = id;
                    let expected_wait = wait_ms.map(Duration::from_millis);
                    call.accepted = Some(Acceptance { id, duplicate, expected_wait });
                    after.wakers.extend(call.waker.take());
                    let follows = state.sources.get_mut(&tag);
                    after.follow.extend(follows.map(|source| (id, tag, source.seen())));
                }
            }
            Event::Outcome { tag, id, state: settled, attempts, outcome } => {
                state.settle(tag, SettledCall { id, state: settled, attempts, outcome }, after);
            }
            Event::Progress { tag, progress, .. } => after.wakers.extend(state.progress(tag, progress)),
            Event::ProgressEnded { tag } => {
                after.wakers.extend(state.sources.remove(&tag).and_then(|source| source.close()));
            }
            Event::Emitted { tag, emission, last } => after.wakers.extend(state.watches.emitted(tag, emission, last)),
            Event::Watched { tag, through, failure } => {
                after.wakers.extend(state.watches.watched(tag, through, failure));
            }
            Event::Refused { tag, failure } => state.refuse(tag, failure, after),
            Event::CancelAnswered { id, answer } => {
                let waiting = state.cancels.remove(&id).unwrap_or_default();
                // Who asked may have gone.
                waiting.into_iter().for_each(|waiting| drop(waiting.send(answer.clone())));
            }
            Event::Writable => {
                state.writable += 1;
                after.flush = true;
            }
            Event::Up { .. } => {
                state.up();
                after.flush = true;
            }
            Event::Down { last: false, .. } => {
                if let Link::Open(caller) = &state.link {
                    state.link = Link::Away(Arc::clone(caller));
                }
                self.watch_deadlines(state);
            }
            Event::Down { reason, last: true } => after.closed = Some(state.end_all(&reason, after)),
            // For workers.
            Event::Lease(_)
            | Event::CancelAsked { .. }
            | Event::Settled { .. }
            | Event::Stale { .. }
            | Event::Resumed { .. }
            | Event::DrainAsked => (),
        }
    }

    /// Ends the session from this side: what is waited for is in doubt.
    pub(crate) fn end(&self, reason: &str) {
        let mut after = After::default();
        let closed = self.lock().end_all(reason, &mut after);
        after.wakers.into_iter().for_each(Waker::wake);
        drop(closed);
    }
}

impl State {
    /// Takes an outcome: to the inbox, or to whoever waits for the call.
    fn settle(&mut self, tag: Tag, settled: SettledCall, after: &mut After) {
        // It may have told something that was not asked for in time: its stream ends when all of that is here.
        after.follow.extend(self.sources.get(&tag).map(|source| (settled.id, tag, source.seen())));
        if let Some(deliveries) = &mut self.deliveries {
            after.wakers.extend(deliveries.deliver(settled));
            // Who still waits for the acceptance has it with the outcome.
            if let Some(call) = self.pending.find(tag) {
                call.accepted.get_or_insert(Acceptance::of(call.id));
                after.wakers.extend(call.waker.take());
            }
            return;
        }
        let others = self.pending.others(settled.id, tag);
        let told = self.pending.find(tag).is_some();
        for other in &others {
            self.end(*other, Ending::Settled(settled.clone()), after);
        }
        if told {
            self.end(tag, Ending::Settled(settled), after);
        } else if others.is_empty() {
            // Nobody waits for it any more: the broker need not keep it.
            self.acknowledgements.owe(&settled);
            after.acknowledge = true;
        }
    }

    /// Ends one call, if somebody waits for it.
    fn end(&mut self, tag: Tag, ending: Ending, after: &mut After) {
        let Some(call) = self.pending.find(tag) else { return };
        // The outcome may come again after a reconnect, before it is acknowledged; the first is as good.
        if call.ending.is_none() {
            if let Ending::Settled(settled) = &ending {
                call.id = settled.id;
            }
            call.ending = Some(ending);
        }
        after.wakers.extend(call.waker.take());
    }

    /// A refused submission never runs, unless an earlier one of the same call may have; a refused attachment tells
    /// nothing about the call.
    fn refuse(&mut self, tag: Tag, failure: Failure, after: &mut After) {
        let Some(call) = self.pending.find(tag) else { return };
        let attached = call.accepted.is_some();
        let failure = CallFailure::new(call.id, failure);
        let unknown = attached || failure.failure.may_have_run;
        let ending = if unknown { Ending::Unknown(failure) } else { Ending::Refused(failure) };
        after.wakers.extend(self.sources.remove(&tag).and_then(|source| source.close()));
        self.end(tag, ending, after);
    }

    /// Connected again. What went with an earlier start of the broker, the broker's side has refused by itself.
    fn up(&mut self) {
        if let Link::Away(caller) = &self.link {
            self.link = Link::Open(Arc::clone(caller));
        }
    }

    /// Gives up: every call that is waited for is in doubt. Gives back the link, to be dropped outside the lock.
    fn end_all(&mut self, reason: &str, after: &mut After) -> Link {
        for call in self.pending.waiting() {
            let failure = Failure::new(Code::Unavailable, reason.to_owned()).may_have_run();
            call.ending = Some(Ending::Unknown(CallFailure::new(call.id, failure)));
            after.wakers.extend(call.waker.take());
        }
        after.wakers.extend(self.clear());
        after.wakers.extend(self.deliveries.as_mut().and_then(|deliveries| deliveries.end(reason)));
        std::mem::replace(&mut self.link, Link::Ended(reason.to_owned()))
    }
}
