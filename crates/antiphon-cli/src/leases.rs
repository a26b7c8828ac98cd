//! Running leases: takes them from the broker, runs each attempt, renews, stops and settles it, drains at the end.
//! What an attempt does is its [`Run`]'s business.

use crate::connection::Connection;
use crate::ending::{Ending, REFUSED, UNREACHABLE};
use crate::output::Output;
use crate::stop::Stops;
use antiphon_broker::{BoxFuture, Event, Lease, ProgressReport, Report, Worker};
use antiphon_protocol::{CallId, Code, Failure, LeaseTag, Offer, Payload, Settlement, defaults};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, channel};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How an attempt is run.
pub trait Run: Send + Sync + 'static {
    /// Runs it and says how it ended. When it is asked to stop it ends soon, with `None` if it then has no result.
    fn run(&self, attempt: Attempt) -> BoxFuture<'_, Option<Settlement>>;
}

/// One attempt: its lease, and whether it should stop.
pub struct Attempt {
    pub lease: Lease,
    asked: watch::Receiver<Option<Why>>,
    said: Sender<Said>,
}

impl Attempt {
    /// Passes on what the procedure tells of itself.
    pub async fn tell(&self, payload: Payload) {
        let told = ProgressReport { lease: self.lease.lease, call: self.lease.call, payload };
        // Whoever passes it on may have given up.
        drop(self.said.send(Said::Told(told)).await);
    }

    /// Waits until the attempt is asked to stop.
    pub async fn stopped(&self) {
        if self.asked.clone().wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Why an attempt is asked to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    Cancelled,
    TimedOut,
    /// The lease is somebody else's now: nothing is to be reported.
    Stale,
    /// This worker drains, and its patience has ended.
    Drained,
}

struct Running {
    call: CallId,
    ask: watch::Sender<Option<Why>>,
}

struct Ended {
    lease: LeaseTag,
    settlement: Option<Settlement>,
}

/// What attempts say, in order: what is told after the end would be of a lease that is over.
enum Said {
    Told(ProgressReport),
    Ended(Ended),
}

/// How much attempts may say before it is passed on; a process that tells faster waits.
const SAID_MAX: usize = 256;

struct Leases<'a> {
    connected: bool,
    worker: Box<dyn Worker>,
    run: Arc<dyn Run>,
    running: HashMap<LeaseTag, Running>,
    /// Reported and not answered: the worker stays for the answer.
    unanswered: HashSet<LeaseTag>,
    reports: Vec<Report>,
    said: Sender<Said>,
    lease_ms: u32,
    drain_until: Option<Instant>,
    output: &'a Output,
}

/// Serves what `offer` names until a signal or the broker asks to drain.
pub async fn serve(connection: &Connection, offer: Offer, run: Arc<dyn Run>, output: &Output) -> Result<(), Ending> {
    let mut stops = Stops::new()?;
    let (worker, events) = connection.worker(offer).await?;
    let (said, saying) = channel(SAID_MAX);
    let mut leases = Leases {
        connected: false,
        worker,
        run,
        running: HashMap::new(),
        unanswered: HashSet::new(),
        reports: Vec::new(),
        said,
        lease_ms: defaults::LEASE_MS,
        drain_until: None,
        output,
    };
    let served = leases.turn(events, saying, &mut stops).await;
    connection.close().await;
    served
}

