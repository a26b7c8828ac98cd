//! The bench's caller: keeps so many calls in flight, and takes their times.

use super::{ECHO, Mode};
use crate::connection::{Connection, new_call_id, random};
use crate::ending::Ending;
use antiphon_broker::{Caller, Event, Sink, Submission, Wants};
use antiphon_protocol::{Call, Durability, Outcome, Payload, Route, Tag};
use bytes::Bytes;
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// What is not measured before each measurement: connections, caches and the broker's estimates settle.
pub const WARM_UP: Duration = Duration::from_millis(500);
/// How long the last calls may take to come back.
const LAST: Duration = Duration::from_secs(30);
/// How often the progress bar moves.
const TICK: Duration = Duration::from_millis(100);
/// Nanoseconds above which latencies are counted as this.
const LATENCY_NS_MAX: u64 = 100_000_000_000;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub mode: Mode,
    pub in_flight: u32,
    pub payload: u32,
    pub length: Duration,
}

/// What was measured.
pub struct Cell {
    pub plan: Plan,
    pub calls: u64,
    pub errors: u64,
    pub elapsed: Duration,
    /// In nanoseconds.
    pub latency: Histogram<u64>,
}

/// Runs one measurement.
pub async fn run(connection: &Connection, plan: Plan, bar: &ProgressBar) -> Result<Cell, Ending> {
    let load = Arc::new(Load::new(plan)?);
    let caller = connection.caller_into(Arc::clone(&load) as Arc<dyn Sink>).await?;
    if load.caller.set(caller).is_err() {
        return Err(Ending::failed("the caller was opened twice"));
    }
    load.begin();
    wait(WARM_UP, &load, bar).await;
    load.state().phase = Phase::Measured;
    let began = Instant::now();
    wait(plan.length, &load, bar).await;
    let elapsed = began.elapsed();
    load.state().phase = Phase::Ending;
    let give_up = Instant::now() + LAST;
    while load.state().in_flight > 0 {
        if Instant::now() > give_up {
            return Err(Ending::failed("calls did not come back within 30 s"));
        }
        sleep(Duration::from_millis(1)).await;
    }
    let mut state = load.state();
    let latency = std::mem::replace(&mut state.latency, histogram()?);
    Ok(Cell { plan, calls: state.calls, errors: state.errors, elapsed, latency })
}

async fn wait(length: Duration, load: &Load, bar: &ProgressBar) {
    let end = Instant::now() + length;
    let mut before = (Instant::now(), load.state().seen);
    while let left @ 1.. = end.saturating_duration_since(Instant::now()).as_millis() {
        let step = TICK.min(Duration::from_millis(u64::try_from(left).unwrap_or(1)));
        sleep(step).await;
        let seen = load.state().seen;
        let rate = (seen - before.1) as f64 / before.0.elapsed().as_secs_f64();
        before = (Instant::now(), seen);
        bar.set_prefix(format!("{rate:.0} calls/s"));
        bar.inc(u64::try_from(step.as_millis()).unwrap_or(0));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    WarmingUp,
    Measured,
    Ending,
}

/// A constant number of calls in flight: every outcome is followed by a new call.
struct Load {
    caller: OnceLock<Box<dyn Caller>>,
    route: Arc<Route>,
    payload: Payload,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// When the call with this tag was submitted.
    submitted: Vec<Instant>,
    unsent: Vec<Submission>,
    done: Vec<antiphon_protocol::CallId>,
    in_flight: u32,
    seen: u64,
    calls: u64,
    errors: u64,
    latency: Histogram<u64>,
}

fn histogram() -> Result<Histogram<u64>, Ending> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).map_err(Ending::failed)
}

impl Load {
    fn new(plan: Plan) -> Result<Self, Ending> {
        let mut route = Route::new(ECHO);
        let durable = plan.mode != Mode::Volatile;
        route.durability = Some(if durable { Durability::Durable } else { Durability::Volatile });
        route.idempotent = plan.mode != Mode::Durable;
        let bytes: Vec<u8> = random::<32>().iter().copied().cycle().take(plan.payload as usize).collect();
        let state = State {
            phase: Phase::WarmingUp,
            submitted: vec![Instant::now(); plan.in_flight as usize],
            unsent: Vec::new(),
            done: Vec::new(),
            in_flight: 0,
            seen: 0,
            calls: 0,
            errors: 0,
            latency: histogram()?,
        };
        Ok(Self {
            caller: OnceLock::new(),
            route: Arc::new(route),
            payload: Payload::raw(Bytes::from(bytes)),
            state: Mutex::new(state),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) {
        let mut state = self.state();
        for tag in 0..state.submitted.len() {
            self.next(&mut state, tag as Tag);
        }
        self.send(&mut state);
    }

    fn next(&self, state: &mut State, tag: Tag) {
        let call = Call::new(new_call_id(), Arc::clone(&self.route), self.payload.clone());
        state.unsent.push(Submission { call, tag, wants: Wants::Outcome, resent: false });
        state.in_flight += 1;
        if let Some(submitted) = usize::try_from(tag).ok().and_then(|tag| state.submitted.get_mut(tag)) {
            *submitted = Instant::now();
        }
    }

    fn send(&self, state: &mut State) {
        let Some(caller) = self.caller.get() else { return };
        if !state.done.is_empty() {
            caller.acknowledge(&state.done);
            state.done.clear();
        }
        if !state.unsent.is_empty() {
            caller.submit(&mut state.unsent);
        }
    }

    fn ended(&self, state: &mut State, tag: Tag, is_reply: bool) {
        state.in_flight -= 1;
        state.seen += 1;
        let submitted = usize::try_from(tag).ok().and_then(|tag| state.submitted.get(tag));
        if let (Phase::Measured, Some(submitted)) = (state.phase, submitted) {
            let nanos = u64::try_from(submitted.elapsed().as_nanos()).unwrap_or(u64::MAX);
            if is_reply {
                state.calls += 1;
                state.latency.saturating_record(nanos);
            } else {
                state.errors += 1;
            }
        }
        if state.phase != Phase::Ending {
            self.next(state, tag);
        }
    }
}

impl Sink for Load {
    fn events(&self, events: &mut Vec<Event>) {
        let state = &mut *self.state();
        for event in events.drain(..) {
            match event {
                Event::Outcome { tag, id, outcome, .. } => {
                    state.done.push(id);
                    self.ended(state, tag, matches!(outcome, Outcome::Reply(_)));
                }
                Event::Refused { tag, .. } => self.ended(state, tag, false),
                _ => (),
            }
        }
        self.send(state);
    }
}
