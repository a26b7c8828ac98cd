//! Settling deliveries in as few frames as possible, in any order: a run from the oldest on is one frame.

use futures_util::FutureExt;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use std::collections::BTreeSet;

/// The deliveries of one channel that are not settled.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    open: BTreeSet<u64>,
    done: BTreeSet<u64>,
    /// Every tag up to this one is settled. Consumers of one channel are read in any order, so that the oldest that is
    /// open here need not be the oldest there is.
    floor: u64,
    /// Settled above the floor.
    ended: BTreeSet<u64>,
}

/// A frame to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Frame {
    tag: u64,
    multiple: bool,
}

impl Acks {
    /// A delivery has come.
    pub(crate) fn arrived(&mut self, tag: u64) {
        self.open.insert(tag);
    }

    /// A delivery is dealt with; [`Self::flush`] says so to the server.
    pub(crate) fn done(&mut self, tag: u64) {
        if self.open.contains(&tag) {
            self.done.insert(tag);
        }
    }

    /// Gives a delivery back to its queue.
    pub(crate) fn give_back(&mut self, channel: &Channel, tag: u64) {
        if self.open.remove(&tag) {
            self.done.remove(&tag);
            self.ended.insert(tag);
            let options = BasicNackOptions { multiple: false, requeue: true };
            // The frame is on its way after the first poll; what comes of it, the channel tells.
            drop(channel.basic_nack(tag, options).now_or_never());
        }
    }

    /// Tells the server what is dealt with.
    pub(crate) fn flush(&mut self, channel: &Channel) {
        for Frame { tag, multiple } in self.frames() {
            drop(channel.basic_ack(tag, BasicAckOptions { multiple }).now_or_never());
        }
    }

    fn frames(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut run = None;
        loop {
            let next = self.floor + 1;
            if self.done.remove(&next) {
                self.open.remove(&next);
                run = Some(Frame { tag: next, multiple: run.is_some() });
            } else if !self.ended.remove(&next) {
                break;
            }
            self.floor = next;
        }
        frames.extend(run);
        while let Some(tag) = self.done.pop_first() {
            self.open.remove(&tag);
            self.ended.insert(tag);
            frames.push(Frame { tag, multiple: false });
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(acks: &mut Acks, done: &[u64]) -> Vec<(u64, bool)> {
        done.iter().for_each(|tag| acks.done(*tag));
        acks.frames().into_iter().map(|frame| (frame.tag, frame.multiple)).collect()
    }

    #[test]
    fn a_run_from_the_oldest_on_is_one_frame_and_nothing_else_is_settled_by_it() {
        let mut acks = Acks::default();
        (1..=9).for_each(|tag| acks.arrived(tag));
        assert_eq!(frames(&mut acks, &[3, 1, 2, 5]), [(3, true), (5, false)]);
        assert_eq!(frames(&mut acks, &[7, 8]), [(7, false), (8, false)], "4 and 6 are open");
        assert_eq!(frames(&mut acks, &[4]), [(4, false)]);
        assert_eq!(frames(&mut acks, &[6, 9]), [(9, true)]);
        assert_eq!(frames(&mut acks, &[9, 12]), [], "settled before, and never seen");
        acks.arrived(11);
        acks.arrived(12);
        assert_eq!(frames(&mut acks, &[11, 12]), [(11, false), (12, false)], "10 is on its way by another consumer");
    }
}
