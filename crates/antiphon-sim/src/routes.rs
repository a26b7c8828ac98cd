//! The names and routes of the simulation: of calls, callbacks, groups, events and recurring calls.

use crate::action::Shape;
use antiphon_protocol::{
    Backoff, Callback, CallbackOn, Durability, Group, GroupKind, Misfire, Name, Overlap, Pattern, Priority, Recurrence,
    Route, Schedule, Subscription,
};

/// How many subscriptions, and schedules, there may be.
pub(crate) const SUBSCRIPTIONS: u8 = 2;
pub(crate) const SCHEDULES: u8 = 4;
/// How long a group may stay unsealed, in milliseconds.
const UNSEALED_MS: u64 = 60_000;

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("names of the simulation are well formed")
}

/// The procedure with this number.
pub(crate) fn procedure(number: u8) -> Name {
    name(&format!("sim.p{number}"))
}

/// What is called for each event that a subscription matches.
pub(crate) fn subscriber(number: u8) -> Name {
    name(&format!("sim.s{number}"))
}

/// What a schedule calls.
pub(crate) fn ticked(number: u8) -> Name {
    name(&format!("sim.tick{number}"))
}

/// What a worker needs to run the calls of a label.
pub(crate) fn label(number: u8) -> Name {
    name(&format!("l{number}"))
}

/// The route that a call of this shape goes.
pub(crate) fn route(shape: &Shape) -> Route {
    let durability = shape.volatile.then_some(Durability::Volatile);
    if shape.topic > 0 {
        let mut route = Route::new(name(&format!("sim.t{}", shape.topic)));
        (route.event, route.durability) = (true, durability);
        return route;
    }
    let mut route = Route::new(procedure(shape.procedure));
    route.tenant = (shape.tenant > 0).then(|| name(&format!("t{}", shape.tenant)));
    route.priority = Priority::new(shape.class.min(9)).unwrap_or_default();
    route.durability = durability;
    route.attempts = u16::from(shape.attempts.max(1));
    route.backoff = BACKOFF;
    route.idempotent = shape.idempotent;
    route.at_most_once = shape.at_most_once;
    route.lane = shape.shared_lane.then(|| name("lane"));
    route.concurrency = 1 + u32::from(shape.together % 2);
    route.labels = if shape.label > 0 { vec![label(shape.label)] } else { Vec::new() };
    route.slots = 1 + shape.more_slots;
    route.callbacks = callbacks(shape.callbacks);
    if shape.group > 0 {
        route.procedure = name("sim.group");
        route.group = Some(group(shape.group));
    }
    route
}

const BACKOFF: Backoff = Backoff { first_ms: 100, factor_tenths: 20, max_ms: 2_000 };

fn group(number: u8) -> Group {
    let kind = match number {
        2 => GroupKind::First(1),
        3 => GroupKind::Settled,
        5 => GroupKind::First(2),
        _ => GroupKind::All,
    };
    Group { kind, cancel_rest: number > 3, unsealed_ms: UNSEALED_MS }
}

fn callbacks(bits: u8) -> Vec<Callback> {
    let all = [CallbackOn::Outcome, CallbackOn::Success, CallbackOn::Failure, CallbackOn::Value];
    let wanted = all.into_iter().enumerate().filter(|(bit, _)| bits & (1 << bit) != 0);
    let mut callbacks: Vec<_> = wanted.map(|(_, on)| callback(on)).collect();
    if bits & 16 != 0
        && let Some(first) = callbacks.first_mut()
    {
        first.route.callbacks.push(callback(CallbackOn::Outcome));
    }
    callbacks
}

/// A callback, as calls of the simulation have them.
pub(crate) fn callback(on: CallbackOn) -> Callback {
    let mut route = Route::new(procedure(0));
    (route.attempts, route.backoff) = (2, BACKOFF);
    Callback { on, route }
}

/// The subscription with this number: the first hears one topic, the second all.
pub(crate) fn subscription(number: u8) -> Subscription {
    let mut route = Route::new(subscriber(number));
    (route.attempts, route.backoff) = (2, BACKOFF);
    let pattern = if number == 1 { "sim.t1" } else { "sim.>" };
    let pattern = Pattern::new(pattern).expect("patterns of the simulation are well formed");
    Subscription { name: name(&format!("sub{number}")), pattern, route }
}

/// Whether the subscription with this number hears of this topic.
pub(crate) fn hears(number: u8, topic: &str) -> bool {
    number != 1 || topic == "sim.t1"
}

/// The schedule with this number, and its interval.
pub(crate) fn schedule(number: u8) -> (Schedule, u64) {
    let mut route = Route::new(ticked(number));
    (route.attempts, route.backoff) = (2, BACKOFF);
    let (every_ms, overlap, misfire) = match number {
        1 => (5_000, Overlap::Skip, Misfire::Once),
        2 => (10_000, Overlap::Queue, Misfire::All(3)),
        3 => (20_000, Overlap::Cancel, Misfire::Skip),
        _ => (7_000, Overlap::Allow, Misfire::Once),
    };
    let schedule = Schedule {
        name: schedule_name(number),
        recurrence: Recurrence::Every(every_ms),
        route,
        content_type: antiphon_protocol::Payload::raw("").content_type,
        arguments: format!("tick {number}").into_bytes(),
        overlap,
        misfire,
    };
    (schedule, every_ms)
}

pub(crate) fn schedule_name(number: u8) -> Name {
    name(&format!("every{number}"))
}
