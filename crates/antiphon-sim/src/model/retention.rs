//! What the broker may forget, and when.

use super::Model;
use super::calls::{Known, Phase};
use antiphon_protocol::{CallId, State};

impl Model {
    /// The broker does not know a settled call any more.
    pub(super) fn forgotten(&mut self, id: CallId) {
        let Some(known) = self.calls.get(&id) else { return };
        if let Some(wrong) = self.keeps(known) {
            let age_ms = self.now.wall_ms.saturating_sub(known.settled_wall_ms);
            self.blame(format!("call {id} ({:?}) was forgotten after {age_ms} ms although {wrong}", known.phase));
        }
        self.forget(id);
    }

    pub(super) fn forget(&mut self, id: CallId) {
        self.open.remove(&id);
        let Some(known) = self.calls.remove(&id) else { return };
        if let Some(key) = &known.key {
            let key = (known.route.procedure.clone(), key.clone());
            if self.keys.get(&key) == Some(&id) {
                self.keys.remove(&key);
            }
        }
        if known.is_settled() && known.durable {
            self.graveyard.insert(id, known);
        }
    }

    /// Why a settled call must be kept, if it must.
    fn keeps(&self, known: &Known) -> Option<&'static str> {
        if known.lease.is_some() {
            return Some("its attempt has not stopped");
        }
        let named = known.inbox.as_ref().is_some_and(|inbox| inbox.starts_with("named"));
        let private = !known.durable && !known.wants_acceptance;
        if named && !known.acknowledged {
            return Some("its named inbox has not acknowledged it");
        }
        if private {
            return None;
        }
        let age_ms = self.now.wall_ms.saturating_sub(known.settled_wall_ms);
        if known.phase == Phase::Settled(State::Dead) && known.durable {
            return (age_ms < self.limits.dead_letter_ms && !known.evicted).then_some("it is a young dead letter");
        }
        if known.key.is_some() {
            return (age_ms < self.limits.idempotency_ms).then_some("its key is within its window");
        }
        let roomy = self.limits.outcome_bytes > 1 << 20;
        (age_ms < self.limits.outcome_ms && roomy).then_some("its outcome is within its retention")
    }

    /// Of each procedure's dead letters only so many are kept; which of two of the same instant goes, nobody says.
    pub(super) fn evict_dead(&mut self) {
        let most = self.limits.dead_letters_max as usize;
        let kept = |known: &&Known| known.phase == Phase::Settled(State::Dead) && known.durable && !known.evicted;
        let mut dead: Vec<_> = self.calls.values().filter(kept).collect();
        dead.sort_by_key(|known| (known.route.procedure.clone(), known.settled_wall_ms));
        let mut gone = Vec::new();
        for of_one in dead.chunk_by(|a, b| a.route.procedure == b.route.procedure) {
            let Some(last) = of_one.len().checked_sub(most + 1).and_then(|at| of_one.get(at)) else { continue };
            let old = of_one.iter().filter(|known| known.settled_wall_ms <= last.settled_wall_ms);
            gone.extend(old.map(|known| known.id));
        }
        for id in gone {
            if let Some(known) = self.calls.get_mut(&id) {
                known.evicted = true;
            }
        }
    }

    /// Outcomes that wait in named inboxes.
    pub fn unread(&self) -> usize {
        let named = |known: &&Known| known.inbox.as_ref().is_some_and(|inbox| inbox.starts_with("named"));
        self.calls.values().filter(named).filter(|known| known.is_settled() && !known.acknowledged).count()
    }

    /// An operator purged a dead letter.
    pub fn purged(&mut self, id: CallId) {
        if !self.calls.get(&id).is_some_and(|known| known.phase == Phase::Settled(State::Dead)) {
            self.blame(format!("call {id} was purged and was no dead letter"));
        }
        self.forget(id);
    }

    /// Somebody was told of a purge: it is for good.
    pub fn told_purged(&mut self, id: CallId) {
        self.purged.insert(id);
    }
}
