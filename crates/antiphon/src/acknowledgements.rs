//! Outcomes that were handled and of which the broker is to be told: gathered, because one frame tells of many.

use crate::SettledCall;
use antiphon_protocol::{CallId, Outcome};

/// They are sent this many at a time: one more frame per this many calls costs nothing.
const CALLS_MAX: usize = 64;
/// Or when the broker keeps this many bytes of outcomes only for them.
const BYTES_MAX: usize = 256 << 10;

/// Outcomes that were handled.
#[derive(Default)]
pub(crate) struct Acknowledgements {
    calls: Vec<CallId>,
    bytes: usize,
}

impl Acknowledgements {
    /// Notes that an outcome is handled; true when the broker should be told now.
    pub(crate) fn owe(&mut self, settled: &SettledCall) -> bool {
        self.calls.push(settled.id);
        if let Outcome::Reply(payload) = &settled.outcome {
            self.bytes += payload.bytes.len();
        }
        self.calls.len() >= CALLS_MAX || self.bytes >= BYTES_MAX
    }

    /// What the broker is to be told; not gathered any more.
    pub(crate) fn take(&mut self) -> Vec<CallId> {
        self.bytes = 0;
        std::mem::take(&mut self.calls)
    }
}
