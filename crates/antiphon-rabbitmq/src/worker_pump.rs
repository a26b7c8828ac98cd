//! What moves leases and reports between the seam and the server, on one tokio task, over as many connections as it takes.

use crate::address::Address;
use crate::batch::{BATCH, Batch};
use crate::clock::{random, random_id_bytes, wall_ms};
use crate::control::Told;
use crate::delay::step_ms;
use crate::link::{AGAIN, AGAIN_MAX};
use crate::message::{self, Asker, Request, read_request};
use crate::publication::Published;
use crate::settling::{Part, Settling, Settlings, settling};
use crate::sleep::{closed, sleep_until};
use crate::worker_line::{Handed, WorkerLine};
use antiphon_broker::foreign::{Arrival, CallHeader, Ending, LeaseBook, Recent, Reported, Waiting, WorkerAsked};
use antiphon_broker::{Event, Report, Sink};
use antiphon_protocol::{CallId, Code, Epoch, Failure, LeaseTag, Name, Offer, Outcome, Payload, State, defaults};
use futures_util::{FutureExt, StreamExt};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// How long a worker that is closed waits until its last settlements are confirmed.
const FAREWELL: Duration = Duration::from_secs(5);
/// How many settled calls are remembered: should the server not hear that they are, they are not run a second time.
const REMEMBERED: usize = 1 << 14;

/// What is needed to answer a delivery.
#[derive(Clone, Debug)]
pub(crate) struct Answering {
    tag: u64,
    asker: Asker,
}

/// A call with what is needed to answer it.
struct Answerable {
    header: CallHeader,
    procedure: u32,
    payload: Payload,
    trace: Option<Box<str>>,
    answering: Answering,
}

/// A worker's pump.
pub(crate) struct WorkerPump {
    address: Arc<Address>,
    name: Name,
    queues: Vec<String>,
    sink: Arc<dyn Sink>,
    asked: mpsc::UnboundedReceiver<WorkerAsked>,
    closing: watch::Receiver<bool>,
    book: LeaseBook<Answering>,
    settled: Recent<(CallId, u32), ()>,
    events: Vec<Event>,
    epoch: u32,
    /// Reported, and not confirmed yet.
    reported: HashSet<LeaseTag>,
    /// Procedures that were warned of.
    warned: HashSet<u32>,
}

/// Why a connection is not served any more.
enum Parting {
    /// It broke.
    Broke(String),
    /// The worker or the broker was closed.
    Closed,
}

impl WorkerPump {
    pub(crate) fn new(
        address: Arc<Address>,
        offer: &Offer,
        queues: Vec<String>,
        sink: Arc<dyn Sink>,
        asked: mpsc::UnboundedReceiver<WorkerAsked>,
        closing: watch::Receiver<bool>,
    ) -> Self {
        Self {
            address,
            name: offer.name.clone(),
            queues,
            sink,
            asked,
            closing,
            book: LeaseBook::new(offer.slots),
            settled: Recent::new(REMEMBERED),
            events: Vec::new(),
            epoch: 0,
            reported: HashSet::new(),
            warned: HashSet::new(),
        }
    }

    /// Runs until the worker is closed.
    pub(crate) async fn run(mut self, line: WorkerLine) {
        let mut line = Some(line);
        loop {
            let current = match line.take() {
                Some(line) => line,
                None => match self.reconnect().await {
                    Some(line) => line,
                    None => return,
                },
            };
            match self.serve(current).await {
                Parting::Broke(reason) => {
                    // The server hands everything to others; whatever runs here settles nothing any more.
                    self.book.connection_lost();
                    self.events.extend(self.reported.drain().map(|lease| Event::Stale { lease }));
                    self.events.push(Event::Down { reason, last: false });
                    self.tell();
                }
                Parting::Closed => return,
            }
        }
    }

    fn tell(&mut self) {
        if !self.events.is_empty() {
            self.sink.events(&mut self.events);
            self.events.clear();
        }
    }

    /// How many calls the server may hand over for each procedure.
    fn prefetch(&self) -> u32 {
        if self.book.is_draining() { 0 } else { self.book.slots() }
    }

