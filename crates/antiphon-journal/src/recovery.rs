//! Opening: finds what is durable, refuses damage, writes the torn tail anew, and starts the journal.
//!
//! Nothing on disk changes before every durable entry was verified. The new manifest is the one step that
//! makes the new segment part of the journal and drops the torn tail from it; a crash before it changes
//! nothing, a crash behind it has nothing left to repair.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::checksum::Seed;
use crate::entry::Recovered;
use crate::error::OpenError;
use crate::index::INDEX_RECORD_BYTES;
use crate::journal::{Active, Journal};
use crate::layout::{Layout, Span, io_error, is_new, lock_error};
use crate::manifest::{META_NAME, META_NEW_NAME, Manifest};
use crate::options::Options;
use crate::position::{Both, Generation, Watermark};
use crate::reader::Reader;
use crate::replay::{Count, replay};
use crate::roll::{record, segment_bytes_for};
use crate::segment::{Segment, SegmentFile, SegmentState, file_name};
use crate::space::{Space, Spare, tidy};
use crate::stats::Counters;
use crate::storage::{Lock, Storage};
use crate::tail::{Rewritten, Tail};
use crate::writer::{Wake, Writer};

/// Length of a segment that recovery must make because none is free: small, so that opening is quick.
const FIRST_SEGMENT_BYTES: u32 = 4 << 20;

impl Journal {
    /// Opens the journal in `storage`, making it if there is none, and visits every recovered entry in lsn order.
    ///
    /// Afterwards call [`Journal::retain`] and [`Journal::pin`] for what lives, then
    /// [`Journal::start_recycling`]. `wake` is called from the writer thread when a commit has ended there.
    /// What `visit` was shown counts only if this returns `Ok`.
    ///
    /// # Errors
    /// See [`OpenError`]. Damage to bytes that were durable refuses; nothing is deleted.
    pub fn open(
        storage: Arc<dyn Storage>,
        options: Options,
        wake: Wake,
        visit: &mut dyn FnMut(Recovered<'_>),
    ) -> Result<Self, OpenError> {
        let options = options.checked();
        let lock = storage.lock().map_err(|error| lock_error(&*storage, error))?;
        let names = storage.list().map_err(|error| io_error("list", storage.path_of(""), error))?;
        if is_new(&*storage, &names)? {
            create(&*storage, &names)?;
        }
        let layout = Layout::load_whole(&*storage, false)?;
        let watermark = layout.watermark(&*storage)?;
        let spans = layout.spans(&*storage, &watermark)?;
        let broker = layout.manifest.broker;
        let [young, cold] = &spans;
        let mut recovered = 0;
        let mut count_and_visit = |entry: Recovered<'_>| {
            recovered += 1;
            visit(entry);
        };
        let counts = replay(&*storage, broker, &young.durable, &cold.durable, &mut count_and_visit)?;
        let tail = Tail::read(&*storage, &broker, &spans, &watermark)?;
        let durable = spans.iter().flat_map(|spans| spans.durable.iter().cloned()).collect();
        let opening = Opening { storage, options, wake, lock, layout, watermark, durable, counts, tail };
        let journal = opening.finish(recovered, visit)?;
        Ok(journal)
    }
}

/// Makes the `meta` file of a journal without segments. Its name is what makes the journal exist.
fn create(storage: &dyn Storage, names: &[String]) -> Result<(), OpenError> {
    let failed = |op, name: &str| {
        let path = storage.path_of(name);
        move |error| io_error(op, path, error)
    };
    if names.iter().any(|name| name == META_NEW_NAME) {
        storage.remove(META_NEW_NAME).map_err(failed("remove", META_NEW_NAME))?;
    }
    let broker = storage.random_id().map_err(failed("get random bytes for", META_NEW_NAME))?;
    let meta = storage.create(META_NEW_NAME).map_err(failed("create", META_NEW_NAME))?;
    Manifest::write(&*meta, &Manifest::new(broker).encode()).map_err(|(op, e)| failed(op, META_NEW_NAME)(e))?;
    storage.rename(META_NEW_NAME, META_NAME).map_err(failed("rename", META_NEW_NAME))?;
    storage.sync_dir().map_err(failed("fsync the directory of", META_NAME))
}

