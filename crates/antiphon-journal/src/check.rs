//! Looking at a journal that nobody has open: `verify` reads every byte that matters and names every
//! damaged range, `dump` shows every entry. Neither changes anything but the lock file.

use std::sync::Arc;

use crate::entry::{ENTRY_HEADER_BYTES, Recovered};
use crate::error::OpenError;
use crate::layout::{Layout, Span, is_new, lock_error, meta_damage, search};
use crate::position::{Generation, Lsn, Watermark};
use crate::replay::{read_error, replay};
use crate::segment::{SegmentFile, SegmentHeader, file_id, file_name};
use crate::storage::Storage;
use crate::sweep::read_index;
use crate::tail::Tail;
use crate::walk::{Stop, Walk};

/// One range of bytes that is not what was written and made durable there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The file, as `Storage::path_of` names it.
    pub file: String,
    /// Number of the segment; 0 for the `meta` file.
    pub segment: u32,
    /// First damaged byte.
    pub from: u64,
    /// End of the damaged range.
    pub to: u64,
    /// What was found there.
    pub what: &'static str,
    /// Keys of the entries that begin in the range, if the segment's index still tells.
    pub keys: Vec<[u8; 16]>,
}

/// One segment, as far as it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentReport {
    /// Its number.
    pub number: u32,
    /// Name of its file.
    pub file: String,
    /// Which log it belongs to.
    pub generation: Generation,
    /// Length of the file in bytes.
    pub length: u32,
    /// End of the durable batches.
    pub end: u32,
    /// Entries that are whole.
    pub entries: u64,
    /// Whether it ends in a readable index; segments that recovery closed, and active ones, have none.
    pub has_index: bool,
}

/// What `verify` found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Every durable segment, by number.
    pub segments: Vec<SegmentReport>,
    /// Every damaged range; empty for a journal that opens.
    pub damages: Vec<Damage>,
    /// Durable entries that are whole.
    pub entries: u64,
    /// Entries of the last commit that opening would write anew.
    pub tail_entries: u64,
    /// Entries of the last commit that opening would cut off: none was acknowledged.
    pub tail_cut: u64,
    /// Everything up to here was durable for certain.
    pub durable_through: Lsn,
    /// Segment files that belong to no segment.
    pub free_files: usize,
}

impl Report {
    /// Whether nothing durable is damaged.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.damages.is_empty()
    }
}

/// Reads the whole journal, bodies included, and reports.
///
/// # Errors
/// `InUse` if a journal has it open, `NewerFormat`, `Io`. Damage is not an error but in the report.
pub fn verify(storage: &dyn Storage) -> Result<Report, OpenError> {
    let _lock = storage.lock().map_err(|error| lock_error(storage, error))?;
    let mut report = Report::default();
    if let Err(error) = verify_layout(storage, &mut report) {
        report.damages.push(as_damage(error)?);
    }
    Ok(report)
}

fn as_damage(error: OpenError) -> Result<Damage, OpenError> {
    match error {
        OpenError::Damaged { file, segment, from, to, what } => {
            Ok(Damage { file, segment, from, to, what, keys: Vec::new() })
        }
        other => Err(other),
    }
}

fn load(storage: &dyn Storage) -> Result<(Layout, Watermark, Vec<String>), OpenError> {
    let names = storage.list().map_err(|e| crate::layout::io_error("list", storage.path_of(""), e))?;
    if is_new(storage, &names)? {
        return Err(meta_damage(storage, 0, 0, "there is no journal here"));
    }
    let layout = Layout::load(storage, true)?;
    let watermark = layout.watermark(storage)?;
    Ok((layout, watermark, names))
}

fn verify_layout(storage: &dyn Storage, report: &mut Report) -> Result<(), OpenError> {
    let (mut layout, watermark, names) = load(storage)?;
    for problem in std::mem::take(&mut layout.problems) {
        report.damages.push(as_damage(problem)?);
    }
    let is_free = |id: &u32| layout.manifest.segments.iter().all(|record| record.file != *id);
    report.free_files = names.iter().filter_map(|name| file_id(name)).filter(is_free).count();
    report.durable_through = watermark.durable_through;
    let spans = layout.spans(storage, &watermark)?;
    let broker = layout.manifest.broker;
    for span in spans.iter().flat_map(|spans| &spans.durable) {
        let segment = verify_span(storage, &broker, span, report)?;
        report.entries += segment.entries;
        report.segments.push(segment);
    }
    report.segments.sort_by_key(|segment| segment.number);
    let tail = Tail::read(storage, &broker, &spans, &watermark)?;
    (report.tail_entries, report.tail_cut) = (tail.entries.len() as u64, tail.cut);
    Ok(())
}

