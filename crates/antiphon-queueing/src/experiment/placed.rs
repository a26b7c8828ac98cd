//! Models beside the engine: calls are sent to a worker when they come, and wait there.

use crate::experiment::scenario::Placement;
use crate::experiment::station::{Arrived, End, Finish, Run, Station, Told};
use crate::experiment::tally::BrokerMeasured;
use antiphon_protocol::LeaseTag;
use rand::Rng;
use rand::rngs::SmallRng;
use std::collections::VecDeque;

/// Workers, each with a queue of its own.
pub(crate) struct Placed {
    placement: Placement,
    workers: Vec<Worker>,
    random: SmallRng,
    turn: usize,
    token: u64,
}

struct Worker {
    slots: usize,
    running: usize,
    waiting: VecDeque<u32>,
}

impl Placed {
    pub fn new(placement: Placement, slots: impl Iterator<Item = u32>, random: SmallRng) -> Self {
        let worker = |slots: u32| Worker { slots: slots as usize, running: 0, waiting: VecDeque::new() };
        Self { placement, workers: slots.map(worker).collect(), random, turn: 0, token: 0 }
    }

    /// Where the next call goes.
    fn choose(&mut self) -> usize {
        let count = self.workers.len();
        match self.placement {
            Placement::Random => self.draw(count),
            Placement::TwoChoices => {
                let (a, b) = (self.draw(count), self.draw(count));
                if self.calls_at(b) < self.calls_at(a) { b } else { a }
            }
            Placement::Central | Placement::RoundRobin => {
                self.turn = (self.turn + 1) % count;
                self.turn
            }
            Placement::ShortestQueue => (0..count).min_by_key(|worker| self.calls_at(*worker)).unwrap_or(0),
        }
    }

    fn draw(&mut self, count: usize) -> usize {
        // The bias of the remainder is below 1e-15 for any number of workers there may be.
        (self.random.next_u64() % count as u64) as usize
    }

    fn calls_at(&self, worker: usize) -> usize {
        self.workers.get(worker).map_or(0, |worker| worker.running + worker.waiting.len())
    }

    fn start(&mut self, worker: usize, told: &mut Vec<Told>) {
        let Some(it) = self.workers.get_mut(worker) else { return };
        while it.running < it.slots
            && let Some(call) = it.waiting.pop_front()
        {
            it.running += 1;
            self.token += 1;
            let lease = LeaseTag { slot: 0, token: self.token };
            let worker = u32::try_from(worker).unwrap_or(u32::MAX);
            told.push(Told::Start(Run { call, worker, lease }));
        }
    }
}

impl Station for Placed {
    fn submit(&mut self, _: u64, arrived: Arrived, told: &mut Vec<Told>) {
        let worker = self.choose();
        if let Some(it) = self.workers.get_mut(worker) {
            it.waiting.push_back(arrived.call);
        }
        self.start(worker, told);
    }

    fn report(&mut self, _: u64, run: Run, finish: Finish, told: &mut Vec<Told>) {
        let how = if finish == Finish::Succeeded { End::Succeeded } else { End::Failed };
        told.push(Told::Ended { call: run.call, how });
        let worker = run.worker as usize;
        if let Some(it) = self.workers.get_mut(worker) {
            it.running -= 1;
        }
        self.start(worker, told);
    }

    fn connect(&mut self, _: u64, _: u32, _: bool, _: &mut Vec<Told>) {}

    fn wake(&mut self, _: u64, _: &mut Vec<Told>) {}

    fn measured(&self) -> Option<BrokerMeasured> {
        None
    }

    fn next_wake(&self) -> Option<u64> {
        None
    }
}
