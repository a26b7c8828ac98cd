//! Handing ready calls to free slots.
//!
//! Nothing is scanned: a section whose queue got a call and a worker that got a slot are put on a list, and each
//! grant takes the front of a queue and the better of the two workers at the front of a ring.

use crate::Engine;
use crate::call::{NONE, SUSPECT};
use crate::effect::Effects;
use crate::limits::Order;
use crate::planted::planted;
use crate::queue::Entry;
use crate::worker::Served;
use antiphon_protocol::State;
use core::cmp::Reverse;

/// What came of looking at the front of a queue for a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Taken {
    /// A lease was granted.
    Granted,
    /// The call went aside: its concurrency key is full.
    Aside,
    /// There is none that this worker may run.
    Nothing,
}

impl Engine {
    /// A ready call stands in its lane, and in its queue when it is the first there.
    pub(crate) fn stand(&mut self, index: u32) {
        if self.enter_lane(index) {
            self.enqueue(index);
        }
    }

    /// Puts a ready call in line.
    pub(crate) fn enqueue(&mut self, index: u32) {
        let call = self.calls.get(index);
        let route = self.routes.get(call.route);
        let entry = self.entry_of(index);
        let (line, place, suspect) = (route.line, route.section, call.has(SUSPECT));
        self.pass_time(route.procedure);
        let section = self.sections.get_mut(place);
        if suspect {
            section.suspects.push_back(entry);
        } else {
            section.queue.push(line, entry);
        }
        self.wake_section(place);
    }

    /// A ready call's entry in its line.
    pub(crate) fn entry_of(&self, index: u32) -> Entry {
        let call = self.calls.get(index);
        if self.limits.order == Order::Submitted {
            return Entry { due_ms: call.at_ms, call: index, stamp: call.stamp };
        }
        let class = self.routes.get(call.route).route.priority.class();
        let mut due_ms = call.at_ms.saturating_add(patience_ms(class));
        if call.deadline_ms != 0 {
            due_ms = due_ms.min(call.deadline_ms);
        }
        Entry { due_ms, call: index, stamp: call.stamp }
    }

    pub(crate) fn wake_section(&mut self, place: u32) {
        let section = self.sections.get_mut(place);
        if !section.busy && !section.ring.is_empty() {
            section.busy = true;
            self.busy_sections.push_back(place);
        }
    }

    /// Takes a ready call out of wherever it waits, but for its lane, without leasing it.
    pub(crate) fn step_out(&mut self, index: u32) {
        let behind = self.waits_in_lane(index);
        let call = self.calls.get_mut(index);
        let stamp = call.stamp;
        call.stamp = stamp.wrapping_sub(1 << 31);
        if behind || self.leave_key(index) {
            return;
        }
        self.pass_time(self.procedure_of(index));
        let call = self.calls.get(index);
        let (route, suspect) = (self.routes.get(call.route), call.has(SUSPECT));
        let (place, line) = (route.section, route.line);
        let calls = &self.calls;
        let section = self.sections.get_mut(place);
        if suspect {
            section.suspects.retain(|entry| !(entry.call == index && entry.stamp == stamp));
        } else {
            section.queue.strike(line, |entry| is_live(calls, entry));
        }
        self.drop_spare_reservations(place);
    }

    pub(crate) fn dispatch(&mut self, budget: u32, effects: &mut impl Effects) {
        let mut left = budget;
        while left > 0 {
            if let Some(worker) = self.busy_workers.pop_front() {
                left = self.fill_worker(worker, left, effects);
            } else if let Some(section) = self.busy_sections.pop_front() {
                left = self.serve_section(section, left, effects);
            } else {
                return;
            }
        }
    }

    /// Gives a worker's free slots to those that want to go on, then to its sections in turn, then puts it in the rings
    /// of those it could still serve.
    fn fill_worker(&mut self, place: u32, mut left: u32, effects: &mut impl Effects) -> u32 {
        let fits = self.resume_first(place, effects);
        let Some(worker) = self.workers.get_mut(place) else { return left };
        worker.blocked = !fits;
        left = left.saturating_sub(1);
        loop {
            let Some(worker) = self.workers.get(place) else { return left };
            let free = worker.free();
            if free == 0 {
                return left;
            }
            if left == 0 {
                self.busy_workers.push_back(place);
                return 0;
            }
            let Some((turn, section)) = self.next_section(place) else { break };
            if self.sections.get(section).needs.slots > free {
                self.reserve(place, section);
                return left;
            }
            if let Some(worker) = self.workers.get_mut(place) {
                worker.turn = turn + 1;
            }
            if self.take_next(section, place, effects) == Taken::Nothing {
                break;
            }
            left -= 1;
        }
        self.join_rings(place);
        left
    }

