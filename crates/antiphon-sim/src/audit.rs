//! The third judge: reads the raw segments with a decoder of its own, written from `docs/journal-format.md`, and holds
//! what the broker serves against what stands there.

mod segments;

pub(crate) use segments::{Entry, Region, Segments};

use antiphon_engine::{Engine, Record, Settled};
use antiphon_protocol::{CallId, Callback, IncarnationId, Knowledge, Name, State};
use std::collections::{BTreeMap, BTreeSet};

/// A lease as the journal knows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LeaseFact {
    pub token: u64,
    pub incarnation: IncarnationId,
    pub worker: Name,
    pub attempt: u16,
}

/// What the journal says of one call.
#[derive(Clone, Debug, Default)]
struct Fact {
    state: Option<State>,
    lease: Option<LeaseFact>,
    /// Every token it was ever leased under, with its attempt.
    tokens: BTreeMap<u64, u16>,
    outcome: Option<Vec<u8>>,
    at_most_once: bool,
    /// How many attempts its settlement counts.
    started: u16,
    suspect: bool,
    /// Whether it is a group that was not sealed: it may expire while the broker starts.
    unsealed: bool,
    /// Its callbacks, until it has settled; then those that its settlement makes, by their ids.
    callbacks: Vec<Callback>,
    called_back: Vec<CallId>,
    /// The lease under which a settled call may run on.
    ran: Option<LeaseFact>,
}

/// What the journal says, folded record by record.
#[derive(Default)]
pub(crate) struct Audit {
    facts: BTreeMap<CallId, Fact>,
    /// Calls of which a record says that they are forgotten.
    gone: BTreeSet<CallId>,
    epoch: u32,
    newest_token: u64,
    pub wrong: Vec<String>,
    /// Kinds of records that were seen.
    pub kinds: BTreeSet<u8>,
    pub entries: u64,
}

impl Audit {
    /// Folds everything that recovery must find.
    pub fn of(segments: &Segments) -> Self {
        let mut audit = Self::default();
        let mut last = 0;
        for entry in segments.recovered() {
            if entry.lsn <= last {
                audit.wrong.push(format!("the number {} stands twice in the journal", entry.lsn));
            }
            last = entry.lsn;
            audit.entries += 1;
            audit.kinds.insert(entry.kind);
            audit.fold(entry);
        }
        if audit.newest_token >> 40 > u64::from(audit.epoch) {
            audit.wrong.push(format!("token {} is of an epoch that has not begun", audit.newest_token));
        }
        audit
    }

    fn fold(&mut self, entry: &Entry) {
        let Ok(record) = Record::decode(entry.kind, entry.key, &entry.head) else {
            return self.wrong.push(format!("a record of kind {} cannot be read", entry.kind));
        };
        match record {
            Record::Started { epoch, .. } => {
                if epoch.0 < self.epoch {
                    self.wrong.push(format!("the epoch went back from {} to {}", self.epoch, epoch.0));
                }
                self.epoch = epoch.0;
            }
            Record::Submitted(record) => {
                let fact = self.facts.entry(record.id).or_default();
                fact.at_most_once = record.route.at_most_once;
                fact.unsealed = record.route.group.is_some() && !record.ties.as_ref().is_some_and(|ties| ties.sealed);
                let added = record.ties.iter().flat_map(|ties| &ties.callbacks);
                fact.callbacks = record.route.callbacks.iter().chain(added).cloned().collect();
                fact.suspect = record.progress.suspect;
                match fact.state {
                    // The arguments of a dead letter are copied as what they were.
                    Some(State::Dead) => {}
                    Some(state) if state.is_settled() => {
                        self.wrong.push(format!("call {} was submitted after it was {state}", record.id));
                    }
                    _ => (fact.state, fact.lease) = (Some(State::Ready), None),
                }
            }
            Record::Leased { id, lease, incarnation, worker, attempt, .. } => {
                let lease = LeaseFact { token: lease.token, incarnation, worker, attempt };
                self.leased(id, lease, entry.is_cold());
            }
            Record::Returned { id, progress, .. } => {
                let Some(fact) = self.facts.get_mut(&id) else { return };
                if fact.state.is_some_and(State::is_settled) {
                    return self.wrong.push(format!("call {id} went back in line after it had settled"));
                }
                (fact.state, fact.lease, fact.suspect) = (Some(State::Ready), None, progress.suspect);
            }
            Record::Settled(record) => self.settled(&record, entry),
            Record::Sealed { id } => {
                if let Some(fact) = self.facts.get_mut(&id) {
                    fact.unsealed = false;
                }
            }
            Record::CallbackAdded { id, callback } => {
                if let Some(fact) = self.facts.get_mut(&id) {
                    fact.callbacks.push(callback.into_owned());
                }
            }
            Record::Stopped { id } => {
                if let Some(fact) = self.facts.get_mut(&id) {
                    fact.ran = None;
                }
            }
            Record::Forgotten { id } | Record::Entombed { id, .. } => {
                self.facts.remove(&id);
                self.gone.insert(id);
            }
            // The others say nothing of whether a call is there, and of its attempts.
            _ => {}
        }
    }

