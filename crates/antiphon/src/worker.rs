//! A worker as programs hold it: built, started, drained. Its leases are in `leases.rs`.

use crate::antiphon::Antiphon;
use crate::context::Context;
use crate::id::random;
use crate::leases::{Leases, Served};
use crate::renewal::{self, Renewal};
use crate::service::{RawProcedure, RawProcedureOptions, Service};
use antiphon_broker::OpenError;
use antiphon_protocol::{Code, Failure, IncarnationId, Name, NameError, Offer, Payload, defaults};
use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// How long the last reports of a worker may take to be answered. The broker's fsync takes milliseconds; a broker that
/// is away for longer leases the calls again.
const FLUSH: Duration = Duration::from_secs(5);
/// How long attempts that were asked to stop at the end of a drain may take to do so.
const STOPPING: Duration = Duration::from_secs(1);

/// A worker that is not started yet, from [`Antiphon::worker`].
#[must_use = "a worker does nothing until it is started"]
pub struct WorkerBuilder {
    antiphon: Antiphon,
    services: Vec<Arc<dyn Service>>,
    slots: u32,
    name: String,
    labels: Vec<String>,
    renewal: Renewal,
    wrong: Option<NameError>,
}

impl WorkerBuilder {
    pub(crate) fn new(antiphon: Antiphon) -> Self {
        let name = format!("worker-{}", std::process::id());
        let renewal = Renewal::default();
        Self { antiphon, services: Vec::new(), slots: defaults::SLOTS, name, labels: Vec::new(), renewal, wrong: None }
    }

    /// Serves all procedures of a service, such as `MathService::new(Calculator)`. Any number of services may be given.
    pub fn service(mut self, service: impl Service) -> Self {
        self.services.push(Arc::new(service));
        self
    }

    /// Serves one procedure on payloads, named `service.procedure`.
    pub fn procedure<F, O>(mut self, name: &str, options: RawProcedureOptions, run: F) -> Self
    where
        F: Fn(Context, Payload) -> O + Send + Sync + Clone + 'static,
        O: Future<Output = Result<Payload, Failure>> + Send + 'static,
    {
        match RawProcedure::new(name, options, run) {
            Ok(procedure) => self.services.push(Arc::new(procedure)),
            Err(error) => self.wrong = Some(error),
        }
        self
    }

    /// How many calls it runs at a time, at least 1; 16 by default. Blocking procedures take a thread each.
    pub fn slots(mut self, slots: u32) -> Self {
        self.slots = slots.max(1);
        self
    }

    /// What people see in lists, 1 to 255 characters out of `a-z 0-9 _ . -`; need not be unique. By default `worker-`
    /// and the process' number.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What it is or has, such as `gpu`: a call that requires labels goes only to workers with all of them. Up to 64 names of
    /// `a-z 0-9 _ . -`.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.labels.push(label.into());
        self
    }

    /// Where leases are renewed; on a thread of its own by default.
    pub fn renewal(mut self, renewal: Renewal) -> Self {
        self.renewal = renewal;
        self
    }

    /// Connects the worker; calls are leased to it from now on.
    ///
    /// # Errors
    /// [`OpenError::Refused`] when it serves nothing, serves a procedure twice, or a name is not one; otherwise as the
    /// broker has it.
    pub async fn start(self) -> Result<Worker, OpenError> {
        let (offer, served) = self.offer()?;
        let leases = Leases::new(self.antiphon.clone(), served);
        let opened = self.antiphon.broker().open_worker(offer, leases.sink()).await?;
        leases.opened(Arc::from(opened));
        renewal::start(&leases, self.renewal).map_err(|error| {
            OpenError::Refused(Failure::new(
                Code::ResourceExhausted,
                format!("the thread that renews leases cannot be started: {error}"),
            ))
        })?;
        Ok(Worker { leases })
    }

    fn offer(&self) -> Result<(Offer, Vec<Served>), OpenError> {
        let refuse = |text: String| OpenError::Refused(Failure::new(Code::InvalidArgument, text));
        if let Some(error) = &self.wrong {
            return Err(refuse(error.to_string()));
        }
        let name = Name::new(&self.name).map_err(|error| refuse(error.to_string()))?;
        let labels: Result<Vec<Name>, NameError> = self.labels.iter().map(|label| Name::new(label)).collect();
        let labels = labels.map_err(|error| refuse(format!("a label is not a name: {error}")))?;
        if labels.len() > defaults::WORKER_LABELS_MAX {
            return Err(refuse(format!("a worker has at most {} labels", defaults::WORKER_LABELS_MAX)));
        }
        let (mut procedures, mut served) = (Vec::new(), Vec::new());
        for service in &self.services {
            for (place, procedure) in service.procedures().into_iter().enumerate() {
                procedures.push(procedure);
                served.push((Arc::clone(service), place));
            }
        }
        if procedures.is_empty() {
            return Err(refuse("a worker serves nothing: give it a service or a procedure".to_owned()));
        }
        let mut names = HashSet::new();
        if let Some(twice) = procedures.iter().find(|procedure| !names.insert(procedure.name.clone())) {
            return Err(refuse(format!("a worker serves {} twice: two services have that name", twice.name)));
        }
        let incarnation = IncarnationId(random());
        Ok((Offer { incarnation, name, procedures, slots: self.slots, labels, held: Vec::new() }, served))
    }
}

