//! Events for those who watch them: a bounded part at a time, read back from where the engine keeps it, and told only
//! when the events are as durable as they say.

use crate::bodies::Body;
use crate::driver::Driver;
use crate::outlet::PeerId;
use crate::output;
use antiphon_broker::{Emission, Event, Watch};
use antiphon_protocol::{Code, Failure, Topic};

/// What one part holds at most: a fraction of what a peer may have unread.
const EVENTS_A_PART: usize = 256;
const BYTES_A_PART: usize = 1 << 20;
/// A larger event ends its part: on the wire it travels in chunks, which what is behind it may overtake.
const LARGE_BYTES: usize = 64 << 10;
/// How many events one pump looks at for one watch: some hundred microseconds.
const LOOKED_A_PUMP: usize = 4_096;
/// Watches of one peer: a program has a few, and each is looked at with every event.
const WATCHES_A_PEER: usize = 64;

/// Who waits for events, after which number.
#[derive(Default)]
pub(crate) struct Watches {
    all: Vec<(PeerId, Watch)>,
    behind: bool,
}

impl Watches {
    /// Whether some have not looked at all events yet.
    pub const fn are_behind(&self) -> bool {
        self.behind
    }

    /// The peer is gone.
    pub fn end(&mut self, peer: PeerId) {
        self.all.retain(|(of, _)| *of != peer);
    }
}

impl Driver {
    /// A caller wants to hear of events.
    pub fn watch(&mut self, peer: PeerId, watch: Watch) {
        let Watch { tag, after, .. } = watch;
        self.watches.all.retain(|(of, before)| (*of, before.tag) != (peer, tag));
        if self.watches.all.iter().filter(|(of, _)| *of == peer).count() >= WATCHES_A_PEER {
            let text = format!("{WATCHES_A_PEER} patterns are watched on this connection, the limit: use wider ones");
            let failure = Some(Failure::new(Code::ResourceExhausted, text));
            return self.outbox.ready.push((peer, Event::Watched { tag, through: after, failure }));
        }
        if after == Watch::FROM_NOW {
            let through = self.engine.newest_event();
            return self.say_when_recorded(peer, Event::Watched { tag, through, failure: None });
        }
        self.watches.all.push((peer, watch));
    }

    /// Looks for events that came since, and ends the watches that have something to tell.
    pub(crate) fn tell_of_events(&mut self) {
        self.watches.behind = false;
        let newest = self.engine.newest_event();
        if self.watches.all.iter().all(|(_, watch)| watch.after >= newest) {
            return;
        }
        let all = std::mem::take(&mut self.watches.all);
        for (peer, mut watch) in all {
            if watch.after < newest {
                let part = self.look_for_events(&watch);
                watch.after = part.through;
                self.watches.behind |= part.through < newest;
                if self.tell_part(peer, &watch, part) {
                    continue;
                }
            }
            self.watches.all.push((peer, watch));
        }
    }

    /// Tells what was found, if that is something.
    fn tell_part(&mut self, peer: PeerId, watch: &Watch, part: Part) -> bool {
        let Watch { tag, after: through, .. } = *watch;
        let Part { emissions, failure, .. } = part;
        let (mut left, failed) = (emissions.len(), failure.is_some());
        let found = left > 0 || failed;
        for emission in emissions {
            left -= 1;
            self.say_when_recorded(peer, Event::Emitted { tag, emission, last: left == 0 && !failed });
        }
        if failed {
            self.say_when_recorded(peer, Event::Watched { tag, through, failure });
        }
        found
    }

    fn look_for_events(&self, watch: &Watch) -> Part {
        let mut part = Part { through: watch.after, ..Part::default() };
        let mut bytes = 0;
        for (looked, (it, handle, durable)) in self.engine.events_after(watch.after).enumerate() {
            if looked == LOOKED_A_PUMP || part.emissions.len() == EVENTS_A_PART || bytes >= BYTES_A_PART {
                return part;
            }
            part.through = it.number;
            let Some(topic) = Topic::try_from(it.topic.clone()).ok().filter(|topic| watch.pattern.matches(topic))
            else {
                continue;
            };
            let Some(Body::Arguments { payload, .. }) = output::load(&self.bodies, self.journal.as_ref(), handle)
            else {
                let text = format!("event {} was recorded but cannot be read back", it.id);
                part.failure = Some(Failure::new(Code::DataLoss, text));
                return part;
            };
            bytes += payload.bytes.len();
            let (number, id, emitted_ms) = (it.number, it.id, it.emitted_ms);
            let large = payload.bytes.len() > LARGE_BYTES;
            part.emissions.push(Emission { number, id, topic, emitted_ms, durable, payload });
            if large {
                return part;
            }
        }
        part.through = self.engine.newest_event();
        part
    }

    /// What is said of events waits for the newest record: theirs are not newer, and so they keep their order.
    fn say_when_recorded(&mut self, peer: PeerId, event: Event) {
        let (tip, durable) = self.journal.as_ref().map_or((0, 0), |it| (it.tip().as_u64(), it.durable().as_u64()));
        if durable >= tip && self.outbox.gated.is_empty() {
            self.outbox.ready.push((peer, event));
        } else {
            self.outbox.gated.push_back((tip, peer, event));
        }
    }
}

/// What was found for one watch.
#[derive(Default)]
struct Part {
    emissions: Vec<Emission>,
    through: u64,
    failure: Option<Failure>,
}
