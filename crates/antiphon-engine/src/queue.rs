//! The queue of one procedure: its ready calls, in classes, in tenants, in the order they are due.
//!
//! Within one tenant of one class nearly every call is due after the one before it: those stand in a deque, the few
//! others (with an early deadline) in a heap, and the earlier of the two fronts goes first. Entries of calls that
//! were cancelled or expired stay behind until they come up or until they are most of the queue.

use crate::fairness::Strides;
use crate::limits::Classes;
use crate::planted::planted;
use alloc::collections::{BinaryHeap, VecDeque};
use alloc::vec::Vec;
use antiphon_protocol::Priority;
use core::cmp::{Ordering, Reverse};
use hashbrown::{DefaultHashBuilder, HashMap};

/// How many of the early entries of a line are looked at to tell how many are before another.
const SAMPLE: usize = 100;

/// A ready call in line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub due_ms: u64,
    pub call: u32,
    pub stamp: u32,
}

impl Ord for Entry {
    /// Stamps wrap, so their difference decides; entries that are compared were made within far less than 2³¹ others.
    fn cmp(&self, other: &Self) -> Ordering {
        self.due_ms.cmp(&other.due_ms).then((self.stamp.wrapping_sub(other.stamp) as i32).cmp(&0))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The line of one tenant in one class.
#[derive(Default)]
pub(crate) struct Line {
    class: u8,
    in_order: VecDeque<Entry>,
    early: BinaryHeap<Reverse<Entry>>,
    live: usize,
    /// Whether it stands among the turns of its class.
    turning: bool,
}

impl Line {
    fn push(&mut self, entry: Entry) {
        self.live += 1;
        match self.in_order.back() {
            Some(last) if entry < *last => self.early.push(Reverse(entry)),
            _ => self.in_order.push_back(entry),
        }
    }

    /// Its fronts by order and by deadline: who goes next is the earlier, who waits longest need not be.
    fn fronts(&self) -> impl Iterator<Item = Entry> {
        self.in_order.front().copied().into_iter().chain(self.early.peek().map(|Reverse(entry)| *entry))
    }

    fn pop(&mut self) -> Option<Entry> {
        match (self.in_order.front(), self.early.peek()) {
            (Some(a), Some(Reverse(b))) if b < a && !planted!("early deadlines go last") => {
                self.early.pop().map(|Reverse(entry)| entry)
            }
            (Some(_), _) => self.in_order.pop_front(),
            (None, _) => self.early.pop().map(|Reverse(entry)| entry),
        }
    }

    /// How many live entries are before this one, taking the void ones to be spread evenly.
    fn before(&self, entry: &Entry) -> u64 {
        let all = (self.in_order.len() + self.early.len()) as u64;
        let in_order = self.in_order.partition_point(|other| other < entry) as u64;
        let early = self.early.iter().take(SAMPLE).filter(|Reverse(other)| other < entry).count() as u64;
        let sampled = self.early.len().clamp(1, SAMPLE) as u64;
        let before = in_order + early * self.early.len() as u64 / sampled;
        (before * self.live as u64).checked_div(all).unwrap_or(0)
    }

    /// What stands in front is what is looked at: who waits longest is told by it.
    fn drop_void_fronts(&mut self, live: impl Fn(&Entry) -> bool) {
        while self.in_order.front().is_some_and(|entry| !live(entry)) {
            self.in_order.pop_front();
        }
        while self.early.peek().is_some_and(|Reverse(entry)| !live(entry)) {
            self.early.pop();
        }
    }

    fn strike(&mut self, live: impl Fn(&Entry) -> bool) {
        self.live = self.live.saturating_sub(1);
        self.drop_void_fronts(&live);
        let all = self.in_order.len() + self.early.len();
        if all > 64 && self.live * 2 < all {
            self.in_order.retain(|entry| live(entry));
            self.early.retain(|Reverse(entry)| live(entry));
            self.in_order.shrink_to(self.live * 2);
        }
    }
}

/// The ready calls of one procedure.
#[derive(Default)]
pub(crate) struct Queue {
    lines: Vec<Line>,
    places: HashMap<(u8, u32), u32, DefaultHashBuilder>,
    /// Of each class, the lines with entries, in the order of their turns.
    turns: [VecDeque<u32>; Priority::CLASSES],
    strides: Strides,
    ready: usize,
    /// The same by class.
    by_class: [u64; Priority::CLASSES],
}

impl Queue {
    /// How many calls are ready.
    pub fn ready(&self) -> usize {
        self.ready
    }

    /// The place of the line of a tenant in a class; looked up once a route, not once a call.
    pub fn line(&mut self, class: u8, tenant: u32) -> u32 {
        let next = self.lines();
        let place = *self.places.entry((class, tenant)).or_insert(next);
        if place == next {
            self.lines.push(Line { class, ..Line::default() });
        }
        place
    }

    /// How many lines there are; they are never removed.
    pub fn lines(&self) -> u32 {
        u32::try_from(self.lines.len()).expect("fewer lines than their limit")
    }

    pub fn push(&mut self, place: u32, entry: Entry) {
        let line = self.lines.get_mut(place as usize).expect("lines are never removed");
        self.ready += 1;
        count(&mut self.by_class, line.class, 1);
        line.push(entry);
        if !line.turning {
            line.turning = true;
            self.strides.join(line.class);
            if let Some(turns) = self.turns.get_mut(usize::from(line.class)) {
                turns.push_back(place);
            }
        }
    }

    /// Takes the call that goes next.
    pub fn pop(&mut self, classes: Classes, live: impl Fn(&Entry) -> bool) -> Option<Entry> {
        while self.ready > 0 {
            let class = self.strides.next(classes)?;
            match self.pop_class(class, &live) {
                Some(entry) => {
                    self.ready -= 1;
                    count(&mut self.by_class, class, -1);
                    self.strides.charge(class);
                    return Some(entry);
                }
                None => self.strides.leave(class),
            }
        }
        None
    }

    /// The next live entry of the tenant whose turn it is.
    fn pop_class(&mut self, class: u8, live: &impl Fn(&Entry) -> bool) -> Option<Entry> {
        let turns = self.turns.get_mut(usize::from(class))?;
        while let Some(place) = turns.pop_front() {
            let line = self.lines.get_mut(place as usize)?;
            while let Some(entry) = line.pop() {
                if live(&entry) {
                    line.live = line.live.saturating_sub(1);
                    line.drop_void_fronts(live);
                    line.turning = line.live > 0;
                    if line.turning && planted!("a tenant keeps its turn") {
                        turns.push_front(place);
                    } else if line.turning {
                        turns.push_back(place);
                    }
                    return Some(entry);
                }
            }
            line.live = 0;
            line.turning = false;
        }
        None
    }

    /// A ready call has left its place in line (cancelled or expired).
    pub fn strike(&mut self, place: u32, live: impl Fn(&Entry) -> bool) {
        self.ready = self.ready.saturating_sub(1);
        if let Some(line) = self.lines.get_mut(place as usize) {
            count(&mut self.by_class, line.class, -1);
            line.strike(live);
        }
    }

    /// How many ready calls should go before this one of the line at `place`, roughly: those before it in its line, as
    /// many of each other tenant of its class, and of the other classes their share.
    pub fn ahead(&self, place: u32, entry: &Entry) -> u64 {
        self.lines.get(place as usize).map_or(0, |line| self.ahead_of(line.class, line.before(entry), line.live as u64))
    }

    /// The same for a new call, whose entry is given only where it would not come last in its line.
    pub fn ahead_of_new(&self, place: u32, early: Option<Entry>) -> u64 {
        let Some(line) = self.lines.get(place as usize) else { return 0 };
        let before = early.map_or(line.live as u64, |entry| line.before(&entry));
        self.ahead_of(line.class, before, line.live as u64)
    }

    /// The same for a call of this class with `before` calls before it in its line, which has `live` calls.
    fn ahead_of(&self, class: u8, before: u64, live: u64) -> u64 {
        let at = usize::from(class);
        let tenants = (self.turns.get(at).map_or(0, VecDeque::len) as u64).saturating_sub(1);
        let others = self.by_class.get(at).copied().unwrap_or(0).saturating_sub(live);
        // Where in the turn of the tenants its own comes is not known: in the middle.
        let in_class = before + others.min(tenants * before + tenants / 2);
        let counts = (0..).zip(self.by_class).filter(|(other, ready)| *other != class && *ready > 0);
        in_class + counts.map(|(other, ready)| ready.min(Strides::share(other, class, in_class + 1))).sum::<u64>()
    }

    /// The fronts of each line.
    pub fn fronts(&self) -> impl Iterator<Item = Entry> {
        self.lines.iter().filter(|line| line.live > 0).flat_map(Line::fronts)
    }
}

fn count(by_class: &mut [u64; Priority::CLASSES], class: u8, by: i64) {
    if let Some(count) = by_class.get_mut(usize::from(class)) {
        *count = count.saturating_add_signed(by);
    }
}
