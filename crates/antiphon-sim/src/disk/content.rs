//! The bytes of one file: as they are read now, as they survive a power loss, and what stands between the two.

use crate::random::Random;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

#[derive(Clone, Default)]
pub(crate) struct Content {
    /// As every process reads it.
    pub now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
}

fn put(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if bytes.len() < offset + data.len() {
        bytes.resize(offset + data.len(), 0);
    }
    bytes[offset..offset + data.len()].copy_from_slice(data);
}

impl Content {
    pub fn read(&self, buffer: &mut [u8], offset: usize) -> usize {
        let from = self.now.len().min(offset);
        let count = buffer.len().min(self.now.len() - from);
        buffer[..count].copy_from_slice(&self.now[from..from + count]);
        count
    }

    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        put(&mut self.now, offset, bytes);
        self.unsynced.push((offset, bytes.to_vec()));
    }

    pub fn sync(&mut self) {
        for (offset, data) in self.unsynced.drain(..) {
            put(&mut self.durable, offset, &data);
        }
    }

    /// Linux marks the pages of a failed fsync clean: they stay readable and never reach the disk.
    pub fn forget_dirty(&mut self) {
        self.unsynced.clear();
    }

    /// The power went: each dirty sector reached the disk with this probability in percent.
    pub fn settle(&mut self, random: &mut Random, keep: u64) {
        for (offset, data) in self.unsynced.drain(..) {
            let mut at = 0;
            while at < data.len() {
                let end = (((offset + at) / SECTOR + 1) * SECTOR - offset).min(data.len());
                if random.percent(keep) {
                    put(&mut self.durable, offset + at, &data[at..end]);
                }
                at = end;
            }
        }
        self.now.clone_from(&self.durable);
    }

    pub fn flip(&mut self, offset: usize, mask: u8) -> bool {
        let mut flipped = false;
        for bytes in [&mut self.now, &mut self.durable] {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= mask;
                flipped = true;
            }
        }
        flipped
    }
}
