//! The calls a caller waits for: a slab indexed by tag. The upper half of a tag is the entry's generation, so that a
//! late event for a call that nobody waits for any more finds nothing.
//!
//! One call can have several handles: attached to again, or submitted again under one key or id. A broker tells its outcome
//! under the newest tag, so that such handles are found by the call.

use crate::call_error::Ending;
use crate::session::Acceptance;
use antiphon_protocol::{CallId, Tag};
use std::collections::HashMap;
use std::task::Waker;
use tokio::time::Instant;

/// The unsettled calls of one caller, and those whose outcome was not taken yet.
#[derive(Default)]
pub(crate) struct Pending {
    entries: Vec<Entry>,
    vacant: Vec<u32>,
    /// The handles of calls that may have several.
    handles: HashMap<CallId, Vec<Tag>>,
}

struct Entry {
    generation: u32,
    call: Option<PendingCall>,
}

/// One call that is waited for.
pub(crate) struct PendingCall {
    /// The call; another than the one submitted once an idempotency key found an earlier one.
    pub(crate) id: CallId,
    /// When nobody needs to wait any more even if the broker is away.
    pub(crate) deadline: Option<Instant>,
    /// The broker has it; says whether it had it before.
    pub(crate) accepted: Option<Acceptance>,
    /// How it ended, until that is taken.
    pub(crate) ending: Option<Ending>,
    /// Whom to wake.
    pub(crate) waker: Option<Waker>,
}

impl PendingCall {
    pub(crate) const fn new(id: CallId, deadline: Option<Instant>) -> Self {
        Self { id, deadline, accepted: None, ending: None, waker: None }
    }
}

impl Pending {
    pub(crate) fn insert(&mut self, call: PendingCall) -> Tag {
        if let Some(index) = self.vacant.pop()
            && let Some(entry) = self.entries.get_mut(place(index))
        {
            entry.call = Some(call);
            return tag(index, entry.generation);
        }
        let index = u32::try_from(self.entries.len()).expect("memory ends before 2^32 calls");
        // Generations start at 1: tag 0 stands for no tag.
        self.entries.push(Entry { generation: 1, call: Some(call) });
        tag(index, 1)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.vacant.len()
    }

    pub(crate) fn find(&mut self, tag: Tag) -> Option<&mut PendingCall> {
        let (index, generation) = parts(tag);
        let entry = self.entries.get_mut(place(index))?;
        if entry.generation == generation { entry.call.as_mut() } else { None }
    }

    pub(crate) fn remove(&mut self, tag: Tag) -> Option<PendingCall> {
        let (index, generation) = parts(tag);
        let entry = self.entries.get_mut(place(index))?;
        if entry.generation != generation {
            return None;
        }
        let call = entry.call.take()?;
        entry.generation = generation.checked_add(1).unwrap_or(1);
        self.vacant.push(index);
        self.forget_handle(call.id, tag);
        Some(call)
    }

    /// There may be, or come, other handles of this call.
    pub(crate) fn share(&mut self, tag: Tag) {
        let Some(id) = self.find(tag).map(|call| call.id) else { return };
        let handles = self.handles.entry(id).or_default();
        if !handles.contains(&tag) {
            handles.push(tag);
        }
    }

    /// This is a handle of a call that was made without expecting others: all there are, are found by looking.
    pub(crate) fn share_with_all(&mut self, tag: Tag) {
        let Some(id) = self.find(tag).map(|call| call.id) else { return };
        let is_it = |entry: &Entry| entry.call.as_ref().is_some_and(|call| call.id == id);
        let all = (0..).zip(&self.entries).filter(|(_, entry)| is_it(entry));
        let all: Vec<Tag> = all.map(|(index, entry)| self::tag(index, entry.generation)).collect();
        self.handles.insert(id, all);
    }

    /// This handle turned out to be of another call, which others may be of, too.
    pub(crate) fn rename(&mut self, tag: Tag, id: CallId) {
        let Some(call) = self.find(tag) else { return };
        let before = std::mem::replace(&mut call.id, id);
        self.forget_handle(before, tag);
        self.share(tag);
    }

    /// All handles of a call that has ended, besides the one it was told under.
    pub(crate) fn others(&mut self, id: CallId, told: Tag) -> Vec<Tag> {
        let handles = if self.handles.is_empty() { None } else { self.handles.remove(&id) };
        handles.into_iter().flatten().filter(|tag| *tag != told).collect()
    }

    fn forget_handle(&mut self, id: CallId, tag: Tag) {
        if !self.handles.is_empty()
            && let Some(handles) = self.handles.get_mut(&id)
        {
            handles.retain(|other| *other != tag);
            if handles.is_empty() {
                self.handles.remove(&id);
            }
        }
    }

    /// All calls that have not ended.
    pub(crate) fn waiting(&mut self) -> impl Iterator<Item = &mut PendingCall> {
        self.entries.iter_mut().filter_map(|entry| entry.call.as_mut()).filter(|call| call.ending.is_none())
    }
}

const fn tag(index: u32, generation: u32) -> Tag {
    (generation as u64) << 32 | index as u64
}

fn parts(tag: Tag) -> (u32, u32) {
    let index = u32::try_from(tag & u64::from(u32::MAX)).expect("masked to 32 bits");
    let generation = u32::try_from(tag >> 32).expect("32 bits are left");
    (index, generation)
}

fn place(index: u32) -> usize {
    usize::try_from(index).expect("usize has at least 32 bits")
}

#[cfg(test)]
mod tests {
    use super::{Pending, PendingCall};
    use antiphon_protocol::CallId;

    fn call() -> PendingCall {
        PendingCall::new(CallId::from_bytes([7; 16]), None)
    }

    #[test]
    fn a_late_event_finds_no_later_call_in_the_same_place() {
        let mut pending = Pending::default();
        let first = pending.insert(call());
        assert!(pending.remove(first).is_some());
        let second = pending.insert(call());
        assert_ne!(first, second);
        assert!(pending.find(first).is_none() && pending.remove(first).is_none());
        assert!(pending.find(second).is_some());
    }

    #[test]
    fn handles_of_one_call_are_found_until_they_are_gone() {
        let mut pending = Pending::default();
        let id = CallId::from_bytes([7; 16]);
        let (first, second, third) = (pending.insert(call()), pending.insert(call()), pending.insert(call()));
        pending.share_with_all(second);
        assert!(pending.remove(third).is_some());
        assert_eq!(pending.others(id, second), [first]);
        assert!(pending.others(id, second).is_empty(), "they are told once");
        let other = CallId::from_bytes([8; 16]);
        pending.share(first);
        pending.rename(second, other);
        pending.rename(first, other);
        assert_eq!((pending.others(id, 0), pending.others(other, first)), (Vec::new(), vec![second]));
        pending.share(first);
        assert!(pending.remove(first).is_some() && pending.remove(second).is_some());
        assert!(pending.handles.is_empty());
    }

    #[test]
    fn no_tag_is_zero() {
        let mut pending = Pending::default();
        assert!((0..3).all(|_| pending.insert(call()) != 0));
    }
}
