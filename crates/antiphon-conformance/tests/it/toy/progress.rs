//! What calls of the toy broker tell of themselves.

use super::Data;
use crate::fault::Fault;
use antiphon_broker::{Event, Progress, ProgressReport, Support};
use antiphon_protocol::{CallId, Tag, defaults};

/// What was told, and who follows.
#[derive(Default)]
pub struct Told {
    items: Vec<(CallId, Progress)>,
    followers: Vec<(CallId, u32, Tag)>,
    counter: u64,
}

impl Data {
    fn tells(&self) -> bool {
        self.capabilities.progress != Support::Refused || self.has(Fault::IgnoreWhatIsLacking)
    }

    pub fn progress(&mut self, peer: u32, report: ProgressReport) {
        let ProgressReport { lease, call, payload } = report;
        let Some(kept) = self.calls.get(&call).filter(|_| self.tells()) else { return };
        let current = kept.lease.as_ref().is_some_and(|held| held.tag == lease);
        if !current && !self.has(Fault::HearAnyLease) {
            return self.tell_worker(peer, Event::Stale { lease });
        }
        let attempt = if self.has(Fault::OneAttemptTells) { 1 } else { kept.failed + 1 };
        self.told.counter += 1;
        let sequence = if self.has(Fault::CountProgressDown) { 1_000 - self.told.counter } else { self.told.counter };
        let progress = Progress { sequence, attempt, payload };
        self.told.items.push((call, progress.clone()));
        for (_, peer, tag) in self.told.followers.iter().filter(|(followed, _, _)| *followed == call) {
            self.tell_caller(*peer, Event::Progress { tag: *tag, id: call, progress: progress.clone() });
        }
    }

    pub fn follow(&mut self, peer: u32, id: CallId, tag: Tag, after: u64) {
        if !self.tells() {
            return;
        }
        let of_call: Vec<_> = self.told.items.iter().filter(|(told, _)| *told == id).collect();
        let mut bytes = 0;
        let newest = of_call.iter().rev().take(defaults::PROGRESS_ITEMS_MAX).take_while(|(_, progress)| {
            bytes += progress.payload.bytes.len();
            bytes <= defaults::PROGRESS_BYTES_MAX
        });
        let skip = of_call.len() - newest.count();
        let kept = of_call.into_iter().skip(if self.has(Fault::KeepAllProgress) { 0 } else { skip });
        for (_, progress) in kept.filter(|(_, told)| told.sequence > after || self.has(Fault::RepeatProgress)) {
            self.tell_caller(peer, Event::Progress { tag, id, progress: progress.clone() });
        }
        let over = self.calls.get(&id).is_none_or(|kept| kept.state.is_settled());
        if over && !self.has(Fault::NeverEndProgress) {
            return self.tell_caller(peer, Event::ProgressEnded { tag });
        }
        self.told.followers.push((id, peer, tag));
    }
}
