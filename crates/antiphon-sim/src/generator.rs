//! Chooses what happens next in a world, by its seed: mostly what moves calls on, now and then what goes wrong.

use crate::action::{Action, Client, Deed, How, Shape, Want};
use crate::disk::DiskFault;
use crate::random::{Random, blend};
use crate::routes::{SCHEDULES, SUBSCRIPTIONS};
use crate::swarm::{Fault, Feature, Swarm};
use crate::world::World;
use antiphon_protocol::CallId;

/// Of 1,000 events, how many are faults while faults are on.
const FAULTS_IN_1000: u64 = 25;

/// How often a fault is tried again that was planned and did not come about.
const AGAIN: u64 = 60;

/// The generator of one seed.
pub(crate) struct Generator {
    random: Random,
    calls: u32,
    /// Every enabled fault is made to happen once, in this order, spread over the run.
    due: Vec<Fault>,
    /// One of those is due after every so many actions.
    share: u64,
    made: u64,
}

impl Generator {
    pub fn new(swarm: &Swarm, events: u64) -> Self {
        let mut random = Random::new(blend(swarm.seed, 3));
        let mut due = swarm.faults.clone();
        for last in (1..due.len()).rev() {
            due.swap(last, random.below(last + 1));
        }
        let share = (events / (due.len() as u64 + 2)).max(1);
        Self { random, calls: 0, due, share, made: 0 }
    }

    /// The next action; it applies more often than not.
    pub fn next(&mut self, world: &mut World) -> Action {
        self.made += 1;
        if world.broker.is_none() {
            return self.while_down(world);
        }
        // A fault that has not had its turn gets it, in the middle of the run.
        if self.made > self.share && self.made.is_multiple_of(self.share) {
            if self.due.is_empty() {
                // What was planned and did not come about is tried again, more often.
                (self.due, self.share) = (world.missing(), AGAIN);
            }
            if let Some(fault) = self.due.pop() {
                return self.fault(world, fault);
            }
        }
        if self.random.next() % 1000 < FAULTS_IN_1000
            && let Some(fault) = self.random.pick(&world.swarm.faults).copied()
        {
            return self.fault(world, fault);
        }
        self.work(world)
    }

    fn while_down(&mut self, world: &mut World) -> Action {
        let swarm = &world.swarm;
        if swarm.suffers(Fault::BitRot) && self.random.percent(25) {
            return Action::BitRot(self.random.next());
        }
        if swarm.suffers(Fault::PowerLoss) && self.random.percent(10) {
            return Action::PowerLoss(self.random.next());
        }
        // Power that goes again and again while the broker starts finds what recovery leaves behind.
        let again = if swarm.seed.is_multiple_of(4) { 60 } else { 25 };
        if swarm.suffers(Fault::PowerLossInDisk) && self.random.percent(again) {
            let after = self.random.below(12) as u32;
            return Action::DiskFault { after, fault: DiskFault::PowerLoss };
        }
        match self.random.below(6) {
            0 => Action::Advance(self.random.between(1, 20_000)),
            1 => self.deliver_down(world),
            2 => Action::WallJump(0),
            _ => Action::Start,
        }
    }

    fn client(&mut self, world: &World) -> Client {
        let (callers, workers) = (world.callers.len(), world.workers.len());
        match self.random.below(callers + workers) {
            at if at < callers => Client::Caller(at as u8),
            at => Client::Worker((at - callers) as u8),
        }
    }

    fn caller(&mut self, world: &World) -> u8 {
        self.random.below(world.callers.len()) as u8
    }

    fn worker(&mut self, world: &World) -> u8 {
        self.random.below(world.workers.len()) as u8
    }

    /// A call that exists; recent ones more often.
    fn call(&mut self) -> u32 {
        let newest = u64::from(self.calls.max(1));
        let back = if self.random.percent(70) { newest.min(8) } else { newest };
        (newest - self.random.between(1, back)) as u32
    }

    fn work(&mut self, world: &mut World) -> Action {
        match self.random.below(100) {
            0..=11 => self.submit(world),
            12..=29 => self.deliver_up(world),
            30..=44 => self.deliver_down(world),
            45..=48 => Action::Say,
            49..=59 => Action::Turn,
            60..=73 => self.finish(world),
            74..=77 => self.operate(world),
            78..=82 => Action::Acknowledge(self.caller(world)),
            83..=89 => self.pass(world),
            90..=93 => Action::Connect(self.client(world)),
            94..=95 => self.extend(world),
            _ => self.rare(world),
        }
    }

