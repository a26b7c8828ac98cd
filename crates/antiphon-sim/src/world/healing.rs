//! After the faults: nothing goes wrong any more, so everything must settle, and everybody must learn how.

use super::World;
use crate::action::{Action, Client, How};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How many rounds of "deliver everything, finish everything, wait" it may take. With one slot a round may settle one call
/// only, and hundreds may have been made by callbacks, events and schedules.
const ROUNDS_MAX: usize = 2_000;

impl World {
    /// Lets everything settle; a panic is a finding.
    pub fn heal_safely(&mut self) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.heal())) {
            self.wrong.push(format!("the simulation panicked: {}", crate::panic_text(&*panic)));
        }
    }

    /// Lets everything settle; blames what does not.
    fn heal(&mut self) {
        self.disk.heal();
        for worker in 0..self.workers.len() as u8 {
            self.step(&Action::Resume(worker));
        }
        for round in 0..ROUNDS_MAX {
            if self.has_failed() || (round > 0 && self.is_settled()) {
                break;
            }
            self.round(round);
        }
        self.links.sweep();
        if !self.has_failed() && !self.is_settled() {
            let waiting = self.model.unsettled();
            let callers = self.callers.iter().filter(|caller| caller.waits()).count();
            let detail = format!("{} outcomes unread; {}", self.model.unread(), self.model.waiting());
            let broker = self.broker.as_ref().map_or_else(
                || "does not run".to_owned(),
                |broker| format!("has the workers {:?}", broker.driver.engine().workers()),
            );
            let detail = format!("{detail}; left to undo: {:?}", self.model.to_undo());
            self.wrong.push(format!(
                "after the faults {waiting} calls and {callers} callers wait for ever; the broker {broker}; {detail}"
            ));
        }
        if !self.has_failed() {
            self.model.everything_heard();
        }
        // Once more from the disk: what is served now must stand there.
        self.step(&Action::StopBroker);
        self.step(&Action::Start);
    }

    fn is_settled(&self) -> bool {
        let read = self.model.unread() == 0;
        let distributed = self.broker.as_ref().is_some_and(|broker| !broker.driver.engine().has_undistributed());
        read && distributed
            && self.model.unsettled() == 0
            && self.model.to_undo().is_empty()
            && self.callers.iter().all(|caller| !caller.waits())
    }

    fn clients(&self) -> Vec<Client> {
        let callers = (0..self.callers.len() as u8).map(Client::Caller);
        callers.chain((0..self.workers.len() as u8).map(Client::Worker)).collect()
    }

    fn round(&mut self, round: usize) {
        self.step(&Action::Start);
        for client in self.clients() {
            // Whoever lost its connection, or has one that loses what is sent, opens another.
            if self.links.current(client).is_some_and(|link| link.loses_up || link.loses_down || !link.broker_holds) {
                self.step(&Action::GiveUp(client));
            }
            let drains = matches!(client, Client::Worker(place) if self.workers[usize::from(place)].draining);
            let stuck = round > 0 && round.is_multiple_of(50);
            if drains || stuck {
                self.step(&Action::GiveUp(client));
            }
            self.step(&Action::Connect(client));
            if let Client::Worker(worker) = client {
                let missing = i64::from(self.swarm.slots) - i64::from(self.workers[usize::from(worker)].slots);
                if missing > 0 {
                    self.step(&Action::Credit { worker, slots: missing as i8 });
                }
            }
        }
        for deed in self.model.to_undo() {
            self.step(&Action::Operate { caller: 0, deed });
        }
        self.deliver_everything();
        for worker in 0..self.workers.len() as u8 {
            for (_, id) in self.workers[usize::from(worker)].waiting() {
                let number = self.ids.iter().find(|(_, other)| **other == id).map(|(number, _)| *number);
                if let Some(call) = number {
                    self.step(&Action::GoOn { worker, call });
                }
            }
        }
        self.deliver_everything();
        let held: Vec<_> = self.workers.iter().flat_map(|worker| worker.running()).collect();
        for (worker, id, stop) in held {
            let number = self.ids.iter().find(|(_, other)| **other == id).map(|(number, _)| *number);
            if let Some(call) = number {
                let how = if stop { How::Stop } else { How::Succeed };
                self.step(&Action::Finish { worker, call, how });
            }
        }
        for caller in 0..self.callers.len() as u8 {
            while self.step(&Action::Acknowledge(caller)) {}
        }
        self.deliver_everything();
        self.step(&Action::Advance(if round < 20 { 1_000 } else { 10_000 }));
    }

    fn deliver_everything(&mut self) {
        let mut delivered = true;
        while delivered && !self.has_failed() {
            delivered = false;
            for client in self.clients() {
                let links = self.links.of(client).count() as u8;
                for nth in 0..links {
                    while self.step(&Action::ToBroker(client, nth)) {
                        delivered = true;
                    }
                    while self.step(&Action::ToClient(client, nth)) {
                        delivered = true;
                    }
                    if self.links.nth(client, nth).is_some_and(|l| !l.client_holds && l.broker_holds && l.up.is_empty())
                    {
                        self.step(&Action::NoticeGone(client, nth));
                    }
                }
            }
            self.links.sweep();
            self.step(&Action::Turn);
        }
    }
}