fn verify_span(
    storage: &dyn Storage,
    broker: &[u8; 16],
    span: &Span,
    report: &mut Report,
) -> Result<SegmentReport, OpenError> {
    let file = &span.file;
    let index = read_index(file, span.to);
    let mut check =
        SpanCheck { storage, span, keys: index.iter().flatten().map(|r| (r.offset, r.key)).collect(), report };
    let mut walk = Walk::new(Arc::clone(file), span.from, span.to);
    if !walk.header_is_right(broker).map_err(|error| read_error(storage, file, error))? {
        check.damaged(0, span.from, header_problem(file));
    }
    let mut entries = 0;
    let mut from = span.from;
    while let Some(stopped) = check.walk_from(from, &mut entries)? {
        let next = check.next_batch_behind(stopped.offset)?;
        check.damaged(stopped.offset, next, stopped.what);
        from = next;
    }
    Ok(SegmentReport {
        number: file.number,
        file: file_name(file.file),
        generation: file.generation,
        length: file.length,
        end: span.to,
        entries,
        has_index: index.is_some(),
    })
}

/// A file that was swapped for another tells so.
fn header_problem(file: &SegmentFile) -> &'static str {
    let mut bytes = [0; 64];
    let read = file.handle.read_at(&mut bytes, 0).unwrap_or(0);
    match SegmentHeader::last_number(&bytes) {
        Some(number) if read == bytes.len() && number != file.number => "the file holds another segment",
        _ => "it is not the segment that belongs here",
    }
}

struct SpanCheck<'a> {
    storage: &'a dyn Storage,
    span: &'a Span,
    keys: Vec<(u32, [u8; 16])>,
    report: &'a mut Report,
}

impl SpanCheck<'_> {
    /// Walks batches and entries from a batch boundary; stops at the first that is wrong.
    fn walk_from(&mut self, from: u32, entries: &mut u64) -> Result<Option<crate::walk::Wrong>, OpenError> {
        let mut walk = Walk::new(Arc::clone(&self.span.file), from, self.span.to);
        loop {
            match self.step(&mut walk, entries) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(Stop::Wrong(wrong)) => return Ok(Some(wrong)),
                Err(Stop::Io(error)) => return Err(read_error(self.storage, &self.span.file, error)),
            }
        }
    }

    fn step(&mut self, walk: &mut Walk, entries: &mut u64) -> Result<bool, Stop> {
        if let Some((offset, header)) = walk.next_entry()? {
            *entries += 1;
            if walk.body()?.is_none() {
                *entries -= 1;
                let body = offset + (ENTRY_HEADER_BYTES as u32) + header.head_len;
                self.report.damages.push(Damage {
                    keys: vec![header.key],
                    ..self.damage(body, body + header.body_len, "a body fails its checksum")
                });
            }
            return Ok(true);
        }
        Ok(walk.next_batch()?.is_some())
    }

    /// The next batch that can be trusted, or the end.
    fn next_batch_behind(&self, offset: u32) -> Result<u32, OpenError> {
        let mut next = self.span.to;
        let from = (offset + 1).next_multiple_of(8).min(self.span.to);
        let found = search(&self.span.file, from, self.span.to, |at, _| next = next.min(at));
        found.map_err(|error| read_error(self.storage, &self.span.file, error))?;
        Ok(next)
    }

    fn damage(&self, from: u32, to: u32, what: &'static str) -> Damage {
        let keys = self.keys.iter().filter(|(offset, _)| (from..to).contains(offset)).map(|(_, key)| *key);
        Damage {
            file: self.storage.path_of(&file_name(self.span.file.file)),
            segment: self.span.file.number,
            from: u64::from(from),
            to: u64::from(to),
            what,
            keys: keys.collect(),
        }
    }

    fn damaged(&mut self, from: u32, to: u32, what: &'static str) {
        let damage = self.damage(from, to, what);
        self.report.damages.push(damage);
    }
}

/// Shows every entry that opening would recover, in lsn order, at its present position.
///
/// # Errors
/// As for opening: `InUse`, `Damaged`, `NewerFormat`, `Io`. Entries before the damage have been shown.
pub fn dump(storage: &dyn Storage, visit: &mut dyn FnMut(Recovered<'_>)) -> Result<(), OpenError> {
    let _lock = storage.lock().map_err(|error| lock_error(storage, error))?;
    let (mut layout, watermark, _) = load(storage)?;
    if !layout.problems.is_empty() {
        return Err(layout.problems.swap_remove(0));
    }
    let spans = layout.spans(storage, &watermark)?;
    let [young, cold] = &spans;
    let broker = layout.manifest.broker;
    replay(storage, broker, &young.durable, &cold.durable, visit)?;
    for entry in Tail::read(storage, &broker, &spans, &watermark)?.entries {
        visit(entry.recovered(entry.position, entry.generation));
    }
    Ok(())
}