    fn pass(&mut self, world: &World) -> Action {
        if world.disk.is_slow() && self.random.percent(30) {
            return Action::DiskSlow(false);
        }
        let ms = match self.random.below(10) {
            0..=4 => self.random.between(1, 50),
            5..=7 => self.random.between(50, 1_000),
            8 => self.random.between(1_000, 9_000),
            _ => self.random.between(9_000, 40_000),
        };
        Action::Advance(ms)
    }

    /// Delivers on a connection that has something on its way.
    fn deliver_up(&mut self, world: &mut World) -> Action {
        let waiting = waiting(world, true);
        let (client, nth) = self.random.pick(&waiting).copied().unwrap_or((Client::Caller(0), 0));
        Action::ToBroker(client, nth)
    }

    fn deliver_down(&mut self, world: &mut World) -> Action {
        let waiting = waiting(world, false);
        let (client, nth) = self.random.pick(&waiting).copied().unwrap_or((Client::Caller(0), 0));
        Action::ToClient(client, nth)
    }

    fn running(&mut self, world: &World) -> Option<(u8, u32, bool)> {
        let running: Vec<_> = world.workers.iter().filter(|worker| !worker.paused).flat_map(|w| w.running()).collect();
        let (worker, id, stop) = *self.random.pick(&running)?;
        let call = world.ids.iter().rev().find(|(_, other)| **other == id)?;
        Some((worker, *call.0, stop))
    }

    fn finish(&mut self, world: &World) -> Action {
        let Some((worker, call, stop)) = self.running(world) else { return Action::Turn };
        let how = match self.random.below(100) {
            _ if stop && self.random.percent(70) => How::Stop,
            0..=7 if world.swarm.has(Feature::Failures) => How::Fail,
            8..=24 if world.swarm.has(Feature::Failures) => How::Retry,
            25..=29 if world.swarm.has(Feature::Failures) => How::RetryAfter(self.random.below(4_000) as u16),
            30..=33 if world.swarm.has(Feature::Failures) => How::Bury,
            34..=38 => How::Release,
            39 => How::Stop,
            _ => How::Succeed,
        };
        Action::Finish { worker, call, how }
    }

    fn extend(&mut self, world: &World) -> Action {
        match self.running(world) {
            Some((worker, call, _)) => Action::Extend { worker, call },
            None => Action::Turn,
        }
    }

    fn submit(&mut self, world: &World) -> Action {
        let mut shape = self.shape(&world.swarm);
        let groups: Vec<u32> = world.model.open_groups().filter_map(|id| number(world, id)).collect();
        if world.swarm.has(Feature::Groups) && shape.group == 0 && shape.topic == 0 && self.random.percent(40) {
            shape.child_of = self.random.pick(&groups).map_or(0, |group| group + 1);
        }
        let call = self.calls;
        self.calls += 1;
        Action::Submit { caller: self.caller(world), call, shape }
    }

