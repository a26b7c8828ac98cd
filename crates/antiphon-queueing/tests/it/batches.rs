//! Group commit as it happens: a server that takes what waits in one batch, event by event, against the chain.

use crate::reference::close;
use antiphon_queueing::GroupCommit;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Exp1};

/// The mean response time and the mean batch of this many calls.
fn happen(calls: usize, arrival_per_s: f64, per_batch_s: f64, per_call_s: f64, largest: usize) -> (f64, f64) {
    let mut random = SmallRng::seed_from_u64(7);
    let mut now = 0.0;
    let comes: Vec<f64> = (0..calls)
        .map(|_| {
            let wait: f64 = Exp1.sample(&mut random);
            now += wait / arrival_per_s;
            now
        })
        .collect();
    let (mut first, mut free_at, mut spent, mut batches) = (0, 0.0_f64, 0.0, 0.0);
    while first < calls {
        let begins = free_at.max(comes[first]);
        let waiting = comes[first..].iter().take(largest).take_while(|come| **come <= begins).count();
        free_at = begins + per_batch_s + per_call_s * waiting as f64;
        spent += comes[first..first + waiting].iter().map(|come| free_at - come).sum::<f64>();
        batches += 1.0;
        first += waiting;
    }
    (spent / calls as f64, calls as f64 / batches)
}

#[test]
fn group_commit_takes_as_long_as_its_batches_do() {
    for (arrival_per_s, per_call_s, largest) in [
        (200.0, 0.0, None),
        (3_000.0, 0.0, None),
        (3_000.0, 0.0, Some(4)),
        (5_000.0, 5e-5, Some(16)),
        (800.0, 0.0, Some(1)),
    ] {
        let model = GroupCommit::new(arrival_per_s, 0.001, per_call_s, largest).unwrap();
        let most = largest.map_or(usize::MAX, |largest| largest as usize);
        let (response_s, batch) = happen(2_000_000, arrival_per_s, 0.001, per_call_s, most);
        let what = format!("{arrival_per_s}/s, at most {largest:?}");
        close(model.mean_response_s(), response_s, 0.01, &what);
        close(model.mean_batch(), batch, 0.01, &what);
    }
}
