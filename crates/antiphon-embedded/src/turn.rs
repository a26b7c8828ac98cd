//! What the embedded broker's lock guards: the driver, its peers' sinks, and what waits to be delivered.

use crate::commit::Commit;
use crate::driver::{Driver, RouteRef, Submit};
use crate::outlet::{Outlet, PeerId};
use antiphon_broker::{Event, Inbox, OpenError, Sink, Submission};
use antiphon_journal::Journal;
use antiphon_protocol::{Answer, Code, Failure, Offer, Query, Route};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

/// Routes a peer may have interned before they are let go of all at once: one with ever new options must not pin
/// every route it ever used.
const ROUTES_A_PEER: usize = 256;

/// A connected caller or worker.
struct Seat {
    sink: Arc<dyn Sink>,
    routes: Vec<(Arc<Route>, RouteRef)>,
}

/// An answer that is awaited, or has come.
enum Ticket {
    Waiting(Option<Waker>),
    Answered(Answer),
}

/// The embedded broker's state.
pub(crate) struct Turn {
    pub driver: Driver,
    seats: Vec<Option<Seat>>,
    undelivered: VecDeque<(PeerId, Event)>,
    tickets: FxHashMap<u64, Ticket>,
    next_ticket: u64,
    /// Whether a thread is handing events to sinks.
    pub delivering: bool,
    /// When the driver must be pumped again.
    pub due: Option<Instant>,
    /// Until when the timer thread sleeps, while it does.
    pub timer_until: Option<Instant>,
    pub closed: bool,
}

impl Turn {
    pub fn new(driver: Driver) -> Self {
        Self {
            driver,
            seats: Vec::new(),
            undelivered: VecDeque::new(),
            tickets: FxHashMap::default(),
            next_ticket: 0,
            delivering: false,
            due: None,
            timer_until: None,
            closed: false,
        }
    }

    fn check_open(&self) -> Result<(), OpenError> {
        match self.driver.poisoned() {
            _ if self.closed => Err(OpenError::Refused(Failure::new(Code::Unavailable, "the broker is closed"))),
            Some(failure) => Err(OpenError::Refused(failure.clone())),
            None => Ok(()),
        }
    }

    fn seat(&mut self, peer: PeerId, sink: Arc<dyn Sink>) {
        let place = peer.0 as usize;
        while self.seats.len() <= place {
            self.seats.push(None);
        }
        if let Some(seat) = self.seats.get_mut(place) {
            *seat = Some(Seat { sink, routes: Vec::new() });
        }
    }

    pub fn open_caller(&mut self, inbox: Inbox, sink: Arc<dyn Sink>) -> Result<PeerId, OpenError> {
        self.check_open()?;
        let peer = self.driver.open_caller(inbox).map_err(OpenError::Refused)?;
        self.seat(peer, sink);
        Ok(peer)
    }

    pub fn open_worker(&mut self, offer: &Offer, sink: Arc<dyn Sink>) -> Result<PeerId, OpenError> {
        self.check_open()?;
        let peer = self.driver.open_worker(offer).map_err(OpenError::Refused)?;
        self.seat(peer, sink);
        Ok(peer)
    }

    pub fn close_peer(&mut self, peer: PeerId) {
        let Some(seat) = self.seats.get_mut(peer.0 as usize).and_then(Option::take) else { return };
        for (_, route) in seat.routes {
            self.driver.release_route(route);
        }
        self.undelivered.retain(|(to, _)| *to != peer);
        self.driver.close_peer(peer);
    }

    pub fn submit(&mut self, peer: PeerId, calls: &mut Vec<Submission>) {
        for Submission { call, tag, wants, resent } in calls.drain(..) {
            let route = if self.closed {
                Err(Failure::new(Code::Unavailable, "the broker is closed"))
            } else {
                self.route(peer, &call.route)
            };
            match route {
                Err(failure) => self.undelivered.push_back((peer, Event::Refused { tag, failure })),
                Ok(route) => {
                    let (id, payload, deadline_ms) = (call.id, call.payload, call.deadline_ms);
                    let (start, keys) = (call.start, call.keys);
                    let submit = Submit { id, tag, route, payload, deadline_ms, start, keys, wants, resent };
                    self.driver.submit(peer, submit);
                }
            }
        }
    }

    /// The number of a route, remembered per peer: the same `Arc` is found without comparing.
    fn route(&mut self, peer: PeerId, route: &Arc<Route>) -> Result<RouteRef, Failure> {
        let seat = self.seats.get_mut(peer.0 as usize).and_then(Option::as_mut);
        let Some(seat) = seat else { return Err(Failure::new(Code::Unavailable, "the caller is closed")) };
        let known = seat.routes.iter().find(|(known, _)| Arc::ptr_eq(known, route));
        let known = known.or_else(|| seat.routes.iter().find(|(known, _)| known == route));
        if let Some((_, number)) = known {
            return Ok(*number);
        }
        if seat.routes.len() == ROUTES_A_PEER {
            for (_, number) in seat.routes.drain(..) {
                self.driver.release_route(number);
            }
        }
        let number = self.driver.intern(route)?;
        seat.routes.push((Arc::clone(route), number));
        Ok(number)
    }

