//! Connections that only stand there, and calls that nobody serves.

use antiphon::{Antiphon, RawProcedureOptions};
use antiphon_bench::READY;
use antiphon_protocol::Payload;
use anyhow::ensure;
use bytes::Bytes;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;

/// Connections opened at a time.
const AT_A_TIME: usize = 64;
/// Calls handed over at a time.
const IN_FLIGHT: u64 = 1_024;
/// The procedure of the calls that nobody serves.
pub const NOBODY: &str = "bench.nobody";

/// As many descriptors as this process may have: a crowd needs one each.
pub fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map(|maximum| maximum.max(32_768));
    let raised = [Rlimit { current: wanted, maximum: wanted }, Rlimit { current: limit.maximum, ..limit }];
    // Only the superuser may have more than the maximum.
    if !raised.into_iter().any(|limit| setrlimit(Resource::Nofile, limit).is_ok()) {
        eprintln!("the number of open files cannot be raised from {:?}", limit.current);
    }
}

/// Connects so many callers and workers, says so, and holds them until it is ended.
pub async fn gather(address: &str, callers: usize, workers: usize) -> anyhow::Result<()> {
    raise_descriptors();
    let (mut held, mut joining) = (Vec::new(), JoinSet::new());
    for number in 0..callers + workers {
        while joining.len() >= AT_A_TIME {
            held.extend(joining.join_next().await.transpose()?.transpose()?);
        }
        let address = address.to_owned();
        joining.spawn(async move { join(&address, number >= callers).await });
    }
    while let Some(joined) = joining.join_next().await {
        held.push(joined??);
    }
    ensure!(held.len() == callers + workers, "not all are connected");
    println!("{READY}{}", held.len());
    std::future::pending().await
}

async fn join(address: &str, works: bool) -> anyhow::Result<(Antiphon, Option<antiphon::Worker>)> {
    let antiphon = Antiphon::connect(address).await?;
    let worker = if works {
        let idle = |argument: Payload| async move { Ok(argument) };
        let options = RawProcedureOptions::default();
        let worker = antiphon.worker().procedure("bench.idle", options, move |_, argument| idle(argument));
        // Ten thousand threads are not what is measured.
        Some(worker.renewal(antiphon::Renewal::Runtime).start().await?)
    } else {
        // A caller's connection is made with its first call.
        antiphon.inspect().broker().await.map_err(|failure| anyhow::anyhow!("{failure}"))?;
        None
    };
    Ok((antiphon, worker))
}

/// Queues so many calls with 100 bytes of arguments, and says so when all are accepted.
pub async fn fill(address: &str, calls: u64) -> anyhow::Result<()> {
    let antiphon = Antiphon::connect(address).await?;
    let payload = Payload::raw(Bytes::from_static(&[7; 100]));
    let mut filling = JoinSet::new();
    for number in 0..IN_FLIGHT {
        let count = calls / IN_FLIGHT + u64::from(number < calls % IN_FLIGHT);
        let (antiphon, payload) = (antiphon.clone(), payload.clone());
        filling.spawn(async move {
            for _ in 0..count {
                antiphon
                    .call_raw(NOBODY, payload.clone())
                    .detach()
                    .await
                    .map_err(|error| anyhow::anyhow!("{error}"))?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(filled) = filling.join_next().await {
        filled??;
    }
    println!("{READY}{calls}");
    antiphon.close().await;
    Ok(())
}