/// Everything is verified; what follows changes the disk.
struct Opening {
    storage: Arc<dyn Storage>,
    options: Options,
    wake: Wake,
    lock: Box<dyn Lock>,
    layout: Layout,
    watermark: Watermark,
    durable: Vec<Span>,
    counts: Vec<Count>,
    tail: Tail,
}

impl Opening {
    fn finish(mut self, recovered: u64, visit: &mut dyn FnMut(Recovered<'_>)) -> Result<Journal, OpenError> {
        let settled = self.layout.manifest.settle(&*self.layout.meta);
        settled.map_err(|(op, error)| io_error(op, self.storage.path_of(META_NAME), error))?;
        let mut space = self.find_spares()?;
        let mut rewritten = vec![self.rewrite(&space, Generation::Young)?];
        if self.tail.of(Generation::Cold).next().is_some() {
            rewritten.push(self.rewrite(&space, Generation::Cold)?);
        }
        self.watermark.durable_through = self.tail.last_lsn;
        for new in &rewritten {
            *self.watermark.ends.of_mut(new.segment.generation) = new.end_position();
        }
        for new in &mut rewritten {
            new.seal_with(self.watermark);
            self.write_segment(new)?;
        }
        self.write_manifest(&rewritten)?;
        self.give_back_dropped(&space);
        for entry in &self.tail.entries {
            let new = rewritten.iter_mut().find(|new| new.segment.generation == entry.generation);
            let position = new.and_then(|new| new.positions.next()).expect("every kept entry was written anew");
            visit(entry.recovered(position, entry.generation));
        }
        space.start().map_err(|error| io_error("start a thread for", self.storage.path_of(""), error))?;
        self.start(rewritten, space, recovered)
    }

    /// The tail of one log as it will stand in a new segment.
    fn rewrite(&mut self, space: &Space, generation: Generation) -> Result<Rewritten, OpenError> {
        let file = self.new_segment(space, generation)?;
        Ok(Rewritten::new(Arc::new(file), &self.layout.manifest.broker, self.tail.of(generation)))
    }

    /// Unlisted segment files are free; those of another length than wanted are not kept. Names that an earlier
    /// process gave may not be on disk yet, even that of `meta`: they are before anything is built on them.
    fn find_spares(&self) -> Result<Space, OpenError> {
        let storage = &*self.storage;
        let failed = |error| io_error("tidy", storage.path_of(""), error);
        let names = storage.list().map_err(failed)?;
        let ids = tidy(storage, &names).map_err(failed)?;
        let mut ready = Vec::new();
        let mut bytes = self.layout.segments.iter().map(|(record, _)| u64::from(record.length)).sum();
        for file in ids.iter().copied().filter(|id| self.layout.segments.iter().all(|(r, _)| r.file != *id)) {
            let handle = storage.open(&file_name(file)).map_err(failed)?;
            if handle.len().map_err(failed)? == u64::from(self.options.segment_bytes) {
                bytes += u64::from(self.options.segment_bytes);
                ready.push(Spare { file, length: self.options.segment_bytes, handle });
            } else {
                storage.remove(&file_name(file)).map_err(failed)?;
            }
        }
        storage.sync_dir().map_err(failed)?;
        let next_file = ids.iter().max().map_or(1, |id| id + 1);
        Ok(Space::new(Arc::clone(&self.storage), self.options.clone(), ready, bytes, next_file))
    }

    /// A file for the tail: a free one if it fits, else a new one.
    fn new_segment(&mut self, space: &Space, generation: Generation) -> Result<SegmentFile, OpenError> {
        let entries = self.tail.of(generation);
        let total: usize = entries.map(|entry| entry.header.total() + INDEX_RECORD_BYTES).sum();
        let needed = u32::try_from(segment_bytes_for(total));
        let needed = needed.map_err(|_| OpenError::NoSpace { needed: total as u64 })?;
        let spare = if needed <= self.options.segment_bytes { space.take_ready() } else { None };
        let spare = match spare {
            Some(spare) => spare,
            None => {
                let length = needed.max(self.options.segment_bytes.min(FIRST_SEGMENT_BYTES));
                space.make(length).map_err(|error| self.make_error(length, error))?
            }
        };
        let number = self.layout.manifest.next_segment;
        self.layout.manifest.next_segment = number.checked_add(1).expect("2^32 segments are never reached");
        let seed = Seed::new(&self.layout.manifest.broker, number, generation);
        Ok(SegmentFile { number, generation, file: spare.file, length: spare.length, seed, handle: spare.handle })
    }

    fn make_error(&self, length: u32, error: io::Error) -> OpenError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                OpenError::NoSpace { needed: u64::from(length) }
            }
            _ => io_error("make a segment in", self.storage.path_of(""), error),
        }
    }

    /// On disk, with its fsync, before anything refers to it. The old copy of the tail is still listed.
    fn write_segment(&self, new: &Rewritten) -> Result<(), OpenError> {
        let path = || self.storage.path_of(&file_name(new.segment.file));
        let handle = &new.segment.handle;
        handle.write_all_at(&new.buffer, 0).map_err(|error| io_error("write", path(), error))?;
        handle.sync_data().map_err(|error| io_error("fsync", path(), error))
    }

    /// Lists the durable segments with the ends they have now, and the new ones.
    fn write_manifest(&mut self, rewritten: &[Rewritten]) -> Result<(), OpenError> {
        let manifest = &mut self.layout.manifest;
        manifest.sequence += 1;
        manifest.watermark = self.watermark;
        manifest.segments = self.durable.iter().map(|span| record(&span.file, span.to)).collect();
        manifest.segments.extend(rewritten.iter().map(|new| record(&new.segment, 0)));
        manifest.segments.sort_by_key(|record| record.number);
        if manifest.segments.len() > manifest.segments_max() {
            return Err(OpenError::NoSpace { needed: manifest.copy_bytes as u64 });
        }
        let written = Manifest::write(&*self.layout.meta, &manifest.encode());
        written.map_err(|(op, error)| io_error(op, self.storage.path_of(META_NAME), error))
    }

    /// Segments that held nothing but torn tail are free now.
    fn give_back_dropped(&self, space: &Space) {
        for (record, file) in &self.layout.segments {
            if self.durable.iter().all(|span| span.file.number != record.number) {
                space.give(Spare { file: record.file, length: record.length, handle: Arc::clone(&file.handle) });
            }
        }
    }

    fn start(self, rewritten: Vec<Rewritten>, space: Space, recovered: u64) -> Result<Journal, OpenError> {
        let writer = Writer::start(Arc::clone(&self.storage), self.wake, self.options.threads);
        let writer = writer.map_err(|error| io_error("start a thread for", self.storage.path_of(""), error))?;
        let tip = self.watermark.durable_through;
        let (reader, mut segments, mut active) = (Reader::default(), BTreeMap::new(), Both::default());
        let mut counts = self.counts;
        for span in self.durable {
            segments.insert(span.file.number, Segment::new(span.file, SegmentState::Sealed, span.to, tip.next()));
        }
        for new in rewritten {
            let number = new.segment.number;
            *active.of_mut(new.segment.generation) = Some(Active { number, tail: new.end, index: new.index });
            segments.insert(number, Segment::new(new.segment, SegmentState::Active, 0, tip.next()));
            counts.push(new.count);
        }
        segments.values().for_each(|segment| reader.insert(Arc::clone(&segment.file)));
        take_counts(&mut segments, counts);
        let rewritten = self.tail.entries.len() as u64;
        let recovered = recovered + rewritten;
        let counters = Counters { recovered, rewritten, cut: self.tail.cut, ..Counters::default() };
        Ok(Journal {
            storage: self.storage,
            options: self.options,
            manifest: self.layout.manifest,
            meta: self.layout.meta,
            manifest_is_stale: false,
            segments,
            active,
            sealed_end: Both::default(),
            pending: Vec::new(),
            open_part: Default::default(),
            under_way: None,
            buffers: Vec::new(),
            tip,
            watermark: self.watermark,
            poisoned: None,
            recycling: false,
            counters,
            last_sync: Duration::ZERO,
            reader,
            space,
            writer,
            _lock: self.lock,
        })
    }
}

/// What was seen of each segment while it was read.
fn take_counts(segments: &mut BTreeMap<u32, Segment>, counts: Vec<Count>) {
    for count in counts {
        let segment = segments.get_mut(&count.segment).expect("only listed segments are counted");
        (segment.bases, segment.pinned) = (count.bases, count.pinned);
        segment.first_lsn = count.first_lsn.unwrap_or(segment.first_lsn);
    }
}
