//! The turn: wait, read what all connections sent, hand it to the driver, write, commit, write. One thread does it all.

use crate::ServerOptions;
use crate::connection::{Connection, Fault, SCRATCH_BYTES};
use crate::counters::add;
use crate::handle::{Phase, ServerHandle};
use crate::inside::Hall;
use crate::listener::Listener;
use crate::peers::Peers;
use crate::server::{ServeError, WAKER};
use crate::session::Session;
use crate::spin::Spin;
use crate::stream::Stream;
use antiphon_embedded::{Commit, Driver};
use antiphon_protocol::{Code, Failure};
use antiphon_wire::{Outbound, Refusal};
use mio::event::Event;
use mio::{Events, Poll, Token};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How many events are taken from the operating system at a time.
const EVENTS: usize = 1024;
/// How many bytes are read before anything is written: 16 full reads.
const TURN_BYTES_MAX: usize = 16 * SCRATCH_BYTES;
/// How many connections are accepted at a time; the others wait for the next turn.
const ACCEPTS_MAX: usize = 256;
/// How long to accept nothing after accepting failed: until then file descriptors may have become free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often an inline commit may lead to the next before connections are looked at again.
const COMMITS_MAX: usize = 8;
/// What is due this soon must not wait for the disk, which may stall: then another thread does.
const HELD_UP_MAX: Duration = Duration::from_millis(10);
/// The step of a tokio runtime's timers.
const TIMER_STEP: Duration = Duration::from_millis(1);
/// How long what nobody waits for may wait for company: a worker that drains waits for it, and nobody else.
const PUT_OFF: Duration = Duration::from_millis(1);
/// How often the clock of connections is looked at, at most: a heartbeat is 15 s.
const TICK_MAX: Duration = Duration::from_secs(1);

pub(crate) struct Turn {
    pub(crate) driver: Driver,
    pub(crate) poll: Poll,
    events: Events,
    listeners: Vec<Listener>,
    options: ServerOptions,
    spin: Spin,
    pub(crate) handle: ServerHandle,
    peers: Peers,
    /// Connections that may have something to read, first come first read.
    ready: VecDeque<usize>,
    scratch: Vec<u8>,
    pub(crate) now: Instant,
    /// When the driver wants to be pumped again.
    pump_at: Option<Instant>,
    /// Until when a commit may wait for company.
    commit_at: Option<Instant>,
    /// Until when sending is put off where it is.
    put_off_until: Option<Instant>,
    tick_at: Instant,
    /// When to accept again; set while a listener may have more.
    accept_at: Option<Instant>,
    /// Somebody outside or the journal's writer woke the turn.
    woken: bool,
    /// It runs on somebody's runtime, not on a thread of its own.
    pub(crate) here: bool,
    /// Callers and workers of the same process.
    pub(crate) hall: Option<Arc<Hall>>,
}

impl Turn {
    pub(crate) fn new(
        driver: Driver,
        poll: Poll,
        mut listeners: Vec<Listener>,
        options: ServerOptions,
        handle: ServerHandle,
    ) -> io::Result<Self> {
        for (number, listener) in listeners.iter_mut().enumerate() {
            listener.register(poll.registry(), listener_token(number))?;
        }
        let now = Instant::now();
        Ok(Self {
            driver,
            poll,
            events: Events::with_capacity(EVENTS),
            listeners,
            spin: Spin::new(options.spin),
            options,
            handle,
            peers: Peers::default(),
            ready: VecDeque::new(),
            scratch: vec![0; SCRATCH_BYTES],
            now,
            pump_at: Some(now),
            commit_at: None,
            put_off_until: None,
            tick_at: now,
            accept_at: None,
            woken: true,
            here: false,
            hall: None,
        })
    }

    /// Serves until it is stopped or the journal fails.
    pub(crate) fn run(&mut self) -> Result<(), ServeError> {
        self.handle.advance(Phase::Ready);
        let mut ended = Ok(());
        while self.handle.phase() == Phase::Ready && ended.is_ok() {
            ended = self.turn();
        }
        self.end(ended)
    }

    pub(crate) fn end(&mut self, ended: Result<(), ServeError>) -> Result<(), ServeError> {
        self.handle.advance(Phase::Stopping);
        let ended = match ended {
            Err(ServeError::Journal(failure)) => {
                self.farewell(failure.code, &failure.message);
                Err(ServeError::Journal(failure))
            }
            Ok(()) => {
                let committed = self.commit_now();
                self.farewell(Code::Unavailable, "the broker is stopping");
                committed
            }
            other => other,
        };
        self.handle.0.counters.connections.store(0, Ordering::Relaxed);
        ended
    }

