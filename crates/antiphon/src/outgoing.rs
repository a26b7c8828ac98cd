//! A call that is ready to be handed over, but for its id and tag.

use antiphon_broker::{AcceptedMeans, Callbacks, Capabilities, Delay, Idempotency, Ordering, Support};
use antiphon_protocol::{CallId, Code, Durability, Failure, Keys, Payload, Route, Start, defaults};
use std::sync::Arc;
use tokio::time::Instant;

/// A call that is ready to be handed over.
pub(crate) struct Outgoing {
    pub(crate) route: Arc<Route>,
    /// The arguments, or why the call cannot be sent.
    pub(crate) payload: Result<Payload, Failure>,
    /// Milliseconds until the deadline; 0 is none.
    pub(crate) deadline_ms: u64,
    /// The same as an instant of this process.
    pub(crate) deadline_at: Option<Instant>,
    pub(crate) start: Start,
    pub(crate) keys: Option<Box<Keys>>,
    /// Its id, if its sender has chosen one.
    pub(crate) id: Option<CallId>,
}

impl Outgoing {
    /// Refuses what this broker cannot do, before anything is sent.
    pub(crate) fn check(&mut self, capabilities: &Capabilities) {
        if let Ok(payload) = &self.payload
            && let Some(failure) = self.lacking(payload, capabilities)
        {
            self.payload = Err(failure);
        }
    }

    fn lacking(&self, payload: &Payload, capabilities: &Capabilities) -> Option<Failure> {
        let unimplemented = |text: &str| Some(Failure::new(Code::Unimplemented, text));
        if self.start != Start::Now && capabilities.delay == Delay::None {
            return unimplemented("this broker cannot start calls later: leave out the delay");
        }
        if self.route.event && capabilities.events == Support::Refused {
            return unimplemented("this broker has no events: call the procedures that should know");
        }
        if !self.route.callbacks.is_empty() && capabilities.callbacks == Callbacks::None {
            return unimplemented("this broker makes no callbacks: call the procedure when the outcome is there");
        }
        let grouped = self.route.group.is_some() || self.keys.as_ref().is_some_and(|keys| keys.group.is_some());
        if grouped && capabilities.groups == Support::Refused {
            return unimplemented("this broker has no groups: wait for the calls with `wait_all` or `wait_any`");
        }
        let keyed = self.keys.as_ref().is_some_and(|keys| keys.idempotency.is_some());
        if keyed && capabilities.idempotency != Idempotency::ByKey {
            return unimplemented("this broker knows no idempotency keys: it recognises calls by their id only");
        }
        let ties = self.keys.as_deref();
        if ties.is_some_and(|keys| keys.ordering.is_some()) && capabilities.ordering == Ordering::None {
            return unimplemented("this broker keeps no order: leave out the ordering key");
        }
        if ties.is_some_and(|keys| keys.concurrency.is_some()) && capabilities.concurrency_keys == Support::Refused {
            return unimplemented("this broker knows no concurrency keys: leave it out");
        }
        let needs = !self.route.labels.is_empty() || self.route.slots != defaults::CALL_SLOTS;
        if needs && capabilities.needs == Support::Refused {
            return unimplemented("this broker heeds neither labels nor slots of calls: leave them out");
        }
        if self.route.durability == Some(Durability::Durable) && capabilities.accepted == AcceptedMeans::Memory {
            let text = "this broker keeps calls in memory only: ask for a volatile call, or use file: or antiphon://";
            return Some(Failure::new(Code::FailedPrecondition, text));
        }
        let bytes = payload.bytes.len();
        let max = usize::try_from(capabilities.payload_bytes_max).unwrap_or(usize::MAX);
        (bytes > max).then(|| {
            let text = format!("the arguments have {bytes} bytes and the broker takes at most {max}");
            Failure::new(Code::ResourceExhausted, text)
        })
    }
}
