//! Reads entries back from segment files, from any thread. Entries that are not on disk yet are
//! `journal.rs`'s business.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use crate::checksum::Seed;
use crate::entry::{ENTRY_HEADER_BYTES, EntryData, EntryHeader, lengths};
use crate::error::ReadError;
use crate::position::Position;
use crate::segment::SegmentFile;

/// Read at once: most entries are whole in it, and it is one page.
const FIRST_READ: usize = 4096;

/// Reads durable entries; cheap to clone, used from any thread, outlives nothing but the files.
#[derive(Clone, Default)]
pub struct Reader {
    segments: Arc<RwLock<BTreeMap<u32, Arc<SegmentFile>>>>,
}

impl Reader {
    pub(crate) fn insert(&self, file: Arc<SegmentFile>) {
        let mut segments = self.segments.write().expect("no code panics while it holds this lock");
        segments.insert(file.number, file);
    }

    /// Before the file is used again, so that a read that fails its checksum can tell why.
    pub(crate) fn remove(&self, number: u32) {
        self.segments.write().expect("no code panics while it holds this lock").remove(&number);
    }

    fn segment(&self, number: u32) -> Option<Arc<SegmentFile>> {
        self.segments.read().expect("no code panics while it holds this lock").get(&number).cloned()
    }

    /// Reads a durable entry. Body and head are verified.
    ///
    /// # Errors
    /// `Gone` if its segment was recycled (also during the read), `Damaged` if its checksum does not match or it
    /// is not on disk yet, `Io`.
    pub fn read(&self, position: Position) -> Result<EntryData, ReadError> {
        let segment = self.segment(position.segment()).ok_or(ReadError::Gone(position))?;
        match read_entry(&segment, position) {
            Err(ReadError::Damaged(_)) if self.segment(position.segment()).is_none() => Err(ReadError::Gone(position)),
            answer => answer,
        }
    }
}

fn read_entry(segment: &SegmentFile, position: Position) -> Result<EntryData, ReadError> {
    let damaged = || ReadError::Damaged(position);
    let offset = position.offset();
    let room = segment.length.checked_sub(offset).ok_or_else(damaged)? as usize;
    let mut bytes = vec![0; FIRST_READ.min(room)];
    read_exactly(segment, position, &mut bytes, offset)?;
    let total = lengths(&bytes, room).ok_or_else(damaged)?.total();
    if total > bytes.len() {
        // The lengths are not verified yet, but bounded by the segment.
        let known = bytes.len();
        bytes.resize(total, 0);
        let rest = bytes.get_mut(known..).unwrap_or_default();
        read_exactly(segment, position, rest, offset + known as u32)?;
    }
    decode_entry(segment.seed, offset, &bytes).ok_or_else(damaged)
}

fn read_exactly(segment: &SegmentFile, position: Position, buffer: &mut [u8], offset: u32) -> Result<(), ReadError> {
    let read = segment.handle.read_at(buffer, u64::from(offset));
    match read.map_err(|source| ReadError::Io { position, source })? {
        read if read == buffer.len() => Ok(()),
        _ => Err(ReadError::Damaged(position)),
    }
}

/// The entry at the start of `bytes`, which stand at `offset` of the segment; verified.
pub(crate) fn decode_entry(seed: Seed, offset: u32, bytes: &[u8]) -> Option<EntryData> {
    let (header, head) = EntryHeader::decode(seed, offset, bytes, bytes.len())?;
    let body = bytes.get(ENTRY_HEADER_BYTES + head.len()..header.total())?;
    header.body_is_whole(seed, offset, body).then(|| EntryData {
        lsn: header.lsn,
        role: header.role,
        key: header.key,
        kind: header.kind,
        head: head.to_vec(),
        body: body.to_vec(),
    })
}