    /// The next of the worker's sections, in turn, that has something this worker may run: the one it keeps slots free
    /// for, if there is one.
    fn next_section(&mut self, place: u32) -> Option<(usize, u32)> {
        let worker = self.workers.get(place)?;
        let (turn, reserved) = (worker.turn, worker.reserved);
        if reserved != NONE {
            if self.takes_from(place, reserved) {
                return Some((turn, reserved));
            }
            self.drop_reservation(place);
        }
        let worker = self.workers.get(place)?;
        let count = worker.serves.len();
        (0..count).map(|step| (turn + step) % count).find_map(|turn| {
            let section = worker.serves.get(turn)?.section;
            self.takes_from(place, section).then_some((turn, section))
        })
    }

    /// Whether the section has a call for this worker, now or once it has kept enough slots free.
    fn takes_from(&self, place: u32, at: u32) -> bool {
        let Some(worker) = self.workers.get(place) else { return false };
        let section = self.sections.get(at);
        let ready = section.queue.ready() > 0 || (!section.suspects.is_empty() && worker.suspect == NONE);
        if !ready || !self.procedures.get(section.procedure).may_start(self.now) {
            return false;
        }
        let slots = section.needs.slots;
        slots <= worker.free()
            || (slots <= worker.total() && (worker.reserved == at || section.reserving.len() < section.ready()))
    }

    /// The worker takes nothing else until it has the slots that a call of this section needs: without that, lighter
    /// calls would take every slot that becomes free, for ever.
    fn reserve(&mut self, place: u32, section: u32) {
        let Some(worker) = self.workers.get_mut(place) else { return };
        if worker.reserved != section && !planted!("no slots are kept for heavy calls") {
            worker.reserved = section;
            self.sections.get_mut(section).reserving.push(place);
        }
    }

    fn drop_reservation(&mut self, place: u32) {
        let Some(worker) = self.workers.get_mut(place) else { return };
        let section = core::mem::replace(&mut worker.reserved, NONE);
        if section != NONE {
            self.sections.get_mut(section).reserving.retain(|other| *other != place);
        }
    }

    /// Workers that keep slots free for calls that are no longer there take others again.
    fn drop_spare_reservations(&mut self, section: u32) {
        if planted!("slots stay kept for calls that are gone") {
            return;
        }
        while self.sections.get(section).reserving.len() > self.sections.get(section).ready() {
            let Some(place) = self.sections.get(section).reserving.last().copied() else { return };
            self.drop_reservation(place);
            self.busy_workers.push_back(place);
        }
    }

    /// The procedure may start nothing now: nobody keeps slots free for it.
    pub(crate) fn release_reservations(&mut self, procedure: u32) {
        for at in 0..self.procedures.get(procedure).sections.len() {
            let Some(section) = self.procedures.get(procedure).sections.get(at).copied() else { return };
            while let Some(place) = self.sections.get(section).reserving.last().copied() {
                self.drop_reservation(place);
                self.busy_workers.push_back(place);
            }
        }
    }

    /// A connected worker can take from every section of its procedures whose labels it has and whose arguments it takes.
    pub(crate) fn offer_sections(&mut self, place: u32) {
        let offers = self.workers.get(place).map_or(0, |worker| worker.offers.len());
        for at in 0..offers {
            let offered = self.workers.get(place).and_then(|worker| worker.offers.get(at));
            let Some(procedure) = offered.map(|offered| offered.procedure) else { return };
            for at in 0..self.procedures.get(procedure).sections.len() {
                if let Some(section) = self.procedures.get(procedure).sections.get(at).copied() {
                    self.offer_section(place, section);
                }
            }
        }
    }

    /// The same for one section.
    pub(crate) fn offer_section(&mut self, place: u32, at: u32) {
        let section = self.sections.get_mut(at);
        let Some(worker) = self.workers.get_mut(place) else { return };
        let serves = worker.peer.is_some()
            && worker.understands(section.procedure, &section.needs)
            && section.needs.met_by(&worker.labels)
            && !worker.serves.iter().any(|served| served.section == at);
        if serves {
            section.workers += 1;
            section.ring.push_back(place);
            worker.serves.push(Served { section: at, in_ring: true });
        }
    }

    /// A worker takes from no section any more.
    pub(crate) fn withdraw_sections(&mut self, place: u32) {
        self.drop_reservation(place);
        let Some(worker) = self.workers.get_mut(place) else { return };
        for served in core::mem::take(&mut worker.serves) {
            let section = self.sections.get_mut(served.section);
            section.workers -= 1;
            if served.in_ring {
                section.ring.retain(|other| *other != place);
            }
        }
    }

    fn join_rings(&mut self, place: u32) {
        let Some(worker) = self.workers.get_mut(place) else { return };
        for served in &mut worker.serves {
            if !served.in_ring {
                served.in_ring = true;
                self.sections.get_mut(served.section).ring.push_back(place);
            }
        }
    }

