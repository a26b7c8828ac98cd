//! What the frames of one connection mean: from the hello on, straight into the driver.

use crate::ServerOptions;
use crate::connection::{Connection, Role};
use crate::counters::{LiveCounters, add};
use crate::peers::Peers;
use antiphon_broker::{Event, Inbox};
use antiphon_embedded::{Driver, PeerId, Submit};
use antiphon_protocol::{Answer, CallerId, Code, Failure, Name, Offer, Query, Route};
use antiphon_wire::{Arrival, Frame, FrameError, Hello, Refusal, Stranger, Submitted, Welcome, feature};
use std::time::SystemTime;

/// What peers are told this program is.
const AGENT: &str = concat!("antiphon-server/", env!("CARGO_PKG_VERSION"));

/// What every broker of this build can do.
const FEATURES: u32 = feature::NAMED_INBOXES
    | feature::IDEMPOTENCY_KEYS
    | feature::PRIORITIES
    | feature::LANES
    | feature::CALLBACKS
    | feature::GROUPS
    | feature::PROGRESS
    | feature::EVENTS
    | feature::SCHEDULES
    | feature::CONCURRENCY_KEYS
    | feature::NEEDS
    | feature::PARKING;

/// What the frames of all connections act on.
pub(crate) struct Session<'a> {
    pub(crate) driver: &'a mut Driver,
    pub(crate) peers: &'a mut Peers,
    pub(crate) options: &'a ServerOptions,
    pub(crate) counters: &'a LiveCounters,
    pub(crate) place: usize,
}

/// The connection must end, for this reason.
pub(crate) struct Farewell {
    code: Code,
    text: String,
}

impl From<FrameError> for Farewell {
    fn from(error: FrameError) -> Self {
        Self { code: Code::InvalidArgument, text: error.to_string() }
    }
}

