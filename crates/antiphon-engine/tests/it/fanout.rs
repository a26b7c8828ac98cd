//! What grows with the number of subscriptions or children goes on over turns: each of them does a bounded amount, and
//! other calls start in between.

use crate::figures::World;
use antiphon_engine::{Command, End, Ties};
use antiphon_protocol::{CallId, Group, GroupKind, Knowledge, Name, Pattern, Route, Start, State, Subscription};

const MANY: u64 = 100_000;
/// How many steps a turn may take here.
const STEPS: u32 = 1_000;

fn numbered(number: u64) -> CallId {
    let mut random = [1; 10];
    random[..8].copy_from_slice(&number.to_be_bytes());
    CallId::new(1, random)
}

fn other() -> Route {
    Route::new(Name::from_static("p.q"))
}

/// Takes turns until nothing is left over: each does little, and starts the call that came before it.
fn take_turns(world: &mut World, left: impl Fn(&World) -> bool, most: u64) -> u64 {
    let mut turns = 0;
    while left(world) {
        let call = world.submit_to(&other(), Start::Now, None);
        let (done, leases) = world.turn(STEPS);
        assert!(done <= most, "{done} things were done in one turn");
        assert!(leases.iter().any(|(_, _, leased)| *leased == call), "another call starts in the same turn");
        for (peer, lease, call) in leases {
            let report = Command::Report { peer, lease, call, end: End::Succeed { bytes: 1 } };
            world.engine.handle(world.now, report, &mut world.sink);
        }
        turns += 1;
        assert!(turns < MANY, "it comes to an end");
    }
    turns
}

#[test]
pub fn a_hundred_thousand_subscriptions_of_one_event_stall_nothing_else() {
    let mut world = World::new(1, 1);
    world.worker(4);
    for number in 0..MANY {
        let subscription = Subscription {
            name: Name::new(&format!("s{number}")).unwrap(),
            pattern: Pattern::new(["orders.*", "orders.>"][(number % 2) as usize]).unwrap(),
            route: Route::new(Name::from_static("q.elsewhere")),
        };
        world.engine.subscribe(numbered(number), &subscription, &mut world.sink).unwrap();
    }
    let mut topic = Route::new(Name::from_static("orders.created"));
    topic.event = true;
    world.submit_to(&topic, Start::Now, None);
    let turns = take_turns(&mut world, |world| world.engine.has_undistributed(), 300);
    assert!(turns > 300, "{turns} turns for {MANY} calls");
    assert_eq!(world.engine.counters().accepted, MANY + turns, "each subscription has its call, and the others theirs");
}

/// A group of nearly as many children as it may have, none of which runs; the group is of this kind.
fn group_of_many(kind: GroupKind, cancel_rest: bool) -> (World, CallId) {
    let mut world = World::new(1, 1);
    let mut route = Route::new(Name::from_static("group"));
    let mut group = Group::new(kind);
    group.cancel_rest = cancel_rest;
    route.group = Some(group);
    let group = world.submit_to(&route, Start::Now, None);
    for _ in 1..MANY {
        let ties = Ties { groups: vec![(group, 0)], ..Ties::default() };
        world.submit_to(&Route::new(Name::from_static("q.elsewhere")), Start::Now, Some(Box::new(ties)));
    }
    world.worker(4);
    (world, group)
}

fn state(world: &World, id: CallId) -> State {
    let Knowledge::Known(status) = world.engine.knowledge(id) else { panic!("{id} is not known") };
    status.state
}

#[test]
pub fn a_group_of_a_hundred_thousand_children_is_cancelled_over_turns() {
    let (mut world, group) = group_of_many(GroupKind::All, true);
    world.engine.seal(world.now, group, &mut world.sink).unwrap();
    world.engine.handle(world.now, Command::Cancel { peer: antiphon_engine::Peer(0), id: group }, &mut world.sink);
    assert_eq!(state(&world, group), State::Cancelled, "the group itself ends at once");
    // A child that ends lets its arguments go; another call is submitted, leased and told beside them.
    let turns = take_turns(&mut world, |world| world.engine.load() > 0, u64::from(STEPS) * 2 + 20);
    assert!(turns >= (MANY - 1) / u64::from(STEPS), "{turns} turns");
}

#[test]
fn the_outcomes_of_a_hundred_thousand_children_are_gathered_over_turns() {
    let (mut world, group) = group_of_many(GroupKind::First(1), false);
    let ties = Ties { groups: vec![(group, 0)], ..Ties::default() };
    let winner = world.submit_to(&other(), Start::Now, Some(Box::new(ties)));
    let (_, leases) = world.turn(STEPS);
    let (peer, lease, call) = leases[0];
    assert_eq!(call, winner);
    let report = Command::Report { peer, lease, call, end: End::Succeed { bytes: 1 } };
    world.engine.handle(world.now, report, &mut world.sink);
    let turns = take_turns(&mut world, |world| !state(world, group).is_settled(), u64::from(STEPS) + 20);
    assert_eq!(state(&world, group), State::Succeeded);
    assert!(turns >= MANY / u64::from(STEPS), "{turns} turns");
}
