//! What moves a caller's calls and outcomes between the seam and the server, on one tokio task, over as many connections
//! as it takes.

use crate::address::Address;
use crate::batch::{BATCH, Batch};
use crate::caller_line::{CallerLine, DIRECT};
use crate::clock::{random, wall_ms};
use crate::control::{Claim, Told, WORKERS};
use crate::delay::step_ms;
use crate::link::{AGAIN, AGAIN_MAX};
use crate::message::{self, read_response};
use crate::publication::{Publication, Published, short};
use crate::sleep::{closed, sleep_until};
use crate::topology::Strength;
use antiphon_broker::foreign::{Admission, CallerAsked, CancelStep, DedupeStore, Ledger, Room, Surfacing};
use antiphon_broker::{Event, Inbox, Sink, Submission};
use antiphon_protocol::{CallId, Code, Epoch, Failure, NAME_BYTES_MAX};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::types::ShortString;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// How long a queue may be full before a call is refused.
const FULL: Duration = Duration::from_secs(10);
/// When to try again after that.
const FULL_RETRY_MS: u32 = 1_000;
/// How often a queue is declared again for one call, when somebody deletes it under way.
const DECLARATIONS_MAX: u8 = 5;
/// How long a caller that is closed waits for confirmations.
const FAREWELL: Duration = Duration::from_secs(5);

type Publishing = FuturesUnordered<Pin<Box<dyn Future<Output = (CallId, Published)> + Send>>>;

/// A caller's pump.
pub(crate) struct CallerPump {
    pub(crate) address: Arc<Address>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) inbox: Inbox,
    pub(crate) claim: Claim,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) room: Arc<Room>,
    pub(crate) asked: mpsc::UnboundedReceiver<CallerAsked>,
    pub(crate) closing: watch::Receiver<bool>,
    pub(crate) store: Option<DedupeStore>,
    pub(crate) ledger: Ledger<Option<u64>>,
    pub(crate) events: Vec<Event>,
    /// To be published when there is a connection.
    pub(crate) again: Vec<CallId>,
    /// The bytes of calls that take room.
    pub(crate) outstanding: HashMap<CallId, usize>,
    /// How often a call found no queue.
    pub(crate) homeless: HashMap<CallId, u8>,
    pub(crate) epoch: u32,
}

/// Why a connection is not served any more.
enum Parting {
    /// It broke.
    Broke(String),
    /// The caller or the broker was closed.
    Closed,
    /// Another caller has opened this inbox.
    Fenced,
}

