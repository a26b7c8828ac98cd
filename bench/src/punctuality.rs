//! Delayed calls on the real clock: so many due each second, each at a millisecond of its own, and how long after it
//! their procedures begin.

use antiphon::{Antiphon, Payload, RawProcedureOptions};
use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;

const PROCEDURE: &str = "bench.due";
/// From the first submission to the first call that is due: all of them are queued by then.
const LEAD: Duration = Duration::from_secs(3);
/// Calls handed over at a time.
const BATCH: u64 = 1_000;
/// Of each call: longer than any measurement.
const DEADLINE: Duration = Duration::from_secs(600);
/// More than are due while one of them runs: the worker must not be what is waited for.
const SLOTS: u32 = 65_536;

/// How late they were.
#[derive(Debug, Serialize, Deserialize)]
pub struct Lateness {
    pub calls: u64,
    pub early: u64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
}

/// Submits the calls, serves them itself, and says how late each began.
pub async fn measure(address: &str, calls: u64, a_second: u64) -> anyhow::Result<Lateness> {
    let antiphon = Antiphon::connect(address).await?;
    let began: Arc<Mutex<Vec<i64>>> = Arc::default();
    let noted = Arc::clone(&began);
    let begin = move |argument: Payload| {
        let us = now_us() - due_us(&argument).unwrap_or(i64::MAX);
        noted.lock().unwrap_or_else(PoisonError::into_inner).push(us);
        async move { Ok(argument) }
    };
    let options = RawProcedureOptions::default().idempotent();
    let worker = antiphon.worker().slots(SLOTS).procedure(PROCEDURE, options, move |_, due| begin(due));
    let worker = worker.start().await?;
    let first_ms = ms_of(SystemTime::now() + LEAD);
    let mut waiting = JoinSet::new();
    for batch in 0..calls.div_ceil(BATCH) {
        let submissions = (batch * BATCH..calls.min((batch + 1) * BATCH)).map(|number| {
            let due_ms = first_ms + number * 1_000 / a_second;
            let call = antiphon.call_raw(PROCEDURE, Payload::json((due_ms * 1_000).to_string()));
            call.idempotent().not_before(UNIX_EPOCH + Duration::from_millis(due_ms)).deadline_in(DEADLINE)
        });
        for submitted in antiphon.submit_all(submissions).await {
            waiting.spawn(submitted.map_err(|error| anyhow::anyhow!("{error}"))?);
        }
    }
    ensure!(
        ms_of(SystemTime::now()) < first_ms,
        "{calls} calls were not queued within {LEAD:?}: the first were due before"
    );
    while let Some(ended) = waiting.join_next().await {
        ended?.map_err(|error| anyhow::anyhow!("{error}"))?;
    }
    worker.drain(Duration::from_secs(5)).await?;
    antiphon.close().await;
    let began = began.lock().unwrap_or_else(PoisonError::into_inner);
    summary(&began)
}

fn summary(late_us: &[i64]) -> anyhow::Result<Lateness> {
    let mut histogram = Histogram::<u64>::new(3)?;
    for late in late_us {
        histogram.record(u64::try_from(*late).unwrap_or(0))?;
    }
    Ok(Lateness {
        calls: histogram.len(),
        early: late_us.iter().filter(|late| **late < 0).count() as u64,
        p50_us: histogram.value_at_quantile(0.5),
        p99_us: histogram.value_at_quantile(0.99),
        max_us: histogram.max(),
    })
}

fn ms_of(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

fn due_us(argument: &Payload) -> anyhow::Result<i64> {
    std::str::from_utf8(&argument.bytes)?.parse().context("the time at which the call is due")
}
