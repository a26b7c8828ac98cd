//! What can happen in the world of connections, and a seed's choice of it.

use crate::random::Random;

/// One step. Each carries its own chance, so that any part of a run can be run by itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// So many calls are handed over at once.
    Submit {
        caller: u8,
        count: u8,
        kind: u8,
    },
    Cancel {
        caller: u8,
        nth: u8,
    },
    /// A caller is done with the oldest outcome it has.
    Acknowledge(u8),
    /// A worker ends one of its attempts.
    Finish {
        worker: u8,
        nth: u8,
        how: u8,
    },
    Extend {
        worker: u8,
        nth: u8,
    },
    /// So many bytes arrive at the broker, on one of the connections that have some on their way.
    Up {
        nth: u8,
        bytes: u16,
    },
    /// Likewise, at a client.
    Down {
        nth: u8,
        bytes: u16,
    },
    /// The broker reads, does what is due and says what it may; with `true` it commits.
    Turn(bool),
    /// Time passes, in milliseconds.
    Pass(u32),
    /// A connection is reset: both sides find out, what was on its way is gone.
    Cut(u8),
    /// The broker gives a connection up.
    Drop(u8),
    /// One way of a connection loses everything from now on, and nobody is told.
    Swallow {
        nth: u8,
        up: bool,
    },
    /// The broker's process is killed.
    Kill,
    /// The broker's machine loses power.
    PowerLoss(u64),
    Start,
}

/// What goes wrong in a seed.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub cuts: bool,
    pub drops: bool,
    pub swallows: bool,
    pub kills: bool,
    /// Pieces are single bytes more often than not.
    pub crumbs: bool,
    /// What a client may have on its way at a time.
    pub window: usize,
}

impl Weather {
    pub fn new(random: &mut Random) -> Self {
        Self {
            cuts: random.percent(50),
            drops: random.percent(40),
            swallows: random.percent(40),
            kills: random.percent(40),
            crumbs: random.percent(30),
            window: *random.pick(&[64, 700, 1 << 16]).unwrap_or(&700),
        }
    }

    /// What happens next, the broker being up or not.
    pub fn next(&self, random: &mut Random, is_up: bool) -> Step {
        let byte = |random: &mut Random| random.next() as u8;
        if !is_up && random.percent(30) {
            return Step::Start;
        }
        let pick = random.below(1000);
        let nth = byte(random);
        match pick {
            0..=5 if self.cuts => Step::Cut(nth),
            6..=9 if self.drops => Step::Drop(nth),
            10..=13 if self.swallows => Step::Swallow { nth, up: random.percent(50) },
            14..=15 if self.kills => Step::Kill,
            16..=16 if self.kills => Step::PowerLoss(random.next()),
            17..=99 => Step::Submit { caller: byte(random), count: random.between(1, 3) as u8, kind: byte(random) },
            100..=119 => Step::Cancel { caller: byte(random), nth },
            120..=219 => Step::Acknowledge(byte(random)),
            220..=399 => Step::Finish { worker: byte(random), nth, how: byte(random) },
            400..=419 => Step::Extend { worker: byte(random), nth },
            420..=589 => Step::Up { nth, bytes: self.piece(random) },
            590..=759 => Step::Down { nth, bytes: self.piece(random) },
            760..=939 => Step::Turn(random.percent(60)),
            _ => Step::Pass(match random.below(12) {
                0 => random.between(9_000, 40_000) as u32,
                1..=4 => random.between(100, 3_000) as u32,
                _ => random.between(1, 60) as u32,
            }),
        }
    }

    fn piece(&self, random: &mut Random) -> u16 {
        match random.below(10) {
            0..=6 if self.crumbs => random.between(1, 3) as u16,
            0..=2 => random.between(1, 40) as u16,
            _ => u16::MAX,
        }
    }
}