impl CallerPump {
    /// Runs until the caller is closed or loses its inbox to another.
    pub(crate) async fn run(mut self, line: CallerLine) {
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
                    self.again.extend(self.ledger.connection_lost(&mut self.events));
                    let ended: Vec<CallId> =
                        self.outstanding.keys().copied().filter(|id| self.ledger.unconfirmed(*id).is_none()).collect();
                    ended.into_iter().for_each(|id| self.leave(id));
                    self.events.push(Event::Down { reason, last: false });
                    self.tell();
                }
                Parting::Closed => return,
                Parting::Fenced => {
                    let reason = "this inbox was opened elsewhere".to_owned();
                    self.events.push(Event::Down { reason, last: true });
                    return self.tell();
                }
            }
        }
    }

    fn tell(&mut self) {
        if self.room.is_wanted() {
            self.events.push(Event::Writable);
        }
        if !self.events.is_empty() {
            self.sink.events(&mut self.events);
            self.events.clear();
        }
    }

    /// Tries until there is a connection; `None` when the caller is closed first.
    async fn reconnect(&mut self) -> Option<CallerLine> {
        let mut pause = AGAIN;
        loop {
            let (address, inbox, claim) = (Arc::clone(&self.address), self.inbox.clone(), self.claim);
            let mut opening = std::pin::pin!(async move {
                tokio::time::sleep(pause).await;
                CallerLine::open(&address, &inbox, claim).await
            });
            let opened = loop {
                let mut batch = Vec::new();
                let wake = sleep_until(self.ledger.next_wake());
                tokio::select! {
                    opened = &mut opening => break opened,
                    count = self.asked.recv_many(&mut batch, BATCH) => {
                        if count == 0 {
                            return None;
                        }
                        for asked in batch {
                            self.ask(asked, None);
                        }
                    }
                    () = wake => self.ledger.advance(Instant::now(), &mut self.events),
                    () = closed(&mut self.closing) => return None,
                }
                self.tell();
            };
            match opened {
                Ok(line) => return Some(line),
                Err(error) => {
                    tracing::warn!(%error, "connecting a caller to RabbitMQ again");
                    pause = (pause * 2).min(AGAIN_MAX);
                }
            }
        }
    }

    async fn serve(&mut self, mut line: CallerLine) -> Parting {
        self.epoch += 1;
        if self.epoch > 1 && !line.found {
            self.ledger.inbox_lost(&mut self.events);
        }
        self.events.push(Event::Up { epoch: Epoch(self.epoch), kept: Vec::new() });
        self.tell();
        let mut publishing = Publishing::new();
        for id in std::mem::take(&mut self.again) {
            self.publish(id, &mut line, &mut publishing).await;
        }
        let parting = self.pump(&mut line, &mut publishing).await;
        if let Parting::Closed = parting {
            let all = async {
                while let Some((id, published)) = publishing.next().await {
                    drop(self.published(id, published));
                }
            };
            drop(tokio::time::timeout(FAREWELL, all).await);
            line.acks.flush(&line.inbox_channel);
            self.tell();
        }
        line.close().await;
        parting
    }

    async fn pump(&mut self, line: &mut CallerLine, publishing: &mut Publishing) -> Parting {
        let mut batch = Vec::new();
        loop {
            let wake = sleep_until(self.ledger.next_wake());
            tokio::select! {
                biased;
                Some((id, published)) = publishing.next() => {
                    let mut next = Some((id, published));
                    while let Some((id, published)) = next {
                        if let Err(reason) = self.published(id, published) {
                            return Parting::Broke(reason);
                        }
                        next = publishing.next().now_or_never().flatten();
                    }
                }
                delivery = line.inbox.next() => {
                    let (mut next, mut taken) = (Some(delivery), Batch::begun());
                    while let Some(delivery) = next {
                        match delivery {
                            Some(Ok(delivery)) => self.delivered(delivery, line, true),
                            _ if !line.is_up() => return broke("the connection broke"),
                            _ => {
                                // The server cancelled the consumer: somebody deleted the inbox.
                                self.ledger.inbox_lost(&mut self.events);
                                if let Err(error) = line.replace_inbox(&self.inbox).await {
                                    return broke(&error.to_string());
                                }
                                break;
                            }
                        }
                        next = taken.next(&mut line.inbox);
                    }
                }
                delivery = line.direct.next() => match delivery {
                    Some(Ok(delivery)) => self.delivered(delivery, line, false),
                    _ => return broke("the connection broke"),
                },
                delivery = line.control.next() => match delivery {
                    Some(Ok(delivery)) => if self.told(&delivery, line) {
                        return Parting::Fenced;
                    },
                    _ => return broke("the connection broke"),
                },
                count = self.asked.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return Parting::Closed;
                    }
                    for asked in batch.drain(..) {
                        self.ask(asked, Some(line));
                    }
                    for id in std::mem::take(&mut self.again) {
                        self.publish(id, line, publishing).await;
                    }
                }
                () = wake => self.ledger.advance(Instant::now(), &mut self.events),
                () = closed(&mut self.closing) => return Parting::Closed,
            }
            line.acks.flush(&line.inbox_channel);
            self.tell();
        }
    }

    /// Takes what was asked; what is to be published is left in `again`.
    fn ask(&mut self, asked: CallerAsked, line: Option<&mut CallerLine>) {
        match asked {
            CallerAsked::Submit(calls) => calls.into_iter().for_each(|submission| self.submit(submission)),
            CallerAsked::Attach(calls) => {
                let text = "RabbitMQ finds no call by its id: open the inbox that its outcome goes to";
                let refused = |tag| Event::Refused { tag, failure: Failure::new(Code::Unimplemented, text) };
                self.events.extend(calls.into_iter().map(|(_, tag)| refused(tag)));
            }
            CallerAsked::Acknowledge(calls) => {
                // On disk before the server lets it go, otherwise a crash in between would surface it again.
                if let Some(store) = &mut self.store
                    && let Err(error) = store.append(&calls)
                {
                    tracing::error!(%error, "remembering handled outcomes: they will come again after a restart");
                    return;
                }
                let tags: Vec<u64> = calls.iter().filter_map(|id| self.ledger.acknowledge(*id).flatten()).collect();
                if let Some(line) = line {
                    tags.into_iter().for_each(|tag| line.acks.done(tag));
                }
            }
            CallerAsked::Cancel(calls) => {
                let answers: Vec<_> =
                    calls.into_iter().map(|id| (id, self.ledger.cancel(id, Instant::now()))).collect();
                for (id, step) in answers {
                    match (step, &line) {
                        (CancelStep::Answer(answer), _) => self.events.push(Event::CancelAnswered { id, answer }),
                        (CancelStep::Ask, Some(line)) => ask_workers(id, line),
                        (CancelStep::Ask, None) => (),
                    }
                }
            }
        }
    }

    fn submit(&mut self, submission: Submission) {
        let bytes = submission.call.payload.bytes.len();
        let (tag, id, wall_ms) = (submission.tag, submission.call.id, wall_ms());
        let name = self.address.prefix.len() + submission.call.route.procedure.len();
        let checked = if name > NAME_BYTES_MAX {
            let text = "prefix and procedure together have more than 255 bytes, which no queue's name has";
            Err(Failure::new(Code::InvalidArgument, text))
        } else {
            self.admission.check(&submission.call, wall_ms)
        };
        match checked {
            Ok(()) if self.ledger.submit(submission, Instant::now(), wall_ms, &mut self.events) => {
                self.outstanding.insert(id, bytes);
                self.again.push(id);
            }
            Ok(()) => self.room.give(bytes),
            Err(failure) => {
                self.room.give(bytes);
                self.events.push(Event::Refused { tag, failure });
            }
        }
    }

    async fn publish(&mut self, id: CallId, line: &mut CallerLine, publishing: &mut Publishing) {
        // Its deadline may have passed while it waited for a connection.
        let Some(delivery) = self.ledger.unconfirmed(id) else { return self.leave(id) };
        let queue = line.topology.names.procedure(&delivery.call.route.procedure);
        let refused = match line.topology.procedure(&queue).await {
            Ok(Strength::Weaker) if delivery.header.durable => {
                let text = format!(
                    "the queue {queue:?} was declared weaker than durable calls need: delete it, or say accept=memory \
                     in the URL, or make the call volatile"
                );
                Some(Failure::new(Code::FailedPrecondition, text))
            }
            Ok(_) => None,
            // It is published when there is a connection again.
            Err(_) if !line.is_up() => return self.again.push(id),
            Err(failure) => Some(failure),
        };
        if let Some(failure) = refused {
            return self.refuse(id, failure);
        }
        let reply_to = if delivery.header.durable { &line.queue } else { DIRECT };
        let mut publication = message::call(delivery, &queue, delivery.wants_outcome.then_some(reply_to));
        let now_ms = wall_ms();
        if delivery.header.due_ms > now_ms {
            let ms = step_ms(delivery.header.due_ms - now_ms);
            match line.topology.delay(ms).await {
                Ok(()) => publication = publication.delayed(&line.topology.names.delay(), ms),
                Err(_) if !line.is_up() => return self.again.push(id),
                Err(failure) => return self.refuse(id, failure),
            }
        }
        let channel = Arc::clone(&line.channel);
        let connection = line.topology.connection().status().clone();
        publishing.push(Box::pin(async move { (id, publication.insist(channel, connection, Some(FULL)).await) }));
    }

    fn refuse(&mut self, id: CallId, failure: Failure) {
        self.leave(id);
        self.ledger.refused(id, failure, &mut self.events);
    }

    /// A call takes no room any more.
    fn leave(&mut self, id: CallId) {
        self.homeless.remove(&id);
        if let Some(bytes) = self.outstanding.remove(&id) {
            self.room.give(bytes);
        }
    }

    /// The server has said something of a call that was published.
    ///
    /// # Errors
    /// When the connection has to be made anew.
    fn published(&mut self, id: CallId, published: Published) -> Result<(), String> {
        match published {
            Published::Confirmed => {
                self.leave(id);
                self.ledger.confirmed(id, &mut self.events);
            }
            Published::Nacked => {
                let text = format!("its queue has been full for {} s", FULL.as_secs());
                let failure = Failure::new(Code::ResourceExhausted, text).retry_after_ms(FULL_RETRY_MS);
                self.refuse(id, failure);
            }
            // A channel that has published to a queue does not survive that another of its name takes its place.
            Published::Unroutable | Published::Silent => {
                let count = self.homeless.entry(id).or_default();
                *count += 1;
                if *count > DECLARATIONS_MAX {
                    let text = "somebody deletes its queue again and again, or the server does not confirm it";
                    self.refuse(id, Failure::new(Code::Unavailable, text).may_have_run());
                } else {
                    return Err("a call was not confirmed: its queue was deleted".to_owned());
                }
            }
            // What is not confirmed is published again over the next connection.
            Published::Broken => (),
        }
        Ok(())
    }

    /// An outcome has come: by the inbox, to be acknowledged, or straight.
    fn delivered(&mut self, delivery: Delivery, line: &mut CallerLine, by_inbox: bool) {
        let tag = by_inbox.then_some(delivery.delivery_tag);
        if let Some(tag) = tag {
            line.acks.arrived(tag);
        }
        let surfacing = match read_response(&delivery.properties, delivery.data) {
            Some(response) => {
                let message::Response { id, state, attempts, outcome } = response;
                self.ledger.outcome(id, state, attempts, outcome, tag, &mut self.events)
            }
            None => {
                tracing::warn!(queue = line.queue, "dropping a message that is no outcome");
                Surfacing::Superfluous(tag)
            }
        };
        if let Surfacing::Superfluous(Some(tag)) = surfacing {
            line.acks.done(tag);
        }
    }

    /// Somebody told something. `true` when this inbox is another's now.
    fn told(&mut self, delivery: &Delivery, line: &CallerLine) -> bool {
        match Told::read(delivery) {
            Some(Told::Stopping { call, worker }) => self.ledger.stopping(call, worker, &mut self.events),
            Some(Told::Claimed { claim, .. }) if claim > self.claim => return true,
            Some(Told::Claimed { claim, answer_to: Some(queue) }) if claim < self.claim => {
                tell_queue(&Told::Taken, &queue, line);
            }
            Some(Told::Taken) => return true,
            _ => (),
        }
        false
    }
}

fn broke(reason: &str) -> Parting {
    Parting::Broke(reason.to_owned())
}

fn ask_workers(call: CallId, line: &CallerLine) {
    let told = Told::Cancel { call, answer_to: Some(short(&line.control_queue)) };
    send(told.broadcast(&line.topology.names, WORKERS), line);
}

fn tell_queue(told: &Told, queue: &ShortString, line: &CallerLine) {
    send(told.answer(queue), line);
}

/// Publishes what needs no answer: nobody there is an answer, too.
fn send(publication: Publication, line: &CallerLine) {
    let channel = Arc::clone(&line.channel);
    tokio::spawn(async move { publication.publish(&channel).await });
}

impl Claim {
    /// A claim of now.
    pub(crate) fn new() -> Self {
        Self { opened_ms: wall_ms(), random: random() }
    }
}
