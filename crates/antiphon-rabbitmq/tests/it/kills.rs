//! A small storm of kills; the large one is the example itself.

use crate::plain::{rust_example, said};

#[test]
fn every_accepted_call_has_one_outcome_though_worker_caller_and_server_are_killed() {
    let told = said(rust_example("rabbitmq_kills").args(["1500", "6", "7"]));
    assert!(told.ends_with("every accepted call has exactly one outcome\n"), "{told}");
    assert!(told.contains("(0 kills were left)"), "all of them fell into the storm: {told}");
}