    fn serve_section(&mut self, place: u32, mut left: u32, effects: &mut impl Effects) -> u32 {
        self.sections.get_mut(place).busy = false;
        // A worker may be unable to take what is left: one that runs a suspect takes no other. Each is tried once.
        let mut untried = self.sections.get(place).ring.len();
        let procedure = self.sections.get(place).procedure;
        while self.sections.get(place).ready() > 0 && untried > 0 && self.procedures.get(procedure).may_start(self.now)
        {
            if left == 0 {
                self.wake_section(place);
                return 0;
            }
            left -= 1;
            let Some(worker) = self.freest(place) else { return left };
            let (free, total) = self.workers.get(worker).map_or((0, 0), |worker| (worker.free(), worker.total()));
            let section = self.sections.get(place);
            if section.needs.slots > free {
                if section.needs.slots <= total && section.reserving.len() < section.ready() {
                    self.reserve(worker, place);
                }
                untried -= 1;
            } else if self.take_next(place, worker, effects) == Taken::Nothing {
                untried -= 1;
            }
        }
        left
    }

    /// Of the two workers at the front of the ring, the better one (power of two choices): one that has the slots, that
    /// has failed less of late, that has more free slots. The one taken goes to the back.
    fn freest(&mut self, section: u32) -> Option<u32> {
        let first = self.ring_front(section)?;
        self.sections.get_mut(section).ring.pop_front();
        let second = self.ring_front(section).filter(|second| *second != first);
        let chosen = match second {
            Some(second) => {
                self.sections.get_mut(section).ring.pop_front();
                let better = self.fitness(section, second) > self.fitness(section, first);
                let (chosen, other) = if better { (second, first) } else { (first, second) };
                self.sections.get_mut(section).ring.push_front(other);
                chosen
            }
            None => first,
        };
        self.sections.get_mut(section).ring.push_back(chosen);
        Some(chosen)
    }

    /// How good a worker is for a section's next call; the greater the better.
    fn fitness(&self, section: u32, place: u32) -> (bool, bool, Reverse<u32>, u32) {
        let section = self.sections.get(section);
        let Some(worker) = self.workers.get(place) else { return (false, false, Reverse(u32::MAX), 0) };
        // One that runs a suspect cannot take another, however many free slots it has.
        let takes = section.queue.ready() > 0 || worker.suspect == NONE;
        let free = worker.free();
        (takes, section.needs.slots <= free, Reverse(worker.failures(self.now)), free)
    }

    /// The worker at the front of the ring, after dropping those that have no free slot any more.
    fn ring_front(&mut self, section: u32) -> Option<u32> {
        loop {
            let place = *self.sections.get(section).ring.front()?;
            let serves = self.workers.get(place).is_some_and(|worker| {
                worker.free() > 0
                    && (worker.reserved == NONE || worker.reserved == section)
                    && worker.serves.iter().any(|served| served.section == section && served.in_ring)
            });
            if serves {
                return Some(place);
            }
            self.sections.get_mut(section).ring.pop_front();
            self.left_ring(place, section);
        }
    }

    fn left_ring(&mut self, place: u32, section: u32) {
        if let Some(worker) = self.workers.get_mut(place)
            && let Some(served) = worker.serves.iter_mut().find(|served| served.section == section)
        {
            served.in_ring = false;
        }
    }

    /// Leases the section's next call to this worker.
    fn take_next(&mut self, place: u32, worker: u32, effects: &mut impl Effects) -> Taken {
        let runs_suspect = self.workers.get(worker).is_none_or(|worker| worker.suspect != NONE);
        self.pass_time(self.sections.get(place).procedure);
        let calls = &self.calls;
        let classes = self.limits.classes;
        let section = self.sections.get_mut(place);
        let suspect = if runs_suspect { None } else { section.suspects.pop_front() };
        let Some(entry) = suspect.or_else(|| section.queue.pop(classes, |entry| is_live(calls, entry))) else {
            return Taken::Nothing;
        };
        if !self.passes_key(entry.call) {
            self.drop_spare_reservations(place);
            return Taken::Aside;
        }
        if self.workers.get(worker).is_some_and(|worker| worker.reserved == place) {
            self.drop_reservation(worker);
        }
        self.grant(entry.call, worker, effects);
        self.drop_spare_reservations(place);
        Taken::Granted
    }
}

/// Whether an entry still stands for a ready call.
pub(crate) fn is_live(calls: &crate::call::Calls, entry: &Entry) -> bool {
    calls.slot(entry.call).is_some_and(|call| call.state == State::Ready && call.stamp == entry.stamp)
}

/// How long calls of a class wait before others of their tenant go first that are due earlier.
pub(crate) fn patience_ms(class: u8) -> u64 {
    u64::from(10 - class) * 1_000
}
