//! A caller's and a worker's side of the seam where a pump does the work: what they are given is handed to it.

use super::Room;
use crate::{Caller, Report, Submission, Worker};
use antiphon_protocol::{CallId, LeaseTag, Tag};
use std::sync::Arc;

/// What a caller's pump is asked to do.
#[derive(Debug)]
pub enum CallerAsked {
    /// Publish these.
    Submit(Vec<Submission>),
    /// Find these calls.
    Attach(Vec<(CallId, Tag)>),
    /// The outcomes of these are handled.
    Acknowledge(Vec<CallId>),
    /// Cancel these.
    Cancel(Vec<CallId>),
}

/// What a worker's pump is asked to do.
#[derive(Debug)]
pub enum WorkerAsked {
    /// So many slots more, or fewer.
    Credit(i32),
    /// These attempts have ended.
    Report(Vec<Report>),
    /// These leases go on.
    Extend(Vec<LeaseTag>),
    /// Take no more.
    Drain,
}

/// A caller. `ask` hands over to its pump, which ends when the caller is dropped; one that is gone has said so by its last
/// event.
pub struct HandingCaller<F> {
    room: Arc<Room>,
    ask: F,
}

impl<F: Fn(CallerAsked) + Send + Sync> HandingCaller<F> {
    /// The caller whose calls take this room.
    pub const fn new(room: Arc<Room>, ask: F) -> Self {
        Self { room, ask }
    }
}

impl<F: Fn(CallerAsked) + Send + Sync> Caller for HandingCaller<F> {
    fn submit(&self, calls: &mut Vec<Submission>) {
        self.room.fill(calls, |calls| (self.ask)(CallerAsked::Submit(calls)));
    }

    fn attach(&self, calls: &[(CallId, Tag)]) {
        (self.ask)(CallerAsked::Attach(calls.to_vec()));
    }

    fn acknowledge(&self, outcomes: &[CallId]) {
        (self.ask)(CallerAsked::Acknowledge(outcomes.to_vec()));
    }

    fn cancel(&self, calls: &[CallId]) {
        (self.ask)(CallerAsked::Cancel(calls.to_vec()));
    }
}

/// A worker. `ask` hands over to its pump, which ends when the worker is dropped.
pub struct HandingWorker<F> {
    ask: F,
}

impl<F: Fn(WorkerAsked) + Send + Sync> HandingWorker<F> {
    /// The worker of a pump.
    pub const fn new(ask: F) -> Self {
        Self { ask }
    }
}

impl<F: Fn(WorkerAsked) + Send + Sync> Worker for HandingWorker<F> {
    fn credit(&self, slots: i32) {
        (self.ask)(WorkerAsked::Credit(slots));
    }

    fn report(&self, reports: &mut Vec<Report>) {
        // As many as there are slots, so they need no bound of their own.
        (self.ask)(WorkerAsked::Report(std::mem::take(reports)));
    }

    fn extend(&self, leases: &[LeaseTag]) {
        (self.ask)(WorkerAsked::Extend(leases.to_vec()));
    }

    fn drain(&self) {
        (self.ask)(WorkerAsked::Drain);
    }
}
