//! What the engine predicts of waits, held against what then comes, on virtual time.

use crate::rules::Random;
use crate::script::World;
use antiphon_engine::Limits;
use antiphon_protocol::Measured;
use std::collections::BTreeMap;

/// Workers that take their time, in milliseconds, as drawn.
struct Shop {
    world: World,
    random: Random,
    ms: u64,
    /// When running calls end.
    ends: BTreeMap<String, u64>,
    submitted: u32,
}

impl Shop {
    fn new(slots: u32) -> Self {
        let mut world = World::new(Limits::new(true));
        world.run(&format!("caller c\nworker w slots={slots}"));
        Self { world, random: Random(7), ms: 0, ends: BTreeMap::new(), submitted: 0 }
    }

    /// Exponential, of this mean: von Neumann's way, by comparing draws alone.
    fn exponential(&mut self, mean: u64) -> u64 {
        let mut whole = 0;
        loop {
            let first = self.random.below(1_000_000);
            let (mut last, mut runs) = (first, 1);
            loop {
                let next = self.random.below(1_000_000);
                if next > last {
                    break;
                }
                (last, runs) = (next, runs + 1);
            }
            if runs % 2 == 1 {
                return whole * mean + first as u64 * mean / 1_000_000;
            }
            whole += 1;
        }
    }

    fn pass(&mut self, until_ms: u64, service: impl Fn(&mut Self) -> u64) {
        loop {
            let granted: Vec<_> = self.world.granted.drain(..).map(|(call, _, _)| call).collect();
            for call in granted {
                let end = self.ms + service(self).max(1);
                self.ends.insert(call, end);
            }
            let Some((call, end)) = self.ends.iter().min_by_key(|(_, end)| **end).map(|(c, e)| (c.clone(), *e)) else {
                break;
            };
            if end > until_ms {
                break;
            }
            self.ends.remove(&call);
            self.ms = end;
            self.world.run(&format!("at {end}ms\nok {call}"));
            self.world.log.clear();
        }
        self.ms = until_ms;
        self.world.run(&format!("at {until_ms}ms"));
    }

    fn submit(&mut self, options: &str) -> String {
        self.submitted += 1;
        let call = format!("n{}", self.submitted);
        self.world.log.clear();
        self.world.run(&format!("submit {call} accepted {options}"));
        call
    }

    fn measured(&self) -> Measured {
        self.world.engine.procedures()[0].measured.clone()
    }
}

#[test]
fn what_is_measured_is_what_was_drawn() {
    let mut shop = Shop::new(4);
    for _ in 0..2_000 {
        let gap = shop.exponential(100) + 1;
        let until = shop.ms + gap;
        shop.pass(until, |shop| shop.exponential(320) + 1);
        shop.submit("");
    }
    let measured = shop.measured();
    assert!((85..=125).contains(&measured.arrived), "about 99 arrive in ten seconds: {measured:?}");
    assert!((280_000..=360_000).contains(&measured.service_mean_us), "the mean is 321 ms: {measured:?}");
    let deviation = measured.service_variance_ms2.isqrt();
    assert!((270..=380).contains(&deviation), "an exponential deviates by its mean: {measured:?}");
    let service = measured.service.unwrap();
    for (found_us, exponential_us) in
        [(service.p50_us, 222_000), (service.p90_us, 739_000), (service.p99_us, 1_478_000)]
    {
        assert!(found_us.abs_diff(exponential_us) < exponential_us / 4, "{measured:?}");
    }
    let wait = measured.wait.unwrap();
    assert!(wait.p50_us < wait.p90_us && wait.p90_us < wait.p99_us, "80 % load: some wait, a few long: {measured:?}");
    let interval = measured.start_interval_us.unwrap();
    assert!((65_000..=95_000).contains(&interval), "four slots start one in 80 ms: {measured:?}");
}

#[test]
fn predicted_waits_come_true_within_a_third() {
    for fixed in [false, true] {
        let mut shop = Shop::new(4);
        let service = move |shop: &mut Shop| if fixed { 320 } else { shop.exponential(320) + 1 };
        for round in 0..3_000_u64 {
            // Half an hour of busy minutes and quiet ones.
            let mean = if (round / 300) % 2 == 0 { 70 } else { 120 };
            let until = shop.ms + shop.exponential(mean) + 1;
            shop.pass(until, service);
            shop.submit(["", "tenant=red", "tenant=blue"][round as usize % 3]);
        }
        let measured = shop.measured();
        let error = measured.prediction_error_permille.unwrap();
        eprintln!("fixed {fixed}: error {error} of a thousand over {} predictions", measured.predictions);
        assert!(measured.predictions >= 20, "{measured:?}");
        assert!(error <= 333, "predictions are off by {error} of a thousand: {measured:?}");
    }
}

