//! Which records of which partitions are not settled yet, and so up to where offsets may be committed: never past the
//! lowest unsettled one. And up to where records were leased, which is committed in a group of its own: Kafka counts no
//! deliveries, and whoever gets the partition next has to know which calls may have run already.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// How many records of a partition may be open: more than any worker runs at a time, few enough for its memory.
const OPEN_MAX: usize = 1_024;

/// A partition of a topic.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
}

/// A record, as one assignment of its partition knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Spot {
    pub(crate) place: Place,
    pub(crate) offset: i64,
    generation: u64,
}

/// What is to be committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Commit {
    pub(crate) place: Place,
    pub(crate) offset: i64,
}

/// The partitions that are this reader's.
#[derive(Debug, Default)]
pub(crate) struct Offsets {
    parts: HashMap<Place, Part>,
    generation: u64,
}

#[derive(Debug)]
struct Part {
    generation: u64,
    /// After the last that was read.
    next: Option<i64>,
    /// Those that are not settled.
    open: BTreeSet<i64>,
    committed: Option<i64>,
    /// Records below it were leased by who had the partition before.
    leased_before: i64,
    /// After the highest that was leased.
    leased: i64,
    leased_committed: Option<i64>,
    /// Not read at the moment, because too many are open.
    paused: bool,
}

impl Offsets {
    /// A partition is this reader's from now on; records below `leased` were leased before.
    pub(crate) fn assigned(&mut self, place: Place, leased: i64) {
        self.generation += 1;
        let part = Part {
            generation: self.generation,
            next: None,
            open: BTreeSet::new(),
            committed: None,
            leased_before: leased,
            leased,
            leased_committed: None,
            paused: false,
        };
        self.parts.insert(place, part);
    }

    pub(crate) fn is_assigned(&self, place: &Place) -> bool {
        self.parts.contains_key(place)
    }

    /// A partition is another reader's.
    pub(crate) fn revoked(&mut self, place: &Place) {
        self.parts.remove(place);
    }

    /// Whether so many records of a partition are open that no more should be read.
    pub(crate) fn is_crowded(&self, place: &Place) -> bool {
        self.parts.get(place).is_some_and(|part| !part.paused && part.open.len() >= OPEN_MAX)
    }

    /// Partitions to stop reading, and those to go on with.
    pub(crate) fn pauses(&mut self) -> (Vec<Place>, Vec<Place>) {
        let (mut pause, mut go_on) = (Vec::new(), Vec::new());
        for (place, part) in &mut self.parts {
            if !part.paused && part.open.len() >= OPEN_MAX {
                part.paused = true;
                pause.push(place.clone());
            } else if part.paused && part.open.len() <= OPEN_MAX / 2 {
                part.paused = false;
                go_on.push(place.clone());
            }
        }
        (pause, go_on)
    }

    /// A record was read. Says whether it was leased before; `None` when its partition is not this reader's.
    pub(crate) fn arrived(&mut self, place: &Place, offset: i64) -> Option<(Spot, bool)> {
        let part = self.parts.get_mut(place)?;
        part.open.insert(offset);
        part.next = Some(part.next.map_or(offset + 1, |next| next.max(offset + 1)));
        let spot = Spot { place: place.clone(), offset, generation: part.generation };
        Some((spot, offset < part.leased_before))
    }

    fn part(&mut self, spot: &Spot) -> Option<&mut Part> {
        self.parts.get_mut(&spot.place).filter(|part| part.generation == spot.generation)
    }

    /// Whether a record is this reader's to settle.
    pub(crate) fn is_ours(&self, spot: &Spot) -> bool {
        self.parts.get(&spot.place).is_some_and(|part| part.generation == spot.generation)
    }

    /// A record is leased, in the order of a partition. `true` if that has to be committed before it starts: the first
    /// of an assignment, so that a call that kills its worker at once is known sooner or later.
    pub(crate) fn leased(&mut self, spot: &Spot) -> bool {
        self.part(spot).is_some_and(|part| {
            part.leased = part.leased.max(spot.offset + 1);
            part.leased_committed.is_none()
        })
    }

    /// A record is settled. `false` when it is another reader's by now.
    pub(crate) fn done(&mut self, spot: &Spot) -> bool {
        self.part(spot).is_some_and(|part| part.open.remove(&spot.offset))
    }

    /// Up to where everything is settled, where that has changed.
    pub(crate) fn commits(&mut self) -> Vec<Commit> {
        let mut commits = Vec::new();
        for (place, part) in &mut self.parts {
            let Some(next) = part.next else { continue };
            let offset = part.open.first().copied().unwrap_or(next);
            if part.committed.replace(offset) != Some(offset) {
                commits.push(Commit { place: place.clone(), offset });
            }
        }
        commits
    }