    /// Tries until there is a connection; `None` when the worker is closed first.
    async fn reconnect(&mut self) -> Option<WorkerLine> {
        let mut pause = AGAIN;
        loop {
            let (address, queues, prefetch) = (Arc::clone(&self.address), self.queues.clone(), self.prefetch());
            let mut opening = std::pin::pin!(async move {
                tokio::time::sleep(pause).await;
                WorkerLine::open(&address, &queues, prefetch).await
            });
            let opened = loop {
                let mut batch = Vec::new();
                tokio::select! {
                    opened = &mut opening => break opened,
                    count = self.asked.recv_many(&mut batch, BATCH) => {
                        if count == 0 {
                            return None;
                        }
                        batch.into_iter().for_each(|asked| self.ask_away(asked));
                    }
                    () = closed(&mut self.closing) => return None,
                }
                self.tell();
            };
            match opened {
                // Slots may have changed meanwhile.
                Ok(line) if prefetch == self.prefetch() => return Some(line),
                Ok(line) => line.close().await,
                Err(error) => {
                    tracing::warn!(%error, "connecting a worker to RabbitMQ again");
                    pause = (pause * 2).min(AGAIN_MAX);
                }
            }
        }
    }

    /// Takes what is asked while there is no connection, and so no lease.
    fn ask_away(&mut self, asked: WorkerAsked) {
        match asked {
            WorkerAsked::Credit(slots) => self.book.credit(slots),
            WorkerAsked::Report(reports) => {
                self.events.extend(reports.into_iter().map(|report| Event::Stale { lease: report.lease }));
            }
            WorkerAsked::Extend(leases) => self.book.extend(&leases, &mut self.events),
            WorkerAsked::Drain => drop(self.book.drain()),
        }
    }

    async fn serve(&mut self, mut line: WorkerLine) -> Parting {
        self.epoch += 1;
        self.events.push(Event::Up { epoch: Epoch(self.epoch), kept: Vec::new() });
        self.tell();
        let mut settlings = Settlings::new();
        let parting = self.pump(&mut line, &mut settlings).await;
        if let Parting::Closed = parting {
            line.pause();
            let all = async {
                while let Some(settling) = settlings.next().await {
                    drop(self.settled(settling, &mut line));
                }
            };
            drop(tokio::time::timeout(FAREWELL, all).await);
            line.acks.flush(&line.deliveries);
            self.tell();
        }
        line.close().await;
        parting
    }

