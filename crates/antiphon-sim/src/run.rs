//! One run: a seed's events, then the healing, then the judges. And its replay, whole or in part.

use crate::action::Action;
use crate::coverage::Coverage;
use crate::generator::Generator;
use crate::random::Fingerprint;
use crate::swarm::Swarm;
use crate::world::World;

/// How many events a run has at least, beside its healing.
pub const EVENTS: u64 = 2_000;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Ran {
    pub seed: u64,
    /// What happened, in order, each with its number in the seed's own run.
    pub trace: Vec<(usize, Action)>,
    /// What the judges found; empty when all is well.
    pub wrong: Vec<String>,
    pub fingerprint: Fingerprint,
    pub coverage: Coverage,
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, events: u64) -> Ran {
    let mut world = World::new(Swarm::new(seed));
    let mut generator = Generator::new(&world.swarm, events);
    let mut trace = Vec::new();
    let mut tries = 0;
    world.apply(&Action::Start);
    let goes_on =
        |world: &World| world.happened < events || (world.happened < events * 2 && !world.missing().is_empty());
    while goes_on(&world) && !world.has_failed() {
        tries += 1;
        assert!(tries < events * 100, "seed {seed}: nothing applies any more");
        let action = generator.next(&mut world);
        if world.apply(&action) {
            trace.push((trace.len(), action));
        }
    }
    end(world, trace)
}

/// Runs some of the actions of a seed's run in its world.
#[must_use]
pub fn replay(seed: u64, actions: &[(usize, Action)]) -> Ran {
    let mut world = World::new(Swarm::new(seed));
    world.model.audit_every = 1;
    let mut trace = Vec::new();
    world.apply(&Action::Start);
    for (number, action) in actions {
        if world.has_failed() {
            break;
        }
        if world.apply(action) {
            trace.push((*number, action.clone()));
        }
    }
    end(world, trace)
}

fn end(mut world: World, trace: Vec<(usize, Action)>) -> Ran {
    if !world.has_failed() {
        world.heal_safely();
    }
    let wrong = world.verdict();
    world.coverage.whole = u64::from(world.missing().is_empty());
    let mut coverage = std::mem::take(&mut world.coverage);
    coverage.events = world.happened;
    coverage.runs = 1;
    Ran { seed: world.swarm.seed, trace, wrong, fingerprint: world.fingerprint, coverage }
}
