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
pub(crate) struct Strides {
    passes: [u64; Priority::CLASSES],
    /// Of each class, its pass and below that how little urgent it is: the least of them goes next. `IDLE` where nothing
    /// is ready.
    turns: [u64; Priority::CLASSES],
    /// Where the class chosen last stood: whoever joins starts there, so that idling saves up nothing.
    now: u64,
}

const IDLE: u64 = u64::MAX;
/// Bits for ten classes. A pass grows by at most 2¹⁹ a turn: what is left lasts for 2⁴¹ turns.
const CLASS_BITS: u32 = 4;

impl Default for Strides {
    fn default() -> Self {
        Self { passes: [0; Priority::CLASSES], turns: [IDLE; Priority::CLASSES], now: 0 }
    }
}

impl Strides {
    /// The class has something ready.
    pub fn join(&mut self, class: u8) {
        let now = self.now;
        let Some((pass, turn)) = self.place(class) else { return };
        if *turn == IDLE {
            *pass = (*pass).max(now);
            *turn = turn_of(*pass, class);
        }
    }

    /// The class has nothing ready.
    pub fn leave(&mut self, class: u8) {
        if let Some((_, turn)) = self.place(class) {
            *turn = IDLE;
        }
    }

    /// The class whose turn it is; of equals, the more urgent.
    pub fn next(&self, classes: Classes) -> Option<u8> {
        if classes == Classes::Strict || planted!("lower classes have no turn") {
            return (0..Priority::CLASSES as u8)
                .zip(&self.turns)
                .rev()
                .find(|(_, turn)| **turn != IDLE)
                .map(|(at, _)| at);
        }
        let least = self.turns.iter().fold(IDLE, |least, turn| least.min(*turn));
        (least != IDLE).then(|| LAST - (least & ((1 << CLASS_BITS) - 1)) as u8)
    }

    /// How many calls of `other` go while `count` calls of `class` do, when both always have some ready.
    pub fn share(other: u8, class: u8, count: u64) -> u64 {
        let weight = |class: u8| WEIGHTS.get(usize::from(class)).copied().unwrap_or(1);
        count.saturating_mul(weight(other)) / weight(class)
    }

    /// The class has had a turn.
    pub fn charge(&mut self, class: u8) {
        let Some(weight) = WEIGHTS.get(usize::from(class)) else { return };
        let Some((pass, turn)) = self.place(class) else { return };
        let now = *pass;
        *pass += SCALE / weight;
        if *turn != IDLE {
            *turn = turn_of(*pass, class);
        }
        self.now = now;
    }

    fn place(&mut self, class: u8) -> Option<(&mut u64, &mut u64)> {
        let at = usize::from(class);
        Some((self.passes.get_mut(at)?, self.turns.get_mut(at)?))
    }
}

/// The most urgent class.
const LAST: u8 = Priority::CLASSES as u8 - 1;

fn turn_of(pass: u64, class: u8) -> u64 {
    pass << CLASS_BITS | u64::from(LAST - class)
}
