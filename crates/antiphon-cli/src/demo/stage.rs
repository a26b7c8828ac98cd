//! The demo's broker and worker processes: started, killed on the way, started again, and looked at afterwards.

use super::caller::Asked;
use super::worker::WORDS;
use crate::children::{Broker, Process};
use crate::connection::Connection;
use crate::ending::Ending;
use crate::ls;
use crate::output::Output;
use antiphon_engine::Record;
use antiphon_journal::Directory;
use antiphon_protocol::{CallFilter, CallId, State};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// How long what was killed stays away.
const AWAY: Duration = Duration::from_millis(300);
/// How long the workers may take to connect.
const CONNECT: Duration = Duration::from_secs(10);

/// Processes and their data. Dropping it ends the processes and removes the data.
pub struct Stage {
    pub connection: Connection,
    pub broker_kills: u32,
    pub worker_kills: u32,
    broker: Broker,
    workers: Vec<Process>,
    data: PathBuf,
    directory: TempDir,
}

/// What happened to the calls, as the broker remembers it.
pub struct History {
    pub lost_leases: u64,
    pub failed_attempts: u64,
}

/// The data of a broker that has ended.
pub struct Journal {
    data: PathBuf,
    _directory: TempDir,
}

/// How often outcomes of the demo's calls were recorded.
pub struct Recorded {
    pub once: usize,
    pub twice: usize,
    pub never: usize,
}

impl Stage {
    pub async fn start(workers: u32, output: &Output) -> Result<Self, Ending> {
        let directory = tempfile::Builder::new().prefix("antiphon-demo-").tempdir()?;
        let data = directory.path().join("data");
        let broker = Broker::start(&data, "127.0.0.1:0").await?;
        let connection = Connection::open(Some(&broker.url())).await?;
        let started = (1..=workers).map(|number| start_worker(number, &broker.url()));
        let workers = started.collect::<Result<Vec<_>, _>>()?;
        output.remark(&format!(
            "Started a broker (process {}) on {} and {} workers (processes {}).",
            broker.process.id(),
            data.display(),
            workers.len(),
            workers.iter().map(|worker| worker.id().to_string()).collect::<Vec<_>>().join(", ")
        ));
        let stage = Self { connection, broker_kills: 0, worker_kills: 0, broker, workers, data, directory };
        stage.wait_for_workers().await?;
        Ok(stage)
    }

    async fn wait_for_workers(&self) -> Result<(), Ending> {
        let give_up = Instant::now() + CONNECT;
        loop {
            let procedures = self.connection.procedures().await?;
            let connected = procedures.iter().find(|known| known.procedure == WORDS).map_or(0, |known| known.workers);
            if usize::try_from(connected).is_ok_and(|connected| connected >= self.workers.len()) {
                return Ok(());
            }
            if Instant::now() > give_up {
                return Err(Ending::failed("the worker processes did not connect within 10 s"));
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Kills a worker with what it runs, and starts another.
    pub async fn kill_worker(&mut self, say: &dyn Fn(String)) -> Result<(), Ending> {
        let Some(worker) = self.workers.first_mut() else { return Ok(()) };
        let pid = worker.id();
        worker.kill().await?;
        self.worker_kills += 1;
        say(format!("killed worker text-1 (process {pid}) with SIGKILL"));
        sleep(AWAY).await;
        *worker = start_worker(1, &self.broker.url())?;
        say(format!("started worker text-1 again (process {})", worker.id()));
        Ok(())
    }

    /// Kills the broker, and starts it again on the same data.
    pub async fn kill_broker(&mut self, say: &dyn Fn(String)) -> Result<(), Ending> {
        let pid = self.broker.process.id();
        self.broker.process.kill().await?;
        self.broker_kills += 1;
        say(format!("killed the broker (process {pid}) with SIGKILL"));
        sleep(AWAY).await;
        let began = Instant::now();
        self.broker = Broker::start(&self.data, &self.broker.address).await?;
        let ms = began.elapsed().as_millis();
        say(format!("started the broker again (process {}), serving after {ms} ms", self.broker.process.id()));
        Ok(())
    }

    /// What happened to the calls.
    pub async fn history(&self, asked: &Asked) -> Result<History, Ending> {
        let limit = u32::try_from(asked.attempts.len() * 2).unwrap_or(u32::MAX).saturating_add(1_000);
        let filter = CallFilter { procedure: Some(WORDS), limit, ..CallFilter::default() };
        let calls = ls::calls(&self.connection, filter).await?;
        let ends = || calls.iter().flat_map(|call| &call.history);
        Ok(History {
            lost_leases: ends().filter(|end| end.lost).count() as u64,
            failed_attempts: ends().filter(|end| !end.lost).count() as u64,
        })
    }

    /// Ends all processes in order and keeps the data for a last look.
    pub async fn close(self) -> Result<Journal, Ending> {
        let Self { connection, broker, workers, data, directory, .. } = self;
        connection.close().await;
        for worker in workers {
            worker.stop().await?;
        }
        broker.process.stop().await?;
        Ok(Journal { data, _directory: directory })
    }
}

impl Journal {
    /// Counts, record by record, the outcomes of these calls.
    pub fn count(&self, calls: &[CallId]) -> Result<Recorded, Ending> {
        let directory = Directory::existing(&self.data)?;
        let mut settled: HashMap<[u8; 16], HashSet<(u64, State)>> = HashMap::new();
        let dumped = antiphon_journal::dump(&directory, &mut |entry| {
            if let Ok(Record::Settled(record)) = Record::decode(entry.kind, entry.key, entry.head) {
                // Compaction copies records: another settlement has another time or state.
                settled.entry(record.id.to_bytes()).or_default().insert((record.settled_ms, record.state));
            }
        });
        dumped.map_err(Ending::failed)?;
        let times = |call: &CallId| settled.get(&call.to_bytes()).map_or(0, HashSet::len);
        Ok(Recorded {
            once: calls.iter().filter(|call| times(call) == 1).count(),
            twice: calls.iter().filter(|call| times(call) > 1).count(),
            never: calls.iter().filter(|call| times(call) == 0).count(),
        })
    }
}

fn start_worker(number: u32, url: &str) -> Result<Process, Ending> {
    let name = format!("text-{number}");
    Process::start(["demo-worker", "--name", name.as_str(), "--url", url], Stdio::null(), Stdio::null())
}
