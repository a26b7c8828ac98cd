//! What passing time does, as the model has it: delays end, deadlines and leases run out, free slots are filled.

use super::Model;
use super::calls::Phase;
use antiphon_engine::Engine;
use antiphon_protocol::{CallId, Knowledge, State};

impl Model {
    /// The broker has been pumped: it did what was due, then handed ready calls to free slots.
    pub fn pass(&mut self, engine: &Engine) {
        self.tick(engine);
        let now_ms = self.now.monotonic_ms;
        let offset = self.now.wall_ms - now_ms;
        for (id, serial) in std::mem::take(&mut self.leaving) {
            let current = self.calls.get(&id).and_then(|known| known.lease.as_ref());
            if current.is_some_and(|lease| lease.serial == serial) {
                self.lose(id);
            }
        }
        let open: Vec<CallId> = self.open.iter().copied().collect();
        for id in &open {
            let Some(known) = self.calls.get_mut(id) else { continue };
            known.offsets.1 = known.offsets.1.max(offset);
            if matches!(known.phase, Phase::Scheduled(due_ms) if due_ms <= now_ms) {
                self.change(*id, Phase::Ready);
            }
        }
        for id in &open {
            let Some(known) = self.calls.get(id) else { continue };
            if known.deadline_ms != 0 && known.deadline_ms <= now_ms && !known.is_settled() {
                self.settle(*id, State::Expired, None);
            }
        }
        self.expire_leases(&open);
        for id in &open {
            if self.calls.get(id).is_some_and(|known| known.phase == Phase::Ready)
                && let Knowledge::Known(status) = engine.knowledge(*id)
                && status.state == State::Leased
            {
                self.granted(*id, &status);
            }
        }
        self.compare(engine);
        self.nobody_idles();
    }

    fn expire_leases(&mut self, open: &[CallId]) {
        let now_ms = self.now.monotonic_ms;
        let leases = open.iter().filter_map(|id| Some((*id, self.calls.get(id)?.lease.as_ref()?)));
        let over = leases.filter(|(_, lease)| lease.ends_ms <= now_ms);
        let mut over: Vec<_> = over.map(|(id, lease)| (lease.ends_ms, lease.order, id)).collect();
        over.sort_unstable();
        for (_, _, id) in over {
            let Some(lease) = self.calls.get(&id).and_then(|known| known.lease.clone()) else { continue };
            if !lease.crowded {
                let held = self.leases_of(lease.worker);
                self.mark_crowded(&held);
            }
            self.lose(id);
        }
    }
}
