//! A caller's side of a line: which calls are unanswered, which outcomes are outstanding, and what of that is said
//! again on a new connection.

use super::line::{Closing, Line, Side, Up};
use super::routes::Routes;
use super::{RemoteOptions, line};
use crate::{Accepted, Arrival, Frame, FrameError, Outbound};
use antiphon_broker::{Caller, Emission, Event, Progress, Submission, Wants, Watch};
use antiphon_protocol::{CallId, Code, Durability, Epoch, Failure, Offer, Outcome, Tag};
use hashbrown::{HashMap, HashSet};
use rustc_hash::FxBuildHasher;
use slab::Slab;
use std::sync::Arc;
use tokio::time::Instant;

/// What a kept submission is counted for besides its payload.
const ENTRY_BYTES: usize = 256;

pub(super) struct CallerSide {
    named: bool,
    routes: Routes,
    entries: Slab<Entry>,
    /// Tells apart the calls that had the same place in `entries`; begins at random, so that tags which another
    /// program left in a named inbox match nothing here.
    generation: u32,
    sequence: u64,
    kept_bytes: usize,
    cancelling: HashSet<CallId, FxBuildHasher>,
    unsaid: Vec<CallId>,
    /// Which calls are followed under which tags, and the newest sequence that came.
    follows: HashMap<Tag, (CallId, u64), FxBuildHasher>,
    tells_progress: bool,
    /// Which events are watched under which tags; after the newest that came.
    watches: HashMap<Tag, Watch, FxBuildHasher>,
    has_events: bool,
    starved: bool,
    durable_by_default: bool,
    payload_bytes_max: usize,
    unsent_bytes_max: usize,
    kept_bytes_max: usize,
}

/// A call that this caller waits for.
struct Entry {
    tag: Tag,
    id: CallId,
    generation: u32,
    sequence: u64,
    volatile: bool,
    stage: Stage,
}

enum Stage {
    /// Kept to be sent again until it is answered.
    Unanswered {
        submission: Submission,
        sent: bool,
        /// When it was handed over, if it has a deadline: what has passed since then is gone from it.
        since: Option<Instant>,
    },
    /// The broker has it; only its outcome is missing.
    Outstanding,
}

impl CallerSide {
    pub(super) fn new(named: bool, options: &RemoteOptions) -> Self {
        Self {
            named,
            routes: Routes::default(),
            entries: Slab::new(),
            generation: getrandom::u32().unwrap_or(1),
            sequence: 0,
            kept_bytes: 0,
            cancelling: HashSet::default(),
            unsaid: Vec::new(),
            follows: HashMap::default(),
            tells_progress: false,
            watches: HashMap::default(),
            has_events: false,
            starved: false,
            durable_by_default: true,
            payload_bytes_max: usize::MAX,
            unsent_bytes_max: options.unsent_bytes_max,
            kept_bytes_max: options.kept_bytes_max,
        }
    }

    /// How many submissions fit, from the front. One that fits in part is taken whole.
    fn room_for(&self, calls: &[Submission], outbound: &Outbound) -> usize {
        let (mut unsent, mut kept) = (outbound.bytes(), self.kept_bytes);
        let mut fits = |submission: &&Submission| {
            let room = unsent < self.unsent_bytes_max && kept < self.kept_bytes_max;
            unsent += submission.call.payload.bytes.len();
            kept += kept_bytes(submission);
            room
        };
        calls.iter().take_while(|submission| fits(submission)).count()
    }

    fn fits(&self, submission: &Submission) -> Result<(), Failure> {
        let (bytes, max) = (submission.call.payload.bytes.len(), self.payload_bytes_max);
        if bytes <= max {
            return Ok(());
        }
        let text = format!("the arguments have {bytes} bytes and the broker takes at most {max}");
        Err(Failure::new(Code::ResourceExhausted, text))
    }

    fn insert(&mut self, tag: Tag, id: CallId, volatile: bool, stage: Stage) -> usize {
        self.generation = self.generation.wrapping_add(1);
        self.sequence += 1;
        let (generation, sequence) = (self.generation, self.sequence);
        self.entries.insert(Entry { tag, id, generation, sequence, volatile, stage })
    }

