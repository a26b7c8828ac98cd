//! What callers, workers and operators do.

use super::World;
use crate::action::{Client, Deed, How, Shape};
use crate::caller::Caller;
use crate::link::Up;
use crate::random::blend;
use crate::routes;
use crate::swarm::Feature;
use crate::worker::Worker;
use antiphon_protocol::{Bulk, CallFilter, CallId, Query, Setting};

/// So many events without a fault make a time quiet.
const QUIET: u64 = 100;

impl World {
    /// Says something on a client's connection, if it has one.
    fn send(&mut self, client: Client, message: Up) -> bool {
        match self.links.current(client) {
            Some(link) => {
                link.send_up(message);
                true
            }
            None => false,
        }
    }

    fn is_up(&mut self, client: Client) -> bool {
        // Before the broker has answered the hello, nothing else is said.
        self.links.current(client).is_some_and(|link| link.peer.is_some() || !link.broker_holds)
    }

    fn new_id(&mut self, call: u32) -> CallId {
        let mut random = [0; 10];
        random[..4].copy_from_slice(&call.to_le_bytes());
        random[4..].copy_from_slice(&blend(self.swarm.seed, u64::from(call)).to_le_bytes()[..6]);
        let id = CallId::new(self.clock.wall_ms(), random);
        self.ids.insert(call, id);
        id
    }

    pub(super) fn submit(&mut self, caller: u8, call: u32, shape: &Shape) -> bool {
        if usize::from(caller) >= self.callers.len() || self.ids.contains_key(&call) {
            return false;
        }
        let group = shape.child_of.checked_sub(1).and_then(|group| self.ids.get(&group)).copied();
        if shape.child_of > 0 && group.is_none() {
            return false;
        }
        let id = self.new_id(call);
        let (now_ms, wall_ms) = (self.clock.true_ms(), self.clock.wall_ms());
        let up = self.is_up(Client::Caller(caller));
        let it = &mut self.callers[usize::from(caller)];
        let seen = it.submit(call, id, (shape, group), now_ms, wall_ms);
        self.history.push(seen);
        if up && let Some(message) = self.callers[usize::from(caller)].say(call, now_ms) {
            self.send(Client::Caller(caller), message);
        }
        self.coverage.submitted += 1;
        let unlimited = !self.swarm.has(Feature::LowLimits) && !self.swarm.has(Feature::QueueLimits);
        if self.quiet >= QUIET && unlimited && group.is_none() {
            self.coverage.quiet += 1;
            self.in_quiet.insert(call);
        }
        true
    }

    pub(super) fn submit_again(&mut self, caller: u8, call: u32) -> bool {
        if usize::from(caller) >= self.callers.len() || !self.is_up(Client::Caller(caller)) {
            return false;
        }
        let now_ms = self.clock.true_ms();
        let Some(message) = self.callers[usize::from(caller)].say(call, now_ms) else { return false };
        self.fired("Duplicate", true);
        self.send(Client::Caller(caller), message)
    }

    pub(super) fn attach(&mut self, caller: u8, call: u32) -> bool {
        let Some(id) = self.ids.get(&call).copied() else { return false };
        if usize::from(caller) >= self.callers.len() || !self.is_up(Client::Caller(caller)) {
            return false;
        }
        let it = &mut self.callers[usize::from(caller)];
        let Some(message) = it.attach(call, id) else { return false };
        let life = it.life;
        self.history.push(crate::history::Seen::Attached { caller, life, id });
        self.send(Client::Caller(caller), message)
    }

    pub(super) fn acknowledge(&mut self, caller: u8) -> bool {
        if usize::from(caller) >= self.callers.len() || !self.is_up(Client::Caller(caller)) {
            return false;
        }
        let Some(message) = self.callers[usize::from(caller)].acknowledge() else { return false };
        self.send(Client::Caller(caller), message)
    }

