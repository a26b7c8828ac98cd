//! The caller's side of every system: so many calls in flight, each followed by the next, and their times taken.

use crate::cpu;
use anyhow::{Context, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the last calls may take to come back.
const LAST: Duration = Duration::from_secs(60);
/// Nanoseconds above which latencies are counted as this.
const LATENCY_NS_MAX: u64 = 100_000_000_000;

const WARMING_UP: u8 = 0;
const MEASURED: u8 = 1;
const ENDING: u8 = 2;

/// A connected client: calls a procedure that gives back its argument.
pub trait Echo: Clone + Send + 'static {
    /// Calls, and gives back how many bytes came back.
    fn call(&self, argument: Bytes) -> impl Future<Output = anyhow::Result<usize>> + Send;
}

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Calls in flight.
    pub in_flight: usize,
    /// Bytes of an argument, and of a value.
    pub bytes: usize,
    /// What is not measured before.
    pub warm_up: Duration,
    /// What is.
    pub length: Duration,
    /// Other processes whose processor time is taken, by what they are.
    pub watched: Vec<(String, u32)>,
}

/// What was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    pub calls: u64,
    pub errors: u64,
    pub seconds: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    /// Microseconds of processor time a call, by process.
    pub cpu_us: BTreeMap<String, f64>,
    /// Resident KiB at the end, by process.
    pub memory_kib: BTreeMap<String, u64>,
}

struct Recorder {
    phase: AtomicU8,
    state: Mutex<State>,
}

struct State {
    errors: u64,
    first_error: Option<String>,
    latency: Histogram<u64>,
}

impl Recorder {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, began: Instant, ended: anyhow::Result<()>) {
        if self.phase.load(Ordering::Relaxed) != MEASURED {
            return;
        }
        let state = &mut *self.state();
        match ended {
            Ok(()) => state.latency.saturating_record(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)),
            Err(error) => {
                state.errors += 1;
                state.first_error.get_or_insert_with(|| format!("{error:#}"));
            }
        }
    }
}

/// Keeps the calls in flight for the time of the plan.
pub async fn run<E: Echo>(echo: E, plan: &Plan) -> anyhow::Result<Measured> {
    let latency = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)?;
    let state = Mutex::new(State { errors: 0, first_error: None, latency });
    let recorder = Arc::new(Recorder { phase: AtomicU8::new(WARMING_UP), state });
    let argument = Bytes::from(vec![0x5A; plan.bytes]);
    ensure!(echo.call(argument.clone()).await.context("the first call")? == plan.bytes, "another value came back");
    let calls: Vec<_> = (0..plan.in_flight)
        .map(|_| tokio::spawn(keep_calling(echo.clone(), argument.clone(), Arc::clone(&recorder))))
        .collect();
    tokio::time::sleep(plan.warm_up).await;
    let own = ("caller".to_owned(), std::process::id());
    let watched: Vec<(String, u32)> = plan.watched.iter().cloned().chain([own]).collect();
    let (before, began) = (cpu::times(&watched)?, Instant::now());
    recorder.phase.store(MEASURED, Ordering::Relaxed);
    tokio::time::sleep(plan.length).await;
    recorder.phase.store(ENDING, Ordering::Relaxed);
    let (elapsed, after) = (began.elapsed(), cpu::times(&watched)?);
    let memory_kib = cpu::memory_kib(&watched)?;
    for call in calls {
        tokio::time::timeout(LAST, call).await.context("calls did not come back within a minute")??;
    }
    let state = &mut *recorder.state();
    if let Some(error) = &state.first_error {
        eprintln!("{} calls failed, the first with: {error}", state.errors);
    }
    let calls = state.latency.len();
    ensure!(calls > 0, "no call ended in time");
    let at = |quantile| state.latency.value_at_quantile(quantile) as f64 / 1_000.0;
    let cpu_us = after.iter().map(|(name, time)| {
        let spent = time.saturating_sub(before.get(name).copied().unwrap_or_default());
        (name.clone(), spent.as_secs_f64() * 1e6 / calls as f64)
    });
    Ok(Measured {
        calls,
        errors: state.errors,
        seconds: elapsed.as_secs_f64(),
        p50_us: at(0.5),
        p99_us: at(0.99),
        p999_us: at(0.999),
        cpu_us: cpu_us.collect(),
        memory_kib,
    })
}

async fn keep_calling<E: Echo>(echo: E, argument: Bytes, recorder: Arc<Recorder>) {
    while recorder.phase.load(Ordering::Relaxed) != ENDING {
        let began = Instant::now();
        let ended = match echo.call(argument.clone()).await {
            Ok(bytes) if bytes == argument.len() => Ok(()),
            Ok(bytes) => Err(anyhow::anyhow!("{bytes} bytes came back")),
            Err(error) => Err(error),
        };
        recorder.note(began, ended);
    }
}
