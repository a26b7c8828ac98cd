//! The broker's life: it starts, turns, is asked to stop, is killed, loses power.

use super::{Broker, World};
use crate::audit::{Audit, Region, Segments};
use crate::link::Down;
use crate::random::{Random, blend};
use antiphon_broker::{Event, OpenError};
use antiphon_embedded::{Commit, Driver, DriverOptions, Outlet, PeerId};
use antiphon_journal::Options;
use antiphon_protocol::Answer;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// How often a commit may lead to the next within one turn.
const COMMITS_A_TURN: usize = 4;

/// What a pump let out.
#[derive(Default)]
struct Said {
    events: Vec<(PeerId, Event)>,
    answers: Vec<(u64, Answer)>,
}

impl Outlet for Said {
    fn event(&mut self, peer: PeerId, event: Event) {
        self.events.push((peer, event));
    }

    fn answer(&mut self, ticket: u64, answer: Answer) {
        self.answers.push((ticket, answer));
    }
}

impl World {
    fn options(&self) -> DriverOptions {
        let mut journal = Options::new();
        journal.threads = false;
        journal.segment_bytes = self.swarm.segment_bytes;
        journal.young_bytes = self.swarm.young_bytes;
        DriverOptions {
            limits: self.swarm.limits.clone(),
            journal,
            cache_bytes: 4 << 10,
            clock: Arc::new(self.clock.clone()),
            seed: Some(blend(self.swarm.seed, 2)),
            ..DriverOptions::default()
        }
    }

    pub(super) fn start(&mut self) -> bool {
        if self.broker.is_some() {
            return false;
        }
        self.clock.boot();
        // The auditor reads what was written; that the broker finds the rotten bit is looked at apart.
        self.disk.toggle_rot();
        let segments = Segments::read(&self.disk);
        self.disk.toggle_rot();
        let (options, disk) = (self.options(), self.disk.clone());
        let opened = catch_unwind(AssertUnwindSafe(|| Driver::recover(options, Arc::new(disk), Arc::new(|| {}))));
        let opened = match opened {
            Ok(opened) => opened,
            Err(panic) => {
                self.wrong.push(format!("the broker panicked when it started: {}", crate::panic_text(&*panic)));
                return true;
            }
        };
        if self.disk.is_off() {
            drop(opened);
            self.after_power_loss("starting");
            return true;
        }
        match opened {
            Ok(driver) => self.started(driver, segments.as_ref()),
            Err(error) => self.refused(&error),
        }
        true
    }

    fn started(&mut self, driver: Driver, segments: Option<&Segments>) {
        if let Some(rotten) = self.rotten.take() {
            if rotten == Region::Checked {
                self.wrong.push("the broker started on a journal with a damaged record".to_owned());
            }
            self.disk.repair();
        }
        self.coverage.starts += 1;
        self.disk.forgive();
        let audit = segments.map(Audit::of).unwrap_or_default();
        self.audit(&audit);
        self.wrong.extend(audit.differences(driver.engine()));
        self.model.recover(driver.engine(), &audit);
        self.model.full = self.disk.is_full();
        let broker =
            Broker { driver, wake_ms: None, fenced: Vec::new(), asked: BTreeMap::new(), sessions: BTreeMap::new() };
        self.broker = Some(broker);
        self.turn();
    }

    /// It may refuse to start only when its disk failed, is full or was damaged.
    fn refused(&mut self, error: &OpenError) {
        self.coverage.refused_starts += 1;
        let text = error.to_string();
        if self.rotten.take().is_some() {
            self.disk.repair();
            self.coverage.refused_rot += 1;
        } else if !self.disk.took_fault() && !self.disk.is_full() {
            self.wrong.push(format!("the broker does not start: {text}"));
        }
        // An operator makes room, and has the disk seen to.
        self.disk.heal();
        self.disk.forgive();
        self.disk.process_ends();
    }

    /// One turn of the server's loop: do what is due, say what may be said, commit what somebody waits for.
    pub(super) fn turn(&mut self) -> bool {
        if self.broker.is_none() {
            return false;
        }
        self.pump();
        for _ in 0..COMMITS_A_TURN {
            let Some(broker) = &mut self.broker else { return true };
            match broker.driver.commit_need() {
                Commit::Nothing => break,
                Commit::UnderWay if self.disk.is_slow() => break,
                Commit::UnderWay => {}
                Commit::Within(_) | Commit::Now => {
                    // Its failure shows in the next pump.
                    drop(broker.driver.commit_behind());
                }
            }
            self.pump();
        }
        true
    }

    /// What waits for no fsync leaves, and the rest is not written yet.
    pub(super) fn say_only(&mut self) -> bool {
        let runs = self.broker.is_some();
        self.pump();
        runs
    }

    /// Pumps, holds the result against the model, and sends what came out.
    pub(super) fn pump(&mut self) {
        let Some(mut broker) = self.broker.take() else { return };
        let mut said = Said::default();
        let pumped = catch_unwind(AssertUnwindSafe(|| broker.driver.pump(&mut said)));
        let wait = match pumped {
            Ok(wait) => wait,
            Err(panic) => {
                self.wrong.push(format!("the broker panicked: {}", crate::panic_text(&*panic)));
                return;
            }
        };
        broker.wake_ms = wait.map(|wait| self.clock.true_ms() + (wait.as_millis() as u64).max(1));
        let poisoned = broker.driver.poisoned().is_some();
        if !poisoned {
            self.model.pass(broker.driver.engine());
        }
        self.broker = Some(broker);
        if self.disk.is_off() {
            return self.check_end();
        }
        for (peer, event) in said.events {
            self.say(peer, event, !poisoned);
        }
        for (ticket, answer) in said.answers {
            self.answer(ticket, answer);
        }
        self.close_fenced();
        self.check_end();
    }

