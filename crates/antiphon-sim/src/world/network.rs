//! Connections: opened, broken, silent one way, and what arrives over them.

use super::World;
use crate::action::Client;
use crate::history::Seen;
use crate::link::{Down, Up};
use antiphon_broker::Submission;
use antiphon_embedded::{PeerId, Submit};
use antiphon_protocol::{Answer, Knowledge, Query};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

impl World {
    fn is_running(&self, client: Client) -> bool {
        match client {
            Client::Caller(place) => usize::from(place) < self.callers.len(),
            Client::Worker(place) => self.workers.get(usize::from(place)).is_some_and(|worker| !worker.paused),
        }
    }

    pub(super) fn connect(&mut self, client: Client) -> bool {
        if !self.is_running(client) || self.broker.is_none() || self.links.current(client).is_some() {
            return false;
        }
        let hello = match client {
            Client::Caller(place) => Up::OpenCaller(self.callers[usize::from(place)].inbox.clone()),
            Client::Worker(place) => {
                let worker = &mut self.workers[usize::from(place)];
                worker.draining = false;
                Up::OpenWorker(worker.offer())
            }
        };
        self.links.open(client).send_up(hello);
        true
    }

    pub(super) fn deliver_up(&mut self, client: Client, nth: u8) -> bool {
        if self.broker.is_none() {
            return false;
        }
        let Some(link) = self.links.nth(client, nth) else { return false };
        let Some(message) = link.up.pop_front() else { return false };
        let straggles = !link.client_holds && !matches!(message, Up::Close);
        let taken = catch_unwind(AssertUnwindSafe(|| self.take(client, nth, message)));
        if let Err(panic) = taken {
            self.wrong.push(format!("the broker panicked: {}", crate::panic_text(&*panic)));
            self.broker = None;
        }
        if straggles {
            self.fired("Straggler", true);
        }
        self.check_end();
        true
    }

    fn take(&mut self, client: Client, nth: u8, message: Up) {
        let Some(broker) = &mut self.broker else { return };
        let Some(link) = self.links.nth(client, nth) else { return };
        self.model.full |= self.disk.is_full();
        let driver = &mut broker.driver;
        if matches!(message, Up::OpenCaller(_) | Up::OpenWorker(_)) {
            // As the server does: an older session never takes over from a newer one.
            let newest = broker.sessions.entry(client).or_default();
            if *newest > link.serial {
                link.broker_holds = false;
                return;
            }
            *newest = link.serial;
        }
        match (message, link.peer) {
            (Up::OpenCaller(inbox), None) => match driver.open_caller(inbox.clone()) {
                Ok(peer) => {
                    link.peer = Some(peer);
                    self.model.open_caller(driver.engine(), peer, &inbox);
                }
                Err(failure) => self.wrong.push(format!("a caller was refused: {failure}")),
            },
            (Up::OpenWorker(offer), None) => match driver.open_worker(&offer) {
                Ok(peer) => {
                    link.peer = Some(peer);
                    self.model.open_worker(driver.engine(), peer, &offer);
                }
                Err(failure) => self.wrong.push(format!("a worker was refused: {failure}")),
            },
            (Up::Close, peer) => {
                link.broker_holds = false;
                if let Some(peer) = peer {
                    self.close_peer(peer);
                }
            }
            // What came before a hello, or on a connection that was fenced, is passed over.
            (_, None) => {}
            (Up::Submit(submission), Some(peer)) => self.take_submission(client, nth, peer, submission),
            (Up::Attach(id, tag), Some(peer)) => {
                driver.attach(peer, id, tag);
                self.model.attach(driver.engine(), peer, id);
            }
            (Up::Acknowledge(id), Some(peer)) => {
                driver.acknowledge(peer, id);
                self.model.acknowledge(driver.engine(), peer, id);
            }
            (Up::Cancel(id), Some(peer)) => {
                driver.cancel(peer, id);
                self.model.cancel(driver.engine(), peer, id);
            }
            (Up::Credit(slots), Some(peer)) => {
                driver.credit(peer, slots);
                self.model.credit(driver.engine(), peer, slots);
            }
            (Up::Report(report), Some(peer)) => {
                driver.report(peer, report.clone());
                self.model.full |= self.disk.took_fault();
                if driver.poisoned().is_none() {
                    self.model.report(driver.engine(), peer, &report);
                }
            }
            (Up::Extend(lease), Some(peer)) => {
                driver.extend(peer, lease);
                self.model.extend(driver.engine(), peer, lease);
            }
            (Up::Drain, Some(peer)) => {
                driver.drain(peer);
                self.model.drain(driver.engine(), peer);
            }
            (Up::Park(lease), Some(peer)) => {
                driver.park(peer, lease, None);
                self.model.park(driver.engine(), peer, lease);
            }
            (Up::GoOn(lease), Some(peer)) => {
                driver.resume(peer, lease);
                self.model.go_on(driver.engine(), peer, lease);
            }
            (Up::Tell(told), Some(peer)) => {
                let lease = told.lease;
                driver.progress(peer, told);
                self.model.told_of(driver.engine(), peer, lease);
            }
            (Up::Follow(id, tag), Some(peer)) => driver.follow(peer, id, tag, 0),
            (Up::Ask(query), Some(_)) => self.take_question(client, nth, query),
            (Up::OpenCaller(_) | Up::OpenWorker(_), Some(_)) => {}
        }
    }