    fn turn(&mut self) -> Result<(), ServeError> {
        self.wait()?;
        self.work()
    }

    /// Everything that needs no waiting.
    pub(crate) fn work(&mut self) -> Result<(), ServeError> {
        self.accept();
        self.read();
        self.questions();
        if self.now >= self.tick_at {
            self.tick();
        }
        self.pump();
        self.commit()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.ready.is_empty() && self.peers.dirty.is_empty() && !self.woken
    }

    /// When there is something to do even if nothing comes in.
    pub(crate) fn due(&self) -> Option<Instant> {
        let tick = (!self.peers.connections.is_empty()).then_some(self.tick_at);
        [self.pump_at, self.commit_at, self.accept_at, self.put_off_until, tick].into_iter().flatten().min()
    }

    /// Waits until there is something to do.
    fn wait(&mut self) -> Result<(), ServeError> {
        if !self.is_idle() {
            return self.poll(Some(Duration::ZERO));
        }
        let (began, patience) = (Instant::now(), self.spin.patience());
        self.now = began;
        // What is due needs no more precision than that. Who wants in is due at once.
        while self.now - began < patience && self.is_idle() && !self.is_due() {
            self.poll(Some(Duration::ZERO))?;
        }
        if self.is_idle() {
            let now = self.now;
            self.poll(self.due().map(|due| due.saturating_duration_since(now)))?;
        }
        self.spin.waited(self.now - began);
        Ok(())
    }

    fn is_due(&self) -> bool {
        self.due().is_some_and(|due| due <= self.now)
    }