    pub(super) fn cancel(&mut self, caller: u8, call: u32) -> bool {
        let Some(id) = self.ids.get(&call).copied() else { return false };
        if usize::from(caller) >= self.callers.len() || !self.is_up(Client::Caller(caller)) {
            return false;
        }
        let message = self.callers[usize::from(caller)].cancel(id);
        self.send(Client::Caller(caller), message)
    }

    pub(super) fn ask(&mut self, caller: u8, call: u32) -> bool {
        let Some(id) = self.ids.get(&call).copied() else { return false };
        self.is_up(Client::Caller(caller)) && self.send(Client::Caller(caller), Up::Ask(Query::Status(id)))
    }

    pub(super) fn revive(&mut self, caller: u8, dead: u32, call: u32) -> bool {
        let Some(dead) = self.ids.get(&dead).copied() else { return false };
        if self.ids.contains_key(&call) || !self.is_up(Client::Caller(caller)) {
            return false;
        }
        let id = self.new_id(call);
        self.send(Client::Caller(caller), Up::Ask(Query::Revive { dead, id }))
    }

    pub(super) fn purge(&mut self, caller: u8, dead: u32) -> bool {
        let Some(dead) = self.ids.get(&dead).copied() else { return false };
        self.is_up(Client::Caller(caller)) && self.send(Client::Caller(caller), Up::Ask(Query::Purge(dead)))
    }

    /// The worker at this place, if it goes on.
    fn worker(&mut self, worker: u8) -> Option<&mut Worker> {
        self.workers.get_mut(usize::from(worker)).filter(|worker| !worker.paused)
    }

    pub(super) fn finish(&mut self, worker: u8, call: u32, how: How) -> bool {
        let Some(id) = self.ids.get(&call).copied() else { return false };
        let mut seen = Vec::new();
        let Some(message) = self.worker(worker).and_then(|worker| worker.finish(id, how, &mut seen)) else {
            return false;
        };
        self.history.append(&mut seen);
        if self.is_up(Client::Worker(worker)) {
            self.send(Client::Worker(worker), message);
        }
        true
    }

    pub(super) fn extend(&mut self, worker: u8, call: u32) -> bool {
        let Some(id) = self.ids.get(&call).copied() else { return false };
        let Some(message) = self.worker(worker).and_then(|worker| worker.extend(id)) else { return false };
        self.is_up(Client::Worker(worker)) && self.send(Client::Worker(worker), message)
    }

    pub(super) fn park(&mut self, worker: u8, call: u32) -> bool {
        let Some(id) = self.ids.get(&call).copied() else { return false };
        self.is_up(Client::Worker(worker))
            && self
                .worker(worker)
                .and_then(|worker| worker.park(id))
                .is_some_and(|m| self.send(Client::Worker(worker), m))
    }

    pub(super) fn go_on(&mut self, worker: u8, call: u32) -> bool {
        let Some(id) = self.ids.get(&call).copied() else { return false };
        let Some(message) = self.worker(worker).and_then(|worker| worker.go_on(id)) else { return false };
        // Without a connection it is said on the next.
        if self.is_up(Client::Worker(worker)) {
            self.send(Client::Worker(worker), message);
        }
        true
    }

    pub(super) fn tell(&mut self, worker: u8, call: u32) -> bool {
        let Some(id) = self.ids.get(&call).copied().filter(|_| self.is_up(Client::Worker(worker))) else {
            return false;
        };
        let mut seen = Vec::new();
        let Some(message) = self.worker(worker).and_then(|worker| worker.tell(id, &mut seen)) else { return false };
        self.history.append(&mut seen);
        self.send(Client::Worker(worker), message)
    }

    pub(super) fn follow(&mut self, caller: u8, call: u32) -> bool {
        let Some(id) = self.ids.get(&call).copied() else { return false };
        self.is_up(Client::Caller(caller)) && self.send(Client::Caller(caller), Caller::follow(call, id))
    }