    pub fn ask(&mut self, query: Query) -> u64 {
        self.next_ticket += 1;
        self.tickets.insert(self.next_ticket, Ticket::Waiting(None));
        if !self.closed {
            self.driver.ask(query, self.next_ticket);
        }
        self.next_ticket
    }

    pub fn take_answer(&mut self, ticket: u64, waker: &Waker) -> Option<Answer> {
        match self.tickets.get_mut(&ticket)? {
            Ticket::Waiting(waiting) => {
                *waiting = Some(waker.clone());
                None
            }
            Ticket::Answered(_) => match self.tickets.remove(&ticket) {
                Some(Ticket::Answered(answer)) => Some(answer),
                Some(Ticket::Waiting(_)) | None => None,
            },
        }
    }

    pub fn forget_answer(&mut self, ticket: u64) {
        self.tickets.remove(&ticket);
    }

    /// Pumps the driver and sees to its commit until nothing more is to be done now.
    pub fn settle_down(&mut self) {
        if self.closed {
            return;
        }
        let was_poisoned = self.driver.poisoned().is_some();
        let mut outlet = Collected { undelivered: &mut self.undelivered, tickets: &mut self.tickets };
        let wait = self.driver.pump(&mut outlet);
        let commit = see_to_commit(&mut self.driver);
        let soonest: Option<Duration> = [wait, commit].into_iter().flatten().min();
        self.due = soonest.map(|wait| Instant::now() + wait);
        if !was_poisoned && let Some(failure) = self.driver.poisoned() {
            let reason = failure.message.clone();
            self.announce_end(&reason);
        }
    }

    /// Every peer is told that the broker has ended.
    fn announce_end(&mut self, reason: &str) {
        for (place, seat) in self.seats.iter().enumerate() {
            if seat.is_some() {
                let peer = PeerId(u32::try_from(place).unwrap_or(u32::MAX));
                let down = Event::Down { reason: reason.to_owned(), last: true };
                self.undelivered.push_back((peer, down));
            }
        }
    }

    /// Whether something is due before the timer thread wakes by itself.
    pub fn is_due_earlier(&self) -> bool {
        match (self.due, self.timer_until) {
            (Some(due), Some(until)) => due < until,
            _ => false,
        }
    }

    /// Writes what is pending, then lets nothing more in. The journal is the caller's to drop.
    pub fn shut(&mut self) -> Option<Journal> {
        // Whatever could not be written was not acknowledged either.
        drop(self.driver.commit_here());
        self.settle_down();
        self.announce_end("the broker is closed");
        self.closed = true;
        for ticket in self.tickets.values_mut() {
            if let Ticket::Waiting(Some(waker)) = ticket {
                waker.wake_by_ref();
            }
        }
        self.driver.let_go()
    }

    /// The next run of events for one peer, and its sink.
    pub fn next_batch(&mut self, batch: &mut Vec<Event>) -> Option<Arc<dyn Sink>> {
        while let Some((peer, event)) = self.undelivered.pop_front() {
            let sink = self.seats.get(peer.0 as usize).and_then(Option::as_ref).map(|seat| Arc::clone(&seat.sink));
            let Some(sink) = sink else { continue };
            batch.push(event);
            while self.undelivered.front().is_some_and(|(next, _)| *next == peer) {
                batch.extend(self.undelivered.pop_front().map(|(_, event)| event));
            }
            return Some(sink);
        }
        None
    }
}

/// Takes what the driver tells, for delivery outside the lock.
struct Collected<'a> {
    undelivered: &'a mut VecDeque<(PeerId, Event)>,
    tickets: &'a mut FxHashMap<u64, Ticket>,
}

impl Outlet for Collected<'_> {
    fn event(&mut self, peer: PeerId, event: Event) {
        self.undelivered.push_back((peer, event));
    }

    fn answer(&mut self, ticket: u64, answer: Answer) {
        if let Some(waiting) = self.tickets.get_mut(&ticket)
            && let Ticket::Waiting(Some(waker)) = std::mem::replace(waiting, Ticket::Answered(answer))
        {
            waker.wake();
        }
    }
}

/// The commit a driver needs, as the embedded broker sees to it: always behind, so that callers never wait for disks.
fn see_to_commit(driver: &mut Driver) -> Option<Duration> {
    match driver.commit_need() {
        Commit::Nothing | Commit::UnderWay => None,
        Commit::Within(wait) => Some(wait),
        Commit::Now => {
            // A failure poisons the driver, which every later answer says.
            drop(driver.commit_behind());
            None
        }
    }
}
