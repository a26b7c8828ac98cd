//! Changing many calls: found over several pumps, changed in one.

use crate::driver::Driver;
use crate::questions::{CALLS_A_PUMP, Question};
use antiphon_journal::{Generation, Reserve};
use antiphon_protocol::{Answer, Bulk, BulkAnswer, CallId, CallStatus, Changed, Code, Deed, Failure, Fate};

impl Driver {
    /// Looks for more of what a bulk change is for, and carries it out once as much is found as one may change.
    pub(crate) fn look_in_bulk(
        &mut self,
        ticket: u64,
        bulk: Bulk,
        cursor: u32,
        mut found: Vec<CallStatus>,
    ) -> Question {
        let next = self.engine.list(&bulk.filter, cursor, CALLS_A_PUMP, &mut found);
        found.retain(|call| bulk.deed.suits(call.state));
        let limit = usize::try_from(bulk.filter.limit).unwrap_or(usize::MAX);
        if let Some(cursor) = next.filter(|_| found.len() < limit) {
            return Question::Bulk { ticket, bulk, cursor, found };
        }
        let calls = found.into_iter().map(|call| self.change(&bulk, call)).collect();
        Question::Answered { ticket, answer: Answer::Bulk(BulkAnswer { calls, next }), gate: self.tip() }
    }

    fn change(&mut self, bulk: &Bulk, call: CallStatus) -> Changed {
        let CallStatus { id, procedure, .. } = call;
        let fate = (!bulk.dry_run).then(|| self.carry_out(bulk.deed, id));
        Changed { id, procedure, fate }
    }

    fn carry_out(&mut self, deed: Deed, id: CallId) -> Fate {
        if let Err(Failure { code, message, .. }) = self.make_room(0, Reserve::Yes) {
            return Fate::Refused { code, message };
        }
        let answer = match deed {
            Deed::Cancel => {
                let cancelled =
                    self.with(Generation::Young, None, |engine, now, output| engine.cancel_one(now, id, output));
                return Fate::Cancelled(cancelled);
            }
            Deed::Revive => match self.new_call_id() {
                Some(new) => self.revive(id, new),
                None => {
                    let message = "the operating system gives no random bytes for new ids".to_owned();
                    return Fate::Refused { code: Code::Unavailable, message };
                }
            },
            Deed::Purge => self.purge(id),
        };
        match answer {
            Answer::Revived(id) => Fate::Revived(id),
            Answer::Purged => Fate::Purged,
            Answer::Refused { code, message } => Fate::Refused { code, message },
            other => Fate::Refused { code: Code::Internal, message: format!("{other:?}") },
        }
    }

    /// An id as clients make them.
    fn new_call_id(&mut self) -> Option<CallId> {
        if self.options.seed.is_some() {
            return Some(self.new_id());
        }
        let mut random = [0; 10];
        getrandom::fill(&mut random).ok()?;
        Some(CallId::new(self.now().wall_ms, random))
    }
}
