//! The toy broker's side of the seam: takes what is handed over, under the lock.

use super::{Shared, Toy};
use crate::fault::Fault;
use antiphon_broker::{
    Attach, BoxFuture, Broker, Caller, CancelReach, Capabilities, Event, Inbox, Inspect, OpenError, ProgressReport,
    Report, Sink, Submission, Support, Worker,
};
use antiphon_protocol::{CallId, CancelAnswer, Code, Failure, LeaseTag, Offer, State, Tag};
use std::sync::Arc;

impl Broker for Toy {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn open_caller(&self, inbox: Inbox, sink: Arc<dyn Sink>) -> BoxFuture<'_, Result<Box<dyn Caller>, OpenError>> {
        let mut data = self.data.lock();
        let named = matches!(inbox, Inbox::Named(_)) && data.capabilities.named_inboxes == Support::Refused;
        if named && !data.has(Fault::IgnoreWhatIsLacking) {
            let failure = Failure::new(Code::Unimplemented, "this broker has no named inboxes");
            return Box::pin(async { Err(OpenError::Refused(failure)) });
        }
        let peer = data.open_caller(inbox, sink);
        let caller = Box::new(ToyPeer { data: self.data.clone(), peer, works: false });
        Box::pin(async move { Ok(caller as Box<dyn Caller>) })
    }

    fn open_worker(&self, offer: Offer, sink: Arc<dyn Sink>) -> BoxFuture<'_, Result<Box<dyn Worker>, OpenError>> {
        let peer = self.data.lock().open_worker(offer, sink);
        let worker = Box::new(ToyPeer { data: self.data.clone(), peer, works: true });
        Box::pin(async move { Ok(worker as Box<dyn Worker>) })
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        None
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

struct ToyPeer {
    data: Shared,
    peer: u32,
    works: bool,
}

impl Drop for ToyPeer {
    fn drop(&mut self) {
        let mut data = self.data.lock();
        if self.works {
            data.close_worker(self.peer);
        } else {
            if data.has(Fault::DieWithCallers) {
                data.calls.retain(|_, kept| kept.state != State::Ready);
            }
            data.callers.remove(&self.peer);
        }
    }
}

impl Caller for ToyPeer {
    fn submit(&self, calls: &mut Vec<Submission>) {
        let mut data = self.data.lock();
        // Takes part of a large batch, so that the rest of the suite's batches are seen to be handed over, too.
        let take = calls.len().min(64);
        for submission in calls.drain(..take) {
            data.submit(self.peer, submission);
        }
        if !calls.is_empty() && !data.has(Fault::NeverWritable) {
            data.tell_caller(self.peer, Event::Writable);
        }
    }

    fn attach(&self, calls: &[(CallId, Tag)]) {
        let mut data = self.data.lock();
        for (id, tag) in calls {
            let refused = if data.capabilities.attach == Attach::InboxOnly {
                Some(Code::Unimplemented)
            } else {
                (!data.calls.contains_key(id)).then_some(Code::NotFound)
            };
            match refused {
                Some(_) if data.has(Fault::IgnoreUnknownIds) => {}
                Some(code) => {
                    let failure = Failure::new(code, "no such call here");
                    data.tell_caller(self.peer, Event::Refused { tag: *tag, failure });
                }
                None => {
                    data.watch(self.peer, *id, *tag);
                    if data.has(Fault::AttachConsumes) {
                        data.calls.remove(id);
                    }
                }
            }
        }
    }

    fn acknowledge(&self, outcomes: &[CallId]) {
        let mut data = self.data.lock();
        let Some(inbox) = data.inbox(self.peer) else { return };
        for id in outcomes {
            let forgets = !data.has(Fault::ForgetAcknowledgements);
            if let Some(kept) = data.calls.get_mut(id).filter(|_| forgets) {
                kept.watchers.retain(|(found, _)| *found != inbox);
            }
        }
    }

    fn follow(&self, calls: &[(CallId, Tag, u64)]) {
        let mut data = self.data.lock();
        for (id, tag, after) in calls {
            data.follow(self.peer, *id, *tag, *after);
        }
    }

    fn cancel(&self, calls: &[CallId]) {
        let mut data = self.data.lock();
        for id in calls {
            let answer = match data.calls.get(id) {
                None => CancelAnswer::NotFound,
                Some(kept) if kept.state.is_settled() => CancelAnswer::AlreadySettled(kept.state),
                Some(_) if data.capabilities.cancel == CancelReach::None => CancelAnswer::NotFound,
                Some(kept) => match &kept.lease {
                    Some(held) => {
                        CancelAnswer::Stopping { worker: data.workers.get(&held.peer).unwrap().offer.name.clone() }
                    }
                    None => CancelAnswer::NeverRan,
                },
            };
            let cancels = matches!(answer, CancelAnswer::NeverRan | CancelAnswer::Stopping { .. });
            let waits = matches!(answer, CancelAnswer::NeverRan);
            data.tell_caller(self.peer, Event::CancelAnswered { id: *id, answer });
            if cancels {
                data.end(*id, State::Cancelled, Code::Cancelled);
            }
            if waits && data.has(Fault::RunCancelled) {
                data.calls.get_mut(id).unwrap().state = State::Ready;
            }
        }
    }
}

impl Worker for ToyPeer {
    fn credit(&self, slots: i32) {
        let mut data = self.data.lock();
        if !data.has(Fault::IgnoreCredit) {
            data.workers.get_mut(&self.peer).unwrap().free += i64::from(slots);
        }
        data.dispatch();
    }

    fn report(&self, reports: &mut Vec<Report>) {
        let mut data = self.data.lock();
        for report in reports.drain(..) {
            data.report(self.peer, report);
        }
    }

    fn progress(&self, told: &mut Vec<ProgressReport>) {
        let mut data = self.data.lock();
        for told in told.drain(..) {
            data.progress(self.peer, told);
        }
    }

    fn extend(&self, leases: &[LeaseTag]) {
        let data = self.data.lock();
        for lease in leases {
            let current = data.calls.values().any(|kept| kept.lease.as_ref().is_some_and(|held| held.tag == *lease));
            if !current {
                data.tell_worker(self.peer, Event::Stale { lease: *lease });
            }
        }
    }

    fn drain(&self) {
        self.data.lock().workers.get_mut(&self.peer).unwrap().draining = true;
    }
}
