//! The broker's side of the simulated network: what the frames of each connection mean, by `docs/wire-format.md`. The
//! server has its own; this one owns no socket and no thread.

use super::pipe::{Link, lock};
use antiphon_broker::{Event, Inbox};
use antiphon_embedded::{Driver, Outlet, PeerId, RouteRef, Submit};
use antiphon_protocol::{Answer, CallerId, Code};
use antiphon_wire::{Arrival, Frame, FrameError, Hello, Inbound, Outbound, Refusal, Role, Submitted, Welcome, feature};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const PAYLOAD_BYTES_MAX: u32 = 1 << 20;
/// Two of these without a word, and a client gives its connection up.
pub(super) const HEARTBEAT_MS: u32 = 15_000;

enum Seat {
    Stranger,
    Caller(PeerId),
    /// A worker that has not offered, with its session.
    Applicant(u64),
    Worker(PeerId),
    Inspector,
    Fenced,
}

struct Connection {
    link: Arc<Mutex<Link>>,
    inbound: Inbound,
    outbound: Outbound,
    rest: Vec<u8>,
    seat: Seat,
    routes: Vec<Option<RouteRef>>,
    ending: bool,
}

/// Everybody who is connected to one life of the broker.
#[derive(Default)]
pub(super) struct Desk {
    /// By the number of the link.
    connections: BTreeMap<usize, Connection>,
    peers: BTreeMap<PeerId, usize>,
    sessions: BTreeMap<[u8; 16], u64>,
    tickets: BTreeMap<u64, (usize, u32)>,
    next_ticket: u64,
    pub wrong: Vec<String>,
}

