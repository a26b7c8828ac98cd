//! Workers whose procedures sleep, added one after the other while a caller always has more than they can take: what
//! a broker gives them is what their slots allow, until the cores run out.

use antiphon::{Antiphon, Payload, RawProcedureOptions};
use antiphon_bench::READY;
use std::time::Duration;
use tokio::task::JoinSet;

/// What they serve.
const PROCEDURE: &str = "bench.sleep";
/// Slots of one worker.
pub const SLOTS: u32 = 10;
/// How long a call takes of its slot.
pub const SLEEP: Duration = Duration::from_millis(10);

/// A worker that sleeps. Says when it serves.
pub async fn sleeper(address: &str) -> anyhow::Result<()> {
    let antiphon = Antiphon::connect(address).await?;
    let options = RawProcedureOptions::default().idempotent();
    let sleep = |argument: Payload| async move {
        tokio::time::sleep(SLEEP).await;
        Ok(argument)
    };
    let worker = antiphon.worker().slots(SLOTS).procedure(PROCEDURE, options, move |_, argument| sleep(argument));
    let worker = worker.renewal(antiphon::Renewal::Runtime).start().await?;
    println!("{READY}");
    Ok(worker.run_until(std::future::pending::<()>()).await?)
}

/// A caller that always has so many calls unanswered.
pub async fn press(address: &str, in_flight: usize) -> anyhow::Result<()> {
    let antiphon = Antiphon::connect(address).await?;
    let mut calling = JoinSet::new();
    for _ in 0..in_flight {
        let antiphon = antiphon.clone();
        calling.spawn(async move {
            loop {
                let call = antiphon.call_raw(PROCEDURE, Payload::json("null")).idempotent();
                if let Err(error) = call.deadline_in(Duration::from_secs(120)).await {
                    return anyhow::anyhow!("{error}");
                }
            }
        });
    }
    println!("{READY}");
    match calling.join_next().await {
        Some(ended) => Err(ended?),
        None => Ok(()),
    }
}

/// How many calls a broker settled in so long.
pub async fn settled_within(antiphon: &Antiphon, length: Duration) -> anyhow::Result<f64> {
    let settled = async || {
        let status = antiphon.inspect().broker().await.map_err(|failure| anyhow::anyhow!("{failure}"))?;
        anyhow::Ok((tokio::time::Instant::now(), status.settled))
    };
    let (began, before) = settled().await?;
    tokio::time::sleep_until(began + length).await;
    let (ended, after) = settled().await?;
    Ok((after - before) as f64 / ended.duration_since(began).as_secs_f64())
}
