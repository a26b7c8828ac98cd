//! A route inside a record: one byte of flags says what differs from the defaults and follows.

use crate::codec::{Malformed, Reader, Writer};
use crate::record::name;
use alloc::sync::Arc;
use alloc::vec::Vec;
use antiphon_protocol::{
    Backoff, Callback, CallbackOn, Durability, Group, GroupKind, Priority, Route, SHAPE_PARAMETERS_MAX, Shape, defaults,
};

const TENANT: u8 = 1;
const DURABILITY: u8 = 2;
const VOLATILE: u8 = 4;
const IDEMPOTENT: u8 = 8;
const AT_MOST_ONCE: u8 = 16;
const TUNED: u8 = 32;
const SHAPE: u8 = 64;
/// A second byte of flags follows.
const MORE: u8 = 128;

const LANE: u8 = 8;
const CONCURRENCY: u8 = 16;
const LABELS: u8 = 32;
const SLOTS: u8 = 64;
const CALLBACKS: u8 = 1;
const GROUP: u8 = 2;
const CANCEL_REST: u8 = 4;

/// Whatever has its default value takes no bytes.
pub(crate) fn encode_route(route: &Route, to: &mut Writer<'_>) {
    let tuned = route.backoff != Backoff::DEFAULT || route.attempt_timeout_ms != 0;
    let mut more = 0;
    more |= if route.lane.is_some() { LANE } else { 0 };
    more |= if route.concurrency == defaults::CONCURRENCY { 0 } else { CONCURRENCY };
    more |= if route.labels.is_empty() { 0 } else { LABELS };
    more |= if route.slots == defaults::CALL_SLOTS { 0 } else { SLOTS };
    more |= if route.callbacks.is_empty() { 0 } else { CALLBACKS };
    more |= if route.group.is_some() { GROUP } else { 0 };
    more |= if route.group.is_some_and(|group| group.cancel_rest) { CANCEL_REST } else { 0 };
    let mut flags = 0;
    for (on, flag) in [
        (route.tenant.is_some(), TENANT),
        (route.durability.is_some(), DURABILITY),
        (route.durability == Some(Durability::Volatile), VOLATILE),
        (route.idempotent, IDEMPOTENT),
        (route.at_most_once, AT_MOST_ONCE),
        (tuned, TUNED),
        (route.shape.is_some(), SHAPE),
        (more != 0, MORE),
    ] {
        flags |= if on { flag } else { 0 };
    }
    to.u8(flags);
    if more != 0 {
        to.u8(more);
    }
    to.text(&route.procedure);
    to.u8(route.priority.class());
    to.u16(route.attempts);
    if let Some(tenant) = &route.tenant {
        to.text(tenant);
    }
    if tuned {
        to.u32(route.backoff.first_ms);
        to.u16(route.backoff.factor_tenths);
        to.u32(route.backoff.max_ms);
        to.u32(route.attempt_timeout_ms);
    }
    if let Some(shape) = &route.shape {
        to.u8(u8::try_from(shape.0.len()).expect("a shape has at most 64 parameters"));
        for parameter in &shape.0 {
            to.u32(*parameter);
        }
    }
    if let Some(lane) = &route.lane {
        to.text(lane);
    }
    if more & CONCURRENCY != 0 {
        to.u32(route.concurrency);
    }
    if more & LABELS != 0 {
        // At most 8 are taken.
        to.u8(u8::try_from(route.labels.len()).unwrap_or(u8::MAX));
        route.labels.iter().take(usize::from(u8::MAX)).for_each(|label| to.text(label));
    }
    if more & SLOTS != 0 {
        to.u8(route.slots);
    }
    if !route.callbacks.is_empty() {
        encode_callbacks(&route.callbacks, to);
    }
    if let Some(group) = &route.group {
        let (number, count) = match group.kind {
            GroupKind::All => (0, 0),
            GroupKind::First(count) => (1, count),
            GroupKind::Settled => (2, 0),
        };
        to.u8(number);
        to.u32(count);
        to.u64(group.unsealed_ms);
    }
}

/// How many, then each; at most 255, which is far above how many are taken.
pub(crate) fn encode_callbacks(callbacks: &[Callback], to: &mut Writer<'_>) {
    to.u8(u8::try_from(callbacks.len()).unwrap_or(u8::MAX));
    for callback in callbacks.iter().take(usize::from(u8::MAX)) {
        to.u8(callback.on as u8);
        encode_route(&callback.route, to);
    }
}