    /// Takes one submission; lays it down if the line is up.
    fn submit(&mut self, submission: Submission, now: Instant, up: Option<&mut Outbound>) {
        let route = &submission.call.route;
        let volatile = match route.durability {
            Some(durability) => durability == Durability::Volatile,
            None => !self.durable_by_default,
        };
        self.kept_bytes += kept_bytes(&submission);
        let (tag, id) = (submission.tag, submission.call.id);
        let since = (submission.call.deadline_ms != 0).then_some(now);
        let place = self.insert(tag, id, volatile, Stage::Unanswered { submission, sent: false, since });
        if let Some(outbound) = up {
            self.say(place, outbound);
        }
    }

    /// Lays down what the call at this place still needs.
    fn say(&mut self, place: usize, outbound: &mut Outbound) {
        let Some(entry) = self.entries.get_mut(place) else { return };
        let wire_tag = wire_tag(place, entry.generation);
        match &mut entry.stage {
            Stage::Unanswered { submission, sent, .. } => {
                submission.resent |= *sent;
                *sent = true;
                let route = self.routes.index(&submission.call.route, outbound);
                outbound.submit(wire_tag, route, submission);
            }
            Stage::Outstanding => outbound.attach(wire_tag, entry.id),
        }
    }

    /// A deadline goes on while the line is down.
    fn age(&mut self, place: usize) {
        if let Some(Entry { stage: Stage::Unanswered { submission, since: Some(since), .. }, .. }) =
            self.entries.get_mut(place)
        {
            let passed_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
            *since = Instant::now();
            submission.call.deadline_ms = submission.call.deadline_ms.saturating_sub(passed_ms).max(1);
        }
    }

    /// The place that a tag of the broker names, if it is one of ours.
    fn place(&self, wire_tag: Tag) -> Option<usize> {
        let [a, b, c, d, e, f, g, h] = wire_tag.to_le_bytes();
        let place = usize::try_from(u32::from_le_bytes([a, b, c, d]).checked_sub(1)?).ok()?;
        let generation = u32::from_le_bytes([e, f, g, h]);
        self.entries.get(place).filter(|entry| entry.generation == generation).map(|_| place)
    }

    /// Forgets a call; gives back the tag under which its caller knows it.
    fn remove(&mut self, place: usize) -> Tag {
        let entry = self.entries.remove(place);
        if let Stage::Unanswered { submission, .. } = &entry.stage {
            self.kept_bytes -= kept_bytes(submission);
        }
        entry.tag
    }

    fn progress(&mut self, tag: Tag, id: CallId, progress: Progress, events: &mut Vec<Event>) {
        let Some((_, newest)) = self.follows.get_mut(&tag) else { return };
        // What came before the connection broke may come again.
        if progress.sequence > *newest {
            *newest = progress.sequence;
            events.push(Event::Progress { tag, id, progress });
        }
    }

    fn emitted(&mut self, tag: Tag, emission: Emission, last: bool, events: &mut Vec<Event>) {
        let Some(watch) = self.watches.get_mut(&tag) else { return };
        // Asked for again on a new connection, it may come again.
        if watch.after == Watch::FROM_NOW || emission.number > watch.after {
            watch.after = emission.number;
            events.push(Event::Emitted { tag, emission, last });
        }
        if last {
            self.watches.remove(&tag);
        }
    }

    fn watched(&mut self, tag: Tag, through: u64, failure: Option<Failure>, events: &mut Vec<Event>) {
        if self.watches.remove(&tag).is_some() {
            events.push(Event::Watched { tag, through, failure });
        }
    }

    fn accepted(&mut self, accepted: Accepted, events: &mut Vec<Event>) {
        let Some(place) = self.place(accepted.tag) else { return };
        let Some(entry) = self.entries.get_mut(place) else { return };
        let Stage::Unanswered { submission, .. } = &entry.stage else { return };
        let (tag, wants) = (entry.tag, submission.wants);
        // What comes to a named inbox comes without a tag, and the broker keeps it until it is acknowledged.
        if wants == Wants::Acceptance || self.named {
            self.remove(place);
        } else {
            self.kept_bytes -= kept_bytes(submission);
            entry.id = accepted.id;
            entry.stage = Stage::Outstanding;
        }
        let Accepted { id, duplicate, wait_ms, .. } = accepted;
        events.push(Event::Accepted { tag, id, duplicate, wait_ms });
    }

    fn outcome(&mut self, mut event: Event, outbound: &mut Outbound, events: &mut Vec<Event>) {
        let Event::Outcome { tag, id, .. } = &mut event else { return };
        *tag = match self.place(*tag) {
            Some(place) => self.remove(place),
            None if self.named => 0,
            None => {
                // Delivered before, on a connection that broke before it was acknowledged. An anonymous inbox lives no
                // longer than this program, which has it.
                outbound.acknowledge(*id);
                return;
            }
        };
        events.push(event);
    }

