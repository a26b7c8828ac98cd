//! Connections: what is on its way between a client and the broker, and which of the two still holds on.

use crate::action::Client;
use antiphon_broker::{Event, Inbox, ProgressReport, Report, Submission};
use antiphon_embedded::{PeerId, RouteRef};
use antiphon_protocol::{Answer, CallId, LeaseTag, Offer, Query, Route, Tag};
use std::collections::VecDeque;
use std::sync::Arc;

/// From a client to the broker.
#[derive(Clone, Debug)]
pub(crate) enum Up {
    OpenCaller(Inbox),
    OpenWorker(Offer),
    Submit(Submission),
    Attach(CallId, Tag),
    Acknowledge(CallId),
    Cancel(CallId),
    Credit(i32),
    Report(Report),
    Extend(LeaseTag),
    Drain,
    Park(LeaseTag),
    GoOn(LeaseTag),
    Tell(ProgressReport),
    Follow(CallId, Tag),
    Ask(Query),
    /// The client's side of the connection is closed.
    Close,
}

/// From the broker to a client.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "few are on their way at a time")]
pub(crate) enum Down {
    Event(Event),
    Answer(Query, Answer),
    /// The broker's side of the connection is closed.
    Close,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Link {
    /// Tells connections apart, for ever.
    pub serial: u64,
    pub up: VecDeque<Up>,
    pub down: VecDeque<Down>,
    /// The driver's number for the client, once it has said who it is.
    pub peer: Option<PeerId>,
    pub routes: Vec<(Arc<Route>, RouteRef)>,
    pub client_holds: bool,
    pub broker_holds: bool,
    pub loses_up: bool,
    pub loses_down: bool,
}

impl Link {
    fn new(serial: u64) -> Self {
        Self {
            serial,
            up: VecDeque::new(),
            down: VecDeque::new(),
            peer: None,
            routes: Vec::new(),
            client_holds: true,
            broker_holds: true,
            loses_up: false,
            loses_down: false,
        }
    }

    pub fn send_up(&mut self, message: Up) {
        if self.client_holds && !self.loses_up && self.broker_holds {
            self.up.push_back(message);
        }
    }

    pub fn send_down(&mut self, message: Down) {
        if self.broker_holds && !self.loses_down {
            self.down.push_back(message);
        }
    }

    fn is_over(&self) -> bool {
        !self.client_holds && !self.broker_holds
    }
}

/// All connections, by client, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Links {
    all: Vec<(Client, VecDeque<Link>)>,
    serial: u64,
}

impl Links {
    pub fn of(&self, client: Client) -> impl Iterator<Item = &Link> {
        self.all.iter().filter(move |(who, _)| *who == client).flat_map(|(_, links)| links)
    }

    fn of_mut(&mut self, client: Client) -> &mut VecDeque<Link> {
        if let Some(at) = self.all.iter().position(|(who, _)| *who == client) {
            return &mut self.all[at].1;
        }
        self.all.push((client, VecDeque::new()));
        &mut self.all.last_mut().expect("it was just pushed").1
    }

    /// The client's nth connection, counted from its oldest.
    pub fn nth(&mut self, client: Client, nth: u8) -> Option<&mut Link> {
        self.of_mut(client).get_mut(usize::from(nth))
    }

    /// The connection that the client uses.
    pub fn current(&mut self, client: Client) -> Option<&mut Link> {
        self.of_mut(client).back_mut().filter(|link| link.client_holds)
    }

    pub fn open(&mut self, client: Client) -> &mut Link {
        self.serial += 1;
        let link = Link::new(self.serial);
        let links = self.of_mut(client);
        links.push_back(link);
        links.back_mut().expect("it was just pushed")
    }

    pub fn by_peer(&mut self, peer: PeerId) -> Option<(Client, &mut Link)> {
        let all = self.all.iter_mut().flat_map(|(client, links)| links.iter_mut().map(move |link| (*client, link)));
        all.into_iter().find(|(_, link)| link.peer == Some(peer) && link.broker_holds)
    }

    /// Every connection.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Client, &mut Link)> {
        self.all.iter_mut().flat_map(|(client, links)| links.iter_mut().map(move |link| (*client, link)))
    }

    /// Forgets connections that nobody holds any more.
    pub fn sweep(&mut self) {
        for (_, links) in &mut self.all {
            links.retain(|link| !link.is_over());
        }
    }
}
