//! A caller's side of the seam: hands what it is given to the pump, and says when that has room.

use antiphon_broker::foreign::Room;
use antiphon_broker::{Caller, Submission};
use antiphon_protocol::{CallId, Tag};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;

/// What the pump is asked to do.
#[derive(Debug)]
pub(crate) enum Asked {
    Submit(Vec<Submission>),
    Attach(Vec<(CallId, Tag)>),
    Acknowledge(Vec<CallId>),
    Cancel(Vec<CallId>),
}

/// A caller. Its pump ends when it is dropped.
pub(crate) struct RabbitCaller {
    pub(crate) pump: UnboundedSender<Asked>,
    pub(crate) room: Arc<Room>,
}

impl RabbitCaller {
    fn ask(&self, asked: Asked) {
        // A pump that is gone has said so by its last event.
        drop(self.pump.send(asked));
    }
}

impl Caller for RabbitCaller {
    fn submit(&self, calls: &mut Vec<Submission>) {
        self.room.fill(calls, |calls| self.ask(Asked::Submit(calls)));
    }

    fn attach(&self, calls: &[(CallId, Tag)]) {
        self.ask(Asked::Attach(calls.to_vec()));
    }

    fn acknowledge(&self, outcomes: &[CallId]) {
        self.ask(Asked::Acknowledge(outcomes.to_vec()));
    }

    fn cancel(&self, calls: &[CallId]) {
        self.ask(Asked::Cancel(calls.to_vec()));
    }
}