    /// Up to where records were leased, where that has changed.
    pub(crate) fn lease_commits(&mut self) -> Vec<Commit> {
        let mut commits = Vec::new();
        for (place, part) in &mut self.parts {
            if part.leased > part.leased_committed.unwrap_or(part.leased_before) {
                part.leased_committed = Some(part.leased);
                commits.push(Commit { place: place.clone(), offset: part.leased });
            }
        }
        commits
    }

    /// Commits failed: they are made again.
    pub(crate) fn not_committed<'a>(&mut self, places: impl Iterator<Item = &'a Place>) {
        for place in places {
            if let Some(part) = self.parts.get_mut(place) {
                part.committed = None;
                part.leased_committed = None;
            }
        }
    }

    /// Makes all commits go out whether or not they have changed: whoever is fenced learns it by that, and what was
    /// committed without waiting may not have got there.
    pub(crate) fn commit_anyway(&mut self) {
        for part in self.parts.values_mut() {
            part.committed = None;
            part.leased_committed = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { topic: "echo".into(), partition: 0 }
    }

    fn committed(offsets: &mut Offsets) -> Vec<i64> {
        offsets.commits().into_iter().map(|commit| commit.offset).collect()
    }

    fn leased(offsets: &mut Offsets) -> Vec<i64> {
        offsets.lease_commits().into_iter().map(|commit| commit.offset).collect()
    }

    fn read(offsets: &mut Offsets, upto: i64) -> Vec<Spot> {
        (0..upto).filter_map(|offset| offsets.arrived(&place(), offset).map(|(spot, _)| spot)).collect()
    }

    #[test]
    fn nothing_is_committed_past_the_lowest_unsettled_record() {
        let mut offsets = Offsets::default();
        offsets.assigned(place(), 0);
        let spots = read(&mut offsets, 4);
        assert_eq!(committed(&mut offsets), [0]);
        assert!(offsets.done(&spots[1]) && offsets.done(&spots[3]));
        assert_eq!(committed(&mut offsets), [] as [i64; 0], "0 is not settled");
        assert!(offsets.done(&spots[0]));
        assert_eq!(committed(&mut offsets), [2]);
        assert!(offsets.done(&spots[2]) && !offsets.done(&spots[2]));
        assert_eq!(committed(&mut offsets), [4]);
    }

    #[test]
    fn what_was_leased_is_known_to_the_next_assignment() {
        let mut offsets = Offsets::default();
        offsets.assigned(place(), 0);
        let spots = read(&mut offsets, 3);
        assert!(offsets.leased(&spots[0]), "the first of an assignment");
        assert_eq!(leased(&mut offsets), [1]);
        assert!(!offsets.leased(&spots[1]));
        assert_eq!(leased(&mut offsets), [2]);
        assert_eq!(leased(&mut offsets), [] as [i64; 0]);

        let mut next = Offsets::default();
        next.assigned(place(), 2);
        let before: Vec<bool> = (0..3).filter_map(|offset| Some(next.arrived(&place(), offset)?.1)).collect();
        assert_eq!(before, [true, true, false]);
    }

    #[test]
    fn a_record_of_an_earlier_assignment_settles_nothing() {
        let mut offsets = Offsets::default();
        offsets.assigned(place(), 0);
        let before = read(&mut offsets, 1);
        offsets.revoked(&place());
        assert!(!offsets.is_ours(&before[0]) && !offsets.done(&before[0]));
        offsets.assigned(place(), 0);
        let after = read(&mut offsets, 1);
        assert!(!offsets.done(&before[0]) && offsets.done(&after[0]));
    }

    #[test]
    fn a_commit_that_failed_is_made_again() {
        let mut offsets = Offsets::default();
        offsets.assigned(place(), 0);
        let spots = read(&mut offsets, 1);
        let commits = offsets.commits();
        assert_eq!(committed(&mut offsets), [] as [i64; 0]);
        offsets.not_committed(commits.iter().map(|commit| &commit.place));
        assert_eq!(committed(&mut offsets), [0]);
        assert!(offsets.leased(&spots[0]));
        assert_eq!(leased(&mut offsets), [1]);
        assert_eq!((committed(&mut offsets), leased(&mut offsets)), (vec![], vec![]));
        offsets.commit_anyway();
        assert_eq!((committed(&mut offsets), leased(&mut offsets)), (vec![0], vec![1]));
    }
}
