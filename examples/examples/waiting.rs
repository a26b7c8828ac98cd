//! How long calls wait on a real broker, beside what queueing theory says of the load that came: with
//! `antiphon serve --memory` running, `cargo run --release --example waiting antiphon://localhost [SECONDS [SLOTS]]`.
//!
//! Sixteen slots, or as many as are named, sleep for exponential times of 50 ms on average, and calls come as a Poisson process. The prediction is
//! made from the arrival rate and the service times that were measured; the last columns take out the luck of the
//! sample, by what a perfect central queue would have done with these very calls.

use antiphon::{Antiphon, Failure};
use antiphon_queueing::{General, Service};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Exp1};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

const SERVICE_S: f64 = 0.05;
/// How long to let the queue fill before calls count.
const WARM_UP_S: f64 = 3.0;

#[antiphon::service]
trait Rest {
    /// Sleeps for so many microseconds; the place is that of the call in the caller's list.
    #[procedure(idempotent)]
    async fn sleep(&self, place: usize, us: u64) -> Result<(), Failure>;
}

/// When a call came, how long it took of its worker, and when its caller had the reply; in seconds.
#[derive(Clone, Copy, Default)]
struct Seen {
    came_s: f64,
    started_s: f64,
    took_s: f64,
    response_s: f64,
}

#[derive(Clone)]
struct Sleeper {
    begun: Instant,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Sleeper {
    fn note(&self, place: usize, note: impl FnOnce(&mut Seen)) {
        let mut seen = self.seen.lock().expect("nobody panics while holding it");
        if seen.len() <= place {
            seen.resize(place + 1, Seen::default());
        }
        seen.get_mut(place).map(note).expect("there is a place for it");
    }
}

impl Rest for Sleeper {
    async fn sleep(&self, place: usize, us: u64) -> Result<(), Failure> {
        let started = Instant::now();
        sleep(Duration::from_micros(us)).await;
        let took_s = started.elapsed().as_secs_f64();
        let started_s = started.duration_since(self.begun).as_secs_f64();
        self.note(place, |seen| (seen.started_s, seen.took_s) = (started_s, took_s));
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "memory:".to_owned());
    let seconds: f64 = std::env::args().nth(2).map_or(Ok(50.0), |text| text.parse())?;
    let slots: u32 = std::env::args().nth(3).map_or(Ok(16), |text| text.parse())?;
    println!("{slots} slots, {} ms a call, {seconds} s at each utilisation, on {url}", SERVICE_S * 1e3);
    println!("UTILISATION  CALLS  RESPONSE predicted  observed  off     WAIT predicted  observed  this sample  off");
    for utilisation in [0.3, 0.6, 0.8] {
        let seen = measure(&url, slots, utilisation, seconds).await?;
        report(slots, utilisation, seconds, &seen)?;
    }
    Ok(())
}

/// Calls for so many seconds, and waits for every reply.
async fn measure(
    url: &str,
    slots: u32,
    utilisation: f64,
    seconds: f64,
) -> Result<Vec<Seen>, Box<dyn std::error::Error>> {
    let antiphon = Antiphon::connect(url).await?;
    let sleeper = Sleeper { begun: Instant::now(), seen: Arc::default() };
    let worker = antiphon.worker().service(RestService::new(sleeper.clone())).slots(slots).start().await?;
    let mut random = SmallRng::seed_from_u64((utilisation * 10.0) as u64);
    let mut draw = |mean: f64| -> f64 {
        let drawn: f64 = Exp1.sample(&mut random);
        drawn * mean
    };
    let mut at_s = 0.0;
    let mut waiting = Vec::new();
    while at_s < seconds + WARM_UP_S {
        at_s += draw(SERVICE_S / (utilisation * f64::from(slots)));
        sleep_until(sleeper.begun + Duration::from_secs_f64(at_s)).await;
        let (place, us) = (waiting.len(), (draw(SERVICE_S) * 1e6) as u64);
        let (sleeper, call) = (sleeper.clone(), RestClient::new(&antiphon).sleep(place, us));
        waiting.push(tokio::spawn(async move {
            let came = Instant::now();
            call.await?;
            let response_s = came.elapsed().as_secs_f64();
            let came_s = came.duration_since(sleeper.begun).as_secs_f64();
            sleeper.note(place, |seen| (seen.came_s, seen.response_s) = (came_s, response_s));
            Ok::<(), antiphon::CallError<Failure>>(())
        }));
    }
    for call in waiting {
        call.await??;
    }
    worker.drain(Duration::from_secs(10)).await?;
    antiphon.close().await;
    let seen = sleeper.seen.lock().expect("nobody panics while holding it").clone();
    Ok(seen)
}

fn report(slots: u32, utilisation: f64, seconds: f64, all: &[Seen]) -> Result<(), Box<dyn std::error::Error>> {
    let mean = |of: &dyn Fn(&Seen) -> f64, among: &[Seen]| among.iter().map(of).sum::<f64>() / among.len() as f64;
    let seen: Vec<Seen> = all.iter().copied().filter(|seen| seen.came_s >= WARM_UP_S).collect();
    let took_s = mean(&|seen| seen.took_s, &seen);
    let variance = mean(&|seen| (seen.took_s - took_s).powi(2), &seen);
    let arrival_per_s = seen.len() as f64 / seconds;
    let theory = General::new(arrival_per_s, Service::new(took_s, variance.sqrt() / took_s)?, slots)?;
    // What a central queue that loses no time would have done with these very calls.
    let mut in_order = all.to_vec();
    in_order.sort_by(|a, b| a.came_s.total_cmp(&b.came_s));
    let mut free_at = vec![0.0_f64; slots as usize];
    let mut waits = Vec::new();
    for call in &in_order {
        let first = free_at.iter_mut().min_by(|a, b| a.total_cmp(b)).expect("there are slots");
        let start = first.max(call.came_s);
        *first = start + call.took_s;
        if call.came_s >= WARM_UP_S {
            waits.push(start - call.came_s);
        }
    }
    let sample_s = waits.iter().sum::<f64>() / waits.len() as f64;
    let response_s = mean(&|seen| seen.response_s, &seen);
    let wait_s = mean(&|seen| seen.started_s - seen.came_s, &seen);
    let ms = |s: f64| format!("{:.2} ms", s * 1e3);
    // Where hardly anything waits, what remains is the way to the worker and back.
    let off = |observed: f64, expected: f64| match expected < 1e-4 {
        true => "-".to_owned(),
        false => format!("{:+.1} %", (observed / expected - 1.0) * 100.0),
    };
    println!(
        "{:<11}  {:<5}  {:<18}  {:<8}  {:<6}  {:<14}  {:<8}  {:<11}  {}",
        format!("{:.0} %", utilisation * 100.0),
        seen.len(),
        ms(theory.mean_response_s()),
        ms(response_s),
        off(response_s, theory.mean_response_s()),
        ms(theory.mean_wait_s()),
        ms(wait_s),
        ms(sample_s),
        off(wait_s, sample_s),
    );
    Ok(())
}
