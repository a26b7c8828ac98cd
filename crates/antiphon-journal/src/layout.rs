//! What is on disk before anything is judged: the manifest, its segment files, and which bytes of them were
//! durable. Reading only; shared by recovery, `verify` and `dump`.

use std::io;
use std::sync::Arc;

use crate::batch::{BATCH_ALIGN, BATCH_HEADER_BYTES, BATCH_MAGIC, BatchHeader};
use crate::checksum::Seed;
use crate::error::OpenError;
use crate::manifest::{FORMAT, META_NAME, Manifest, ManifestError, SegmentRecord};
use crate::position::{Generation, Watermark};
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentFile, file_id, file_name};
use crate::storage::{File, LockError, Storage};
use crate::walk::{Stop, Walk};

/// Read at once while searching for batch headers behind a wrong one.
const SEARCH_BYTES: usize = 1 << 20;

/// The segments of a journal as its manifest lists them, each with its file open.
pub(crate) struct Layout {
    pub manifest: Manifest,
    pub meta: Arc<dyn File>,
    pub segments: Vec<(SegmentRecord, Arc<SegmentFile>)>,
    /// Listed segments whose files are not as listed; they are not among `segments`.
    pub problems: Vec<OpenError>,
}

/// A range of a segment file, both ends at batch boundaries.
#[derive(Clone)]
pub(crate) struct Span {
    pub file: Arc<SegmentFile>,
    pub from: u32,
    pub to: u32,
}

/// Which bytes were durable, and where a torn tail may stand.
#[derive(Default)]
pub(crate) struct Spans {
    pub durable: Vec<Span>,
    pub tail: Vec<Span>,
}

pub(crate) fn io_error(op: &'static str, path: String, source: io::Error) -> OpenError {
    match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => OpenError::ReadOnly { path },
        _ => OpenError::Io { op, path, source },
    }
}

pub(crate) fn lock_error(storage: &dyn Storage, error: LockError) -> OpenError {
    match error {
        LockError::Held { pid } => OpenError::InUse { pid },
        LockError::Io(source) => io_error("lock", storage.path_of("lock"), source),
    }
}

pub(crate) fn damage(storage: &dyn Storage, file: &SegmentFile, from: u32, to: u32, what: &'static str) -> OpenError {
    OpenError::Damaged {
        file: storage.path_of(&file_name(file.file)),
        segment: file.number,
        from: u64::from(from),
        to: u64::from(to),
        what,
    }
}

pub(crate) fn meta_damage(storage: &dyn Storage, from: u64, to: u64, what: &'static str) -> OpenError {
    OpenError::Damaged { file: storage.path_of(META_NAME), segment: 0, from, to, what }
}

/// Whether there is no journal here yet. Segment files without a `meta` file are not nothing.
pub(crate) fn is_new(storage: &dyn Storage, names: &[String]) -> Result<bool, OpenError> {
    if names.iter().any(|name| name == META_NAME) {
        return Ok(false);
    }
    if names.iter().any(|name| file_id(name).is_some()) {
        return Err(meta_damage(storage, 0, 0, "the file is missing, but there are segments"));
    }
    Ok(true)
}

