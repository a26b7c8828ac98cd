//! Holds the suite itself to account: a broker that keeps every rule passes, and each rule goes red on a broker that
//! breaks it.

#![allow(clippy::unwrap_used, reason = "the toy broker is a test throughout")]

mod fault;
mod toy;

use antiphon_broker::{Broker, Capabilities};
use antiphon_conformance::Harness;
use fault::Fault;
use std::sync::Arc;
use toy::Toy;

struct ToyHarness(Arc<Toy>);

impl ToyHarness {
    fn new(capabilities: Capabilities, fault: Fault) -> Self {
        Self(Toy::new(capabilities, fault))
    }
}

impl Harness for ToyHarness {
    async fn broker(&self) -> Arc<dyn Broker> {
        self.0.clone()
    }

    async fn restart(&self) -> Option<Arc<dyn Broker>> {
        self.0.restart();
        Some(self.0.clone())
    }
}

mod a_broker_that_can_everything {
    use super::*;
    antiphon_conformance::conformance_tests!(ToyHarness::new(toy::full(), Fault::None));
}

mod a_broker_that_refuses_what_it_can {
    use super::*;
    antiphon_conformance::conformance_tests!(ToyHarness::new(toy::bare(), Fault::None));
}

#[test]
fn every_planted_fault_is_found() {
    let running: Vec<_> = fault::planted().into_iter().map(|(what, rule)| (what, std::thread::spawn(rule))).collect();
    assert!(running.len() > 50);
    let missed: Vec<&str> = running.into_iter().filter_map(|(what, run)| run.join().is_ok().then_some(what)).collect();
    assert_eq!(missed, Vec::<&str>::new(), "faults that no rule noticed");
}
