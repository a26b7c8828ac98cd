//! A broker beside the client library it is built on, used by hand for the same RPC: the same server, the same run, in
//! turns. Whoever has a broker brings both; see the examples `beside_*` of its adapter.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// What goes wrong beside it.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// How long a round calls before it is measured.
const WARM_UP: Duration = Duration::from_millis(700);

/// One of the two, opened for one round: an idle one would go on asking the server while the other is measured.
pub trait Side: Send + Sync + 'static {
    /// Calls once, and checks the answer.
    fn call(&self) -> impl Future<Output = ()> + Send;

    /// Gives back everything that it holds.
    fn close(&self) -> impl Future<Output = Result<(), Error>> + Send;
}

/// What one round of one side found.
#[derive(Clone, Copy)]
struct Found {
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
}

/// Runs calls in so many loops at a time; what is answered within `length` counts, after a warm-up.
async fn load<S: Side>(in_flight: usize, length: Duration, side: &Arc<S>) -> Result<Found, Error> {
    let warm = Instant::now() + WARM_UP;
    let end = warm + length;
    let one = |side: Arc<S>| async move {
        let mut taken_us = Vec::new();
        while Instant::now() < end {
            let start = Instant::now();
            side.call().await;
            let now = Instant::now();
            if now >= warm && now < end {
                taken_us.push((now - start).as_secs_f64() * 1e6);
            }
        }
        taken_us
    };
    let loops: Vec<_> = (0..in_flight).map(|_| tokio::spawn(one(Arc::clone(side)))).collect();
    let mut taken_us = Vec::new();
    for looping in loops {
        taken_us.extend(looping.await?);
    }
    let per_second = taken_us.len() as f64 / length.as_secs_f64();
    Ok(Found { per_second, p50_us: at(&mut taken_us, 50), p99_us: at(&mut taken_us, 99) })
}

fn at(values: &mut [f64], percent: usize) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) * percent / 100).copied().unwrap_or(f64::NAN)
}

async fn round<S: Side>(in_flight: usize, length: Duration, side: Arc<S>) -> Result<Found, Error> {
    let found = load(in_flight, length, &side).await;
    side.close().await?;
    found
}

/// Runs both with so many calls in flight, in turns, each opened anew for each round, and prints what every round found
/// and the medians. Which of them begins changes from round to round.
///
/// # Errors
/// When one of them cannot be opened or closed, or a call panics.
pub async fn compare<H: Side, O: Side>(
    in_flight: usize,
    length: Duration,
    rounds: u64,
    by_hand: impl AsyncFn(u64) -> Result<H, Error>,
    ours: impl AsyncFn(u64) -> Result<O, Error>,
) -> Result<(), Error> {
    let (mut hands, mut own) = (Vec::new(), Vec::new());
    println!(
        "{in_flight} in flight      by hand: calls/s  p50 µs  p99 µs | antiphon: calls/s  p50 µs  p99 µs | throughput  p50 latency"
    );
    for number in 0..rounds.max(1) {
        let hand = async || round(in_flight, length, Arc::new(by_hand(number).await?)).await;
        let our = async || round(in_flight, length, Arc::new(ours(number).await?)).await;
        let (hand, our) = if number % 2 == 0 {
            let hand = hand().await?;
            (hand, our().await?)
        } else {
            let our = our().await?;
            (hand().await?, our)
        };
        row(&format!("round {}", number + 1), hand, our);
        hands.push(hand);
        own.push(our);
    }
    row("median", middle(&hands), middle(&own));
    let ratios = |of: fn(&Found) -> f64| {
        let mut ratios: Vec<f64> = hands.iter().zip(&own).map(|(hand, our)| of(our) / of(hand)).collect();
        format!("{:.2}× ({:.2} to {:.2})", at(&mut ratios, 50), at(&mut ratios, 0), at(&mut ratios, 100))
    };
    let (throughput, latency) = (ratios(|found| found.per_second), ratios(|found| found.p50_us));
    println!("of each round: throughput {throughput}, p50 latency {latency}");
    Ok(())
}

/// The middle of each thing that rounds found.
fn middle(rounds: &[Found]) -> Found {
    let of = |of: fn(&Found) -> f64| at(&mut rounds.iter().map(of).collect::<Vec<_>>(), 50);
    Found {
        per_second: of(|found| found.per_second),
        p50_us: of(|found| found.p50_us),
        p99_us: of(|found| found.p99_us),
    }
}

fn row(what: &str, hand: Found, our: Found) {
    println!(
        "{what:>12} | {:>17.0} {:>7.0} {:>7.0} | {:>18.0} {:>7.0} {:>7.0} | {:>9.2}× {:>11.2}×",
        hand.per_second,
        hand.p50_us,
        hand.p99_us,
        our.per_second,
        our.p50_us,
        our.p99_us,
        our.per_second / hand.per_second,
        our.p50_us / hand.p50_us,
    );
}
