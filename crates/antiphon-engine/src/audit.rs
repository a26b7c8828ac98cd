//! What is counted along the way, counted anew from the calls: the two must agree at any time.

use crate::Engine;
use crate::group::Phase;
use crate::waiting::Waiting;
use alloc::format;
use alloc::string::String;
use antiphon_protocol::State;

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
        for index in 0..self.calls.end() {
            let Some(call) = self.calls.slot(index) else { continue };
            if !call.state.is_settled() {
                unsettled += 1;
                reserved += u64::from(self.weight(index) - 1);
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
        self.audit_slots()?;
        self.audit_waiting()
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
