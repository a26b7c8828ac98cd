//! Subscriptions: "call this procedure for each event that matches". One that is removed goes on matching the events
//! that were accepted before it was, until they are distributed.

use crate::Engine;
use crate::codec::{Malformed, Reader, Writer};
use crate::effect::{Body, Effects, Handle, Refusal, Role, Urgency};
use crate::record::{Record, name};
use crate::replay::Replay;
use crate::route_codec::{decode_route, encode_route};
use crate::topic::Patterns;
use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use antiphon_protocol::{CallId, Change, Name, Pattern, Route, SUBSCRIPTIONS_MAX, Subscription, Topic};
use core::ops::Bound;
use hashbrown::{DefaultHashBuilder, HashMap};

/// A subscription as the journal keeps it.
#[derive(Clone, PartialEq, Debug)]
pub struct Subscribed {
    /// Its identity: one that replaces it has another.
    pub id: CallId,
    /// Its place in the order of events and subscriptions.
    pub number: u64,
    /// The place at which it was removed; 0 is not.
    pub ended: u64,
    /// What it is called.
    pub name: Name,
    /// Which topics.
    pub pattern: Pattern,
    /// Where its calls go.
    pub route: Route,
}

impl Subscribed {
    pub(crate) fn encode(&self, to: &mut Writer<'_>) {
        to.u64(self.number);
        to.u64(self.ended);
        to.text(&self.name);
        to.text(self.pattern.as_str());
        encode_route(&self.route, to);
    }

    pub(crate) fn decode(id: CallId, from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (number, ended) = (from.u64()?, from.u64()?);
        let name = name(from)?;
        let pattern = Pattern::new(from.text()?).map_err(|_| Malformed)?;
        Ok(Self { id, number, ended, name, pattern, route: decode_route(from)? })
    }
}

/// A subscription in memory.
pub(crate) struct Kept {
    pub id: CallId,
    pub number: u64,
    pub ended: u64,
    pub name: Name,
    pub pattern: Pattern,
    pub route: u32,
    pub handle: Handle,
    pub cold: bool,
}

/// All subscriptions.
#[derive(Default)]
pub(crate) struct Subscriptions {
    slots: Vec<Option<Kept>>,
    free: Vec<u32>,
    index: HashMap<CallId, u32, DefaultHashBuilder>,
    /// Those that are not removed.
    names: BTreeMap<Name, u32>,
    pub patterns: Patterns,
    /// Removed, and kept for events of before.
    ended: Vec<u32>,
}

impl Subscriptions {
    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn get(&self, place: u32) -> Option<&Kept> {
        self.slots.get(place as usize).and_then(Option::as_ref)
    }

    fn get_mut(&mut self, place: u32) -> Option<&mut Kept> {
        self.slots.get_mut(place as usize).and_then(Option::as_mut)
    }

    pub fn find(&self, id: CallId) -> Option<u32> {
        self.index.get(&id).copied()
    }

    pub fn handles(&self) -> impl Iterator<Item = Handle> {
        self.slots.iter().flatten().map(|kept| kept.handle).filter(|handle| *handle != Handle::NONE)
    }

    pub fn insert(&mut self, kept: Kept) -> u32 {
        let (id, number, ended) = (kept.id, kept.number, kept.ended);
        let (name, pattern) = (kept.name.clone(), kept.pattern.clone());
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer subscriptions than their limit")
        });
        if let Some(slot) = self.slots.get_mut(place as usize) {
            *slot = Some(kept);
        }
        self.index.insert(id, place);
        self.patterns.insert(&pattern, number, place);
        if ended == 0 {
            self.names.insert(name, place);
        } else {
            self.ended.push(place);
        }
        place
    }

    pub fn end(&mut self, place: u32, at: u64) {
        let Some(kept) = self.get_mut(place).filter(|kept| kept.ended == 0) else { return };
        kept.ended = at;
        let name = kept.name.clone();
        if self.names.get(&name) == Some(&place) {
            self.names.remove(&name);
        }
        self.ended.push(place);
    }

    pub fn remove(&mut self, place: u32) -> Option<Kept> {
        let kept = self.slots.get_mut(place as usize).and_then(Option::take)?;
        self.index.remove(&kept.id);
        self.patterns.remove(&kept.pattern, kept.number);
        if self.names.get(&kept.name) == Some(&place) {
            self.names.remove(&kept.name);
        }
        self.ended.retain(|ended| *ended != place);
        self.free.push(place);
        Some(kept)
    }
}

impl Engine {
    /// Has a subscription be, as of now; `id` is a new one. One of the same name that is the same stays, another is
    /// replaced.
    ///
    /// # Errors
    /// A [`Refusal`] about its route, or when there are too many.
    pub fn subscribe(
        &mut self,
        id: CallId,
        wanted: &Subscription,
        effects: &mut impl Effects,
    ) -> Result<Change, Refusal> {
        let before = self.subscriptions.names.get(&wanted.name).copied();
        if before.is_some_and(|place| self.subscription(place).as_ref() == Some(wanted)) {
            return Ok(Change::Unchanged);
        }
        if self.subscriptions.len() >= self.limits.subscriptions_max as usize {
            return Err(Refusal::SubscriptionsFull { limit: self.limits.subscriptions_max });
        }
        let route = self.intern(&wanted.route)?;
        if let Some(place) = before {
            self.end_subscription(place, effects);
        }
        self.order += 1;
        let Subscription { name, pattern, .. } = wanted.clone();
        let kept = Kept { id, number: self.order, ended: 0, name, pattern, route, handle: Handle::NONE, cold: false };
        let place = self.subscriptions.insert(kept);
        self.record_subscription(place, effects);
        Ok(if before.is_some() { Change::Replaced } else { Change::Added })
    }