    /// `copied`: it stands in the cold log, where only compaction writes.
    fn leased(&mut self, id: CallId, lease: LeaseFact, copied: bool) {
        let Some(fact) = self.facts.get_mut(&id) else { return };
        if fact.state.is_some_and(State::is_settled) {
            // A copy of a call whose attempt has not stopped brings its lease along. What was first said of that lease may
            // be recycled, while the cold log still has older ones: then it is the last one that was counted.
            let newest = fact.tokens.keys().next_back().copied().unwrap_or(0);
            let again = fact.tokens.get(&lease.token) == Some(&lease.attempt);
            let last = copied && lease.attempt == fact.started && lease.token > newest;
            if !again && !last && !fact.tokens.is_empty() {
                self.wrong.push(format!("call {id} was leased after it had settled"));
            }
            fact.tokens.insert(lease.token, lease.attempt);
            fact.ran = Some(lease);
            return;
        }
        let newest = fact.tokens.keys().next_back().copied().unwrap_or(0);
        let again = fact.tokens.get(&lease.token) == Some(&lease.attempt);
        if lease.token <= newest && !again {
            self.wrong.push(format!("call {id} was leased under token {} after {newest}", lease.token));
        }
        self.newest_token = self.newest_token.max(lease.token);
        fact.tokens.insert(lease.token, lease.attempt);
        if fact.at_most_once && fact.tokens.len() > 1 {
            self.wrong.push(format!("call {id} runs at most once and was leased {} times", fact.tokens.len()));
        }
        (fact.state, fact.lease) = (Some(State::Leased), Some(lease));
    }

    fn settled(&mut self, record: &Settled, entry: &Entry) {
        let fact = self.facts.entry(record.id).or_default();
        let before = fact.state.filter(|state| state.is_settled());
        if before.is_some_and(|state| state != record.state) {
            self.wrong.push(format!(
                "call {} settled as {} and again as {}",
                record.id,
                before.map_or("", State::name),
                record.state
            ));
        }
        if before.is_some() && fact.outcome.as_ref() != Some(&entry.body) {
            self.wrong.push(format!("call {} has two different outcomes", record.id));
        }
        let added = record.ties.iter().flat_map(|ties| &ties.callbacks);
        let callbacks = record.route.callbacks.iter().chain(added);
        let callbacks = callbacks.filter(|_| !record.ties.as_ref().is_some_and(|ties| ties.made));
        fact.called_back = called_back(record.id, callbacks, record.state == State::Succeeded).collect();
        if before.is_none() {
            fact.ran = fact.lease.take();
        }
        (fact.state, fact.lease, fact.outcome) = (Some(record.state), None, Some(entry.body.clone()));
        fact.started = record.progress.started;
    }

    /// Who holds the lease of a call.
    pub fn lease_of(&self, id: CallId) -> Option<&LeaseFact> {
        self.facts.get(&id)?.lease.as_ref()
    }

    /// Who may still run a call that has settled.
    pub fn ran_on(&self, id: CallId) -> Option<&LeaseFact> {
        self.facts.get(&id)?.ran.as_ref()
    }

    /// Whether a call is suspected of killing its workers.
    pub fn is_suspect(&self, id: CallId) -> bool {
        self.facts.get(&id).is_some_and(|fact| fact.suspect)
    }

    /// A callback of which there is no word.
    fn is_to_be_made(&self, id: CallId) -> bool {
        !self.facts.contains_key(&id) && !self.gone.contains(&id)
    }

    /// What the broker serves that the journal does not say, or the other way round.
    pub fn differences(&self, engine: &Engine) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut unsettled = 0;
        for (id, fact) in &self.facts {
            let Some(state) = fact.state else { continue };
            unsettled += u64::from(!state.is_settled());
            // What a crash cut off behind a settlement is made again.
            unsettled += fact.called_back.iter().filter(|id| self.is_to_be_made(**id)).count() as u64;
            match engine.knowledge(*id) {
                Knowledge::Known(status) => {
                    let waits = |state| matches!(state, State::Ready | State::Scheduled);
                    if fact.unsealed && status.state == State::Expired && !state.is_settled() {
                        unsettled -= 1;
                        let callbacks = called_back(*id, &fact.callbacks, false);
                        unsettled += callbacks.filter(|id| self.is_to_be_made(*id)).count() as u64;
                    } else if status.state != state && !(waits(state) && waits(status.state)) {
                        wrong.push(format!("call {id} is {state} in the journal and {} in the broker", status.state));
                    }
                }
                // What is old may be forgotten while the broker opens.
                _ if state.is_settled() => {}
                _ => wrong.push(format!("call {id} is {state} in the journal and the broker does not know it")),
            }
        }
        let served: u64 = engine.counts().iter().take(3).sum();
        if served != unsettled {
            wrong.push(format!("the journal has {unsettled} unsettled calls and the broker {served}"));
        }
        wrong
    }
}

/// The calls that these callbacks of a call become.
fn called_back<'a>(
    id: CallId,
    callbacks: impl IntoIterator<Item = &'a Callback>,
    succeeded: bool,
) -> impl Iterator<Item = CallId> {
    let follow = callbacks.into_iter().filter(move |callback| callback.on.follows(succeeded));
    follow.map(move |callback| Callback::id(callback.on, &callback.route.procedure, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_copy_of_the_last_lease_follows_a_settlement() {
        let id = CallId::new(1, [1; 10]);
        let lease = |token, attempt| LeaseFact {
            token,
            incarnation: IncarnationId([1; 16]),
            worker: Name::from_static("w"),
            attempt,
        };
        // Three attempts were counted; of the first the cold log still says something, the young one of none any more.
        let judged = |token, attempt, copied| {
            let tokens = BTreeMap::from([(7, 1)]);
            let fact = Fact { state: Some(State::Expired), tokens, started: 3, ..Fact::default() };
            let mut audit = Audit { facts: BTreeMap::from([(id, fact)]), ..Audit::default() };
            audit.leased(id, lease(token, attempt), copied);
            audit.wrong.is_empty()
        };
        assert!(judged(9, 3, true), "its last lease, copied");
        assert!(judged(7, 1, true), "one that is known");
        assert!(!judged(9, 3, false), "a new lease in the young log");
        assert!(!judged(9, 4, true), "an attempt that its settlement does not count");
        assert!(!judged(6, 3, true), "a token that is older than one of before");
    }
}
