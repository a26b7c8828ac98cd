//! Emptying segments of the journal, a few entries a pump, so that their files can be used again.

use crate::driver::Driver;
use crate::planted::planted;
use antiphon_engine::{Handle, Kind};
use antiphon_journal::{Generation, Position};

/// Entries looked at per pump: those that survive are copied, so this bounds a pump to about a millisecond.
const ENTRIES_A_PUMP: usize = 256;

/// How long to leave a segment alone that could not be read.
const PAUSE_MS: u64 = 60_000;

impl Driver {
    pub(crate) fn sweep_a_little(&mut self) {
        let now_ms = self.now().monotonic_ms;
        let Some(journal) = &mut self.journal else { return };
        if self.sweep.is_none() && now_ms < self.sweep_after_ms {
            return;
        }
        if self.sweep.is_none() {
            self.sweep = journal.sweep();
        }
        let Some(mut sweep) = self.sweep.take() else { return };
        let entries = match sweep.next_batch(ENTRIES_A_PUMP) {
            Ok(entries) => entries,
            Err(_) => {
                // A segment that cannot be read is kept as it is, and looked at again later.
                journal.put_off(sweep);
                self.sweep_after_ms = now_ms + PAUSE_MS;
                return;
            }
        };
        if entries.is_empty() {
            self.cold.remove(&sweep.segment());
            if let Some(journal) = &mut self.journal {
                journal.retire(sweep);
                self.tombs.clear(journal);
            }
            return;
        }
        for entry in entries {
            if entry.kind == Kind::Entombed as u8 {
                self.move_tomb(entry.position);
                continue;
            }
            let at = Handle(entry.position.as_u64());
            if planted!("survivors of a sweep not copied") {
                continue;
            }
            self.with(Generation::Cold, None, |engine, _, output| engine.survive(entry.kind, entry.key, at, output));
        }
        self.sweep = Some(sweep);
    }

    fn move_tomb(&mut self, at: Position) {
        let Some(journal) = &mut self.journal else { return };
        if let Err(error) = self.tombs.survive(at, journal) {
            self.poison(&error);
        }
    }
}
