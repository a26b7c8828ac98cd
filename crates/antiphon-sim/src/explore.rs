//! Model checking of the lease, token and session protocol: every order of events of a small world around the real engine.
//! Breadth first, so that what it finds is the shortest there is. States that look the same from outside (what the engine
//! says of calls and workers, the journal, what is on its way, what everybody knows) are looked at once.

mod small;

pub use small::{Choice, Setup};

use small::Small;
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A world that was reached: from which other, and how.
struct Reached {
    from: u32,
    by: Choice,
}

/// What an exploration came to.
#[derive(Debug, Default)]
pub struct Explored {
    pub states: u64,
    pub transitions: u64,
    /// States in which nothing was left to do, each led to its end.
    pub ends: u64,
    pub depth: u32,
    /// Whether there was nothing left to look at.
    pub complete: bool,
    /// The first thing that was found wrong, and the way there.
    pub wrong: Option<(String, Vec<Choice>)>,
}

/// Looks at every state at most so many steps away, at most about so many of them.
#[must_use]
pub fn explore(setup: Setup, depth_max: u32, states_max: usize, threads: usize) -> Explored {
    let mut all: Vec<Reached> = Vec::new();
    let mut seen: HashSet<u128> = HashSet::new();
    seen.insert(Small::new(setup).fingerprint());
    let mut explored = Explored { states: 1, ..Explored::default() };
    // The places of the newest states; the beginning has none.
    let mut front: Vec<Option<u32>> = vec![None];
    while !front.is_empty() && explored.depth < depth_max && all.len() < states_max && explored.wrong.is_none() {
        explored.depth += 1;
        let found = expand(setup, &all, &front, threads);
        front.clear();
        for (from, next) in found {
            match next {
                Next::End => explored.ends += 1,
                Next::Wrong(wrong, by) => {
                    if explored.wrong.is_none() {
                        let mut path = from.map_or_else(Vec::new, |place| path_to(&all, place));
                        path.extend(by);
                        explored.wrong = Some((wrong, path));
                    }
                }
                Next::State(by, fingerprint) => {
                    explored.transitions += 1;
                    if seen.insert(fingerprint) {
                        all.push(Reached { from: from.unwrap_or(u32::MAX), by });
                        front.push(Some(all.len() as u32 - 1));
                    }
                }
            }
        }
    }
    explored.states += all.len() as u64;
    explored.complete = front.is_empty();
    explored
}

enum Next {
    State(Choice, u128),
    /// Nothing is left to do, and everything came out right.
    End,
    Wrong(String, Option<Choice>),
}

fn path_to(all: &[Reached], place: u32) -> Vec<Choice> {
    let mut path = Vec::new();
    let mut at = place;
    while let Some(reached) = all.get(at as usize) {
        path.push(reached.by);
        at = reached.from;
    }
    path.reverse();
    path
}

/// What follows from each state of the front, in the order of the front.
fn expand(setup: Setup, all: &[Reached], front: &[Option<u32>], threads: usize) -> Vec<(Option<u32>, Next)> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some((place, from)) = {
            let at = next.fetch_add(1, Relaxed);
            front.get(at).map(|from| (at, *from))
        } {
            let path = from.map_or_else(Vec::new, |place| path_to(all, place));
            let nexts = follow(setup, &path);
            found.lock().expect("nobody panics with it").push((place, from, nexts));
        }
    };
    if threads <= 1 {
        // Here, so that a bug that is planted on this thread is on.
        work();
    } else {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
    }
    let mut found = found.into_inner().expect("nobody panics with it");
    found.sort_by_key(|(place, ..)| *place);
    found.into_iter().flat_map(|(_, from, nexts)| nexts.into_iter().map(move |next| (from, next))).collect()
}

fn follow(setup: Setup, path: &[Choice]) -> Vec<Next> {
    let choices = replayed(setup, path).choices();
    if choices.is_empty() {
        let mut world = replayed(setup, path);
        world.finish();
        return vec![world.wrong().map_or(Next::End, |wrong| Next::Wrong(wrong, None))];
    }
    let step = |by: Choice| {
        let mut world = replayed(setup, path);
        world.apply(by);
        match world.wrong() {
            Some(wrong) => Next::Wrong(wrong, Some(by)),
            None => Next::State(by, world.fingerprint()),
        }
    };
    choices.into_iter().map(step).collect()
}

fn replayed(setup: Setup, path: &[Choice]) -> Small {
    let mut world = Small::new(setup);
    path.iter().for_each(|choice| world.apply(*choice));
    world
}
