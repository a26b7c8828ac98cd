//! Where calls wait and who runs them, as the world around sees it: the engine, or a model beside it.

use crate::experiment::tally::BrokerMeasured;
use antiphon_protocol::LeaseTag;

/// What a station says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Told {
    /// A worker may run this call under this lease.
    Start(Run),
    /// The worker that runs this call under this lease is asked to stop.
    Stop { call: u32, lease: LeaseTag },
    /// The call is over.
    Ended { call: u32, how: End },
}

/// How a call is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Succeeded,
    Failed,
    Expired,
    Refused,
}

/// An attempt that a worker runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    pub call: u32,
    pub worker: u32,
    pub lease: LeaseTag,
}

/// How an attempt is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Finish {
    Succeeded,
    Failed,
    Stopped,
}

/// A call on its way to a station.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    pub call: u32,
    pub source: usize,
    /// What remains until the deadline; 0 is none.
    pub deadline_ms: u64,
}

/// Something that takes calls and hands them to workers. Times are nanoseconds since the beginning.
pub(crate) trait Station {
    fn submit(&mut self, now: u64, arrived: Arrived, told: &mut Vec<Told>);
    /// A worker is done with an attempt.
    fn report(&mut self, now: u64, run: Run, finish: Finish, told: &mut Vec<Told>);
    /// A worker goes, with all it runs, or comes back.
    fn connect(&mut self, now: u64, worker: u32, connected: bool, told: &mut Vec<Told>);
    /// Something is due.
    fn wake(&mut self, now: u64, told: &mut Vec<Told>);
    /// What the station itself measured, if it does.
    fn measured(&self) -> Option<BrokerMeasured>;
    /// When `wake` is to be called at the latest.
    fn next_wake(&self) -> Option<u64>;
}
