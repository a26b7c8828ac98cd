//! The bars: what Antiphon has to reach beside its peers, as ratios within one run.

use crate::results::{Cell, Results};
use antiphon_bench::System;

/// What a bar is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quantity {
    /// Median latency with one call in flight, in microseconds; less is better.
    Latency,
    /// Calls a second with so many in flight; more is better.
    Rate(usize),
    /// Processor time a call with 1,024 in flight, in microseconds; less is better.
    Cpu,
}

/// Against what.
#[derive(Clone, Copy, Debug)]
pub enum Against {
    System(System),
    /// A peer's latency and so many fdatasyncs.
    WithSyncs(System, f64),
    /// A fixed figure: microseconds or calls a second.
    Fixed(f64),
}

/// One bar.
pub struct Bar {
    pub bytes: usize,
    pub system: System,
    pub quantity: Quantity,
    pub against: Against,
    /// The ratio that must be reached, if any.
    pub must: Option<f64>,
    /// The ratio that is aimed for.
    pub aim: Option<f64>,
}

/// A bar held against the results.
pub struct Held {
    pub ours: f64,
    pub theirs: f64,
    pub ratio: f64,
    pub reaches_must: Option<bool>,
    pub reaches_aim: Option<bool>,
}

impl Bar {
    /// `None` when one of the two was not measured.
    pub fn hold(&self, results: &Results) -> Option<Held> {
        let ours = self.figure(self.system, results)?;
        let theirs = match self.against {
            Against::System(peer) => self.figure(peer, results)?,
            Against::WithSyncs(peer, syncs) => self.figure(peer, results)? + syncs * results.fsync_us()?,
            Against::Fixed(figure) => figure,
        };
        let ratio = ours / theirs;
        let reaches = |bar: f64| match self.quantity {
            Quantity::Latency | Quantity::Cpu => ratio <= bar,
            Quantity::Rate(_) => ratio >= bar,
        };
        Some(Held { ours, theirs, ratio, reaches_must: self.must.map(reaches), reaches_aim: self.aim.map(reaches) })
    }

    fn figure(&self, system: System, results: &Results) -> Option<f64> {
        let in_flight = match self.quantity {
            Quantity::Latency => 1,
            Quantity::Rate(in_flight) => in_flight,
            Quantity::Cpu => 1024,
        };
        let figures = results.figures(Cell { bytes: self.bytes, system, in_flight })?;
        Some(match self.quantity {
            Quantity::Latency => figures.p50_us,
            Quantity::Rate(_) => figures.per_second,
            Quantity::Cpu => figures.cpu_us,
        })
    }
}

fn bar(system: System, quantity: Quantity, against: Against, must: Option<f64>, aim: Option<f64>) -> Bar {
    Bar { bytes: 64, system, quantity, against, must, aim }
}