#[test]
fn explain_predicts_the_start_and_says_by_how_much_it_may_be_off() {
    let mut shop = Shop::new(1);
    for _ in 0..30 {
        shop.submit("");
    }
    let until = 2_050;
    shop.pass(until, |_| 100);
    shop.world.run("explain n30");
    let said = shop.world.log.clone();
    assert!(said.contains("SlotsBusy { ahead: 8, workers: 1, slots: 1 }"), "{said}");
    let starts: u64 = said.split("starts_ms: Some(").nth(1).unwrap().split(')').next().unwrap().parse().unwrap();
    let expected = 1_000_000 + 2_900;
    assert!(starts.abs_diff(expected) <= 60, "it starts at {expected}, predicted {starts}");
}

#[test]
fn a_call_that_would_start_too_late_is_refused_at_once_and_told_when_to_come_back() {
    let mut shop = Shop::new(1);
    for _ in 0..20 {
        shop.submit("priority=9");
    }
    shop.pass(1_010, |_| 100);
    shop.submit("deadline=300ms priority=9");
    let line = shop.world.log.lines().next_back().unwrap();
    assert!(line.contains("refused, TooLate { procedure: \"p\", wait_ms: 9"), "{line}");
    assert!(line.contains("service_ms: 100, deadline_ms: 300, retry_after_ms: 7"), "{line}");
    shop.submit("deadline=300ms priority=9 tenant=red");
    assert!(shop.world.log.contains("accepted in"), "tenants take turns: {}", shop.world.log);
    shop.submit("deadline=300ms priority=2");
    assert!(shop.world.log.contains("refused, TooLate"), "a lower class waits for its share: {}", shop.world.log);
    shop.submit("deadline=2s priority=9");
    assert!(shop.world.log.contains("accepted"), "{}", shop.world.log);
}

#[test]
pub fn a_call_that_could_start_in_time_but_not_end_in_time_is_refused() {
    let mut shop = Shop::new(1);
    for _ in 0..20 {
        shop.submit("priority=9");
    }
    shop.pass(1_010, |_| 100);
    // Nine wait, and one is half done: it starts in about 950 ms and takes 100 ms.
    for (deadline, taken) in [("900ms", false), ("1s", false), ("1100ms", true)] {
        shop.submit(&format!("deadline={deadline} priority=9"));
        assert_eq!(!shop.world.log.contains("TooLate"), taken, "{deadline}: {}", shop.world.log);
    }
}

#[test]
fn a_call_before_which_nothing_waits_is_always_taken() {
    let mut shop = Shop::new(1);
    for _ in 0..5 {
        shop.submit("");
    }
    shop.pass(500_500, |_| 100_000);
    let call = shop.submit("deadline=1ms");
    shop.world.run(&format!("explain {call}"));
    assert!(shop.world.log.contains("accepted"), "the queue is empty but for it: {}", shop.world.log);
}

#[test]
fn without_prediction_the_door_lets_everything_in() {
    for predict in [true, false] {
        let mut world = World::new(Limits { predict, ..Limits::new(true) });
        world.run("caller c\nworker w\nsubmit a\nat 5s\nok a\nsubmit a1\nsubmit a2 priority=9");
        world.run("submit b deadline=2s priority=9 accepted");
        let said = world.log.lines().next_back().unwrap();
        assert_eq!(said.contains("refused, TooLate"), predict, "{said}");
        assert_eq!(said.contains("c: b accepted in 7500 ms"), !predict, "{said}");
    }
}

#[test]
fn acceptance_tells_the_expected_wait() {
    let mut shop = Shop::new(2);
    shop.submit("");
    assert!(!shop.world.log.contains(" in "), "a slot is free: {}", shop.world.log);
    for _ in 0..60 {
        shop.submit("");
    }
    shop.pass(1_010, |_| 100);
    let call = shop.submit("detached");
    assert!(shop.world.log.contains(&format!("c: {call} accepted in ")), "{}", shop.world.log);
}