impl Layout {
    /// Opens what the manifest lists. A listed file that is missing or has another length is a problem.
    pub fn load(storage: &dyn Storage, read_only: bool) -> Result<Self, OpenError> {
        let open = |name: &str| if read_only { storage.open_read_only(name) } else { storage.open(name) };
        let meta = open(META_NAME).map_err(|error| io_error("open", storage.path_of(META_NAME), error))?;
        let manifest = Manifest::read(&*meta).map_err(|error| match error {
            ManifestError::Damaged { from, to, what } => meta_damage(storage, from, to, what),
            ManifestError::NewerFormat { found } => OpenError::NewerFormat { found, known: FORMAT },
            ManifestError::Io(source) => io_error("read", storage.path_of(META_NAME), source),
        })?;
        let mut layout = Self { manifest, meta, segments: Vec::new(), problems: Vec::new() };
        for record in layout.manifest.segments.clone() {
            let path = || storage.path_of(&file_name(record.file));
            match open(&file_name(record.file)) {
                Ok(handle) => {
                    let file = Arc::new(segment_file(&record, &layout.manifest.broker, handle));
                    if file.handle.len().map_err(|e| io_error("read", path(), e))? == u64::from(record.length) {
                        layout.segments.push((record, file));
                    } else {
                        let what = "the file has another length than it was made with";
                        layout.problems.push(damage(storage, &file, 0, record.length, what));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => layout.problems.push(OpenError::Damaged {
                    file: path(),
                    segment: record.number,
                    from: 0,
                    to: u64::from(record.length),
                    what: "the file is missing",
                }),
                Err(error) => return Err(io_error("open", path(), error)),
            }
        }
        Ok(layout)
    }

    /// The same, where any problem is an error.
    pub fn load_whole(storage: &dyn Storage, read_only: bool) -> Result<Self, OpenError> {
        let mut layout = Self::load(storage, read_only)?;
        if layout.problems.is_empty() { Ok(layout) } else { Err(layout.problems.swap_remove(0)) }
    }

    fn of(&self, generation: Generation) -> impl DoubleEndedIterator<Item = &(SegmentRecord, Arc<SegmentFile>)> {
        self.segments.iter().filter(move |(record, _)| record.generation == generation)
    }

    /// The newest watermark that any valid batch header, or the manifest, carries. The newest stands in the
    /// last batches, so each log is looked through from its end until a segment has a valid batch.
    pub fn watermark(&self, storage: &dyn Storage) -> Result<Watermark, OpenError> {
        let mut watermark = self.manifest.watermark;
        for generation in Generation::ALL {
            for (record, file) in self.of(generation).rev() {
                let found = watermark_in(file, record);
                let found = found.map_err(|e| io_error("read", storage.path_of(&file_name(record.file)), e))?;
                if let Some(found) = found {
                    watermark.merge(&found);
                    break;
                }
            }
        }
        Ok(watermark)
    }

    /// Divides every segment at the durable end of its log.
    pub fn spans(&self, storage: &dyn Storage, watermark: &Watermark) -> Result<[Spans; 2], OpenError> {
        let mut both = [Spans::default(), Spans::default()];
        for (generation, spans) in Generation::ALL.into_iter().zip(&mut both) {
            let end = watermark.end(generation);
            if end.is_some_and(|end| end.segment() >= self.manifest.next_segment) {
                return Err(meta_damage(storage, 0, 0, "it is older than the segments"));
            }
            for (record, file) in self.of(generation) {
                let limit = if record.end == 0 { record.length } else { record.end };
                let durable = match end {
                    Some(end) if record.number < end.segment() => limit,
                    Some(end) if record.number == end.segment() => end.offset(),
                    _ => 0,
                };
                if durable > limit || (durable == record.length && record.end == 0) {
                    return Err(damage(storage, file, 0, record.length, "its end is not recorded"));
                }
                let first = SEGMENT_HEADER_BYTES as u32;
                if durable > 0 {
                    spans.durable.push(Span { file: Arc::clone(file), from: first, to: durable });
                }
                if durable < limit {
                    spans.tail.push(Span { file: Arc::clone(file), from: durable.max(first), to: limit });
                }
            }
        }
        Ok(both)
    }
}

fn segment_file(record: &SegmentRecord, broker: &[u8; 16], handle: Arc<dyn File>) -> SegmentFile {
    SegmentFile {
        number: record.number,
        generation: record.generation,
        file: record.file,
        length: record.length,
        seed: Seed::new(broker, record.number, record.generation),
        handle,
    }
}

/// Goes from batch to batch, and searches behind the first wrong one: a batch is only written when the one
/// before it is durable, so a valid later one turns a torn tail into damage.
fn watermark_in(file: &Arc<SegmentFile>, record: &SegmentRecord) -> io::Result<Option<Watermark>> {
    let limit = if record.end == 0 { record.length } else { record.end };
    let mut walk = Walk::new(Arc::clone(file), SEGMENT_HEADER_BYTES as u32, limit);
    let mut newest: Option<Watermark> = None;
    loop {
        match walk.next_batch() {
            Ok(Some(header)) => {
                newest.get_or_insert(header.watermark).merge(&header.watermark);
                walk.skip_batch();
            }
            Ok(None) => return Ok(newest),
            Err(Stop::Io(error)) => return Err(error),
            Err(Stop::Wrong(wrong)) => {
                search(file, wrong.offset, limit, |_, header| {
                    newest.get_or_insert(header.watermark).merge(&header.watermark);
                })?;
                return Ok(newest);
            }
        }
    }
}

/// Calls `found` for every valid batch header between `from`, a batch boundary, and `limit`.
pub(crate) fn search(
    file: &SegmentFile,
    from: u32,
    limit: u32,
    mut found: impl FnMut(u32, BatchHeader),
) -> io::Result<()> {
    let mut bytes = vec![0; SEARCH_BYTES.min((limit - from) as usize)];
    let mut start = from;
    while start < limit {
        let want = bytes.len().min((limit - start) as usize);
        let window = bytes.get_mut(..want).unwrap_or_default();
        let read = file.handle.read_at(window, u64::from(start))?;
        let window = window.get(..read).unwrap_or_default();
        for (step, word) in window.chunks_exact(BATCH_ALIGN).enumerate() {
            if word.get(4..) != Some(&BATCH_MAGIC) {
                continue;
            }
            let offset = start + (step * BATCH_ALIGN) as u32;
            let mut header = [0; BATCH_HEADER_BYTES];
            let whole = file.handle.read_at(&mut header, u64::from(offset))? == header.len();
            let room = (limit - offset) as usize;
            let header = BatchHeader::decode(file.seed, offset, &header, room).filter(|_| whole);
            if let Some(header) = header.filter(|header| header.segment == file.number) {
                found(offset, header);
            }
        }
        if read < want {
            break;
        }
        start += want as u32;
    }
    Ok(())
}
