//! Commits: when what was recorded must be on disk, and putting it there. The owner of the driver decides on which
//! thread.

use crate::driver::Driver;
use antiphon_engine::Urgency;
use antiphon_journal::Journal;
use antiphon_protocol::Failure;
use std::time::Duration;

/// How long a record nobody waits for may stay in memory.
const LAZY: Duration = Duration::from_millis(200);

/// Whether the journal has something to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Commit {
    /// Nothing is pending.
    Nothing,
    /// Something is pending that may wait this long for company.
    Within(Duration),
    /// Something is pending that somebody waits for.
    Now,
    /// A commit is under way on the writer thread; what came since waits for the next one.
    UnderWay,
}

impl Driver {
    /// Whether the journal has something to write, and how soon.
    #[must_use]
    pub fn commit_need(&self) -> Commit {
        let Some(journal) = self.journal.as_ref().filter(|_| self.poisoned.is_none()) else { return Commit::Nothing };
        if journal.is_committing() {
            return Commit::UnderWay;
        }
        let Some((urgency, since)) = self.outbox.urgency else { return Commit::Nothing };
        let patience = match urgency {
            Urgency::Now => Duration::ZERO,
            Urgency::Shared => journal.last_sync(),
            Urgency::Lazy => LAZY,
        };
        match patience.saturating_sub(since.elapsed()) {
            Duration::ZERO => Commit::Now,
            left => Commit::Within(left),
        }
    }

    /// Writes and fsyncs on this thread; pump afterwards.
    ///
    /// # Errors
    /// `DATA_LOSS` when the write or the fsync failed: nothing is acknowledged any more.
    pub fn commit_here(&mut self) -> Result<(), Failure> {
        self.outbox.urgency = None;
        let Some(journal) = &mut self.journal else { return Ok(()) };
        journal.commit().map(|_| ()).map_err(|error| self.poison(&error))
    }

    /// Gives up the journal; dropping it frees its directory. What was not committed is gone.
    pub fn let_go(&mut self) -> Option<Journal> {
        self.sweep = None;
        self.journal.take()
    }

    /// Hands the batch to the journal's writer thread; `wake` is called when it is on disk.
    ///
    /// # Errors
    /// As [`Driver::commit_here`].
    pub fn commit_behind(&mut self) -> Result<(), Failure> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        match journal.begin_commit() {
            Ok(begun) => {
                if begun {
                    self.outbox.urgency = None;
                }
                Ok(())
            }
            Err(error) => Err(self.poison(&error)),
        }
    }
}
