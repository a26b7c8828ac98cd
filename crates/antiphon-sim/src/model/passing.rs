//! What passing time does, as the model has it: delays end, deadlines and leases run out, free slots are filled.

use super::Model;
use super::calls::Phase;
use antiphon_engine::Engine;
use antiphon_protocol::{CallId, Knowledge, Name, State};

impl Model {
    /// The broker has been pumped: it did what was due, then handed ready calls to free slots.
    pub fn pass(&mut self, engine: &Engine) {
        self.tick(engine);
        // Ticks of schedules come first.
        self.discover(engine);
        let now_ms = self.now.monotonic_ms;
        let offset = self.now.wall_ms - now_ms;
        for (id, serial) in std::mem::take(&mut self.leaving) {
            let current = self.calls.get(&id).and_then(|known| known.lease.as_ref());
            if current.is_some_and(|lease| lease.serial == serial) {
                self.lose(id);
            }
        }
        self.order += 1;
        let order = self.order;
        let open: Vec<CallId> = self.open.iter().copied().collect();
        for id in &open {
            let Some(known) = self.calls.get_mut(id) else { continue };
            known.offsets.1 = known.offsets.1.max(offset);
            let Phase::Scheduled(due_ms) = known.phase else { continue };
            if due_ms > now_ms {
                continue;
            }
            if known.group.is_some() {
                self.reached.insert("a group that was never sealed");
                self.settle(*id, State::Expired, None);
                continue;
            }
            // A retry for which there is no budget waits on.
            let held = self.budget && known.durable && known.failed > 0;
            if held && is_scheduled(engine, *id) {
                self.reached.insert("a retry that waits for its budget");
                continue;
            }
            self.change(*id, Phase::Ready);
            self.join_lane(*id, (order, due_ms));
        }
        for id in &open {
            let Some(known) = self.calls.get(id) else { continue };
            if known.deadline_ms != 0 && known.deadline_ms <= now_ms && !known.is_settled() {
                self.settle(*id, State::Expired, None);
            }
        }
        self.expire_leases(&open);
        self.settle_groups();
        self.discover(engine);
        // What was made meanwhile may have started, too.
        let open: Vec<CallId> = self.open.iter().copied().collect();
        for id in &open {
            if self.calls.get(id).is_some_and(|known| known.phase == Phase::Ready)
                && let Knowledge::Known(status) = engine.knowledge(*id)
                && status.state == State::Leased
            {
                self.granted(*id, &status);
            }
        }
        self.cancel_by_ticks(engine);
        let bulk = self.cancel_in_bulk(engine);
        // Everything that the broker made by now was looked for above; callbacks of the last settlements were counted twice.
        self.made.accepted = engine.counters().accepted;
        self.compare(engine);
        if !bulk {
            self.nobody_idles();
        }
    }

    /// A schedule may cancel the call of its tick before.
    fn cancel_by_ticks(&mut self, engine: &Engine) {
        let of = |known: &&super::Known| known.route.procedure == crate::routes::ticked(3) && !known.is_settled();
        let all: Vec<CallId> = self.open_calls().filter(of).map(|known| known.id).collect();
        for id in all {
            let cancelled = |status: &antiphon_protocol::CallStatus| status.state == State::Cancelled;
            if matches!(engine.knowledge(id), Knowledge::Known(status) if cancelled(&status)) {
                self.settle(id, State::Cancelled, None);
            }
        }
    }

    /// What an operator had cancelled in bulk: the broker did so after it handed out leases.
    fn cancel_in_bulk(&mut self, engine: &Engine) -> bool {
        let bulk = std::mem::take(&mut self.bulk);
        // One after the other: the callbacks of what the first cancels are there for the next.
        for procedure in &bulk {
            self.cancel_all_of(engine, procedure);
        }
        !bulk.is_empty()
    }

    fn cancel_all_of(&mut self, engine: &Engine, procedure: &Name) {
        let of = |known: &&super::Known| known.route.procedure == *procedure && !known.is_settled();
        let all: Vec<CallId> = self.calls.values().filter(of).map(|known| known.id).collect();
        for id in all {
            let Knowledge::Known(status) = engine.knowledge(id) else {
                // Nobody waits for it, so it was forgotten at once.
                self.settle(id, State::Cancelled, None);
                self.compare_one(engine, id);
                continue;
            };
            if status.state != State::Cancelled {
                continue;
            }
            if status.stopping && self.calls.get(&id).is_some_and(|known| known.phase == Phase::Ready) {
                self.granted(id, &status);
            }
            self.reached.insert("a call cancelled in bulk");
            self.settle(id, State::Cancelled, None);
        }
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

fn is_scheduled(engine: &Engine, id: CallId) -> bool {
    matches!(engine.knowledge(id), Knowledge::Known(status) if status.state == State::Scheduled)
}