/// The route read last: most records that follow each other share theirs, and reading costs more than comparing.
#[derive(Debug, Default)]
pub(crate) struct LastRoute {
    bytes: Vec<u8>,
    route: Option<Arc<Route>>,
}

impl LastRoute {
    /// Reads a route. Bytes that begin with those of the last one are that one: how many there are follows from themselves.
    pub fn decode(&mut self, from: &mut Reader<'_>) -> Result<Arc<Route>, Malformed> {
        if let Some(route) = &self.route
            && let Some(rest) = from.0.strip_prefix(self.bytes.as_slice())
        {
            from.0 = rest;
            return Ok(Arc::clone(route));
        }
        let before = from.0;
        let route = Arc::new(decode_route(from)?);
        self.bytes.clear();
        self.bytes.extend_from_slice(before.get(..before.len() - from.0.len()).unwrap_or_default());
        self.route = Some(Arc::clone(&route));
        Ok(route)
    }
}

pub(crate) fn decode_route(from: &mut Reader<'_>) -> Result<Route, Malformed> {
    decode_route_within(defaults::CALLBACK_DEPTH_MAX, from)
}

pub(crate) fn decode_callbacks(from: &mut Reader<'_>) -> Result<Vec<Callback>, Malformed> {
    decode_callbacks_within(defaults::CALLBACK_DEPTH_MAX, from)
}

/// Reading goes as deep as routes may nest, and no deeper.
fn decode_callbacks_within(depth: u8, from: &mut Reader<'_>) -> Result<Vec<Callback>, Malformed> {
    let depth = depth.checked_sub(1).ok_or(Malformed)?;
    let mut callbacks = Vec::new();
    for _ in 0..from.u8()? {
        let on = CallbackOn::from_number(from.u8()?).ok_or(Malformed)?;
        callbacks.push(Callback { on, route: decode_route_within(depth, from)? });
    }
    Ok(callbacks)
}

fn decode_route_within(depth: u8, from: &mut Reader<'_>) -> Result<Route, Malformed> {
    let flags = from.u8()?;
    let more = if flags & MORE != 0 { from.u8()? } else { 0 };
    let mut route = Route::new(name(from)?);
    route.priority = Priority::new(from.u8()?).map_err(|_| Malformed)?;
    route.attempts = from.u16()?;
    route.idempotent = flags & IDEMPOTENT != 0;
    route.at_most_once = flags & AT_MOST_ONCE != 0;
    if flags & DURABILITY != 0 {
        route.durability = Some(if flags & VOLATILE != 0 { Durability::Volatile } else { Durability::Durable });
    }
    if flags & TENANT != 0 {
        route.tenant = Some(name(from)?);
    }
    if flags & TUNED != 0 {
        route.backoff = Backoff { first_ms: from.u32()?, factor_tenths: from.u16()?, max_ms: from.u32()? };
        route.attempt_timeout_ms = from.u32()?;
    }
    if flags & SHAPE != 0 {
        let count = usize::from(from.u8()?);
        if count > SHAPE_PARAMETERS_MAX {
            return Err(Malformed);
        }
        let parameters = (0..count).map(|_| from.u32()).collect::<Result<_, _>>()?;
        route.shape = Some(Shape(parameters));
    }
    if more & LANE != 0 {
        route.lane = Some(name(from)?);
    }
    if more & CONCURRENCY != 0 {
        route.concurrency = from.u32()?;
    }
    if more & LABELS != 0 {
        for _ in 0..from.u8()? {
            route.labels.push(name(from)?);
        }
    }
    if more & SLOTS != 0 {
        route.slots = from.u8()?;
    }
    if more & CALLBACKS != 0 {
        route.callbacks = decode_callbacks_within(depth, from)?;
    }
    if more & GROUP != 0 {
        let kind = match (from.u8()?, from.u32()?) {
            (0, _) => GroupKind::All,
            (1, count) => GroupKind::First(count),
            (2, _) => GroupKind::Settled,
            _ => return Err(Malformed),
        };
        route.group = Some(Group { kind, cancel_rest: more & CANCEL_REST != 0, unsealed_ms: from.u64()? });
    }
    Ok(route)
}
