//! Shares: of classes by their weights, of tenants in turn; nobody who is ready waits for longer than others' shares last.

use crate::figures::World;
use crate::order::Random;
use antiphon_engine::{Command, End};
use antiphon_protocol::{CallId, Name, Priority, Route, Start};
use std::collections::{BTreeMap, HashMap};

/// As decided: each class gets one and a half times the share of the one below.
const WEIGHTS: [usize; 10] = [2, 3, 4, 6, 10, 15, 22, 34, 51, 76];
const ROUND: usize = 223;

fn route(class: usize, tenant: usize) -> Route {
    let mut route = Route::new(Name::from_static("p.q"));
    route.priority = Priority::new(class as u8).unwrap();
    route.tenant = Some(Name::new(&format!("t{tenant}")).unwrap());
    route
}

/// Takes the one slot's next call, and ends it at once.
fn next(world: &mut World) -> Option<CallId> {
    let (_, leases) = world.turn(100);
    let (peer, lease, call) = leases.into_iter().next()?;
    let report = Command::Report { peer, lease, call, end: End::Succeed { bytes: 1 } };
    world.engine.handle(world.now, report, &mut world.sink);
    Some(call)
}

#[test]
pub fn each_busy_class_gets_its_share_and_waits_no_longer_than_that() {
    let mut world = World::new(1, 1);
    let mut classes = HashMap::new();
    for (class, weight) in WEIGHTS.into_iter().enumerate() {
        for _ in 0..weight * 4 {
            classes.insert(world.submit_to(&route(class, 0), Start::Now, None), class);
        }
    }
    world.worker(1);
    let (mut starts, mut counts) = (Vec::new(), [0_usize; 10]);
    for _ in 0..3 * ROUND {
        let class = classes[&next(&mut world).unwrap()];
        counts[class] += 1;
        starts.push(class);
    }
    for (class, weight) in WEIGHTS.into_iter().enumerate() {
        assert!(counts[class].abs_diff(3 * weight) <= 2, "class {class} had {} of {} turns", counts[class], 3 * weight);
        let mut last = 0;
        for (at, _) in starts.iter().enumerate().filter(|(_, other)| **other == class) {
            // Once in a round all classes come level, and each of the others goes once.
            assert!(at - last <= ROUND / weight + 11, "class {class} waited from turn {last} to turn {at}");
            last = at;
        }
    }
}

#[test]
pub fn each_tenant_that_waits_has_its_turn_after_one_of_each_other() {
    const TENANTS: usize = 5;
    for seed in 1..=20 {
        let (mut world, mut random) = (World::new(1, 1), Random(seed));
        world.worker(1);
        let (mut tenants, mut waiting) = (HashMap::new(), [0_usize; TENANTS]);
        // How often each other tenant went since a tenant waits.
        let mut passed: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for _ in 0..400 {
            // The first is greedy.
            for _ in 0..random.below(3) {
                let tenant = if random.below(2) == 0 { 0 } else { random.below(TENANTS) };
                tenants.insert(world.submit_to(&route(4, tenant), Start::Now, None), tenant);
                waiting[tenant] += 1;
            }
            let Some(call) = next(&mut world) else { continue };
            let went = tenants[&call];
            waiting[went] -= 1;
            passed.retain(|(waits, _), _| *waits != went);
            for waits in (0..TENANTS).filter(|waits| *waits != went && waiting[*waits] > 0) {
                let times = passed.entry((waits, went)).or_default();
                *times += 1;
                assert!(*times <= 1, "seed {seed}: tenant {went} goes again while {waits} waits");
            }
        }
    }
}