    /// What an operator asks for becomes a question.
    pub(super) fn operate(&mut self, caller: u8, deed: Deed) -> bool {
        let configure = |number: u8, changes: Vec<(Setting, Option<u64>)>| {
            Some(Query::Configure { procedure: routes::procedure(number), changes })
        };
        let set = |value: u8| Some(u64::from(value)).filter(|value| *value > 0);
        let id = |call: u32| self.ids.get(&call).copied();
        let query = match deed {
            Deed::Cap(number, value) => configure(number, vec![(Setting::RunningMax, set(value))]),
            Deed::Pause(number, paused) => configure(number, vec![(Setting::Paused, paused.then_some(1))]),
            Deed::Rate(number, value) => {
                configure(number, vec![(Setting::RateCount, set(value)), (Setting::RateBurst, set(value).map(|_| 1))])
            }
            Deed::QueuedMax(number, value) => configure(number, vec![(Setting::QueuedMax, set(value))]),
            Deed::Subscribe(number) => Some(Query::Subscribe(Box::new(routes::subscription(number)))),
            Deed::Unsubscribe(number) => Some(Query::Unsubscribe(routes::subscription(number).name)),
            Deed::Schedule(number) => Some(Query::Schedule(Box::new(routes::schedule(number).0))),
            Deed::Unschedule(number) => Some(Query::Unschedule(routes::schedule_name(number))),
            Deed::PauseSchedule(number, paused) => {
                Some(Query::PauseSchedule { name: routes::schedule_name(number), paused })
            }
            Deed::Seal(group) => id(group).map(Query::Seal),
            Deed::Join(group, call) => id(group).zip(id(call)).map(|(group, call)| Query::Join { group, call }),
            Deed::AddCallback(call) => id(call).map(|call| Query::AddCallback {
                call,
                callback: Box::new(routes::callback(antiphon_protocol::CallbackOn::Outcome)),
            }),
            Deed::CancelAll(number) => Some(Query::Bulk(Bulk {
                deed: antiphon_protocol::Deed::Cancel,
                filter: CallFilter { procedure: Some(routes::procedure(number)), ..CallFilter::default() },
                dry_run: false,
                cursor: None,
            })),
        };
        let Some(query) = query else { return false };
        self.is_up(Client::Caller(caller)) && self.send(Client::Caller(caller), Up::Ask(query))
    }

    pub(super) fn credit(&mut self, worker: u8, slots: i8) -> bool {
        if !self.is_up(Client::Worker(worker)) {
            return false;
        }
        let Some(message) = self.worker(worker).map(|worker| worker.credit(i32::from(slots))) else { return false };
        self.send(Client::Worker(worker), message)
    }

    pub(super) fn drain(&mut self, worker: u8) -> bool {
        if !self.is_up(Client::Worker(worker)) {
            return false;
        }
        let Some(it) = self.worker(worker) else { return false };
        it.draining = true;
        self.send(Client::Worker(worker), Up::Drain)
    }

    pub(super) fn kill_caller(&mut self, caller: u8) -> bool {
        if usize::from(caller) >= self.callers.len() {
            return false;
        }
        self.give_up(Client::Caller(caller));
        self.lives += 1;
        let named = self.swarm.has(Feature::NamedInboxes) && caller.is_multiple_of(2);
        self.callers[usize::from(caller)] = Caller::new(caller, self.lives, named);
        self.fired("KillCaller", true);
        true
    }

    pub(super) fn kill_worker(&mut self, worker: u8) -> bool {
        if usize::from(worker) >= self.workers.len() {
            return false;
        }
        self.give_up(Client::Worker(worker));
        self.lives += 1;
        self.workers[usize::from(worker)] = Worker::new(worker, self.lives, self.swarm.procedures, self.swarm.slots);
        self.fired("KillWorker", true);
        true
    }

    pub(super) fn pause(&mut self, worker: u8) -> bool {
        let Some(it) = self.worker(worker) else { return false };
        it.paused = true;
        self.fired("Zombie", true);
        true
    }

    pub(super) fn resume(&mut self, worker: u8) -> bool {
        let Some(it) = self.workers.get_mut(usize::from(worker)).filter(|worker| worker.paused) else { return false };
        it.paused = false;
        true
    }
}