impl Leases<'_> {
    async fn turn(
        &mut self,
        mut events: UnboundedReceiver<Event>,
        mut saying: Receiver<Said>,
        stops: &mut Stops,
    ) -> Result<(), Ending> {
        let mut renew_at = Instant::now() + renewal(self.lease_ms);
        while !(self.drain_until.is_some() && self.running.is_empty() && self.is_settled()) {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => {
                        if let Event::Lease(lease) = &event {
                            // Only the lease says how long this broker's leases are.
                            renew_at = renew_at.min(Instant::now() + renewal(lease.lease_ms));
                        }
                        self.take(event)?;
                    }
                    None => return Err(Ending::new(UNREACHABLE, "the connection ended")),
                },
                Some(said) = saying.recv() => match said {
                    Said::Told(told) => self.worker.progress(&mut vec![told]),
                    Said::Ended(ended) => self.report(ended),
                },
                () = sleep_until(renew_at) => {
                    let held: Vec<LeaseTag> = self.running.keys().copied().collect();
                    self.worker.extend(&held);
                    renew_at = Instant::now() + renewal(self.lease_ms);
                }
                () = stops.next() => match self.drain_until {
                    None => self.drain("asked to stop"),
                    Some(_) => self.stop_all(Why::Drained),
                },
                () = until(self.drain_until) => self.give_up()?,
            }
        }
        Ok(())
    }

    fn is_settled(&self) -> bool {
        self.unanswered.is_empty() && self.reports.is_empty()
    }

    fn take(&mut self, event: Event) -> Result<(), Ending> {
        match event {
            Event::Lease(lease) => self.start(lease),
            Event::CancelAsked { lease } => self.stop(lease, Why::Cancelled),
            Event::Settled { lease } => {
                self.unanswered.remove(&lease);
            }
            Event::Stale { lease } => {
                self.unanswered.remove(&lease);
                self.stop(lease, Why::Stale);
            }
            Event::DrainAsked => self.drain("the broker asks to drain"),
            Event::Writable => self.send(),
            Event::Up { kept, .. } => {
                let kept: HashSet<LeaseTag> = kept.into_iter().collect();
                let gone = self.running.keys().filter(|lease| !kept.contains(lease));
                gone.copied().collect::<Vec<_>>().into_iter().for_each(|lease| self.stop(lease, Why::Stale));
                if std::mem::replace(&mut self.connected, true) {
                    self.output.remark("connected again");
                }
            }
            Event::Down { reason, last: false } => self.output.remark(&format!("{reason}: connecting again")),
            Event::Down { reason, last: true } => return Err(Ending::new(REFUSED, reason)),
            _ => (),
        }
        Ok(())
    }

    fn start(&mut self, lease: Lease) {
        self.lease_ms = lease.lease_ms;
        let ask = watch::Sender::new(None);
        let tag = lease.lease;
        self.running.insert(tag, Running { call: lease.call, ask: ask.clone() });
        let (run, said) = (Arc::clone(&self.run), self.said.clone());
        drop(tokio::spawn(async move {
            let settlement = attempt(&*run, lease, ask, said.clone()).await;
            // Whoever waited may have given up.
            drop(said.send(Said::Ended(Ended { lease: tag, settlement })).await);
        }));
    }

    fn stop(&self, lease: LeaseTag, why: Why) {
        if let Some(running) = self.running.get(&lease) {
            ask_to_stop(&running.ask, why);
        }
    }

    fn stop_all(&self, why: Why) {
        self.running.keys().for_each(|lease| self.stop(*lease, why));
    }

    fn report(&mut self, ended: Ended) {
        let Some(running) = self.running.remove(&ended.lease) else { return };
        let why = *running.ask.borrow();
        let settlement = match (why, ended.settlement) {
            (Some(Why::Stale), _) => return,
            (Some(Why::TimedOut), None) => Settlement::Retry(
                Failure::new(Code::DeadlineExceeded, "the attempt took longer than its timeout").may_have_run(),
            ),
            (Some(Why::Drained), None) => Settlement::Release,
            (_, Some(settlement)) => settlement,
            (_, None) => Settlement::Stop,
        };
        self.unanswered.insert(ended.lease);
        self.reports.push(Report { lease: ended.lease, call: running.call, settlement });
        self.send();
    }

    fn send(&mut self) {
        if !self.reports.is_empty() {
            self.worker.report(&mut self.reports);
        }
    }

    fn drain(&mut self, why: &str) {
        if self.drain_until.is_none() {
            self.output.remark(&format!("{why}: draining, {} calls run", self.running.len()));
            self.drain_until = Some(Instant::now() + Duration::from_millis(defaults::DRAIN_MS));
            self.worker.drain();
        }
    }

    /// The patience of a drain has ended: first for what runs, then for answers.
    fn give_up(&mut self) -> Result<(), Ending> {
        if self.running.is_empty() {
            let count = self.unanswered.len() + self.reports.len();
            return Err(Ending::new(UNREACHABLE, format!("drained, but {count} reports were not answered")));
        }
        self.stop_all(Why::Drained);
        self.drain_until = Some(Instant::now() + Duration::from_millis(defaults::DRAIN_MS));
        Ok(())
    }
}

/// Runs one attempt; when its timeout passes, asks it to stop.
async fn attempt(
    run: &dyn Run,
    lease: Lease,
    ask: watch::Sender<Option<Why>>,
    said: Sender<Said>,
) -> Option<Settlement> {
    let timeout = Duration::from_millis(u64::from(lease.attempt_timeout_ms));
    let timer = (!timeout.is_zero()).then(|| Instant::now() + timeout);
    let mut running = run.run(Attempt { lease, asked: ask.subscribe(), said });
    tokio::select! {
        settlement = &mut running => return settlement,
        () = until(timer) => (),
    }
    ask_to_stop(&ask, Why::TimedOut);
    running.await
}

/// The first reason counts, but for a lost lease: nothing is reported then.
fn ask_to_stop(ask: &watch::Sender<Option<Why>>, why: Why) {
    ask.send_if_modified(|asked| {
        let counts = asked.is_none() || why == Why::Stale;
        if counts {
            *asked = Some(why);
        }
        counts
    });
}

/// How long after a renewal the next one is due.
fn renewal(lease_ms: u32) -> Duration {
    Duration::from_millis(u64::from((lease_ms / defaults::LEASE_RENEWALS).max(10)))
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
