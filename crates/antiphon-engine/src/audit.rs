//! What is counted along the way, counted anew from the calls: the two must agree at any time.

use crate::Engine;
use crate::call::NONE;
use crate::group::Phase;
use crate::parking::Parking;
use crate::waiting::Waiting;
use crate::worker::Worker;
use alloc::format;
use alloc::string::String;
use antiphon_protocol::State;
use core::hash::Hash;
use hashbrown::{DefaultHashBuilder, HashMap};

type Counts<K> = HashMap<K, u32, DefaultHashBuilder>;

fn count<K: Eq + Hash>(counts: &Counts<K>, of: &K) -> u32 {
    counts.get(of).copied().unwrap_or(0)
}

impl Engine {
    /// How many unsettled calls there are, with those that their callbacks may become.
    #[must_use]
    pub fn load(&self) -> u64 {
        u64::from(self.unsettled) + self.reserved
    }

    /// Compares every running count with what it counts. For tests: it looks at every call.
    ///
    /// # Errors
    /// Which count is off, in words.
    pub fn audit(&self) -> Result<(), String> {
        let (mut unsettled, mut reserved) = (0, 0);
        let mut of_procedures = Counts::default();
        for index in 0..self.calls.end() {
            let Some(call) = self.calls.slot(index) else { continue };
            if !call.state.is_settled() {
                unsettled += 1;
                reserved += u64::from(self.weight(index) - 1);
                for planned in self.planned(index) {
                    self.routes.get(planned.route).route.visit(&mut |each| {
                        *of_procedures.entry(each.procedure.clone()).or_default() += 1;
                    });
                }
            }
        }
        for (group, children) in &self.groups {
            let members = || children.members.iter().filter_map(|member| self.calls.slot(*member));
            let open = members().filter(|call| !call.state.is_settled()).count();
            let succeeded = members().filter(|call| call.state == State::Succeeded).count();
            let counted = (children.counts.open as usize, children.counts.succeeded as usize);
            // The places of children that were released may be others'.
            if (open, succeeded) != counted && !matches!(children.phase, Phase::Releasing(_)) {
                return Err(format!(
                    "group {group} has {open} open and {succeeded} succeeded, {counted:?} are counted"
                ));
            }
        }
        if unsettled != self.unsettled {
            return Err(format!("{unsettled} calls are not settled, {} are counted", self.unsettled));
        }
        if reserved != self.reserved {
            return Err(format!("{reserved} calls are reserved, {} are counted", self.reserved));
        }
        for it in self.procedures.iter() {
            let reserved = u64::from(count(&of_procedures, &it.name));
            if reserved != it.reserved {
                return Err(format!("{reserved} callbacks are calls of {}, {} are counted", it.name, it.reserved));
            }
        }
        self.audit_slots()?;
        self.audit_waiting()?;
        self.audit_leases()?;
        self.audit_sections()
    }

    /// Slots, running calls and concurrency keys, against the leases there are.
    fn audit_leases(&self) -> Result<(), String> {
        let (mut used, mut parked, mut running, mut keys) =
            (Counts::default(), Counts::default(), Counts::default(), Counts::default());
        for index in 0..self.calls.end() {
            let Some(call) = self.calls.slot(index) else { continue };
            if self.waits_in_lane(index) && (call.lease != NONE || call.state != State::Ready) {
                return Err(format!("{} runs while another is first in its lane", call.id));
            }
            if call.lease == NONE {
                continue;
            }
            let lease = self.leases.get(call.lease);
            if lease.parking == Parking::Running {
                *used.entry(lease.worker).or_default() += lease.slots;
                *running.entry(self.procedure_of(index)).or_default() += 1;
            } else {
                *parked.entry(lease.worker).or_default() += 1;
            }
            if let Some(key) = self.ties(index).and_then(|ties| self.concurrency_key(call.route, ties)) {
                *keys.entry(key).or_default() += 1;
            }
        }
        for place in self.workers.places() {
            let Some(worker) = self.workers.get(place) else { continue };
            let slots = (count(&used, &place), count(&parked, &place));
            if (worker.used, worker.parked) != slots {
                let counted = (worker.used, worker.parked);
                return Err(format!("{slots:?} slots used and parked of {}, {counted:?} are counted", worker.name));
            }
        }
        for place in 0..self.procedures.len() {
            let (it, runs) = (self.procedures.get(place), count(&running, &place));
            if it.running != runs {
                return Err(format!("{runs} calls of {} run, {} are counted", it.name, it.running));
            }
        }
        for (key, held) in self.concurrency.iter() {
            let runs = count(&keys, key);
            if held.running != runs {
                return Err(format!("{runs} calls of {key:?} run, {} are counted", held.running));
            }
        }
        Ok(())
    }

    /// Sections and workers name each other, and no slots are kept free for calls that are not there.
    fn audit_sections(&self) -> Result<(), String> {
        for place in 0..self.sections.len() {
            let section = self.sections.get(place);
            let serves = |worker: &&Worker| worker.serves.iter().any(|served| served.section == place);
            let serving = self.workers.iter().filter(serves).count();
            let keeps = |worker: &u32| self.workers.get(*worker).is_some_and(|worker| worker.reserved == place);
            if section.workers as usize != serving || !section.reserving.iter().all(keeps) {
                return Err(format!("{serving} workers serve a section, {} are counted", section.workers));
            }
            if section.reserving.len() > section.ready() {
                let (keeping, ready) = (section.reserving.len(), section.ready());
                return Err(format!("{keeping} workers keep slots free for {ready} calls"));
            }
        }
        Ok(())
    }

    fn audit_slots(&self) -> Result<(), String> {
        for place in 0..self.procedures.len() {
            let serving = self.workers.iter().map(|worker| {
                let times = worker.offers.iter().filter(|offer| offer.procedure == place).count();
                worker.capacity() * times as u64
            });
            let (slots, it) = (serving.sum::<u64>(), self.procedures.get(place));
            if slots != it.slots {
                return Err(format!("{slots} slots serve {}, {} are counted", it.name, it.slots));
            }
        }
        Ok(())
    }

    fn audit_waiting(&self) -> Result<(), String> {
        let mut of_procedures = alloc::vec![Waiting::default(); self.procedures.len() as usize];
        let mut of_accounts = alloc::vec![Waiting::default(); self.accounts.len()];
        let all = (0..self.calls.end()).filter_map(|index| self.calls.slot(index));
        for call in all.filter(|call| matches!(call.state, State::Scheduled | State::Ready)) {
            let route = self.routes.get(call.route);
            let account = of_accounts.get_mut(route.account as usize);
            let procedure = of_procedures.get_mut(route.procedure as usize);
            account.into_iter().chain(procedure).for_each(|sum| sum.add(call.bytes));
        }
        for (procedure, sum) in self.procedures.iter().zip(of_procedures) {
            if procedure.waiting != sum {
                return Err(format!("{sum:?} of {}, {:?} is counted", procedure.name, procedure.waiting));
            }
        }
        for (account, sum) in (0..).zip(of_accounts) {
            if self.accounts.get(account) != sum {
                return Err(format!("{sum:?} of one tenant, {:?} is counted", self.accounts.get(account)));
            }
        }
        Ok(())
    }
}
