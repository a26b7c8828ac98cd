//! All connections, and which of them is which peer of the driver: the outlet of its events.

use crate::connection::{Connection, Role};
use crate::handle::Question;
use antiphon_broker::Event;
use antiphon_embedded::{Outlet, PeerId};
use antiphon_protocol::{Answer, Code};
use rustc_hash::FxHashMap;
use slab::Slab;

/// How many questions may wait for their answers: lists take several turns each, and nobody reads a thousand.
const ASKED_MAX: usize = 1024;

/// What may be unsent to a caller before it misses progress: a second of a slow line.
const PROGRESS_UNSENT_MAX: usize = 1 << 20;

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    pub(crate) connections: Slab<Connection>,
    /// The place of a peer's connection, by the peer's number.
    places: Vec<Option<usize>>,
    /// Connections with something to send.
    pub(crate) dirty: Vec<usize>,
    /// Connections with something to send that nobody waits for, and that may go with what comes next.
    pub(crate) put_off: Vec<usize>,
    /// Who waits for an answer, by ticket.
    asked: Slab<Asker>,
    /// The newest session of each caller and of each worker's incarnation, and its connection.
    sessions: FxHashMap<[u8; 16], (u64, usize)>,
    /// How many connections have not done their handshake.
    greeting: usize,
}

#[derive(Debug)]
enum Asker {
    /// The connection at this place.
    Connection {
        place: usize,
        ticket: u32,
    },
    /// A connection that is gone; its place may be another's by now.
    Nobody,
    Outside(Question),
}

impl Peers {
    /// From now on this peer's events go to the connection at this place.
    pub(crate) fn bind(&mut self, peer: PeerId, place: usize) {
        let number = usize::try_from(peer.0).unwrap_or(usize::MAX);
        if self.places.len() <= number {
            self.places.resize(number + 1, None);
        }
        if let Some(entry) = self.places.get_mut(number) {
            *entry = Some(place);
        }
    }

    pub(crate) fn unbind(&mut self, peer: PeerId) {
        if let Some(entry) = self.places.get_mut(usize::try_from(peer.0).unwrap_or(usize::MAX)) {
            *entry = None;
        }
    }

    fn place(&self, peer: PeerId) -> Option<usize> {
        self.places.get(usize::try_from(peer.0).ok()?).copied().flatten()
    }

    /// A connection has something to send.
    pub(crate) fn touch(&mut self, place: usize) {
        if let Some(connection) = self.connections.get_mut(place)
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(place);
        }
    }

    /// A connection has something to send that nobody waits for.
    fn put_off(&mut self, place: usize) {
        if let Some(connection) = self.connections.get_mut(place)
            && !connection.dirty
            && !connection.put_off
        {
            connection.put_off = true;
            self.put_off.push(place);
        }
    }

    /// A connection that has yet to do its handshake.
    pub(crate) fn greet(&mut self) {
        self.greeting += 1;
    }

    /// The handshake of a connection is done.
    pub(crate) fn greeted(&mut self) {
        self.greeting = self.greeting.saturating_sub(1);
    }

    /// How many connections have not done their handshake.
    pub(crate) const fn greeting(&self) -> usize {
        self.greeting
    }

    /// Forgets a connection.
    pub(crate) fn remove(&mut self, place: usize) -> Option<Connection> {
        let connection = self.connections.try_remove(place)?;
        if connection.is_greeting() {
            self.greeted();
        }
        for (_, asker) in &mut self.asked {
            if matches!(asker, Asker::Connection { place: asking, .. } if *asking == place) {
                *asker = Asker::Nobody;
            }
        }
        if let Some((caller, _)) = connection.session {
            self.end_session(caller, place);
        }
        Some(connection)
    }

    /// A caller's or worker's session begins; refused when a newer one is there.
    pub(crate) fn begin_session(&mut self, peer: [u8; 16], session: u64, place: usize) -> Result<(), u64> {
        match self.sessions.get(&peer) {
            Some((newest, _)) if *newest > session => Err(*newest),
            _ => {
                self.sessions.insert(peer, (session, place));
                Ok(())
            }
        }
    }

    fn end_session(&mut self, caller: [u8; 16], place: usize) {
        if self.sessions.get(&caller).is_some_and(|(_, newest)| *newest == place) {
            self.sessions.remove(&caller);
        }
    }

    /// A ticket for a question of the connection at this place; none when too many wait.
    pub(crate) fn ticket(&mut self, place: usize, ticket: u32) -> Option<u64> {
        (self.asked.len() < ASKED_MAX).then(|| self.ask(Asker::Connection { place, ticket }))
    }

    /// A ticket for a question from outside.
    pub(crate) fn ticket_outside(&mut self, question: Question) -> u64 {
        self.ask(Asker::Outside(question))
    }

    fn ask(&mut self, asker: Asker) -> u64 {
        u64::try_from(self.asked.insert(asker)).unwrap_or(u64::MAX)
    }
}

impl Outlet for Peers {
    fn event(&mut self, peer: PeerId, event: Event) {
        let Some(place) = self.place(peer) else { return };
        let Some(connection) = self.connections.get_mut(place) else { return };
        match event {
            Event::Down { reason, last } => {
                connection.fence(peer);
                connection.end(Code::Aborted, last, &reason);
            }
            // A caller learned the epoch from its welcome.
            Event::Up { .. } if matches!(connection.role, Role::Caller { .. }) => return,
            // Who reads slower than its calls tell of themselves misses some of it.
            Event::Progress { .. } if connection.outbound.bytes() > PROGRESS_UNSENT_MAX => return,
            // A worker whose report is recorded does nothing with that but forget it: not worth waking it for, when its
            // next lease may be on its way.
            event @ Event::Settled { .. } => {
                connection.outbound.event(&event);
                return self.put_off(place);
            }
            event => connection.outbound.event(&event),
        }
        self.touch(place);
    }

    fn answer(&mut self, ticket: u64, mut answer: Answer) {
        if let Answer::Broker(status) = &mut answer {
            status.connections = u64::try_from(self.connections.len()).unwrap_or(u64::MAX);
        }
        let Some(asker) = usize::try_from(ticket).ok().and_then(|ticket| self.asked.try_remove(ticket)) else { return };
        match asker {
            Asker::Connection { place, ticket } => {
                if let Some(connection) = self.connections.get_mut(place) {
                    connection.outbound.answer(ticket, &answer);
                }
                self.touch(place);
            }
            Asker::Nobody => (),
            // Who asked may have stopped waiting.
            Asker::Outside(question) => drop(question.answer.send(answer)),
        }
    }
}
