//! What runs have reached: a run that proves nothing does not count.

use crate::disk::Op;
use std::collections::{BTreeMap, BTreeSet};

/// Counts of one run, or of many.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// How often each fault came into effect.
    pub faults: BTreeMap<&'static str, u64>,
    /// Planned faults of the disk that fired: the kind of call, and whether the power went.
    pub disk: BTreeMap<(Op, bool), u64>,
    /// Changes of a call's state.
    pub transitions: BTreeSet<(&'static str, &'static str)>,
    /// What was seen of the features.
    pub reached: BTreeSet<&'static str>,
    /// What the broker was doing when it was killed.
    pub kills: BTreeMap<&'static str, u64>,
    /// Likewise when the power went.
    pub lost_power: BTreeMap<&'static str, u64>,
    /// Kinds of journal records that the auditor read.
    pub records: BTreeSet<u8>,
    pub audited: u64,
    pub starts: u64,
    pub refused_starts: u64,
    pub refused_rot: u64,
    pub poisoned: u64,
    pub submitted: u64,
    /// Submissions made while nothing had gone wrong for a while, and how many of them were accepted.
    pub quiet: u64,
    pub quiet_accepted: u64,
    pub events: u64,
    pub runs: u64,
    /// Runs in which every fault that was enabled came into effect.
    pub whole: u64,
}

impl Coverage {
    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (fault, count) in &other.faults {
            *self.faults.entry(fault).or_default() += count;
        }
        for (op, count) in &other.disk {
            *self.disk.entry(*op).or_default() += count;
        }
        for (when, count) in &other.kills {
            *self.kills.entry(when).or_default() += count;
        }
        for (when, count) in &other.lost_power {
            *self.lost_power.entry(when).or_default() += count;
        }
        self.transitions.extend(other.transitions.iter().copied());
        self.records.extend(other.records.iter().copied());
        self.reached.extend(other.reached.iter().copied());
        self.audited += other.audited;
        self.starts += other.starts;
        self.refused_starts += other.refused_starts;
        self.refused_rot += other.refused_rot;
        self.poisoned += other.poisoned;
        self.submitted += other.submitted;
        self.quiet += other.quiet;
        self.quiet_accepted += other.quiet_accepted;
        self.events += other.events;
        self.runs += other.runs;
        self.whole += other.whole;
    }

    /// What a batch must have reached and has not.
    #[must_use]
    pub fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        for fault in crate::swarm::Fault::ALL {
            let name = format!("{fault:?}");
            if !self.faults.contains_key(name.as_str()) {
                gaps.push(format!("the fault {name} never fired"));
            }
        }
        for op in Op::ALL {
            for power in [false, true] {
                if !self.disk.contains_key(&(op, power)) {
                    let what = if power { "the power never went in" } else { "there was no error of" };
                    gaps.push(format!("{what} {op:?}"));
                }
            }
        }
        for transition in TRANSITIONS {
            if !self.transitions.contains(transition) {
                gaps.push(format!("no call went from {} to {}", transition.0, transition.1));
            }
        }
        for what in REACHED.iter().chain(&crate::model::TICKS).filter(|what| !self.reached.contains(*what)) {
            gaps.push(format!("there was never {what}"));
        }
        for when in ["between commits", "commit under way"] {
            if !self.kills.contains_key(when) {
                gaps.push(format!("the broker was never killed: {when}"));
            }
        }
        for when in ["between calls", "down", "running", "starting"] {
            if !self.lost_power.contains_key(when) {
                gaps.push(format!("the power never went: {when}"));
            }
        }
        for kind in RECORDS {
            if !self.records.contains(&kind) {
                gaps.push(format!("no record of kind {kind} was read from a journal"));
            }
        }
        if self.whole * 100 < self.runs * 98 {
            gaps.push(format!("of {} runs {} had all of their faults", self.runs, self.whole));
        }
        if self.quiet_accepted * 10 < self.quiet * 6 {
            gaps.push(format!("of {} submissions in quiet times {} were accepted", self.quiet, self.quiet_accepted));
        }
        gaps
    }
}

/// Every change of state that the diagram in the engine's `call.rs` has.
const TRANSITIONS: &[(&str, &str)] = &[
    ("new", "scheduled"),
    ("new", "ready"),
    ("scheduled", "ready"),
    ("scheduled", "cancelled"),
    ("scheduled", "expired"),
    ("ready", "leased"),
    ("ready", "cancelled"),
    ("ready", "expired"),
    ("leased", "ready"),
    ("leased", "scheduled"),
    ("leased", "succeeded"),
    ("leased", "failed"),
    ("leased", "cancelled"),
    ("leased", "expired"),
    ("leased", "dead"),
];

/// Every kind of record but the removal of an inbox, which nobody can ask for yet.
const RECORDS: [u8; 22] = [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 17, 18, 19, 20, 21, 22, 24, 25];

/// What features come to.
const REACHED: &[&str] = &[
    "a call of a lane",
    "a call under a concurrency key",
    "a call with a label",
    "a call of several slots",
    "a call under a cap",
    "a call at a rate",
    "a retry",
    "a retry that waits for its budget",
    "a volatile call without a retry left",
    "a submission that a full queue refused",
    "a procedure that waited went on",
    "a callback",
    "a callback of a callback",
    "a value handed on",
    "a group that succeeded",
    "a group that failed",
    "a group that was never sealed",
    "a child cancelled with its group",
    "a call of an event",
    "a call cancelled in bulk",
];