    fn take_submission(&mut self, client: Client, nth: u8, peer: PeerId, submission: Submission) {
        let Some(broker) = &mut self.broker else { return };
        let Some(link) = self.links.nth(client, nth) else { return };
        let call = &submission.call;
        let known = link.routes.iter().find(|(route, _)| *route == call.route).map(|(_, number)| *number);
        let route = match known {
            Some(number) => number,
            None => match broker.driver.intern(&call.route) {
                Ok(number) => {
                    link.routes.push((Arc::clone(&call.route), number));
                    number
                }
                Err(failure) => return self.wrong.push(format!("a route was refused: {failure}")),
            },
        };
        let submit = Submit {
            id: call.id,
            tag: submission.tag,
            route,
            payload: call.payload.clone(),
            deadline_ms: call.deadline_ms,
            start: call.start,
            keys: call.keys.clone(),
            wants: submission.wants,
            resent: submission.resent,
        };
        broker.driver.submit(peer, submit);
        self.model.full |= self.disk.took_fault();
        if broker.driver.poisoned().is_none() {
            self.model.submit(broker.driver.engine(), peer, &submission);
        }
    }

    fn take_question(&mut self, client: Client, nth: u8, query: Query) {
        let Some(broker) = &mut self.broker else { return };
        let Some(link) = self.links.nth(client, nth) else { return };
        self.tickets += 1;
        broker.asked.insert(self.tickets, (client, link.serial, query.clone()));
        broker.driver.ask(query.clone(), self.tickets);
        self.model.full |= self.disk.took_fault();
        if broker.driver.poisoned().is_some() {
            return;
        }
        let engine = broker.driver.engine();
        self.model.operated(engine, &query);
        match query {
            Query::Revive { dead, id }
                if matches!(engine.knowledge(id), Knowledge::Known(_)) && self.model.call(id).is_none() =>
            {
                self.model.revive(engine, dead, id);
            }
            Query::Purge(id) => {
                let gone = !matches!(engine.knowledge(id), Knowledge::Known(_));
                if gone && self.model.call(id).is_some() {
                    self.model.purged(id);
                }
            }
            _ => {}
        }
    }

    pub(super) fn close_peer(&mut self, peer: PeerId) {
        let Some(broker) = &mut self.broker else { return };
        for (_, link) in self.links.iter_mut().filter(|(_, link)| link.peer == Some(peer)) {
            link.send_down(Down::Close);
            link.broker_holds = false;
            link.peer = None;
            for (_, route) in link.routes.drain(..) {
                broker.driver.release_route(route);
            }
        }
        broker.driver.close_peer(peer);
        self.model.close(broker.driver.engine(), peer);
    }

    pub(super) fn deliver_down(&mut self, client: Client, nth: u8) -> bool {
        if !self.is_running(client) {
            return false;
        }
        let Some(link) = self.links.nth(client, nth) else { return false };
        let Some(message) = link.down.pop_front() else { return false };
        if !link.client_holds {
            return true;
        }
        let serial = link.serial;
        let now_ms = self.clock.true_ms();
        let mut seen = Vec::new();
        let replies = match message {
            Down::Close => {
                self.client_closes(client, serial);
                Vec::new()
            }
            Down::Answer(query, answer) => {
                seen.extend(answered(&query, &answer));
                Vec::new()
            }
            Down::Event(event) => match client {
                Client::Caller(place) => self.callers[usize::from(place)].take(event, now_ms, &mut seen),
                Client::Worker(place) => self.workers[usize::from(place)].take(event, &mut seen),
            },
        };
        // Calls that the broker made get a number that follows from their id, so that actions can speak of them.
        for began in &seen {
            if let Seen::Began { id, .. } = began
                && !self.ids.values().any(|known| known == id)
            {
                self.ids.insert(crc32c::crc32c(&id.to_bytes()) | 1 << 31, *id);
            }
        }
        self.history.append(&mut seen);
        if let Some(link) = self.links.nth(client, nth).filter(|link| link.serial == serial) {
            replies.into_iter().for_each(|reply| link.send_up(reply));
        }
        true
    }

    fn client_closes(&mut self, client: Client, serial: u64) {
        let link = self.links.iter_mut().find(|(who, link)| *who == client && link.serial == serial);
        if let Some((_, link)) = link {
            link.send_up(Up::Close);
            link.client_holds = false;
            link.down.clear();
        }
    }

    pub(super) fn give_up(&mut self, client: Client) -> bool {
        let Some(serial) = self.links.current(client).map(|link| link.serial) else { return false };
        self.client_closes(client, serial);
        self.fired("Break", true);
        true
    }

    pub(super) fn notice_gone(&mut self, client: Client, nth: u8) -> bool {
        let Some(link) = self.links.nth(client, nth).filter(|link| link.broker_holds) else { return false };
        link.up.clear();
        let peer = link.peer;
        link.send_down(Down::Close);
        link.broker_holds = false;
        if let Some(peer) = peer {
            self.close_peer(peer);
        }
        self.fired("Break", true);
        true
    }

    pub(super) fn blackhole(&mut self, client: Client, nth: u8, up: bool) -> bool {
        let Some(link) = self.links.nth(client, nth) else { return false };
        if up {
            link.loses_up = true;
            link.up.clear();
        } else {
            link.loses_down = true;
            link.down.clear();
        }
        self.fired("HalfOpen", true);
        true
    }
}

fn answered(query: &Query, answer: &Answer) -> Option<Seen> {
    match (query, answer) {
        (Query::Status(id), Answer::Status(knowledge)) => {
            let (state, too_old) = match knowledge {
                Knowledge::Known(status) => (Some(status.state), false),
                Knowledge::TooOldToSay => (None, true),
                Knowledge::NeverSeen | Knowledge::Forgotten => (None, false),
            };
            Some(Seen::Status { id: *id, state, too_old })
        }
        (Query::Revive { dead, .. }, Answer::Revived(id)) => Some(Seen::Revived { dead: *dead, id: *id }),
        (Query::Purge(dead), Answer::Purged) => Some(Seen::Purged { dead: *dead }),
        _ => None,
    }
}