/// A running worker. Dropping it stops at once: futures of procedures are dropped, and what it held is leased again as
/// each call allows. Prefer [`drain`](Self::drain).
#[must_use = "dropping a worker stops it"]
pub struct Worker {
    leases: Arc<Leases>,
}

impl Worker {
    /// Takes no more calls, waits at most `patience` for those that run, gives the rest back unharmed, and closes when
    /// the broker has recorded everything. Leases are renewed all the while.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the broker was lost, or did not answer the last reports within 5 s: those calls may be run
    /// again.
    pub async fn drain(self, patience: Duration) -> Result<(), Failure> {
        let leases = &self.leases;
        leases.drain();
        let idle = leases.wait_until(|standing| standing.running == 0);
        if tokio::time::timeout(patience, idle).await.is_err() {
            leases.ask_all_to_stop();
            let idle = leases.wait_until(|standing| standing.running == 0);
            if tokio::time::timeout(STOPPING, idle).await.is_err() {
                leases.release_all();
            }
        }
        let flushed = leases.wait_until(|standing| standing.unanswered == 0 || standing.ended.is_some());
        let timely = tokio::time::timeout(FLUSH, flushed).await;
        let standing = leases.standing();
        if let Some(reason) = standing.ended {
            return Err(Failure::new(Code::Unavailable, reason));
        }
        if timely.is_err() {
            let text = format!("drained, but the broker did not answer {} reports", standing.unanswered);
            return Err(Failure::new(Code::Unavailable, text).may_have_run());
        }
        Ok(())
    }

    /// Works until `end` is done, an operator asks the worker to drain, or the broker is lost; then drains for at most
    /// 30 s. This library installs no signal handler: give it one, such as `tokio::signal::ctrl_c()`.
    ///
    /// # Errors
    /// As [`Worker::drain`].
    pub async fn run_until(self, end: impl Future) -> Result<(), Failure> {
        {
            let mut end = pin!(end);
            let mut asked = pin!(self.leases.wait_until(|standing| standing.draining || standing.ended.is_some()));
            poll_fn(|context| {
                if end.as_mut().poll(context).is_ready() {
                    return Poll::Ready(());
                }
                asked.as_mut().poll(context)
            })
            .await;
        }
        self.drain(Duration::from_millis(defaults::DRAIN_MS)).await
    }

    /// Stops now: gives back what runs and closes, without waiting for calls to finish.
    ///
    /// # Errors
    /// As [`Worker::drain`].
    pub async fn stop(self) -> Result<(), Failure> {
        self.drain(Duration::ZERO).await
    }

    /// How many calls run now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.leases.standing().running
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.leases.close();
    }
}