    fn shape(&mut self, swarm: &Swarm) -> Shape {
        let random = &mut self.random;
        let mut may = |feature, percent| swarm.has(feature) && random.percent(percent);
        let volatile = may(Feature::Volatile, 30);
        let idempotent = may(Feature::Idempotent, 50);
        let at_most_once = may(Feature::AtMostOnce, 25);
        let deadline = may(Feature::Deadlines, 40);
        let delay = may(Feature::Delays, 30);
        let key = may(Feature::Keys, 40);
        let awaited = may(Feature::Awaited, 40);
        let detached = may(Feature::Detached, 20);
        let class = may(Feature::Priorities, 60);
        let tenant = may(Feature::Tenants, 60);
        let large = may(Feature::LargeBodies, 10);
        let order = may(Feature::Lanes, 40);
        let together = may(Feature::ConcurrencyKeys, 40);
        let label = may(Feature::Labels, 30);
        let heavy = may(Feature::HeavyCalls, 30) && swarm.slots > 1;
        let followed = may(Feature::Callbacks, 40);
        let group = may(Feature::Groups, 8);
        let event = may(Feature::Events, 10);
        if event {
            let topic = random.between(1, 2) as u8;
            return Shape {
                topic,
                volatile,
                filler: random.below(40) as u16,
                wants: Want::Acceptance,
                ..Shape::default()
            };
        }
        let callbacks = if followed { random.between(1, 31) as u8 } else { 0 };
        if group {
            let (group, wants) = (random.between(1, 5) as u8, if detached { Want::Acceptance } else { Want::Both });
            let deadline_ms = if deadline { random.between(1, 60_000) as u32 } else { 0 };
            return Shape { group, volatile, callbacks, wants, deadline_ms, attempts: 1, class: 4, ..Shape::default() };
        }
        Shape {
            order: if order { random.between(1, 3) as u8 } else { 0 },
            shared_lane: random.percent(40),
            together: if together { random.between(1, 2) as u8 } else { 0 },
            label: if label { random.between(1, 2) as u8 } else { 0 },
            more_slots: if heavy { random.between(1, u64::from(swarm.slots.min(3)) - 1) as u8 } else { 0 },
            callbacks,
            group: 0,
            child_of: 0,
            topic: 0,
            procedure: random.below(usize::from(swarm.procedures)) as u8,
            tenant: if tenant { random.between(1, 3) as u8 } else { 0 },
            class: if class { random.below(10) as u8 } else { 4 },
            volatile,
            attempts: random.between(1, 4) as u8,
            idempotent,
            at_most_once,
            deadline_ms: if deadline { random.between(1, 60_000) as u32 } else { 0 },
            delay_ms: if delay { random.between(1, 30_000) as u32 } else { 0 },
            delay_is_wall: random.percent(30),
            key: if key { random.between(1, 5) as u8 } else { 0 },
            variant: u8::from(random.percent(10)),
            wants: if awaited {
                Want::Outcome
            } else if detached {
                Want::Acceptance
            } else {
                Want::Both
            },
            filler: if large { random.between(1_000, 6_000) as u16 } else { random.below(40) as u16 },
        }
    }

    /// What callers, workers and operators do now and then.
    fn rare(&mut self, world: &mut World) -> Action {
        let caller = self.caller(world);
        let call = self.call();
        let has = |feature| world.swarm.has(feature);
        match self.random.below(9) {
            0..=1 if has(Feature::Cancels) => Action::Cancel { caller, call },
            2 if has(Feature::Attaching) => Action::Attach { caller, call },
            3 if has(Feature::Credits) => {
                let slots = self.random.between(0, 4) as i8 - 2;
                Action::Credit { worker: self.worker(world), slots }
            }
            4 if has(Feature::Drains) => Action::Drain(self.worker(world)),
            5 if has(Feature::Revival) => match self.dead(world) {
                Some(dead) => {
                    self.calls += 1;
                    Action::Revive { caller, dead, call: self.calls - 1 }
                }
                None => Action::Turn,
            },
            6 if has(Feature::Purges) => self.dead(world).map_or(Action::Turn, |dead| Action::Purge { caller, dead }),
            7 => Action::Ask { caller, call },
            _ => Action::Resume(self.worker(world)),
        }
    }

    /// What operators and waiting procedures do.
    fn operate(&mut self, world: &World) -> Action {
        let caller = self.caller(world);
        let call = self.call();
        let procedure = self.random.below(usize::from(world.swarm.procedures)) as u8;
        let has = |feature| world.swarm.has(feature);
        let groups: Vec<u32> = world.model.open_groups().filter_map(|id| number(world, id)).collect();
        let subscription = self.random.between(1, u64::from(SUBSCRIPTIONS)) as u8;
        let schedule = self.random.between(1, u64::from(SCHEDULES)) as u8;
        let (often, value) = (self.random.percent(60), self.random.below(3) as u8);
        let deed = match self.random.below(14) {
            0 if has(Feature::Rules) => Deed::Cap(procedure, value),
            1 if has(Feature::Rules) => Deed::Pause(procedure, !often),
            2 if has(Feature::Rules) => Deed::Rate(procedure, value),
            3 if has(Feature::QueueLimits) => Deed::QueuedMax(procedure, if often { value + 2 } else { 0 }),
            4 if has(Feature::Events) && often => Deed::Subscribe(subscription),
            4 if has(Feature::Events) => Deed::Unsubscribe(subscription),
            5 if has(Feature::Schedules) && often => Deed::Schedule(schedule),
            5 if has(Feature::Schedules) => Deed::Unschedule(schedule),
            6 if has(Feature::Schedules) => Deed::PauseSchedule(schedule, !often),
            7 if has(Feature::Groups) => match self.random.pick(&groups) {
                Some(group) if often => Deed::Seal(*group),
                Some(group) => Deed::Join(*group, call),
                None => return Action::Turn,
            },
            8 if has(Feature::Callbacks) => Deed::AddCallback(call),
            9 if has(Feature::BulkCancels) && value == 0 => Deed::CancelAll(procedure),
            10 if has(Feature::Parking) => {
                return match self.running(world) {
                    Some((worker, call, _)) => Action::Park { worker, call },
                    None => Action::Turn,
                };
            }
            11 if has(Feature::Parking) => return self.go_on(world),
            12 if has(Feature::Progress) => {
                return match self.running(world) {
                    Some((worker, call, _)) => Action::Tell { worker, call },
                    None => Action::Turn,
                };
            }
            13 if has(Feature::Progress) => {
                let running = self.running(world).map(|(_, call, _)| call);
                return Action::Follow { caller, call: running.unwrap_or(call) };
            }
            _ => return Action::Turn,
        };
        Action::Operate { caller, deed }
    }

