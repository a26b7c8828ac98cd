//! A caller's side of the seam: hands what it is given to the pump, and says when that has room.

use antiphon_broker::{Caller, Submission};
use antiphon_protocol::{CallId, Tag};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::mpsc::UnboundedSender;

/// How many calls, and how many bytes of arguments, may be on their way to the server without its confirmation. Beyond it
/// nothing is taken: a server that is blocked, full or away is not hidden by memory.
const CALLS_MAX: usize = 4_096;
const BYTES_MAX: usize = 64 << 20;

/// What the pump is asked to do.
#[derive(Debug)]
pub(crate) enum Asked {
    Submit(Vec<Submission>),
    Attach(Vec<(CallId, Tag)>),
    Acknowledge(Vec<CallId>),
    Cancel(Vec<CallId>),
}

/// How much is on its way.
#[derive(Debug, Default)]
pub(crate) struct Room {
    calls: AtomicUsize,
    bytes: AtomicUsize,
    /// Somebody was turned away and waits to be told that there is room.
    wanted: AtomicBool,
}

impl Room {
    fn is_left(&self) -> bool {
        self.calls.load(Ordering::SeqCst) < CALLS_MAX && self.bytes.load(Ordering::SeqCst) < BYTES_MAX
    }

    fn take(&self, submission: &Submission) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.bytes.fetch_add(submission.call.payload.bytes.len(), Ordering::SeqCst);
    }

    /// A call is with the server, or refused.
    pub(crate) fn give(&self, bytes: usize) {
        self.calls.fetch_sub(1, Ordering::SeqCst);
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
    }

    /// Whether somebody is to be told that there is room again.
    pub(crate) fn is_wanted(&self) -> bool {
        let half = self.calls.load(Ordering::SeqCst) <= CALLS_MAX / 2;
        let half = half && self.bytes.load(Ordering::SeqCst) <= BYTES_MAX / 2;
        half && self.wanted.swap(false, Ordering::SeqCst)
    }
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
        loop {
            let fits = calls
                .iter()
                .take_while(|call| {
                    self.room.is_left() && {
                        self.room.take(call);
                        true
                    }
                })
                .count();
            if fits > 0 {
                self.ask(Asked::Submit(calls.drain(..fits).collect()));
            }
            if calls.is_empty() {
                return;
            }
            self.room.wanted.store(true, Ordering::SeqCst);
            // Room that was made before that was seen by nobody else.
            if !self.room.is_left() || !self.room.wanted.swap(false, Ordering::SeqCst) {
                return;
            }
        }
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
