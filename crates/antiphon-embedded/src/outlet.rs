//! Where a driver's events go: buffers of connections in the server, sinks in the embedded broker.

use antiphon_broker::Event;
use antiphon_protocol::Answer;

/// A caller or a worker that is connected to a driver.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct PeerId(pub u32);

/// Takes what a driver has to tell. Called during [`crate::Driver::pump`] only, in order.
pub trait Outlet {
    /// An event for a caller or worker; one for a peer that is gone is dropped by the outlet.
    fn event(&mut self, peer: PeerId, event: Event);

    /// The answer to a question that was asked with this ticket.
    fn answer(&mut self, ticket: u64, answer: Answer);
}