    fn say(&mut self, peer: PeerId, event: Event, heard: bool) {
        self.note(&format_args!("{peer:?}{event:?}"));
        // What a broker decided whose journal failed is as good as not decided; the model has not followed it there.
        if heard {
            self.model.hear(peer, &event);
        }
        let fenced = matches!(event, Event::Down { .. });
        if let Some((_, link)) = self.links.by_peer(peer) {
            link.send_down(Down::Event(event));
        }
        if let Some(broker) = self.broker.as_mut().filter(|_| fenced) {
            broker.fenced.push(peer);
        }
    }

    /// The server closes what a newer session has fenced as soon as it has said so.
    fn close_fenced(&mut self) {
        let Some(broker) = &mut self.broker else { return };
        for peer in std::mem::take(&mut broker.fenced) {
            self.close_peer(peer);
        }
    }

    /// A broker whose journal failed, or whose machine went off, has ended.
    pub(super) fn check_end(&mut self) {
        if self.disk.is_off() {
            self.drop_broker();
            self.after_power_loss("running");
        } else if self.broker.as_ref().is_some_and(|broker| broker.driver.poisoned().is_some()) {
            // What it needed in reserve it may not have had since the disk was full.
            if !self.disk.took_fault() && !self.disk.is_full() && !self.model.full {
                let why = self.broker.as_ref().and_then(|broker| broker.driver.poisoned().cloned());
                let why = why.map_or_else(String::new, |failure| failure.message);
                self.wrong.push(format!("the broker gave its journal up without a reason: {why}"));
            }
            self.coverage.poisoned += 1;
            self.fired("DiskError", true);
            self.end_process();
        }
    }

    fn after_power_loss(&mut self, when: &'static str) {
        *self.coverage.lost_power.entry(when).or_default() += 1;
        self.fired("PowerLossInDisk", true);
        self.rotten = None;
        let seed = blend(self.swarm.seed, self.happened);
        self.disk.power_cycle(seed);
        self.hang_up(false);
        self.model.crash();
    }

    fn drop_broker(&mut self) {
        if let Some(broker) = self.broker.take() {
            self.model.census(broker.driver.engine());
        }
    }

    fn end_process(&mut self) {
        self.drop_broker();
        self.disk.process_ends();
        self.hang_up(true);
        self.model.crash();
    }

    /// Connections of a broker that is gone: their clients hear of it if the machine still runs.
    fn hang_up(&mut self, told: bool) {
        for (_, link) in self.links.iter_mut() {
            if link.broker_holds {
                if told {
                    link.send_down(Down::Close);
                }
                link.broker_holds = false;
                link.up.clear();
                link.peer = None;
                link.routes.clear();
            }
        }
    }

    pub(super) fn kill_broker(&mut self) -> bool {
        if self.broker.is_none() {
            return false;
        }
        let under_way = self.broker.as_ref().is_some_and(|broker| broker.driver.commit_need() == Commit::UnderWay);
        *self.coverage.kills.entry(if under_way { "commit under way" } else { "between commits" }).or_default() += 1;
        self.fired("KillBroker", true);
        self.end_process();
        true
    }

    pub(super) fn power_loss(&mut self, seed: u64) -> bool {
        self.fired("PowerLoss", true);
        let running = self.broker.is_some();
        self.rotten = None;
        self.drop_broker();
        *self.coverage.lost_power.entry(if running { "between calls" } else { "down" }).or_default() += 1;
        self.disk.power_cycle(seed);
        self.hang_up(false);
        self.model.crash();
        true
    }

    /// As the server stops: everything is committed, nothing is leased again, everybody is told.
    pub(super) fn stop_broker(&mut self) -> bool {
        let Some(broker) = &mut self.broker else { return false };
        drop(broker.driver.commit_here());
        self.fired("StopBroker", true);
        self.pump();
        if self.broker.is_some() {
            self.end_process();
        }
        true
    }

    /// A bit of the durable part of the journal flips, while the broker is down.
    pub(super) fn bit_rot(&mut self, seed: u64) -> bool {
        if self.broker.is_some() || self.rotten.is_some() {
            return false;
        }
        let Some(segments) = Segments::read(&self.disk) else { return false };
        let mut random = Random::new(seed);
        let Some((name, from, to, region)) = random.pick(&segments.regions).cloned() else { return false };
        let offset = random.between(from as u64, to as u64 - 1) as usize;
        self.disk.rot(&name, offset, random.below(8) as u8);
        self.rotten = Some(region);
        self.fired("BitRot", true);
        true
    }

    fn answer(&mut self, ticket: u64, answer: Answer) {
        let Some(broker) = &mut self.broker else { return };
        let Some((client, serial, query)) = broker.asked.remove(&ticket) else { return };
        self.note(&format_args!("{answer:?}"));
        match &answer {
            Answer::Status(knowledge) => self.model.status(knowledge),
            Answer::Revived(id) => self.model.told_of_revival(*id),
            Answer::Changed(_) | Answer::Settings(_) | Answer::CallbackAdded(_) | Answer::Sealed | Answer::Joined => {
                self.model.answered(&query);
            }
            Answer::Purged => {
                if let antiphon_protocol::Query::Purge(id) = &query {
                    self.model.told_purged(*id);
                }
            }
            _ => {}
        }
        let link = self.links.iter_mut().find(|(who, link)| *who == client && link.serial == serial);
        if let Some((_, link)) = link {
            link.send_down(Down::Answer(query, answer));
        }
    }
}
