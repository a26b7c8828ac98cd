//! Inboxes: where outcomes are delivered, and what they have not acknowledged.

use crate::call::NONE;
use crate::effect::{Handle, Peer};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use antiphon_protocol::{CallerId, Name};
use hashbrown::{DefaultHashBuilder, HashMap};

/// Which inbox.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum InboxKey {
    /// That of one life of one caller; it ends a grace period after its connection.
    Anonymous(CallerId),
    /// One with a name; it survives restarts.
    Named(Name),
}

/// An inbox.
pub(crate) struct Inbox {
    pub key: InboxKey,
    pub peer: Option<Peer>,
    /// Settled calls that are not acknowledged, by index.
    pub outstanding: Vec<u32>,
    /// Unsettled calls that will come here. While there are any, the place is not another's.
    pub open: u32,
    /// Its grace is over: it keeps nothing any more, and goes with its last open call unless it is opened again.
    pub ended: bool,
    /// A named inbox: outcomes with its consumer, and those in line behind them (index and generation).
    pub in_flight: u32,
    pub in_flight_bytes: u64,
    pub backlog: VecDeque<(u32, u32)>,
    /// When it ends unless it is opened again, monotonic; 0 is never.
    pub ends_ms: u64,
    /// The record that says it exists.
    pub handle: Handle,
    pub stamp: u32,
}

/// All inboxes.
#[derive(Default)]
pub(crate) struct Inboxes {
    slots: Vec<Option<Inbox>>,
    free: Vec<u32>,
    index: HashMap<InboxKey, u32, DefaultHashBuilder>,
    stamp: u32,
    named: usize,
}

impl Inboxes {
    /// How many have names.
    pub fn named(&self) -> usize {
        self.named
    }

    pub fn find(&self, key: &InboxKey) -> Option<u32> {
        self.index.get(key).copied()
    }

    /// The place of this inbox, made if there is none; says whether it was made.
    pub fn open(&mut self, key: InboxKey) -> (u32, bool) {
        if let Some(place) = self.find(&key) {
            return (place, false);
        }
        self.stamp = self.stamp.wrapping_add(1);
        self.named += usize::from(matches!(key, InboxKey::Named(_)));
        let inbox = Inbox {
            key: key.clone(),
            peer: None,
            outstanding: Vec::new(),
            open: 0,
            in_flight: 0,
            in_flight_bytes: 0,
            backlog: VecDeque::new(),
            ended: false,
            ends_ms: 0,
            handle: Handle::NONE,
            stamp: self.stamp,
        };
        let place = match self.free.pop() {
            Some(place) => {
                if let Some(slot) = self.slots.get_mut(place as usize) {
                    *slot = Some(inbox);
                }
                place
            }
            None => {
                self.slots.push(Some(inbox));
                u32::try_from(self.slots.len() - 1).expect("fewer inboxes than connections and names")
            }
        };
        self.index.insert(key, place);
        (place, true)
    }

    pub fn get(&self, place: u32) -> Option<&Inbox> {
        if place == NONE { None } else { self.slots.get(place as usize).and_then(Option::as_ref) }
    }

    pub fn get_mut(&mut self, place: u32) -> Option<&mut Inbox> {
        if place == NONE { None } else { self.slots.get_mut(place as usize).and_then(Option::as_mut) }
    }

    /// Gives every anonymous inbox that nobody has open an end; says which, with their stamps.
    pub fn close_all(&mut self, ends_ms: u64) -> Vec<(u32, u32)> {
        let mut closed = Vec::new();
        for (place, slot) in self.slots.iter_mut().enumerate() {
            if let Some(inbox) = slot
                && inbox.peer.is_none()
                && matches!(inbox.key, InboxKey::Anonymous(_))
            {
                inbox.ends_ms = ends_ms;
                closed.push((u32::try_from(place).unwrap_or(NONE), inbox.stamp));
            }
        }
        closed
    }

    /// Where the named inboxes are recorded.
    pub fn handles(&self) -> impl Iterator<Item = Handle> {
        self.slots.iter().flatten().map(|inbox| inbox.handle).filter(|handle| *handle != Handle::NONE)
    }

    /// The inbox whose record is at this handle.
    pub fn with_handle(&mut self, handle: Handle) -> Option<&mut Inbox> {
        self.slots.iter_mut().flatten().find(|inbox| inbox.handle == handle)
    }

    pub fn remove(&mut self, place: u32) -> Option<Inbox> {
        let inbox = self.slots.get_mut(place as usize).and_then(Option::take)?;
        self.index.remove(&inbox.key);
        self.named -= usize::from(matches!(inbox.key, InboxKey::Named(_)));
        self.free.push(place);
        Some(inbox)
    }
}