    async fn pump(&mut self, line: &mut WorkerLine, settlings: &mut Settlings) -> Parting {
        let mut batch = Vec::new();
        loop {
            let wake = sleep_until(self.book.next_wake());
            tokio::select! {
                biased;
                Some(settling) = settlings.next() => {
                    let mut next = Some(settling);
                    while let Some(settling) = next {
                        if let Err(reason) = self.settled(settling, line) {
                            return Parting::Broke(reason);
                        }
                        next = settlings.next().now_or_never().flatten();
                    }
                }
                count = self.asked.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return Parting::Closed;
                    }
                    for asked in batch.drain(..) {
                        if let Err(reason) = self.ask(asked, line, settlings).await {
                            return Parting::Broke(reason);
                        }
                    }
                }
                Some(handed) = line.handed.next() => {
                    let (mut next, mut taken) = (Some(handed), Batch::begun());
                    while let Some(handed) = next {
                        if let Err(reason) = self.handed(handed, line, settlings).await {
                            return Parting::Broke(reason);
                        }
                        next = taken.next(&mut line.handed).flatten();
                    }
                }
                delivery = line.control.next() => match delivery {
                    Some(Ok(delivery)) => self.told(Told::read(&delivery), line),
                    _ => return Parting::Broke("the connection broke".to_owned()),
                },
                () = wake => self.book.advance(Instant::now(), &mut self.events),
                () = closed(&mut self.closing) => return Parting::Closed,
            }
            self.grant(line, settlings).await;
            line.acks.flush(&line.deliveries);
            self.tell();
        }
    }

    async fn ask(
        &mut self,
        asked: WorkerAsked,
        line: &mut WorkerLine,
        settlings: &mut Settlings,
    ) -> Result<(), String> {
        match asked {
            WorkerAsked::Credit(slots) => {
                let before = self.prefetch();
                self.book.credit(slots);
                if self.prefetch() != before {
                    line.consume(&self.queues, self.prefetch()).await.map_err(|error| error.to_string())?;
                }
            }
            WorkerAsked::Report(reports) => {
                for report in reports {
                    self.report(report, line, settlings).await;
                }
            }
            WorkerAsked::Extend(leases) => {
                self.book.extend(&leases, &mut self.events);
                self.warn_of_long_runs();
            }
            WorkerAsked::Drain => {
                line.pause();
                for waiting in self.book.drain() {
                    line.acks.give_back(&line.deliveries, waiting.delivery.tag);
                }
            }
        }
        Ok(())
    }

    /// A consumer gave something.
    async fn handed(&mut self, handed: Handed, line: &mut WorkerLine, settlings: &mut Settlings) -> Result<(), String> {
        let Handed { procedure, generation, delivery } = handed;
        let Some(delivery) = delivery else {
            if !line.is_up() {
                return Err("the connection broke".to_owned());
            }
            let Some(queue) = self.queues.get(procedure).filter(|_| generation == line.generation) else {
                return Ok(());
            };
            return Err(format!("the queue {queue:?} was deleted"));
        };
        let tag = delivery.delivery_tag;
        line.acks.arrived(tag);
        let new_id = || CallId::new(wall_ms(), random_id_bytes());
        let reply_to = delivery.properties.reply_to().clone();
        let procedure = u32::try_from(procedure).unwrap_or(u32::MAX);
        match read_request(&delivery.properties, delivery.data, delivery.redelivered, new_id) {
            Ok(request) => {
                let Request { header, redelivered, payload, trace, mut asker } = request;
                if asker.plain && asker.reply_to.is_none() {
                    asker.reply_to = self.address.reply_queue.as_deref().map(crate::publication::short);
                }
                if self.settled.find(&(header.id, header.hops)).is_some() {
                    line.acks.done(tag);
                    return Ok(());
                }
                let delivery = Answering { tag, asker };
                let waiting = Waiting { header, redelivered, procedure, payload, trace, delivery };
                if let Some(waiting) = self.book.arrive(waiting) {
                    line.acks.give_back(&line.deliveries, waiting.delivery.tag);
                }
            }
            Err(error) => {
                let asker = Asker { reply_to, correlation: delivery.properties.correlation_id().clone(), plain: true };
                let header = CallHeader { durable: true, ..CallHeader::plain(new_id()) };
                let outcome = Outcome::Failure(Failure::new(Code::InvalidArgument, error.to_string()));
                let ending = Ending::Over { state: State::Dead, attempts: 0, outcome };
                let answering = Answering { tag, asker };
                let payload = Payload::default();
                let call = Answerable { header, procedure, payload, trace: None, answering };
                self.end(call, &ending, None, line, settlings).await;
            }
        }
        Ok(())
    }

    /// Gives free slots to what waits.
    async fn grant(&mut self, line: &mut WorkerLine, settlings: &mut Settlings) {
        while let Some(waiting) = self.book.grant() {
            let wall_ms = wall_ms();
            let ending =
                match Arrival::judge(&waiting.header, waiting.redelivered, defaults::LOST_DELIVERIES_MAX, wall_ms) {
                    Arrival::Lease => {
                        self.warn_of_timeout(&waiting);
                        self.book.lease(waiting, Instant::now(), wall_ms, &mut self.events);
                        continue;
                    }
                    Arrival::Early(header) => Ending::Again(header),
                    Arrival::Over(ending) => ending,
                };
            let Waiting { header, procedure, payload, trace, delivery, .. } = waiting;
            let call = Answerable { header, procedure, payload, trace, answering: delivery };
            self.end(call, &ending, None, line, settlings).await;
        }
    }

    async fn report(&mut self, report: Report, line: &mut WorkerLine, settlings: &mut Settlings) {
        let Some(Reported { lease, held, settlement }) = self.book.report(report, &mut self.events) else { return };
        self.reported.insert(lease);
        let ending = Ending::judge(&held.header, held.redelivered, held.stopped, settlement, wall_ms(), random());
        let call = Answerable {
            header: held.header,
            procedure: held.procedure,
            payload: held.payload,
            trace: held.trace,
            answering: held.delivery,
        };
        self.end(call, &ending, Some(lease), line, settlings).await;
    }

    /// Publishes what an ending says; the delivery is acknowledged once all of it is confirmed.
    async fn end(
        &mut self,
        call: Answerable,
        ending: &Ending,
        lease: Option<LeaseTag>,
        line: &mut WorkerLine,
        settlings: &mut Settlings,
    ) {
        let Answerable { header, procedure, payload, trace, answering } = call;
        let place = usize::try_from(procedure).unwrap_or(usize::MAX);
        let Some(queue) = self.queues.get(place) else { return };
        let Answering { tag, asker } = answering;
        let mut parts = Vec::with_capacity(1);
        match ending {
            Ending::Over { state, attempts, outcome } => {
                let over = (*state, *attempts, outcome);
                if let Some(reply_to) = &asker.reply_to {
                    let publication = message::outcome(&header, over, &asker, reply_to.as_str());
                    parts.push(Part { publication, has_queue: false });
                }
                if *state == State::Dead && header.durable {
                    let call = message::call_again(&header, &payload, trace.as_deref(), &asker, queue);
                    let names = &line.topology.names;
                    let procedure = names.procedure_of(queue);
                    let publication = message::dead_letter(call, names, procedure, &header, over, wall_ms());
                    parts.push(Part { publication, has_queue: true });
                }
            }
            Ending::Again(next) => {
                let mut publication = message::call_again(next, &payload, trace.as_deref(), &asker, queue);
                let now_ms = wall_ms();
                if next.due_ms > now_ms {
                    let ms = step_ms(next.due_ms - now_ms);
                    match line.topology.delay(ms).await {
                        Ok(()) => publication = publication.delayed(&line.topology.names.delay(), ms),
                        // Early is better than never.
                        Err(failure) => tracing::warn!(%failure, queue, "a call cannot wait for its next attempt"),
                    }
                }
                parts.push(Part { publication, has_queue: true });
            }
        }
        settlings.push(settling(tag, lease, (header.id, header.hops), parts, line));
    }

    /// The server has confirmed what an ending says, or not.
    ///
    /// # Errors
    /// When the connection has to be made anew.
    fn settled(&mut self, settling: Settling, line: &mut WorkerLine) -> Result<(), String> {
        let Settling { tag, lease, call, parts } = settling;
        if parts.iter().any(|(_, published)| *published == Published::Broken) {
            return Ok(());
        }
        // A channel that has published to a queue does not survive that another of its name takes its place. The call is
        // handed out again.
        let lost = |(part, published): &(Part, Published)| match published {
            Published::Silent => true,
            Published::Unroutable => part.has_queue,
            _ => false,
        };
        if parts.iter().any(lost) {
            return Err("what a call ended with was not confirmed: a queue was deleted".to_owned());
        }
        line.acks.done(tag);
        self.settled.insert(call, ());
        if let Some(lease) = lease {
            self.reported.remove(&lease);
            self.events.push(Event::Settled { lease });
        }
        Ok(())
    }

    /// A caller told something.
    fn told(&mut self, told: Option<Told>, line: &WorkerLine) {
        let Some(Told::Cancel { call, answer_to }) = told else { return };
        if !self.book.cancel(call, &mut self.events) {
            return;
        }
        if let Some(queue) = answer_to {
            let publication = Told::Stopping { call, worker: self.name.clone() }.answer(&queue);
            let channel = Arc::clone(&line.channel);
            tokio::spawn(async move { publication.publish(&channel).await });
        }
    }

    /// Warns once of a procedure whose attempts may take longer than the server waits.
    fn warn_of_timeout(&mut self, waiting: &Waiting<Answering>) {
        let may_run = Duration::from_millis(u64::from(waiting.header.attempt_timeout_ms));
        if may_run > self.address.consumer_timeout && self.warned.insert(waiting.procedure) {
            self.warn(waiting.procedure, "may run for longer than the server waits for a settlement");
        }
    }

    /// Warns once of a procedure that has run for four fifths of what the server waits.
    fn warn_of_long_runs(&mut self) {
        let bound = self.address.consumer_timeout / 5 * 4;
        let long = |since: &Instant| since.elapsed() > bound;
        let procedures: Vec<u32> =
            self.book.held().filter(|held| long(&held.since)).map(|held| held.procedure).collect();
        for procedure in procedures {
            if self.warned.insert(procedure) {
                self.warn(procedure, "has run for four fifths of what the server waits for a settlement");
            }
        }
    }

    fn warn(&self, procedure: u32, what: &str) {
        let queue = usize::try_from(procedure).ok().and_then(|place| self.queues.get(place));
        tracing::warn!(
            queue,
            timeout = ?self.address.consumer_timeout,
            "a call {what}, and then hands it to another worker: raise consumer_timeout there and in the URL"
        );
    }
}