    /// Volatile calls of another start of the broker are gone with it.
    fn bury_volatile(&mut self, events: &mut Vec<Event>) {
        let gone = |entry: &Entry| match &entry.stage {
            _ if !entry.volatile => false,
            Stage::Outstanding => true,
            // Sent and unanswered: running it again is harmless only if the route says so.
            Stage::Unanswered { submission, sent, .. } => {
                *sent && (!submission.call.route.idempotent || submission.call.route.at_most_once)
            }
        };
        let places: Vec<usize> = self.entries.iter().filter(|(_, entry)| gone(entry)).map(|(place, _)| place).collect();
        for place in places {
            let tag = self.remove(place);
            let text = "the broker restarted, and a volatile call does not outlive it";
            events.push(Event::Refused { tag, failure: Failure::new(Code::Unavailable, text).may_have_run() });
        }
    }
}

impl Side for CallerSide {
    fn offer(&mut self) -> Option<Offer> {
        None
    }

    fn restore(&mut self, outbound: &mut Outbound, up: &Up<'_>, events: &mut Vec<Event>) {
        self.routes = Routes::default();
        self.durable_by_default = up.welcome.features & crate::feature::DURABLE_BY_DEFAULT != 0;
        self.payload_bytes_max = usize::try_from(up.welcome.payload_bytes_max).unwrap_or(usize::MAX);
        if up.before.is_some_and(|before| before != Epoch(up.welcome.epoch)) {
            self.bury_volatile(events);
        }
        // In the order of submission: what was ready first is to stay first.
        let mut places: Vec<(u64, usize)> = self.entries.iter().map(|(place, entry)| (entry.sequence, place)).collect();
        places.sort_unstable();
        for (_, place) in places {
            self.age(place);
            self.say(place, outbound);
        }
        self.tells_progress = up.welcome.features & crate::feature::PROGRESS != 0;
        if self.tells_progress {
            self.follows.iter().for_each(|(tag, (id, newest))| outbound.follow(*id, *tag, *newest));
        }
        self.has_events = up.welcome.features & crate::feature::EVENTS != 0;
        let anew = up.before.is_some_and(|before| before != Epoch(up.welcome.epoch)) && !self.durable_by_default;
        for watch in self.watches.values_mut().filter(|_| self.has_events) {
            // A broker in memory begins its numbers anew with every start, and all it has is new.
            watch.after = if anew && watch.after != Watch::FROM_NOW { 0 } else { watch.after };
            outbound.watch(watch);
        }
        for id in self.unsaid.drain(..) {
            outbound.acknowledge(id);
        }
        for id in &self.cancelling {
            outbound.cancel(*id);
        }
    }

    fn take(
        &mut self,
        arrival: Arrival<'_>,
        outbound: &mut Outbound,
        events: &mut Vec<Event>,
    ) -> Result<(), FrameError> {
        match arrival {
            Arrival::Frame(Frame::Accepted(entries)) => {
                entries.for_each(|accepted| self.accepted(accepted, events));
            }
            Arrival::Frame(Frame::Event(event @ Event::Outcome { .. })) => self.outcome(event, outbound, events),
            Arrival::Frame(Frame::Event(Event::Refused { tag, failure })) => {
                if let Some(place) = self.place(tag) {
                    let tag = self.remove(place);
                    events.push(Event::Refused { tag, failure });
                }
            }
            Arrival::Frame(Frame::Event(Event::Progress { tag, id, progress })) => {
                self.progress(tag, id, progress, events);
            }
            Arrival::Frame(Frame::ProgressEnded(tags)) => tags.for_each(|tag| {
                if self.follows.remove(&tag).is_some() {
                    events.push(Event::ProgressEnded { tag });
                }
            }),
            Arrival::Frame(Frame::Event(Event::Emitted { tag, emission, last })) => {
                self.emitted(tag, emission, last, events);
            }
            Arrival::Frame(Frame::Event(Event::Watched { tag, through, failure })) => {
                self.watched(tag, through, failure, events);
            }
            Arrival::Oversized(Frame::Event(Event::Emitted { tag, emission, .. }), bytes) => {
                let text = format!("event {} has {bytes} bytes, more than this client takes", emission.id);
                let failure = Some(Failure::new(Code::ResourceExhausted, text));
                self.watched(tag, emission.number, failure, events);
            }
            // Larger than this side takes: it is missed.
            Arrival::Oversized(Frame::Event(Event::Progress { .. }), _) => (),
            Arrival::Frame(Frame::Event(Event::CancelAnswered { id, answer })) => {
                if self.cancelling.remove(&id) {
                    events.push(Event::CancelAnswered { id, answer });
                }
            }
            Arrival::Oversized(Frame::Event(Event::Outcome { tag, id, state, attempts, .. }), bytes) => {
                let text = format!("the outcome has {bytes} bytes, more than this client takes");
                let outcome = Outcome::Failure(Failure::new(Code::ResourceExhausted, text).may_have_run());
                self.outcome(Event::Outcome { tag, id, state, attempts, outcome }, outbound, events);
            }
            _ => return Err(FrameError::Field("kind for a caller")),
        }
        Ok(())
    }