    pub(crate) fn poll(&mut self, timeout: Option<Duration>) -> Result<(), ServeError> {
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => (),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(ServeError::Poll(error)),
        }
        self.now = Instant::now();
        for event in &self.events {
            if event.token() == WAKER {
                self.woken = true;
            } else if listener_number(event.token()) < self.listeners.len() {
                self.accept_at = Some(self.now);
            } else {
                notice(event, &mut self.peers, &mut self.ready);
            }
        }
        self.listen_inside();
        Ok(())
    }

    /// Looks who has come from this process, and who of those has said something.
    pub(crate) fn listen_inside(&mut self) {
        let Some(hall) = self.hall.clone() else { return };
        for pipe in hall.arrivals() {
            let bell = hall.bell(self.peers.connections.vacant_key());
            self.accepted(Connection::new(Stream::Inside(pipe, bell), self.now));
        }
        for place in hall.rung() {
            stirred(place, true, true, &mut self.peers, &mut self.ready);
        }
    }

    fn accept(&mut self) {
        if self.accept_at.is_none_or(|at| self.now < at) {
            return;
        }
        self.accept_at = None;
        let mut accepted = 0;
        for number in 0..self.listeners.len() {
            while let Some(listener) = self.listeners.get(number) {
                if accepted == ACCEPTS_MAX {
                    self.accept_at = Some(self.now);
                    return;
                }
                match listener.accept() {
                    Ok(stream) => {
                        accepted += 1;
                        self.accepted(Connection::new(stream, self.now));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // The peer has gone already.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => accepted += 1,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        add(&self.handle.0.counters.accept_errors, 1);
                        self.accept_at = Some(self.now + ACCEPT_PAUSE);
                        return;
                    }
                }
            }
        }
    }

    fn accepted(&mut self, mut connection: Connection) {
        let counters = &self.handle.0.counters;
        let greeting = self.peers.greeting();
        if self.peers.connections.len() >= self.options.connections_max || greeting >= self.options.greeting_max {
            add(&counters.refused, 1);
            let mut outbound = Outbound::new();
            outbound.refusal(&Refusal::new(Code::ResourceExhausted, "the broker has too many connections"));
            // A fresh socket takes this at once; if not, closing says enough.
            drop(connection.stream().write(outbound.unsent()));
            return;
        }
        let entry = self.peers.connections.vacant_entry();
        let place = entry.key();
        if connection.stream().register(self.poll.registry(), Token(place)).is_ok() {
            entry.insert(connection);
            self.peers.greet();
            add(&counters.accepted, 1);
            add(&counters.connections, 1);
        }
    }

    /// Reads connections in turn, up to a bound.
    fn read(&mut self) {
        let mut scratch = core::mem::take(&mut self.scratch);
        let mut total = 0;
        // Each is read once per turn, so that none is read twice before all are read once.
        for _ in 0..self.ready.len() {
            if total >= TURN_BYTES_MAX {
                break;
            }
            let Some(place) = self.ready.pop_front() else { break };
            total += self.read_one(place, &mut scratch);
        }
        self.scratch = scratch;
        add(&self.handle.0.counters.bytes_in, total);
    }

    fn read_one(&mut self, place: usize, scratch: &mut [u8]) -> usize {
        let Some(connection) = self.peers.connections.get_mut(place) else { return 0 };
        connection.queued = false;
        if connection.is_held_back(&self.options) || connection.ending {
            return 0;
        }
        let count = match connection.read(scratch, self.now) {
            Ok(Some(count)) => count,
            Ok(None) => return 0,
            Err(fault) => {
                self.close(place, fault);
                return 0;
            }
        };
        let again = connection.readable;
        let mut input = scratch.get(..count).unwrap_or(&[]);
        let mut session = Session {
            driver: &mut self.driver,
            peers: &mut self.peers,
            options: &self.options,
            counters: &self.handle.0.counters,
            place,
        };
        session.take(&mut input);
        if let Some(connection) = self.peers.connections.get_mut(place) {
            connection.keep(input);
            if again {
                connection.queued = true;
                self.ready.push_back(place);
            }
        }
        count
    }

    fn questions(&mut self) {
        if core::mem::take(&mut self.woken) {
            for question in self.handle.questions() {
                let query = question.query.clone();
                let ticket = self.peers.ticket_outside(question);
                self.driver.ask(query, ticket);
            }
        }
    }

    /// Looks at the clock of every connection.
    fn tick(&mut self) {
        let step = (self.options.heartbeat / 4).min(self.options.handshake_timeout / 4).min(TICK_MAX);
        self.tick_at = self.now + step.max(Duration::from_millis(1));
        let mut faults = Vec::new();
        let mut pinged = Vec::new();
        for (place, connection) in &mut self.peers.connections {
            match connection.watch(&self.options, self.now) {
                Ok(true) => pinged.push(place),
                Ok(false) => (),
                Err(fault) => faults.push((place, fault)),
            }
        }
        pinged.into_iter().for_each(|place| self.peers.touch(place));
        for (place, fault) in faults {
            self.close(place, fault);
        }
    }

    /// Has the driver say what may be said, and sends it.
    fn pump(&mut self) {
        let again = self.driver.pump(&mut self.peers);
        self.pump_at = again.map(|wait| self.now + wait);
        let dirty = core::mem::take(&mut self.peers.dirty);
        for place in dirty {
            self.flush(place);
        }
        self.send_put_off();
    }

    /// Sends what was put off, once it has waited for long enough.
    fn send_put_off(&mut self) {
        if self.peers.put_off.is_empty() {
            return;
        }
        if self.now < *self.put_off_until.get_or_insert(self.now + PUT_OFF) {
            return;
        }
        self.put_off_until = None;
        for place in core::mem::take(&mut self.peers.put_off) {
            if let Some(connection) = self.peers.connections.get_mut(place) {
                connection.put_off = false;
            }
            self.flush(place);
        }
    }

    fn flush(&mut self, place: usize) {
        let Some(connection) = self.peers.connections.get_mut(place) else { return };
        connection.dirty = false;
        match connection.flush(self.now) {
            Ok((written, more)) => {
                add(&self.handle.0.counters.bytes_out, written);
                if connection.is_relieved(&self.options) {
                    connection.queued = true;
                    self.ready.push_back(place);
                }
                if more {
                    self.peers.touch(place);
                }
            }
            // Its peer takes nothing any more; what it sent before that is still to be read, and ends with its goodbye or
            // the end.
            Err(Fault::Ended) if connection.readable && !connection.ending => connection.outbound.clear(),
            Err(fault) => self.close(place, fault),
        }
    }

    /// Commits what somebody waits for: here when nothing else is to be read and nothing is due soon, or else behind this
    /// thread's back.
    fn commit(&mut self) -> Result<(), ServeError> {
        // A commit on the writer thread shows its failure when it is pumped.
        if let Some(failure) = self.driver.poisoned() {
            return Err(ServeError::Journal(failure.clone()));
        }
        for _ in 0..COMMITS_MAX {
            match self.driver.commit_need() {
                Commit::Nothing => {
                    self.commit_at = None;
                    return Ok(());
                }
                Commit::UnderWay => return Ok(()),
                // Timers of a runtime are too coarse for what an fsync takes.
                Commit::Within(wait) if self.here && wait < TIMER_STEP => (),
                Commit::Within(wait) => {
                    let at = *self.commit_at.get_or_insert(self.now + wait);
                    if self.now < at {
                        return Ok(());
                    }
                }
                Commit::Now => (),
            }
            self.commit_at = None;
            if self.here {
                // A disk must not hold up the runtime.
                return self.driver.commit_behind().map_err(ServeError::Journal);
            }
            if self.ready.is_empty() {
                self.poll(Some(Duration::ZERO))?;
            }
            let is_due = self.pump_at.is_some_and(|at| at < self.now + HELD_UP_MAX);
            if !self.ready.is_empty() || is_due {
                return self.driver.commit_behind().map_err(ServeError::Journal);
            }
            self.commit_now()?;
        }
        Ok(())
    }

    fn commit_now(&mut self) -> Result<(), ServeError> {
        let committed = self.driver.commit_here();
        self.now = Instant::now();
        // Also after a failure: what cannot be kept any more is answered so.
        self.pump();
        committed.map_err(ServeError::Journal)
    }

    fn close(&mut self, place: usize, fault: Fault) {
        let counters = &self.handle.0.counters;
        match fault {
            Fault::Ended => (),
            Fault::Late => add(&counters.refused, 1),
            Fault::Silent => add(&counters.silent, 1),
            Fault::Unread => add(&counters.unread, 1),
        }
        let Some(mut connection) = self.peers.remove(place) else { return };
        if let Some(peer) = connection.role.peer() {
            self.peers.unbind(peer);
            // A stopping broker takes no leases away: their workers come back with them after the restart.
            if self.handle.phase() == Phase::Ready {
                self.driver.close_peer(peer);
            }
        }
        for route in connection.routes.drain(..).flatten().flatten() {
            self.driver.release_route(route);
        }
        counters.connections.fetch_sub(1, Ordering::Relaxed);
        if let Err(error) = connection.stream().deregister(self.poll.registry()) {
            tracing::debug!(%error, "cannot deregister a connection");
        }
    }

    /// Tells everybody goodbye, and waits a little until they have read it.
    fn farewell(&mut self, code: Code, text: &str) {
        self.listeners.clear();
        let failure = Failure::new(code, text);
        let mut places = Vec::with_capacity(self.peers.connections.len());
        for (place, connection) in &mut self.peers.connections {
            if connection.is_stranger() {
                connection.outbound.refusal(&Refusal::new(failure.code, failure.message.clone()));
                connection.ending = true;
            } else {
                connection.end(failure.code, false, &failure.message);
            }
            places.push(place);
        }
        places.into_iter().for_each(|place| self.peers.touch(place));
        let until = Instant::now() + self.options.farewell;
        while !self.peers.connections.is_empty() && Instant::now() < until {
            for place in core::mem::take(&mut self.peers.dirty) {
                self.flush(place);
            }
            // Who has this thread in common reads nothing while it waits; what is in the pipe stays readable.
            self.peers.connections.retain(|_, connection| !connection.is_inside());
            let wait = until.saturating_duration_since(Instant::now()).min(Duration::from_millis(20));
            if self.peers.connections.is_empty() || self.poll(Some(wait)).is_err() {
                break;
            }
        }
    }
}

/// A connection's socket has become readable or writable.
fn notice(event: &Event, peers: &mut Peers, ready: &mut VecDeque<usize>) {
    let Token(place) = event.token();
    let Some(connection) = peers.connections.get_mut(place) else { return };
    connection.hung_up |= event.is_read_closed();
    let readable = event.is_readable() || event.is_read_closed() || event.is_error();
    stirred(place, readable, event.is_writable(), peers, ready);
}

/// There may be something to read on a connection, or room for what it has to send.
fn stirred(place: usize, readable: bool, writable: bool, peers: &mut Peers, ready: &mut VecDeque<usize>) {
    let Some(connection) = peers.connections.get_mut(place) else { return };
    if readable {
        connection.readable = true;
        if !connection.queued {
            connection.queued = true;
            ready.push_back(place);
        }
    }
    if writable && !connection.outbound.is_empty() {
        peers.touch(place);
    }
}

/// Listeners count down from the waker's token, connections up from 0.
const fn listener_token(number: usize) -> Token {
    Token(usize::MAX - 1 - number)
}

const fn listener_number(token: Token) -> usize {
    usize::MAX - 1 - token.0
}
