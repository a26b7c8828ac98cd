//! Makes a failing run small: drops what it fails without, in ever smaller pieces (Zeller and Hildebrandt's ddmin, 2002).

use crate::action::Action;
use crate::run::{Ran, replay};

/// Runs at most: a run of a few hundred events takes some milliseconds.
const RUNS_MAX: usize = 12_000;
/// As few events as people read.
const SMALL: usize = 12;
/// How far apart two events are that are tried to be dropped together, such as a call and its delivery.
const PAIR: usize = 10;

/// A failure without what is not needed for it.
#[derive(Clone, Debug)]
pub struct Shrunk {
    pub seed: u64,
    /// What is left, in order, each with its number in the seed's run.
    pub actions: Vec<(usize, Action)>,
    pub wrong: Vec<String>,
}

impl Shrunk {
    /// The numbers of what is left, as a list that [`crate::replay`]'s caller takes.
    #[must_use]
    pub fn numbers(&self) -> String {
        let numbers: Vec<String> = self.actions.iter().map(|(number, _)| number.to_string()).collect();
        numbers.join(",")
    }
}

type Numbered<A> = Vec<(usize, A)>;
/// Runs some of the actions: what of them happened, and what was found.
type Again<'a, A> = &'a dyn Fn(&[(usize, A)]) -> (Numbered<A>, Vec<String>);

struct Shrinker<'a, A> {
    again: Again<'a, A>,
    runs: usize,
    best: Numbered<A>,
    wrong: Vec<String>,
    kind: String,
}

/// What a finding is about, without the names and numbers in it.
pub(crate) fn kind_of(wrong: &[String]) -> String {
    let first = wrong.first().map(String::as_str).unwrap_or_default();
    let words = first.split_whitespace().filter(|word| !word.chars().any(|c| c.is_ascii_digit())).take(8);
    words.collect::<Vec<_>>().join(" ")
}

impl<A: Clone> Shrinker<'_, A> {
    /// Whether these actions fail in the same way; then they are the best so far.
    fn fails(&mut self, actions: &[(usize, A)]) -> bool {
        if self.runs >= RUNS_MAX {
            return false;
        }
        self.runs += 1;
        let (trace, wrong) = (self.again)(actions);
        if wrong.is_empty() || kind_of(&wrong) != self.kind {
            return false;
        }
        (self.best, self.wrong) = (trace, wrong);
        true
    }

    fn drop_pieces(&mut self) {
        let mut size = self.best.len().div_ceil(2);
        while size > 0 {
            let (mut at, before) = (0, self.best.len());
            while at < self.best.len() {
                let mut fewer = self.best.clone();
                fewer.drain(at..(at + size).min(fewer.len()));
                if !self.fails(&fewer) {
                    at += size;
                }
            }
            if size == 1 && self.best.len() == before {
                break;
            }
            size = (size / 2).max(1);
        }
    }
}

impl<A: Clone> Shrinker<'_, A> {
    /// Drops two events at a time; says whether that made it smaller.
    fn drop_pairs(&mut self) -> bool {
        let (mut at, before) = (0, self.best.len());
        while at < self.best.len() {
            let last = (at + PAIR).min(self.best.len());
            let dropped = (at + 1..last).any(|other| {
                let mut fewer = self.best.clone();
                fewer.remove(other);
                fewer.remove(at);
                self.fails(&fewer)
            });
            at += usize::from(!dropped);
        }
        self.best.len() < before
    }
}

/// Makes what fails small, whatever it is made of.
pub(crate) fn smallest<A: Clone>(
    trace: &[(usize, A)],
    wrong: &[String],
    again: Again<'_, A>,
) -> (Numbered<A>, Vec<String>) {
    let mut shrinker = Shrinker { again, runs: 0, best: trace.to_vec(), wrong: wrong.to_vec(), kind: kind_of(wrong) };
    shrinker.drop_pieces();
    while shrinker.best.len() > SMALL && shrinker.drop_pairs() {
        shrinker.drop_pieces();
    }
    (shrinker.best, shrinker.wrong)
}

/// Shrinks a failing run.
#[must_use]
pub fn shrink(failed: &Ran) -> Shrunk {
    let again = |actions: &[(usize, Action)]| {
        let ran = replay(failed.seed, actions);
        (ran.trace, ran.wrong)
    };
    let (actions, wrong) = smallest(&failed.trace, &failed.wrong, &again);
    Shrunk { seed: failed.seed, actions, wrong }
}