/// All bars.
pub fn bars() -> Vec<Bar> {
    use Quantity::{Cpu, Latency, Rate};
    use System as S;
    let (volatile, eager, durable) = (S::AntiphonVolatile, S::AntiphonDurableIdempotent, S::AntiphonDurable);
    let (direct, memory) = (S::AntiphonDirect, S::AntiphonMemory);
    let peer = Against::System;
    let mut bars = vec![
        bar(volatile, Latency, peer(S::Limit), Some(1.4), Some(1.2)),
        bar(volatile, Rate(64), peer(S::Nats), Some(1.3), Some(2.0)),
        bar(volatile, Rate(1024), peer(S::Nats), Some(2.0), Some(3.0)),
        bar(volatile, Rate(1024), peer(S::RedisLists), Some(1.0), Some(2.0)),
        bar(volatile, Rate(1024), peer(S::Limit), None, Some(0.5)),
        bar(volatile, Cpu, peer(S::Nats), Some(0.7), Some(0.4)),
        bar(eager, Latency, Against::WithSyncs(S::Limit, 1.5), Some(1.0), None),
        bar(eager, Rate(64), peer(S::RedisStreamsSync), Some(2.5), Some(4.0)),
        bar(eager, Rate(64), peer(S::JetstreamSync), Some(15.0), None),
        bar(eager, Rate(1024), peer(S::RedisStreamsSync), Some(2.5), Some(4.0)),
        bar(eager, Rate(1024), peer(S::JetstreamSync), Some(40.0), Some(80.0)),
        bar(eager, Rate(1024), peer(S::RabbitmqQuorum), Some(25.0), Some(40.0)),
        bar(eager, Cpu, peer(S::RedisStreamsSync), Some(0.6), Some(0.4)),
        bar(durable, Latency, Against::WithSyncs(S::Limit, 2.5), Some(1.0), None),
        bar(durable, Rate(64), peer(S::RedisStreamsSync), Some(2.0), Some(3.0)),
        bar(durable, Rate(1024), peer(S::RedisStreamsSync), Some(2.0), Some(3.0)),
        bar(durable, Cpu, peer(S::RedisStreamsSync), Some(0.7), None),
        bar(direct, Latency, peer(S::Tarpc), Some(1.1), Some(1.0)),
        bar(direct, Rate(64), peer(S::Tarpc), Some(0.9), Some(1.2)),
        bar(direct, Rate(1024), peer(S::Tarpc), Some(1.0), Some(1.5)),
        bar(direct, Cpu, peer(S::Tarpc), Some(1.0), None),
        bar(memory, Latency, Against::Fixed(1.0), Some(10.0), Some(5.0)),
        bar(memory, Rate(1024), Against::Fixed(1e6), Some(0.7), Some(1.0)),
    ];
    for (bytes, must, aim) in [(1024, 1.5, 0.6), (65_536, 1.2, 0.8)] {
        let mut sized = vec![
            bar(volatile, Latency, peer(S::Limit), Some(1.4), Some(1.2)),
            bar(volatile, Rate(64), peer(S::Nats), Some(1.0), None),
            bar(volatile, Rate(1024), peer(S::Nats), Some(must), None),
            bar(volatile, Rate(1024), peer(S::Limit), None, Some(aim)),
        ];
        sized.iter_mut().for_each(|bar| bar.bytes = bytes);
        bars.append(&mut sized);
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::*;
    use antiphon_bench::load::Measured;
    use std::collections::BTreeMap;

    fn results(ours: u64, theirs: u64) -> Results {
        let mut results = Results { fsync_us: vec![100.0], ..Results::default() };
        for (system, calls) in [(System::AntiphonVolatile, ours), (System::Nats, theirs)] {
            let cell = Cell { bytes: 64, system, in_flight: 64 };
            let cpu_us = BTreeMap::new();
            let memory_kib = BTreeMap::new();
            let measured = Measured {
                calls,
                errors: 0,
                seconds: 1.0,
                p50_us: 50.0,
                p99_us: 2.0,
                p999_us: 3.0,
                cpu_us,
                memory_kib,
            };
            results.measurements.push((cell, measured));
        }
        results
    }

    #[test]
    fn a_rate_reaches_its_bar_from_above() {
        let bar =
            bar(System::AntiphonVolatile, Quantity::Rate(64), Against::System(System::Nats), Some(1.3), Some(2.0));
        let held = bar.hold(&results(150, 100)).expect("both were measured");
        assert_eq!((held.reaches_must, held.reaches_aim), (Some(true), Some(false)));
        let held = bar.hold(&results(129, 100)).expect("both were measured");
        assert_eq!(held.reaches_must, Some(false));
    }

    #[test]
    fn a_latency_reaches_its_bar_from_below() {
        let mut bar = bar(System::AntiphonVolatile, Quantity::Latency, Against::Fixed(50.0), Some(1.0), None);
        let mut results = results(1, 1);
        for (cell, _) in &mut results.measurements {
            cell.in_flight = 1;
        }
        assert_eq!(bar.hold(&results).expect("measured").reaches_must, Some(true));
        bar.against = Against::WithSyncs(System::Nats, 1.0);
        assert!((bar.hold(&results).expect("measured").theirs - 150.0).abs() < 1e-9);
        bar.against = Against::Fixed(49.0);
        assert_eq!(bar.hold(&results).expect("measured").reaches_must, Some(false));
    }

    #[test]
    fn what_was_not_measured_holds_no_bar() {
        let bars = bars();
        assert!(bars.iter().all(|bar| bar.hold(&Results::default()).is_none()));
        assert!(bars.iter().all(|bar| bar.must.is_some() || bar.aim.is_some()));
    }
}
