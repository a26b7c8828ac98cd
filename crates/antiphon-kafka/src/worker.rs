//! A worker's side of the seam: hands what it is given to the pump.

use antiphon_broker::{Report, Worker};
use antiphon_protocol::LeaseTag;
use tokio::sync::mpsc::UnboundedSender;

/// What the pump is asked to do.
#[derive(Debug)]
pub(crate) enum Asked {
    Credit(i32),
    Report(Vec<Report>),
    Extend(Vec<LeaseTag>),
    Drain,
}

/// A worker. Its pump ends when it is dropped, and its partitions go to others.
pub(crate) struct KafkaWorker {
    pub(crate) pump: UnboundedSender<Asked>,
}

impl KafkaWorker {
    fn ask(&self, asked: Asked) {
        // A pump that is gone has said so by its last event.
        drop(self.pump.send(asked));
    }
}

impl Worker for KafkaWorker {
    fn credit(&self, slots: i32) {
        self.ask(Asked::Credit(slots));
    }

    fn report(&self, reports: &mut Vec<Report>) {
        // As many as there are slots, so they need no bound of their own.
        self.ask(Asked::Report(std::mem::take(reports)));
    }

    fn extend(&self, leases: &[LeaseTag]) {
        self.ask(Asked::Extend(leases.to_vec()));
    }

    fn drain(&self) {
        self.ask(Asked::Drain);
    }
}
