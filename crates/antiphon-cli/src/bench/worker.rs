//! The bench's worker process: gives back what it gets, as soon as it gets it.

use super::ECHO;
use crate::connection::Connection;
use crate::ending::{Ending, UNREACHABLE};
use crate::stop;
use crate::worker::offer;
use antiphon_broker::{Event, Report, Sink, Worker};
use antiphon_protocol::{Name, Settlement};
use clap::Args;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::sync::Notify;

/// More than calls in flight: the worker must not be what is waited for.
const SLOTS: u32 = 65_536;

/// Give back what is sent, for a bench
#[derive(Debug, Args)]
pub struct BenchWorker {}

#[derive(Default)]
struct Echo {
    worker: OnceLock<Box<dyn Worker>>,
    reports: Mutex<Vec<Report>>,
    down: Notify,
}

impl Echo {
    fn send(&self) {
        if let Some(worker) = self.worker.get() {
            let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
            if !reports.is_empty() {
                worker.report(&mut reports);
            }
        }
    }
}

impl Sink for Echo {
    fn events(&self, events: &mut Vec<Event>) {
        {
            let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
            for event in events.drain(..) {
                match event {
                    Event::Lease(lease) => {
                        let settlement = Settlement::Succeed(lease.payload);
                        reports.push(Report { lease: lease.lease, call: lease.call, settlement });
                    }
                    Event::Down { last: true, .. } => self.down.notify_one(),
                    _ => (),
                }
            }
        }
        self.send();
    }
}

pub async fn run(_: BenchWorker, url: Option<&str>) -> Result<(), Ending> {
    stop::when_stdin_ends();
    let connection = Connection::open(url).await?;
    let mut offer = offer(Name::from_static("bench"), vec![ECHO], SLOTS);
    for procedure in &mut offer.procedures {
        procedure.idempotent = true;
    }
    let echo = Arc::new(Echo::default());
    let worker = connection.worker_into(offer, Arc::clone(&echo) as Arc<dyn Sink>).await?;
    if echo.worker.set(worker).is_err() {
        return Err(Ending::failed("the worker was opened twice"));
    }
    // Leases that came before the worker was known here.
    echo.send();
    echo.down.notified().await;
    Err(Ending::new(UNREACHABLE, "the broker is gone"))
}
