//! What a call needs of its worker: labels, slots, health; and slots that are given back meanwhile.

use crate::script::World;
use antiphon_engine::Limits;

fn world(script: &str) -> World {
    let mut world = World::new(Limits::new(true));
    world.run(script);
    world
}

/// Who was given what, in order.
fn granted(world: &World) -> Vec<String> {
    world.granted.iter().map(|(call, _, worker)| format!("{call}@{worker}")).collect()
}

#[test]
fn a_call_goes_only_to_a_worker_with_its_labels() {
    let mut world = world(
        "caller c
         worker w labels=cpu slots=4
         submit a labels=gpu
         submit b labels=cpu
         submit d",
    );
    assert_eq!(granted(&world), ["b@w", "d@w"]);
    world.run("worker x labels=big,gpu");
    assert_eq!(granted(&world), ["b@w", "d@w", "a@x"]);
}

#[test]
pub fn a_heavy_call_takes_its_slots_and_is_not_starved_by_light_ones() {
    let mut world = world(
        "caller c
         worker w slots=4
         submit a
         submit b
         submit heavy takes=4
         submit d
         submit e
         ok a",
    );
    // Slots that became free are kept for it.
    assert_eq!(granted(&world), ["a@w", "b@w"]);
    world.run("ok b");
    assert_eq!(granted(&world), ["a@w", "b@w", "heavy@w"]);
    world.run("ok heavy");
    assert_eq!(granted(&world)[3..], ["d@w", "e@w"]);
}

#[test]
fn a_slot_that_becomes_free_is_kept_for_a_heavy_call_whose_turn_it_is() {
    let mut world = world(
        "caller c
         worker w slots=2
         submit a
         submit b
         submit heavy takes=2",
    );
    // Light calls go on coming, and one always waits.
    for number in 0..20 {
        world.run(&format!("submit c{number:02}"));
        let running: Vec<String> =
            world.holders.keys().filter(|call| !world.ended.contains(*call)).take(1).cloned().collect();
        if granted(&world).contains(&"heavy@w".to_owned()) {
            return;
        }
        for call in running {
            world.run(&format!("ok {call}"));
        }
    }
    panic!("the heavy call was starved: {:?}", granted(&world));
}

#[test]
fn slots_kept_for_a_heavy_call_that_is_gone_go_to_others() {
    let mut world = world(
        "caller c
         worker w slots=2
         submit a
         submit heavy takes=2
         submit b",
    );
    assert_eq!(granted(&world), ["a@w"]);
    world.run("cancel heavy");
    assert_eq!(granted(&world), ["a@w", "b@w"]);
}

#[test]
fn a_worker_too_small_for_a_call_keeps_nothing_free_for_it() {
    let world = world(
        "caller c
         worker w slots=2
         submit heavy takes=3
         submit a
         submit b",
    );
    assert_eq!(granted(&world), ["a@w", "b@w"]);
}

#[test]
fn a_worker_that_fails_gets_less_and_is_tried_again() {
    let mut world = world(
        "caller c
         worker w slots=2
         worker x slots=2",
    );
    let mut bad = 0;
    for number in 0..40 {
        world.run(&format!("submit c{number} attempts=1"));
        let (call, _, worker) = world.granted.last().unwrap().clone();
        bad += u32::from(worker == "w");
        world.run(&format!("{} {call}", if worker == "w" { "bury" } else { "ok" }));
    }
    assert!((1..=8).contains(&bad), "the failing worker got {bad} of 40");
    let before = world.granted.len();
    world.run("at 600s");
    for number in 40..44 {
        world.run(&format!("submit c{number} attempts=1"));
    }
    assert!(world.granted[before..].iter().any(|(_, _, worker)| worker == "w"), "it is tried again later");
}

#[test]
fn a_parked_call_frees_its_slot_and_goes_on_before_new_ones() {
    let mut world = world(
        "caller c
         worker w slots=1
         submit a
         submit b
         submit d
         park a awaits=b",
    );
    assert_eq!(granted(&world), ["a@w", "b@w"]);
    world.run("resume a");
    assert!(!world.log.contains("go on with a"), "its slot is in use");
    world.run("ok b");
    assert!(world.log.contains("w: go on with a"));
    assert_eq!(granted(&world), ["a@w", "b@w"], "the slot goes to who wants to go on");
    world.run("ok a");
    assert_eq!(granted(&world), ["a@w", "b@w", "d@w"]);
}

#[test]
fn a_parked_call_keeps_its_lane_and_its_key() {
    let world = world(
        "caller c
         worker w slots=4
         submit a order=k with=m
         submit b order=k
         submit d with=m
         park a",
    );
    assert_eq!(granted(&world), ["a@w"]);
}

#[test]
pub fn over_the_bound_of_parked_calls_a_slot_is_kept() {
    let mut world = World::new(Limits { parked_max: 1, ..Limits::new(true) });
    world.run("caller c\nworker w slots=2\nsubmit a\nsubmit b\nsubmit d\nsubmit e\npark a\npark b");
    assert_eq!(granted(&world), ["a@w", "b@w", "d@w"]);
    world.run("resume b");
    assert!(world.log.contains("w: go on with b"), "its slot was never given back");
}

#[test]
fn who_waits_says_so_again_after_a_restart() {
    let mut world = world(
        "caller c
         worker w slots=1
         submit a
         park a
         submit b
         ok b
         restart
         caller c
         worker w slots=1
         submit d",
    );
    assert_eq!(granted(&world), ["a@w", "b@w"], "every lease counts until it is said otherwise");
    world.run("park a");
    assert_eq!(granted(&world), ["a@w", "b@w", "d@w"]);
}

#[test]
fn a_sub_call_that_could_never_start_is_refused() {
    let world = world(
        "caller c
         worker w slots=4
         submit a order=k lane=account with=m limit=1
         submit b within=a order=k lane=account
         submit d within=a with=m limit=1
         submit e within=a order=k
         submit f within=e order=k lane=account",
    );
    let refused = world.log.matches("refused, LaneHeld").count();
    assert_eq!((refused, world.log.matches("refused, KeyHeld").count()), (2, 1), "{}", world.log);
}
