//! Shares between classes: stride scheduling (Waldspurger and Weihl, 1995). Each class moves forward by a stride that
//! is the smaller the greater its weight; the one furthest behind goes next. So every class gets its share, and none
//! waits for ever.

use crate::limits::Classes;
use crate::planted::planted;
use antiphon_protocol::Priority;

/// The weight of each class: each gets one and a half times the share of the one below, so that class 9 has 38 times
/// the share of class 0, which still gets about one grant in 110 of a queue that is busy in every class.
const WEIGHTS: [u64; Priority::CLASSES] = [2, 3, 4, 6, 10, 15, 22, 34, 51, 76];
const SCALE: u64 = 1 << 20;

/// Whose turn it is among the classes of one queue.
#[derive(Default)]
pub(crate) struct Strides {
    passes: [u64; Priority::CLASSES],
    active: u16,
    /// Where the class chosen last stood: whoever joins starts there, so that idling saves up nothing.
    now: u64,
}

impl Strides {
    /// The class has something ready.
    pub fn join(&mut self, class: u8) {
        let bit = 1 << class;
        if self.active & bit == 0 {
            self.active |= bit;
            if let Some(pass) = self.passes.get_mut(usize::from(class)) {
                *pass = (*pass).max(self.now);
            }
        }
    }

    /// The class has nothing ready.
    pub fn leave(&mut self, class: u8) {
        self.active &= !(1 << class);
    }

    /// The class whose turn it is; of equals, the more urgent.
    pub fn next(&self, classes: Classes) -> Option<u8> {
        let mut active = (0..Priority::CLASSES as u8).rev().filter(|class| self.active & (1 << class) != 0);
        if classes == Classes::Strict || planted!("lower classes have no turn") {
            return active.next();
        }
        active.min_by_key(|class| self.passes.get(usize::from(*class)).copied())
    }

    /// How many calls of `other` go while `count` calls of `class` do, when both always have some ready.
    pub fn share(other: u8, class: u8, count: u64) -> u64 {
        let weight = |class: u8| WEIGHTS.get(usize::from(class)).copied().unwrap_or(1);
        count.saturating_mul(weight(other)) / weight(class)
    }

    /// The class has had a turn.
    pub fn charge(&mut self, class: u8) {
        let place = usize::from(class);
        if let (Some(pass), Some(weight)) = (self.passes.get_mut(place), WEIGHTS.get(place)) {
            self.now = *pass;
            *pass += SCALE / weight;
        }
    }
}
