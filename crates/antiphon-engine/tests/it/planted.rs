//! The bugs planted in what orders and admits calls, by the names at their sites: the tests here must catch each.

use crate::{budget, callbacks, combinations, door, fanout, keys, needs, prediction, rule, rules_of_ties, shares};
use std::panic::catch_unwind;

/// How many worlds a bug may take to show.
const SEEDS: u64 = 1_000;

/// What catches a bug.
enum Catcher {
    /// Worlds in which any policies are on at once.
    Worlds,
    /// One test.
    Test(fn()),
}

use Catcher::{Test, Worlds};

/// All of them: what is allowed too much, what leaks, what starves, what goes in a wrong order or is unfair, what is let in
/// that should not be, and what goes wrong with schemas, labels, callbacks, groups, schedules, events and retries.
const BUGS: &[(&str, Catcher)] = &[
    ("heavy calls take one slot", Worlds),
    ("a key takes one more", Worlds),
    ("a cap takes one more", Worlds),
    ("starts use up no rate", Worlds),
    ("paused procedures start", Worlds),
    ("who goes on takes no slot", Worlds),
    ("any number may be parked", Test(needs::over_the_bound_of_parked_calls_a_slot_is_kept)),
    ("calls of a lane overlap", Worlds),
    ("the slot of a stopped attempt leaks", Worlds),
    ("the place under a key leaks", Worlds),
    ("slots stay kept for calls that are gone", Worlds),
    ("places of callbacks leak", Worlds),
    ("who starts counts as waiting", Worlds),
    ("who is aside stays there", Worlds),
    ("a lane is not passed on", Worlds),
    ("a token wakes nobody", Test(rule::calls_start_no_faster_than_their_rate_whatever_the_burst)),
    ("a place under a cap wakes nobody", Worlds),
    ("held retries are forgotten", Worlds),
    ("lower classes have no turn", Test(shares::each_busy_class_gets_its_share_and_waits_no_longer_than_that)),
    ("no slots are kept for heavy calls", Test(needs::a_heavy_call_takes_its_slots_and_is_not_starved_by_light_ones)),
    ("early deadlines go last", Worlds),
    ("delayed calls join their lanes at once", Worlds),
    ("a restart turns lanes around", Worlds),
    ("a retry loses the head of its lane", Worlds),
    ("a tenant keeps its turn", Test(shares::each_tenant_that_waits_has_its_turn_after_one_of_each_other)),
    ("limits of queues are ignored", Worlds),
    ("limits of tenants are ignored", Test(door::bytes_and_tenants_have_bounds_of_their_own)),
    ("callbacks need no place in a queue", Worlds),
    ("late calls are let in", Test(prediction::a_call_that_could_start_in_time_but_not_end_in_time_is_refused)),
    ("other arguments are the same call", Test(keys::one_key_is_one_call_and_other_arguments_are_a_conflict)),
    ("a call that never ran keeps its key", Worlds),
    ("labels are not looked at", Worlds),
    ("schemas are not looked at", Worlds),
    ("callbacks follow any outcome", Test(rules_of_ties::callbacks_and_groups_follow_from_what_became_of_calls)),
    (
        "callbacks that a crash cut off are lost",
        Test(callbacks::a_crash_between_a_settlement_and_its_callback_loses_neither),
    ),
    ("a failed child has succeeded", Test(rules_of_ties::callbacks_and_groups_follow_from_what_became_of_calls)),
    ("groups settle before they are sealed", Worlds),
    ("a seal is forgotten by a restart", Worlds),
    ("the rest of a group runs on", Worlds),
    ("a group is settled in one turn", Test(fanout::a_group_of_a_hundred_thousand_children_is_cancelled_over_turns)),
    ("ticks overlap", Worlds),
    ("a tick that waits is forgotten", Worlds),
    ("ticks are forgotten by a restart", Worlds),
    ("ticks need no place in a queue", Worlds),
    ("who is unsubscribed gets events", Worlds),
    (
        "an event makes its calls in one turn",
        Test(fanout::a_hundred_thousand_subscriptions_of_one_event_stall_nothing_else),
    ),
    ("the budget of retries is ignored", Test(budget::what_is_over_the_budget_waits_in_order_and_says_so)),
];

#[test]
fn each_planted_bug_is_caught() {
    let mut missed = Vec::new();
    for (bug, catcher) in BUGS {
        antiphon_planted::plant(Some(bug));
        let caught = match catcher {
            Worlds => (1..=SEEDS).find_map(|seed| combinations::play(seed).err()),
            Test(test) => catch_unwind(test).err().map(|_| "its test failed".to_owned()),
        };
        antiphon_planted::plant(None);
        match caught {
            Some(text) => println!("{bug}: {}", text.lines().next().unwrap_or_default()),
            None => missed.push(*bug),
        }
    }
    assert!(missed.is_empty(), "nothing caught {missed:?}");
    println!("{} bugs planted, {} caught", BUGS.len(), BUGS.len());
}
