//! What running calls tell of themselves: the newest of each call, for whoever follows it. It is in memory only, and
//! kept for a caller's grace after its call has settled, so that one that reconnects misses nothing it could have had.

use crate::driver::Driver;
use crate::outlet::PeerId;
use antiphon_broker::{Event, Progress, ProgressReport};
use antiphon_engine::Peer;
use antiphon_protocol::{CallId, Tag, defaults};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;

/// What an item counts beside its payload, and what a follower counts.
const OVERHEAD_BYTES: usize = 96;
/// How often calls that have settled are looked for, and how many are looked at then.
const SWEEP_MS: u64 = 1_000;
const SWEPT_MAX: usize = 1_024;

/// What all calls told.
#[derive(Default)]
pub(crate) struct Told {
    calls: FxHashMap<CallId, Teller>,
    /// Each call once, about in the order in which they last told something, with when that was known to be.
    order: VecDeque<(u64, CallId)>,
    /// Which calls a peer follows.
    followed: FxHashMap<PeerId, FxHashSet<CallId>>,
    bytes: usize,
    counter: u64,
    sweep_at_ms: u64,
}

/// What one call told, and who follows it.
#[derive(Default)]
struct Teller {
    items: VecDeque<Progress>,
    item_bytes: usize,
    followers: Vec<(PeerId, Tag)>,
    told_ms: u64,
}

impl Teller {
    fn bytes(&self) -> usize {
        self.item_bytes + OVERHEAD_BYTES * (1 + self.items.len() + self.followers.len())
    }

    /// Takes an item, and lets the oldest go until both bounds are kept.
    fn push(&mut self, item: Progress) {
        self.item_bytes += item.payload.bytes.len();
        self.items.push_back(item);
        while self.items.len() > defaults::PROGRESS_ITEMS_MAX || self.item_bytes > defaults::PROGRESS_BYTES_MAX {
            let Some(oldest) = self.items.pop_front() else { return };
            self.item_bytes -= oldest.payload.bytes.len();
        }
    }
}

impl Told {
    /// Changes one call's entry, made if there is none, and keeps count of its bytes.
    fn change<R>(&mut self, id: CallId, now_ms: u64, change: impl FnOnce(&mut Teller) -> R) -> R {
        if !self.calls.contains_key(&id) {
            self.order.push_back((now_ms, id));
            self.calls.insert(id, Teller { told_ms: now_ms, ..Teller::default() });
            self.bytes += OVERHEAD_BYTES;
        }
        let teller = self.calls.entry(id).or_default();
        let before = teller.bytes();
        let result = change(teller);
        self.bytes = self.bytes - before + teller.bytes();
        result
    }

    fn forget(&mut self, id: CallId) {
        let Some(teller) = self.calls.remove(&id) else { return };
        self.bytes -= teller.bytes();
        for (peer, _) in teller.followers {
            if let Some(followed) = self.followed.get_mut(&peer) {
                followed.remove(&id);
            }
        }
    }

    /// Forgets those that told nothing for longest until what is left is within the bound.
    fn fit(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let Some((known_ms, id)) = self.order.pop_front() else { return };
            match self.calls.get(&id).map(|teller| teller.told_ms) {
                Some(told_ms) if told_ms > known_ms => self.order.push_back((told_ms, id)),
                _ => self.forget(id),
            }
        }
    }

    /// The peer is gone.
    pub fn unfollow(&mut self, peer: PeerId) {
        for id in self.followed.remove(&peer).unwrap_or_default() {
            if let Some(teller) = self.calls.get_mut(&id) {
                let before = teller.bytes();
                teller.followers.retain(|(follower, _)| *follower != peer);
                self.bytes = self.bytes - before + teller.bytes();
            }
        }
    }

    /// Forgets calls that are over and have told nothing for a caller's grace.
    pub fn sweep(&mut self, now_ms: u64, is_under_way: impl Fn(CallId) -> bool) {
        if now_ms < self.sweep_at_ms || self.order.is_empty() {
            return;
        }
        self.sweep_at_ms = now_ms + SWEEP_MS;
        for _ in 0..self.order.len().min(SWEPT_MAX) {
            let Some((known_ms, id)) = self.order.pop_front() else { return };
            if known_ms + defaults::INBOX_GRACE_MS > now_ms {
                self.order.push_front((known_ms, id));
                return;
            }
            match self.calls.get(&id).map(|teller| teller.told_ms) {
                Some(told_ms) if told_ms > known_ms => self.order.push_back((told_ms, id)),
                Some(_) if is_under_way(id) => self.order.push_back((now_ms, id)),
                _ => self.forget(id),
            }
        }
    }
}

impl Driver {
    /// A worker passes on what a running call tells of itself.
    pub fn progress(&mut self, peer: PeerId, report: ProgressReport) {
        let ProgressReport { lease, call, payload } = report;
        let attempt = match self.engine.attempt_under(Peer(peer.0), lease) {
            None => return self.outbox.ready.push((peer, Event::Stale { lease })),
            Some((id, attempt, true)) if id == call => attempt,
            // Its call has settled: nobody needs to know how far it came.
            Some(_) => return,
        };
        if payload.bytes.len() > defaults::PROGRESS_BYTES_MAX {
            return;
        }
        let now_ms = self.now().monotonic_ms;
        self.told.counter += 1;
        // As with lease tokens: the epoch keeps what is told after a restart above what was told before.
        let sequence = u64::from(self.epoch().0) << 40 | self.told.counter;
        let item = Progress { sequence, attempt, payload };
        let followers = self.told.change(call, now_ms, |teller| {
            teller.told_ms = now_ms;
            teller.push(item.clone());
            teller.followers.clone()
        });
        for (peer, tag) in followers {
            self.outbox.ready.push((peer, Event::Progress { tag, id: call, progress: item.clone() }));
        }
        self.told.fit(self.options.progress_bytes_max);
    }

    /// A caller wants to hear what a call tells of itself, after this sequence.
    pub fn follow(&mut self, peer: PeerId, id: CallId, tag: Tag, after: u64) {
        let known = self.told.calls.get(&id).map(|teller| teller.items.iter());
        let missed = known.into_iter().flatten().filter(|item| item.sequence > after);
        let missed = missed.map(|item| (peer, Event::Progress { tag, id, progress: item.clone() }));
        self.outbox.ready.extend(missed);
        if !self.engine.is_under_way(id) {
            return self.outbox.ready.push((peer, Event::ProgressEnded { tag }));
        }
        let now_ms = self.now().monotonic_ms;
        self.told.followed.entry(peer).or_default().insert(id);
        self.told.change(id, now_ms, |teller| {
            teller.followers.retain(|follower| *follower != (peer, tag));
            teller.followers.push((peer, tag));
        });
        self.told.fit(self.options.progress_bytes_max);
    }
}