impl Session<'_> {
    /// Takes all whole frames off the front of `input`. On a fault the connection is told, and ends.
    pub(crate) fn take(&mut self, input: &mut &[u8]) {
        let first = *input;
        while let Some(connection) = self.peers.connections.get_mut(self.place)
            && !connection.ending
        {
            let taken = match connection.inbound.next(input) {
                Ok(None) => return,
                Ok(Some(arrival)) => self.arrival(arrival),
                Err(error) => Err(error.into()),
            };
            if let Err(farewell) = taken {
                self.end(first, &farewell);
                return;
            }
        }
    }

    fn end(&mut self, first: &[u8], farewell: &Farewell) {
        add(&self.counters.malformed, 1);
        let Some(connection) = self.connection() else { return };
        if !matches!(connection.role, Role::Stranger) {
            connection.end(farewell.code, false, &farewell.text);
        } else if let Some(stranger) = Stranger::recognise(first) {
            connection.outbound.stranger(stranger);
            connection.ending = true;
        } else {
            connection.outbound.refusal(&Refusal::new(farewell.code, farewell.text.clone()));
            connection.ending = true;
        }
        self.peers.touch(self.place);
    }

    fn connection(&mut self) -> Option<&mut Connection> {
        self.peers.connections.get_mut(self.place)
    }

    fn arrival(&mut self, arrival: Arrival<'_>) -> Result<(), Farewell> {
        let Some(connection) = self.peers.connections.get_mut(self.place) else { return Ok(()) };
        match connection.role {
            Role::Caller { peer } => self.of_caller(peer, arrival),
            Role::Worker { peer } => self.of_worker(peer, arrival),
            Role::Stranger => match arrival {
                Arrival::Frame(Frame::Hello(hello)) => {
                    self.hello(&hello);
                    Ok(())
                }
                _ => Err(FrameError::Field("first frame: a hello is expected").into()),
            },
            Role::Applicant { session } => match arrival {
                Arrival::Frame(Frame::Offer(offer)) => {
                    self.offer(&offer, session);
                    Ok(())
                }
                other => self.either(other),
            },
            Role::Inspector => self.either(arrival),
            Role::Fenced { .. } => Ok(()),
        }
    }

    fn of_caller(&mut self, peer: PeerId, arrival: Arrival<'_>) -> Result<(), Farewell> {
        match arrival {
            Arrival::Frame(Frame::Submit(submitted)) => self.submit(peer, submitted)?,
            Arrival::Frame(Frame::Route { index, route }) => self.route(index, &route),
            Arrival::Frame(Frame::Attach(calls)) => calls.for_each(|(tag, id)| self.driver.attach(peer, id, tag)),
            Arrival::Frame(Frame::Acknowledge(calls)) => calls.for_each(|id| self.driver.acknowledge(peer, id)),
            Arrival::Frame(Frame::Cancel(calls)) => calls.for_each(|id| self.driver.cancel(peer, id)),
            Arrival::Frame(Frame::Follow(calls)) => {
                calls.for_each(|(id, tag, after)| self.driver.follow(peer, id, tag, after));
            }
            Arrival::Frame(Frame::Watch(watch)) => self.driver.watch(peer, watch),
            Arrival::Oversized(Frame::Submit(submitted), bytes) => self.oversized(&submitted, bytes),
            other => self.either(other)?,
        }
        Ok(())
    }

    fn of_worker(&mut self, peer: PeerId, arrival: Arrival<'_>) -> Result<(), Farewell> {
        match arrival {
            Arrival::Frame(Frame::Report(report)) => self.driver.report(peer, report),
            // One that is larger than a call's progress may be tells nothing.
            Arrival::Oversized(Frame::ProgressReport(_), _) => add(&self.counters.oversized, 1),
            Arrival::Frame(Frame::ProgressReport(told)) => self.driver.progress(peer, told),
            Arrival::Frame(Frame::Extend(leases)) => leases.for_each(|lease| self.driver.extend(peer, lease)),
            Arrival::Frame(Frame::Credit(slots)) => self.driver.credit(peer, slots),
            Arrival::Frame(Frame::Park(leases)) => {
                leases.for_each(|parked| self.driver.park(peer, parked.lease, parked.awaits));
            }
            Arrival::Frame(Frame::Resume(leases)) => leases.for_each(|lease| self.driver.resume(peer, lease)),
            Arrival::Frame(Frame::Drain) => self.driver.drain(peer),
            Arrival::Oversized(Frame::Report(mut report), bytes) => {
                add(&self.counters.oversized, 1);
                let count = usize::try_from(bytes).unwrap_or(usize::MAX);
                let max = usize::try_from(self.options.driver.payload_bytes_max).unwrap_or(usize::MAX);
                report.settlement = antiphon_wire::oversized_settlement(count, max);
                self.driver.report(peer, report);
            }
            other => self.either(other)?,
        }
        Ok(())
    }

    /// Frames that every role may send.
    fn either(&mut self, arrival: Arrival<'_>) -> Result<(), Farewell> {
        match arrival {
            Arrival::Frame(Frame::Ping(opaque)) => {
                if let Some(connection) = self.connection() {
                    connection.outbound.pong(opaque);
                }
                self.peers.touch(self.place);
            }
            Arrival::Frame(Frame::Pong(_)) => (),
            Arrival::Frame(Frame::Goodbye { .. }) => {
                if let Some(connection) = self.connection() {
                    connection.ending = true;
                }
                self.peers.touch(self.place);
            }
            Arrival::Frame(Frame::Query { ticket, query }) => self.query(ticket, *query),
            _ => return Err(FrameError::Field("kind for the role of its connection").into()),
        }
        Ok(())
    }

    fn query(&mut self, ticket: u32, query: Query) {
        if let Some(ticket) = self.peers.ticket(self.place, ticket) {
            self.driver.ask(query, ticket);
            return;
        }
        let message = "too many questions wait for this broker: ask again later".to_owned();
        if let Some(connection) = self.connection() {
            connection.outbound.answer(ticket, &Answer::Refused { code: Code::ResourceExhausted, message });
        }
        self.peers.touch(self.place);
    }

    fn submit(&mut self, peer: PeerId, submitted: Submitted) -> Result<(), Farewell> {
        let Submitted { tag, id, route, deadline_ms, start, keys, wants, resent, payload } = submitted;
        let Some(connection) = self.peers.connections.get_mut(self.place) else { return Ok(()) };
        let index = usize::try_from(route).unwrap_or(usize::MAX);
        let known = connection.routes.get(index).and_then(Option::as_ref);
        match known {
            Some(Ok(route)) => {
                let submit = Submit { id, tag, route: *route, payload, deadline_ms, start, keys, wants, resent };
                self.driver.submit(peer, submit);
            }
            Some(Err(failure)) => {
                let failure = failure.clone();
                connection.outbound.event(&Event::Refused { tag, failure });
                self.peers.touch(self.place);
            }
            None => return Err(FrameError::Field("route index").into()),
        }
        Ok(())
    }

    fn oversized(&mut self, submitted: &Submitted, bytes: u32) {
        add(&self.counters.oversized, 1);
        let max = self.options.driver.payload_bytes_max;
        let text = format!("the arguments have {bytes} bytes and this broker takes at most {max}");
        let failure = Failure::new(Code::ResourceExhausted, text);
        if let Some(connection) = self.connection() {
            connection.outbound.event(&Event::Refused { tag: submitted.tag, failure });
        }
        self.peers.touch(self.place);
    }

    fn route(&mut self, index: u32, route: &Route) {
        let interned = self.driver.intern(route);
        let Some(connection) = self.peers.connections.get_mut(self.place) else { return };
        let routes = &mut connection.routes;
        // The index was checked against its limit when it was decoded.
        let index = usize::try_from(index).unwrap_or(0);
        if routes.len() <= index {
            routes.resize(index + 1, None);
        }
        let before = routes.get_mut(index).and_then(|entry| entry.replace(interned));
        if let Some(Ok(route)) = before {
            self.driver.release_route(route);
        }
    }

    fn hello(&mut self, hello: &Hello) {
        match self.greet(hello) {
            Ok(role) => {
                let welcome = self.welcome(hello);
                let payload_bytes_max = self.options.driver.payload_bytes_max;
                if !matches!(role, Role::Applicant { .. }) {
                    self.peers.greeted();
                }
                if let Some(connection) = self.connection() {
                    connection.role = role;
                    connection.inbound.greeted(payload_bytes_max);
                    connection.outbound.welcome(&welcome);
                }
            }
            Err(refusal) => {
                add(&self.counters.refused, 1);
                if let Some(connection) = self.connection() {
                    connection.outbound.refusal(&refusal);
                    connection.ending = true;
                }
            }
        }
        self.peers.touch(self.place);
    }

    fn greet(&mut self, hello: &Hello) -> Result<Role, Refusal> {
        if hello.version().is_none() {
            return Err(Refusal::version(hello));
        }
        if hello.auth != 0 || !hello.credentials.is_empty() {
            let text = format!("authentication method {} is not offered by this broker", hello.auth);
            return Err(Refusal::new(Code::Unauthenticated, text));
        }
        match hello.role {
            antiphon_wire::Role::Caller => self.caller(hello),
            antiphon_wire::Role::Worker => Ok(Role::Applicant { session: hello.session }),
            antiphon_wire::Role::Inspector => Ok(Role::Inspector),
        }
    }

    fn caller(&mut self, hello: &Hello) -> Result<Role, Refusal> {
        let begun = self.peers.begin_session(hello.peer, hello.session, self.place);
        begun.map_err(|newest| {
            let text = format!("session {} is fenced by session {newest} of the same caller", hello.session);
            Refusal::new(Code::Aborted, text)
        })?;
        let inbox = match &hello.inbox {
            Some(name) => Inbox::Named(Name::clone(name)),
            None => Inbox::Anonymous(CallerId(hello.peer)),
        };
        let opened = self.driver.open_caller(inbox);
        let peer = opened.map_err(|failure| Refusal::new(failure.code, failure.message))?;
        self.peers.bind(peer, self.place);
        if let Some(connection) = self.connection() {
            connection.session = Some((hello.peer, hello.session));
        }
        Ok(Role::Caller { peer })
    }

    fn offer(&mut self, offer: &Offer, session: u64) {
        // An offer that an old connection brings late must not take the leases' worker from its newer one.
        let incarnation = offer.incarnation.0;
        if let Err(newest) = self.peers.begin_session(incarnation, session, self.place) {
            add(&self.counters.refused, 1);
            let text = format!("session {session} is fenced by session {newest} of the same worker");
            if let Some(connection) = self.connection() {
                connection.end(Code::Aborted, true, &text);
            }
            return self.peers.touch(self.place);
        }
        if let Some(connection) = self.connection() {
            connection.session = Some((incarnation, session));
        }
        match self.driver.open_worker(offer) {
            Ok(peer) => {
                self.peers.bind(peer, self.place);
                self.peers.greeted();
                if let Some(connection) = self.connection() {
                    connection.role = Role::Worker { peer };
                }
            }
            Err(failure) => {
                add(&self.counters.refused, 1);
                if let Some(connection) = self.connection() {
                    connection.end(failure.code, true, &failure.message);
                }
                self.peers.touch(self.place);
            }
        }
    }

    fn welcome(&self, hello: &Hello) -> Welcome {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let durable = if self.driver.is_durable() { feature::DURABLE_BY_DEFAULT } else { 0 };
        Welcome {
            version: hello.version().unwrap_or(antiphon_wire::limits::VERSION_MAX),
            accepted: u8::from(self.driver.is_durable()),
            features: durable | FEATURES,
            broker: [0; 16],
            epoch: self.driver.epoch().0,
            wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
            payload_bytes_max: self.options.driver.payload_bytes_max,
            heartbeat_ms: u32::try_from(self.options.heartbeat.as_millis()).unwrap_or(u32::MAX),
            lease_ms: self.options.driver.limits.lease_ms,
            agent: AGENT.to_owned(),
        }
    }
}
