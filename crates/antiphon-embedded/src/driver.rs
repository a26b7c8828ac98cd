//! The driver: one engine and one journal, joined. It has no thread and no socket of its own; whoever owns it calls
//! it with batches, then pumps it.

use crate::Outlet;
use antiphon_broker::Wants;
use antiphon_broker::{Event, Inbox, OpenError, Report};
use antiphon_protocol::{CallId, Failure, Keys, LeaseTag, Offer, Payload, Query, Route, Start, Tag};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A caller or a worker that is connected to a driver.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct PeerId(pub u32);

/// A route that a peer uses, interned: looked up once per peer and route, not once per call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteRef(pub u32);

/// What a driver keeps, and where.
#[derive(Clone, Debug)]
pub struct DriverOptions {
    /// The data directory; `None` keeps everything in memory.
    pub directory: Option<PathBuf>,
}

/// A call on its way in, its route interned.
#[derive(Debug)]
pub struct Submit {
    /// The call's id.
    pub id: CallId,
    /// The caller's tag.
    pub tag: Tag,
    /// The interned route.
    pub route: RouteRef,
    /// The arguments.
    pub payload: Payload,
    /// Milliseconds until the deadline; 0 is none.
    pub deadline_ms: u64,
    /// When the first attempt may start.
    pub start: Start,
    /// Keys and trace context.
    pub keys: Option<Box<Keys>>,
    /// What the caller waits for.
    pub wants: Wants,
    /// Whether it was sent before.
    pub resent: bool,
}

/// Whether the journal has something to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Commit {
    /// Nothing is pending.
    Nothing,
    /// Something is pending that may wait this long for company.
    Within(Duration),
    /// Something is pending that somebody waits for.
    Now,
    /// A commit is under way on the writer thread; what came since waits for the next one.
    UnderWay,
}

/// One engine and one journal.
pub struct Driver {}

#[allow(missing_docs, unused_variables, clippy::unimplemented)]
impl Driver {
    /// Opens the directory and recovers. `wake` is called from the journal's writer thread when a commit ended: the
    /// owner must then pump.
    pub fn open(options: DriverOptions, wake: Arc<dyn Fn() + Send + Sync>) -> Result<Self, OpenError> {
        unimplemented!()
    }
    /// A caller connects. An older peer with the same inbox gets `Down { last: true }` and is closed.
    pub fn open_caller(&mut self, inbox: Inbox) -> PeerId {
        unimplemented!()
    }
    /// A worker connects; `Up { epoch, kept }` follows by the outlet.
    pub fn open_worker(&mut self, offer: Offer) -> Result<PeerId, Failure> {
        unimplemented!()
    }
    pub fn close_peer(&mut self, peer: PeerId) {}
    pub fn intern(&mut self, route: &Route) -> Result<RouteRef, Failure> {
        unimplemented!()
    }
    /// Lets go of an interned route (at the end of a session).
    pub fn release_route(&mut self, route: RouteRef) {}
    pub fn submit(&mut self, peer: PeerId, submit: Submit) {}
    pub fn attach(&mut self, peer: PeerId, id: CallId, tag: Tag) {}
    pub fn acknowledge(&mut self, peer: PeerId, id: CallId) {}
    pub fn cancel(&mut self, peer: PeerId, id: CallId) {}
    pub fn credit(&mut self, peer: PeerId, slots: i32) {}
    pub fn report(&mut self, peer: PeerId, report: Report) {}
    pub fn extend(&mut self, peer: PeerId, lease: LeaseTag) {}
    pub fn drain(&mut self, peer: PeerId) {}
    pub fn ask(&mut self, query: Query, ticket: u64) {}
    /// Runs what is due, then hands the outlet everything that may leave now. Returns how long until it must be
    /// called again even if nothing comes in; `None` is for ever.
    pub fn pump(&mut self, outlet: &mut dyn Outlet) -> Option<Duration> {
        None
    }
    pub fn commit_need(&self) -> Commit {
        Commit::Nothing
    }
    /// Writes and fsyncs on this thread; pump afterwards.
    pub fn commit_here(&mut self) -> Result<(), Failure> {
        Ok(())
    }
    /// Hands the batch to the writer thread; `wake` follows.
    pub fn commit_behind(&mut self) -> Result<(), Failure> {
        Ok(())
    }
    /// The events for one peer as they are (used by tests).
    #[doc(hidden)]
    pub fn example_event() -> Option<Event> {
        None
    }
}