    /// Removes a subscription; false when there is none of this name.
    pub fn unsubscribe(&mut self, name: &Name, effects: &mut impl Effects) -> bool {
        let Some(place) = self.subscriptions.names.get(name).copied() else { return false };
        self.end_subscription(place, effects);
        true
    }

    /// Subscriptions by name, after one, that match a topic.
    #[must_use]
    pub fn subscriptions(&self, topic: Option<&Topic>, after: Option<&Name>) -> Vec<Subscription> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let places = self.subscriptions.names.range::<Name, _>((from, Bound::Unbounded)).map(|(_, place)| *place);
        let all = places.filter_map(|place| self.subscription(place));
        all.filter(|it| topic.is_none_or(|topic| it.pattern.matches(topic))).take(SUBSCRIPTIONS_MAX).collect()
    }

    fn subscription(&self, place: u32) -> Option<Subscription> {
        let Kept { name, pattern, route, .. } = self.subscriptions.get(place)?;
        let route = (*self.routes.get(*route).route).clone();
        Some(Subscription { name: name.clone(), pattern: pattern.clone(), route })
    }

    fn end_subscription(&mut self, place: u32, effects: &mut impl Effects) {
        self.order += 1;
        let at = self.order;
        self.subscriptions.end(place, at);
        let Some(kept) = self.subscriptions.get(place) else { return };
        let (id, handle) = (kept.id, kept.handle);
        if self.limits.durable {
            effects.record(&Record::Unsubscribed { id, at }, Body::None, Role::Delta(handle), Urgency::Now);
        }
        self.drop_ended_subscriptions(effects);
    }

    /// Forgets removed subscriptions that no event of before is still distributed to.
    pub(crate) fn drop_ended_subscriptions(&mut self, effects: &mut impl Effects) {
        let oldest = self.events.oldest_open().unwrap_or(u64::MAX);
        let gone = |place: &u32| self.subscriptions.get(*place).is_some_and(|kept| kept.ended < oldest);
        let gone: Vec<u32> = self.subscriptions.ended.iter().copied().filter(gone).collect();
        for place in gone {
            let Some(kept) = self.subscriptions.remove(place) else { continue };
            self.routes.let_go(kept.route);
            if kept.cold {
                effects.entomb(kept.id);
            }
            if kept.handle != Handle::NONE {
                effects.release(kept.handle);
            }
        }
    }

    /// Records a subscription as it stands, in place of its record of before.
    pub(crate) fn record_subscription(&mut self, place: u32, effects: &mut impl Effects) {
        if !self.limits.durable {
            return;
        }
        let Some(kept) = self.subscriptions.get(place) else { return };
        let old = kept.handle;
        let record = Subscribed {
            id: kept.id,
            number: kept.number,
            ended: kept.ended,
            name: kept.name.clone(),
            pattern: kept.pattern.clone(),
            route: (*self.routes.get(kept.route).route).clone(),
        };
        let record = Record::Subscribed(Cow::Owned(record));
        let handle = effects.record(&record, Body::None, Role::Base, Urgency::Now);
        if let Some(kept) = self.subscriptions.get_mut(place) {
            kept.handle = handle;
        }
        if old != Handle::NONE {
            effects.release(old);
        }
    }

    /// The record of a subscription stands in a segment that is to be emptied.
    pub(crate) fn move_subscription(&mut self, id: CallId, at: Option<Handle>, effects: &mut impl Effects) -> bool {
        let Some(place) = self.subscriptions.find(id) else { return false };
        if at.is_some_and(|at| self.subscriptions.get(place).is_some_and(|kept| kept.handle != at)) {
            return false;
        }
        self.record_subscription(place, effects);
        if let Some(kept) = self.subscriptions.get_mut(place) {
            kept.cold = true;
        }
        true
    }
}

impl Replay {
    pub(crate) fn subscribed(&mut self, record: Subscribed, handle: Handle, cold: bool) {
        let Subscribed { id, number, ended, name, pattern, route } = record;
        self.engine.order = self.engine.order.max(number).max(ended);
        let route = self.route(&route);
        self.engine.routes.hold(route);
        let before = self.engine.subscriptions.find(id).and_then(|place| self.engine.subscriptions.remove(place));
        let cold = cold || before.as_ref().is_some_and(|before| before.cold);
        if let Some(before) = before {
            self.engine.routes.let_go(before.route);
        }
        self.engine.subscriptions.insert(Kept { id, number, ended, name, pattern, route, handle, cold });
    }
}
