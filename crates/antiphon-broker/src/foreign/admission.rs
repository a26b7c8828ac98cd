//! The door of a foreign broker: what it cannot keep is refused before anything is published.

use crate::{AcceptedMeans, Callbacks, Capabilities, Delay, Idempotency, Ordering, Support};
use antiphon_protocol::{Call, Code, Durability, Failure, Keys, Priority, Start, defaults};

/// Judges calls by a broker's capabilities.
#[derive(Clone, Debug)]
pub struct Admission {
    capabilities: Capabilities,
    /// What the broker is called in refusals, such as `RabbitMQ 3.10`.
    broker: String,
    /// The longest delay, in milliseconds.
    delay_ms_max: u64,
}

impl Admission {
    /// The door of the broker with these capabilities, which people know as `broker`.
    #[must_use]
    pub const fn new(capabilities: Capabilities, broker: String, delay_ms_max: u64) -> Self {
        Self { capabilities, broker, delay_ms_max }
    }

    /// What the broker can do.
    #[must_use]
    pub const fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Lets a call pass, or says why not.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a call that makes no sense, `RESOURCE_EXHAUSTED` for one that is too large,
    /// `FAILED_PRECONDITION` for a durable one where nothing is durable, `UNIMPLEMENTED` for what the broker lacks,
    /// `OUT_OF_RANGE` for a delay that is too long.
    pub fn check(&self, call: &Call, wall_ms: u64) -> Result<(), Failure> {
        let can = &self.capabilities;
        let broker = &self.broker;
        let refuse = |code, text: String| Err(Failure::new(code, text));
        if call.route.attempts == 0 {
            return refuse(Code::InvalidArgument, "a call is tried at least once: attempts is 0".to_owned());
        }
        let bytes = call.payload.bytes.len();
        if bytes > usize::try_from(can.payload_bytes_max).unwrap_or(usize::MAX) {
            let max = can.payload_bytes_max;
            return refuse(
                Code::ResourceExhausted,
                format!("the arguments have {bytes} bytes, at most {max} are allowed"),
            );
        }
        if can.accepted == AcceptedMeans::Memory && call.route.durability == Some(Durability::Durable) {
            return refuse(Code::FailedPrecondition, format!("{broker} as it is used here keeps no durable calls"));
        }
        match self.lacking(call) {
            Some(what) => refuse(Code::Unimplemented, format!("{broker} has no {what}")),
            None => self.check_start(call, wall_ms),
        }
    }

    /// What a call asks for that the broker does not have, as it is called.
    fn lacking(&self, call: &Call) -> Option<&'static str> {
        let (can, route) = (&self.capabilities, &*call.route);
        let keys = call.keys.as_deref();
        let has = |key: fn(&Keys) -> bool| keys.is_some_and(key);
        let lacks = [
            (can.idempotency != Idempotency::ByKey && has(|keys| keys.idempotency.is_some()), "idempotency keys"),
            (can.ordering == Ordering::None && has(|keys| keys.ordering.is_some()), "ordering keys"),
            (can.ordering != Ordering::Lanes && route.lane.is_some(), "lanes over procedures"),
            (has(|keys| keys.concurrency.is_some()), "concurrency keys"),
            (can.callbacks == Callbacks::None && !route.callbacks.is_empty(), "callbacks"),
            (can.groups == Support::Refused && (route.group.is_some() || has(|keys| keys.group.is_some())), "groups"),
            (can.events == Support::Refused && route.event, "events"),
            (can.priorities == Support::Refused && route.priority != Priority::DEFAULT, "priorities"),
            (can.tenants == Support::Refused && route.tenant.is_some(), "tenants"),
            (!route.labels.is_empty(), "labels of workers"),
            (route.slots != defaults::CALL_SLOTS, "calls that take several slots"),
        ];
        lacks.into_iter().find_map(|(lacks, what)| lacks.then_some(what))
    }

    fn check_start(&self, call: &Call, wall_ms: u64) -> Result<(), Failure> {
        let delay_ms = match call.start {
            Start::Now => return Ok(()),
            Start::In(ms) => ms,
            Start::At(ms) => ms.saturating_sub(wall_ms),
        };
        let broker = &self.broker;
        if self.capabilities.delay == Delay::None {
            return Err(Failure::new(Code::Unimplemented, format!("{broker} starts no calls later")));
        }
        if delay_ms > self.delay_ms_max {
            let days = self.delay_ms_max / 86_400_000;
            let text = format!("{broker} delays calls by at most {days} days");
            return Err(Failure::new(Code::OutOfRange, text));
        }
        Ok(())
    }
}