impl Desk {
    /// Takes what has arrived on a link.
    pub fn read(&mut self, driver: &mut Driver, number: usize, link: &Arc<Mutex<Link>>) {
        let (bytes, over) = {
            let mut link = lock(link);
            if link.closed {
                return;
            }
            let bytes: Vec<u8> = link.up.arrived.drain(..).collect();
            (bytes, link.cut || link.up.is_over())
        };
        let connection = self.connections.entry(number).or_insert_with(|| Connection {
            link: Arc::clone(link),
            inbound: Inbound::new(),
            outbound: Outbound::new(),
            rest: Vec::new(),
            seat: Seat::Stranger,
            routes: Vec::new(),
            ending: false,
        });
        connection.rest.extend(bytes);
        let all = std::mem::take(&mut connection.rest);
        let mut input = all.as_slice();
        while let Some(connection) = self.connections.get_mut(&number).filter(|connection| !connection.ending) {
            let mut inbound = std::mem::take(&mut connection.inbound);
            let taken = match inbound.next(&mut input) {
                Ok(None) => Ok(None),
                Ok(Some(Arrival::Frame(frame))) => Ok(Some(frame)),
                Ok(Some(Arrival::Oversized(..))) => Err(FrameError::Field("payload")),
                Err(error) => Err(error),
            };
            let taken = match taken {
                Ok(None) => {
                    connection.inbound = inbound;
                    break;
                }
                Ok(Some(frame)) => self.frame(driver, number, &mut inbound, frame),
                Err(error) => Err(error),
            };
            if let Some(connection) = self.connections.get_mut(&number) {
                connection.inbound = inbound;
            }
            if let Err(error) = taken {
                // The client under test must never say what is not a frame.
                self.wrong.push(format!("link {number}: a client said what it must not: {error}"));
                self.close(driver, number);
            }
        }
        let rest = input.to_vec();
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.rest = rest;
        }
        if over {
            self.close(driver, number);
        }
    }

    fn frame(
        &mut self,
        driver: &mut Driver,
        number: usize,
        inbound: &mut Inbound,
        frame: Frame<'_>,
    ) -> Result<(), FrameError> {
        let Some(connection) = self.connections.get_mut(&number) else { return Ok(()) };
        match (&connection.seat, frame) {
            (Seat::Stranger, Frame::Hello(hello)) => {
                self.hello(driver, number, &hello);
                inbound.greeted(PAYLOAD_BYTES_MAX);
            }
            (Seat::Applicant(session), Frame::Offer(offer)) => {
                let session = *session;
                if self.is_fenced(offer.incarnation.0, session) {
                    self.end(number, true, "a newer session of this worker is here");
                    return Ok(());
                }
                match driver.open_worker(&offer) {
                    Ok(peer) => self.seat(number, peer, Seat::Worker(peer)),
                    Err(failure) => self.wrong.push(format!("a worker was refused: {failure}")),
                }
            }
            (_, Frame::Ping(opaque)) => connection.outbound.pong(opaque),
            (_, Frame::Pong(_)) | (Seat::Fenced, _) => {}
            (_, Frame::Goodbye { .. }) => connection.ending = true,
            (Seat::Inspector, Frame::Query { ticket, query }) => {
                self.next_ticket += 1;
                self.tickets.insert(self.next_ticket, (number, ticket));
                driver.ask(*query, self.next_ticket);
            }
            (Seat::Caller(peer), frame) => {
                let peer = *peer;
                return self.of_caller(driver, number, peer, frame);
            }
            (Seat::Worker(peer), frame) => return of_worker(driver, *peer, frame),
            _ => return Err(FrameError::Field("kind")),
        }
        Ok(())
    }

    fn of_caller(
        &mut self,
        driver: &mut Driver,
        number: usize,
        peer: PeerId,
        frame: Frame<'_>,
    ) -> Result<(), FrameError> {
        let Some(connection) = self.connections.get_mut(&number) else { return Ok(()) };
        match frame {
            Frame::Route { index, route } => {
                let at = index as usize;
                if connection.routes.len() <= at {
                    connection.routes.resize_with(at + 1, || None);
                }
                match driver.intern(&route) {
                    Ok(route) => connection.routes[at] = Some(route),
                    Err(failure) => self.wrong.push(format!("a route was refused: {failure}")),
                }
            }
            Frame::Submit(submitted) => {
                let Submitted { tag, id, route, deadline_ms, start, keys, wants, resent, payload } = submitted;
                let known = connection.routes.get(route as usize).copied().flatten();
                let route = known.ok_or(FrameError::Field("route index"))?;
                driver.submit(peer, Submit { id, tag, route, payload, deadline_ms, start, keys, wants, resent });
            }
            Frame::Attach(calls) => calls.for_each(|(tag, id)| driver.attach(peer, id, tag)),
            Frame::Acknowledge(calls) => calls.for_each(|id| driver.acknowledge(peer, id)),
            Frame::Cancel(calls) => calls.for_each(|id| driver.cancel(peer, id)),
            Frame::Follow(calls) => calls.for_each(|(id, tag, after)| driver.follow(peer, id, tag, after)),
            _ => return Err(FrameError::Field("kind")),
        }
        Ok(())
    }

    fn hello(&mut self, driver: &mut Driver, number: usize, hello: &Hello) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        match hello.role {
            Role::Worker => connection.seat = Seat::Applicant(hello.session),
            Role::Inspector => connection.seat = Seat::Inspector,
            Role::Caller => {
                if self.is_fenced(hello.peer, hello.session) {
                    let refusal = Refusal::new(Code::Aborted, "a newer session of this caller is here");
                    if let Some(connection) = self.connections.get_mut(&number) {
                        connection.outbound.refusal(&refusal);
                        connection.ending = true;
                    }
                    return;
                }
                let inbox = match &hello.inbox {
                    Some(name) => Inbox::Named(name.clone()),
                    None => Inbox::Anonymous(CallerId(hello.peer)),
                };
                match driver.open_caller(inbox) {
                    Ok(peer) => self.seat(number, peer, Seat::Caller(peer)),
                    Err(failure) => self.wrong.push(format!("a caller was refused: {failure}")),
                }
            }
        }
        let Some(connection) = self.connections.get_mut(&number) else { return };
        connection.outbound.welcome(&Welcome {
            version: hello.version_max,
            accepted: 1,
            features: feature::DURABLE_BY_DEFAULT | feature::NAMED_INBOXES | feature::PROGRESS,
            broker: [0; 16],
            epoch: driver.epoch().0,
            wall_ms: 0,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            heartbeat_ms: HEARTBEAT_MS,
            lease_ms: 10_000,
            agent: String::new(),
        });
    }

    fn seat(&mut self, number: usize, peer: PeerId, seat: Seat) {
        self.peers.insert(peer, number);
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.seat = seat;
        }
    }

    /// Whether a newer session has come before; if not, this is the newest.
    fn is_fenced(&mut self, peer: [u8; 16], session: u64) -> bool {
        let newest = self.sessions.entry(peer).or_default();
        if *newest > session {
            return true;
        }
        *newest = session;
        false
    }

    fn end(&mut self, number: usize, last: bool, text: &str) {
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.outbound.goodbye(Code::Aborted, last, text);
            connection.ending = true;
        }
    }

    /// The broker lets go of a connection.
    pub fn close(&mut self, driver: &mut Driver, number: usize) {
        let Some(connection) = self.connections.remove(&number) else { return };
        {
            let mut link = lock(&connection.link);
            (link.closed, link.down.ended) = (true, true);
            link.wake();
        }
        self.tickets.retain(|_, (asker, _)| *asker != number);
        connection.routes.into_iter().flatten().for_each(|route| driver.release_route(route));
        if let Some(peer) = self.peers.iter().find(|(_, at)| **at == number).map(|(peer, _)| *peer) {
            self.peers.remove(&peer);
            driver.close_peer(peer);
        }
    }

    /// Sends what is laid down; closes what has nothing more to say.
    pub fn flush(&mut self, driver: &mut Driver) {
        let mut over = Vec::new();
        for (number, connection) in &mut self.connections {
            let mut link = lock(&connection.link);
            while !connection.outbound.is_empty() {
                let unsent = connection.outbound.unsent();
                let count = unsent.len();
                link.down.say(unsent);
                connection.outbound.advance(count);
            }
            if connection.ending {
                over.push(*number);
            }
        }
        over.into_iter().for_each(|number| self.close(driver, number));
    }
}

fn of_worker(driver: &mut Driver, peer: PeerId, frame: Frame<'_>) -> Result<(), FrameError> {
    match frame {
        Frame::Report(report) => driver.report(peer, report),
        Frame::ProgressReport(told) => driver.progress(peer, told),
        Frame::Extend(leases) => leases.for_each(|lease| driver.extend(peer, lease)),
        Frame::Credit(slots) => driver.credit(peer, slots),
        Frame::Drain => driver.drain(peer),
        _ => return Err(FrameError::Field("kind")),
    }
    Ok(())
}

impl Outlet for Desk {
    fn event(&mut self, peer: PeerId, event: Event) {
        let Some(number) = self.peers.get(&peer).copied() else { return };
        let Some(connection) = self.connections.get_mut(&number) else { return };
        match event {
            Event::Down { reason, last } => {
                connection.seat = Seat::Fenced;
                self.end(number, last, &reason);
            }
            Event::Up { .. } if matches!(connection.seat, Seat::Caller(_)) => {}
            event => connection.outbound.event(&event),
        }
    }

    fn answer(&mut self, ticket: u64, answer: Answer) {
        if let Some((number, ticket)) = self.tickets.remove(&ticket)
            && let Some(connection) = self.connections.get_mut(&number)
        {
            connection.outbound.answer(ticket, &answer);
        }
    }
}