    fn go_on(&mut self, world: &World) -> Action {
        let waiting: Vec<_> = world.workers.iter().filter(|worker| !worker.paused).flat_map(|w| w.waiting()).collect();
        let chosen = self.random.pick(&waiting).and_then(|(worker, id)| Some((*worker, number(world, *id)?)));
        chosen.map_or(Action::Turn, |(worker, call)| Action::GoOn { worker, call })
    }

    fn dead(&mut self, world: &World) -> Option<u32> {
        let letters: Vec<_> = world.model.dead_letters().map(|known| known.id).collect();
        let id = *self.random.pick(&letters)?;
        world.ids.iter().find(|(_, other)| **other == id).map(|(number, _)| *number)
    }

    fn fault(&mut self, world: &mut World, fault: Fault) -> Action {
        let client = self.client(world);
        let links = world.links.of(client).count();
        let nth = self.random.below(links.max(1)) as u8;
        match fault {
            Fault::KillBroker => Action::KillBroker,
            Fault::PowerLoss => Action::PowerLoss(self.random.next()),
            Fault::PowerLossInDisk => {
                Action::DiskFault { after: self.random.below(10) as u32, fault: DiskFault::PowerLoss }
            }
            Fault::DiskError => Action::DiskFault { after: self.random.below(10) as u32, fault: DiskFault::Error },
            Fault::DiskFull => Action::DiskFull(!world.disk.is_full() || self.random.percent(30)),
            Fault::SlowDisk => Action::DiskSlow(true),
            // It rots while the broker is down.
            Fault::BitRot => Action::KillBroker,
            Fault::StopBroker => Action::StopBroker,
            Fault::KillCaller => Action::KillCaller(self.caller(world)),
            Fault::KillWorker => Action::KillWorker(self.worker(world)),
            Fault::Zombie => Action::Pause(self.worker(world)),
            Fault::Break | Fault::Straggler if self.random.percent(60) => Action::GiveUp(client),
            Fault::Break | Fault::Straggler => Action::NoticeGone(client, nth),
            Fault::HalfOpen => Action::Blackhole(client, nth, self.random.percent(50)),
            Fault::Duplicate => Action::SubmitAgain { caller: self.caller(world), call: self.call() },
            Fault::WallForward => Action::WallJump(*self.random.pick(&[1_000, 3_600_000, 2_592_000_000]).unwrap_or(&1)),
            Fault::WallBack => Action::WallJump(*self.random.pick(&[-1_000, -60_000, -3_600_000]).unwrap_or(&-1)),
        }
    }
}

/// The number of a call.
fn number(world: &World, id: CallId) -> Option<u32> {
    world.ids.iter().find(|(_, other)| **other == id).map(|(number, _)| *number)
}

/// Connections with something on its way, up or down.
fn waiting(world: &mut World, up: bool) -> Vec<(Client, u8)> {
    let callers = (0..world.callers.len() as u8).map(Client::Caller);
    let clients: Vec<_> = callers.chain((0..world.workers.len() as u8).map(Client::Worker)).collect();
    let mut waiting = Vec::new();
    for client in clients {
        for (nth, link) in world.links.of(client).enumerate() {
            if if up { !link.up.is_empty() } else { !link.down.is_empty() } {
                waiting.push((client, nth as u8));
            }
        }
    }
    waiting
}
