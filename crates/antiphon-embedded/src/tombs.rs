//! Word left of calls that are forgotten while older records of them may still stand in the journal's cold log. Each
//! is kept, and copied when its segment is emptied, until every segment that could hold such a record is gone.

use crate::planted::planted;
use antiphon_engine::{Handle, Record};
use antiphon_journal::{Entry, Generation, Journal, Position, Reserve, Role};
use antiphon_protocol::CallId;
use rustc_hash::FxHashMap;

/// Where word is left, of which call, and which records it covers.
#[derive(Default)]
pub(crate) struct Tombs {
    at: FxHashMap<u64, (CallId, u64)>,
}

impl Tombs {
    pub fn insert(&mut self, at: Handle, id: CallId, until: u64) {
        if at != Handle::NONE {
            self.at.insert(at.0, (id, until));
        }
    }

    /// All places, for an opening driver to claim.
    pub fn positions(&self) -> impl Iterator<Item = Position> {
        self.at.keys().filter_map(|at| Position::from_u64(*at))
    }

    /// The segment of this entry is being emptied: word that is still needed is written again.
    pub fn survive(&mut self, at: Position, journal: &mut Journal) -> Result<(), antiphon_journal::AppendError> {
        let Some((id, until)) = self.at.remove(&at.as_u64()) else { return Ok(()) };
        let record = Record::Entombed { id, until };
        let mut head = Vec::new();
        record.encode(&mut head);
        let entry = Entry { key: record.key(), kind: record.kind() as u8, head: &head, body: &[] };
        let moved = journal.append(Generation::Cold, Role::Base, &entry, Reserve::Yes)?;
        journal.release(at);
        self.at.insert(moved.as_u64(), (id, until));
        Ok(())
    }

    /// Lets go of word that covers nothing any more.
    pub fn clear(&mut self, journal: &mut Journal) {
        let oldest = journal.oldest(Generation::Cold).map_or(u64::MAX, antiphon_journal::Lsn::as_u64);
        self.at.retain(|at, (_, until)| {
            let needed = oldest < *until && !planted!("word of forgotten calls dropped early");
            if !needed && let Some(position) = Position::from_u64(*at) {
                journal.release(position);
            }
            needed
        });
    }
}