    fn became_writable(&mut self, outbound: &Outbound) -> bool {
        // Half of the room: a caller should hand over a batch, not one call per event.
        let writable =
            self.starved && outbound.bytes() <= self.unsent_bytes_max / 2 && self.kept_bytes <= self.kept_bytes_max / 2;
        self.starved &= !writable;
        writable
    }

    fn lost(&mut self) -> bool {
        true
    }
}

fn kept_bytes(submission: &Submission) -> usize {
    ENTRY_BYTES + submission.call.payload.bytes.len()
}

/// The tag on the wire: a place from 1 and its generation. 0 is no tag.
fn wire_tag(place: usize, generation: u32) -> Tag {
    let place = u32::try_from(place).unwrap_or(u32::MAX).saturating_add(1);
    u64::from(generation) << 32 | u64::from(place)
}

pub(super) struct RemoteCaller(pub(super) Arc<Line<CallerSide>>);

impl Caller for RemoteCaller {
    fn submit(&self, calls: &mut Vec<Submission>) {
        let mut guard = self.0.state();
        if guard.closing {
            return;
        }
        let idle = guard.side.entries.is_empty();
        let now = Instant::now();
        let state = &mut *guard;
        let up = state.is_up();
        let count = state.side.room_for(calls, &state.outbound);
        for submission in calls.drain(..count) {
            match state.side.fits(&submission) {
                Ok(()) => state.side.submit(submission, now, up.then_some(&mut state.outbound)),
                Err(failure) => state.events.push(Event::Refused { tag: submission.tag, failure }),
            }
        }
        state.side.starved |= !calls.is_empty();
        self.0.send(guard, idle && count == 1);
    }

    fn attach(&self, calls: &[(CallId, Tag)]) {
        let mut guard = self.0.state();
        let state = &mut *guard;
        let up = state.is_up();
        for (id, tag) in calls {
            let place = state.side.insert(*tag, *id, false, Stage::Outstanding);
            if up {
                state.side.say(place, &mut state.outbound);
            }
        }
        self.0.send(guard, false);
    }

    fn acknowledge(&self, outcomes: &[CallId]) {
        let mut guard = self.0.state();
        let state = &mut *guard;
        if state.is_up() {
            outcomes.iter().for_each(|id| state.outbound.acknowledge(*id));
        } else {
            state.side.unsaid.extend_from_slice(outcomes);
        }
        self.0.send(guard, false);
    }

    fn cancel(&self, calls: &[CallId]) {
        let mut guard = self.0.state();
        let state = &mut *guard;
        let up = state.is_up();
        for id in calls {
            state.side.cancelling.insert(*id);
            if up {
                state.outbound.cancel(*id);
            }
        }
        self.0.send(guard, false);
    }

    fn follow(&self, calls: &[(CallId, Tag, u64)]) {
        let mut guard = self.0.state();
        let state = &mut *guard;
        let tells = state.is_up() && state.side.tells_progress;
        for (id, tag, after) in calls {
            state.side.follows.insert(*tag, (*id, *after));
            if tells {
                state.outbound.follow(*id, *tag, *after);
            }
        }
        self.0.send(guard, false);
    }

    fn watch(&self, watches: &[Watch]) {
        let mut guard = self.0.state();
        let state = &mut *guard;
        let tells = state.is_up() && state.side.has_events;
        for watch in watches {
            state.side.watches.insert(watch.tag, watch.clone());
            if tells {
                state.outbound.watch(watch);
            }
        }
        self.0.send(guard, false);
    }
}

impl Drop for RemoteCaller {
    fn drop(&mut self) {
        line::Line::close(&*self.0);
    }
}
