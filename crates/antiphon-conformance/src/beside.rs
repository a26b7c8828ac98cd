//! A broker beside the client library it is built on, used by hand for the same RPC: the same server, the same run,
//! alternating. Whoever has a broker brings both; see the examples `beside_*` of its adapter.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// What goes wrong beside it.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The line above the rows of [`compare`].
pub const HEAD: &str =
    "in flight | by hand: calls/s  p50 µs  p99 µs | antiphon: calls/s  p50 µs  p99 µs | throughput  p50 latency";

/// What one run found.
struct Found {
    per_second: f64,
    /// How long each call took in microseconds, shortest first.
    taken_us: Vec<u128>,
}

impl Found {
    fn at(&self, percent: usize) -> u128 {
        let place = self.taken_us.len().saturating_sub(1) * percent / 100;
        self.taken_us.get(place).copied().unwrap_or(0)
    }
}

/// Runs `call` in so many loops at a time and counts what is answered within `length`, after a quarter of it.
async fn load<F: Future<Output = ()> + Send + 'static>(
    in_flight: usize,
    length: Duration,
    call: &Arc<impl Fn() -> F + Send + Sync + 'static>,
) -> Result<Found, Error> {
    let warm = Instant::now() + length / 4;
    let end = warm + length;
    let one = |call: Arc<_>| async move {
        let call: Arc<dyn Fn() -> F + Send + Sync> = call;
        let mut taken = Vec::new();
        while Instant::now() < end {
            let start = Instant::now();
            call().await;
            if start >= warm && Instant::now() <= end {
                taken.push(start.elapsed().as_micros());
            }
        }
        taken
    };
    let loops: Vec<_> = (0..in_flight).map(|_| tokio::spawn(one(Arc::clone(call) as Arc<_>))).collect();
    let mut taken_us = Vec::new();
    for looping in loops {
        taken_us.extend(looping.await?);
    }
    taken_us.sort_unstable();
    Ok(Found { per_second: taken_us.len() as f64 / length.as_secs_f64(), taken_us })
}

/// Runs both with so many calls in flight, in turns and so often, and says in a row what the middle ones found.
///
/// # Errors
/// When a call panics.
pub async fn compare<H, O>(
    in_flight: usize,
    length: Duration,
    rounds: u64,
    by_hand: impl Fn() -> H + Send + Sync + 'static,
    ours: impl Fn() -> O + Send + Sync + 'static,
) -> Result<String, Error>
where
    H: Future<Output = ()> + Send + 'static,
    O: Future<Output = ()> + Send + 'static,
{
    let (by_hand, ours) = (Arc::new(by_hand), Arc::new(ours));
    let (mut hands, mut own) = (Vec::new(), Vec::new());
    for _ in 0..rounds.max(1) {
        hands.push(load(in_flight, length, &by_hand).await?);
        own.push(load(in_flight, length, &ours).await?);
    }
    let middle = |mut found: Vec<Found>| {
        found.sort_by(|one, other| one.per_second.total_cmp(&other.per_second));
        found.remove(found.len() / 2)
    };
    let (hand, ours) = (middle(hands), middle(own));
    Ok(format!(
        "{in_flight:>9} | {:>17.0} {:>7} {:>7} | {:>18.0} {:>7} {:>7} | {:>9.2}× {:>11.2}×",
        hand.per_second,
        hand.at(50),
        hand.at(99),
        ours.per_second,
        ours.at(50),
        ours.at(99),
        ours.per_second / hand.per_second,
        ours.at(50) as f64 / hand.at(50).max(1) as f64,
    ))
}
