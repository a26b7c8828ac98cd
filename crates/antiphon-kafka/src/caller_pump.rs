//! What moves a caller's calls and outcomes between the seam and the brokers, on one tokio task.

use crate::chance::{closed, sleep_until, wall_ms};
use crate::names::{Names, TOPIC_BYTES_MAX, step_ms};
use crate::offsets::Spot;
use crate::publisher::{Patience, Published, Publisher};
use crate::reader::{News, Read, Reader};
use crate::record::{self, Response, read_claim, read_response};
use crate::topics::{Purpose, Topics, failure};
use antiphon_broker::foreign::{Admission, CallerAsked, CancelStep, DedupeStore, Ledger, Room, Surfacing};
use antiphon_broker::{Event, Sink, Submission};
use antiphon_protocol::{CallId, Code, Epoch, Failure};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// How long a caller that is closed waits for confirmations.
const FAREWELL: Duration = Duration::from_secs(5);
/// How many asked things and records are taken before the sink is told.
const BATCH: usize = 256;

type Publishing = FuturesUnordered<Pin<Box<dyn Future<Output = (CallId, Published)> + Send>>>;

/// A caller's pump.
pub(crate) struct CallerPump {
    pub(crate) names: Names,
    pub(crate) topics: Arc<Topics>,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) admission: Arc<Admission>,
    /// Where outcomes come, and the reader of it.
    pub(crate) inbox: String,
    pub(crate) reader: Reader,
    pub(crate) news: mpsc::UnboundedReceiver<News>,
    /// By which it is known whose the inbox is; `None` where it has no name.
    pub(crate) claim: Option<u64>,
    /// Its own claim was read: whoever claims after it has the inbox.
    pub(crate) claimed: bool,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) room: Arc<Room>,
    pub(crate) asked: mpsc::UnboundedReceiver<CallerAsked>,
    pub(crate) closing: watch::Receiver<bool>,
    pub(crate) store: Option<DedupeStore>,
    pub(crate) ledger: Ledger<Spot>,
    pub(crate) events: Vec<Event>,
    /// To be published.
    pub(crate) submitted: Vec<CallId>,
    /// The bytes of calls that take room.
    pub(crate) outstanding: HashMap<CallId, usize>,
}

impl CallerPump {
    /// Runs until the caller is closed or loses its inbox to another.
    pub(crate) async fn run(mut self) {
        self.events.push(Event::Up { epoch: Epoch(1), kept: Vec::new() });
        self.tell();
        let mut publishing = Publishing::new();
        if let Err(reason) = self.pump(&mut publishing).await {
            self.events.push(Event::Down { reason, last: true });
            self.tell();
        } else {
            let all = async {
                while let Some((id, published)) = publishing.next().await {
                    self.published(id, published);
                }
            };
            drop(tokio::time::timeout(FAREWELL, all).await);
            self.tell();
        }
        self.reader.close().await;
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

    /// Pumps until the caller is closed; an error says why it cannot go on.
    async fn pump(&mut self, publishing: &mut Publishing) -> Result<(), String> {
        let (mut asked, mut news) = (Vec::new(), Vec::new());
        loop {
            let wake = sleep_until(self.ledger.next_wake());
            tokio::select! {
                biased;
                Some((id, published)) = publishing.next() => {
                    let mut next = Some((id, published));
                    while let Some((id, published)) = next {
                        self.published(id, published);
                        next = publishing.next().now_or_never().flatten();
                    }
                }
                count = self.news.recv_many(&mut news, BATCH) => {
                    if count == 0 {
                        return Err("its reader has ended".to_owned());
                    }
                    for news in news.drain(..) {
                        match news {
                            News::Read(read) => self.read(*read)?,
                            News::Lost => (),
                            News::Failed(why) => return Err(why),
                        }
                    }
                }
                count = self.asked.recv_many(&mut asked, BATCH) => {
                    if count == 0 {
                        return Ok(());
                    }
                    for asked in asked.drain(..) {
                        self.ask(asked);
                    }
                    for id in std::mem::take(&mut self.submitted) {
                        self.publish(id, publishing).await;
                    }
                }
                () = wake => self.ledger.advance(Instant::now(), &mut self.events),
                () = closed(&mut self.closing) => return Ok(()),
            }
            self.tell();
        }
    }

    fn ask(&mut self, asked: CallerAsked) {
        match asked {
            CallerAsked::Submit(calls) => calls.into_iter().for_each(|submission| self.submit(submission)),
            CallerAsked::Attach(calls) => {
                let text = "Kafka finds no call by its id: open the inbox that its outcome goes to";
                let refused = |tag| Event::Refused { tag, failure: Failure::new(Code::Unimplemented, text) };
                self.events.extend(calls.into_iter().map(|(_, tag)| refused(tag)));
            }
            CallerAsked::Acknowledge(calls) => {
                // On disk before the offset is committed, otherwise a crash in between would surface it again.
                if let Some(store) = &mut self.store
                    && let Err(error) = store.append(&calls)
                {
                    tracing::error!(%error, "remembering handled outcomes: they will come again after a restart");
                    return;
                }
                for id in calls {
                    if let Some(spot) = self.ledger.acknowledge(id) {
                        self.reader.offsets().done(&spot);
                    }
                }
                if self.claim.is_some() {
                    self.reader.commit_soon();
                }
            }
            CallerAsked::Cancel(calls) => {
                for id in calls {
                    // What asks the workers here is nobody: it is answered when patience ends.
                    if let CancelStep::Answer(answer) = self.ledger.cancel(id, Instant::now()) {
                        self.events.push(Event::CancelAnswered { id, answer });
                    }
                }
            }
        }
    }

    fn submit(&mut self, submission: Submission) {
        let bytes = submission.call.payload.bytes.len();
        let (tag, id, wall_ms) = (submission.tag, submission.call.id, wall_ms());
        let [.., longest] = crate::names::STEPS_MS;
        let checked = if self.names.retry(&submission.call.route.procedure, longest).len() > TOPIC_BYTES_MAX {
            let text = "prefix and procedure together are too long for the name of a topic and its retry topics";
            Err(Failure::new(Code::InvalidArgument, text))
        } else {
            self.admission.check(&submission.call, wall_ms)
        };
        match checked {
            Ok(()) if self.ledger.submit(submission, Instant::now(), wall_ms, &mut self.events) => {
                self.outstanding.insert(id, bytes);
                self.submitted.push(id);
            }
            Ok(()) => self.room.give(bytes),
            Err(failure) => {
                self.room.give(bytes);
                self.events.push(Event::Refused { tag, failure });
            }
        }
    }

    async fn publish(&mut self, id: CallId, publishing: &mut Publishing) {
        let Some(delivery) = self.ledger.unconfirmed(id) else { return self.leave(id) };
        let procedure = &*delivery.call.route.procedure;
        let wait_ms = delivery.header.due_ms.saturating_sub(wall_ms());
        let topic =
            if wait_ms > 0 { self.names.retry(procedure, step_ms(wait_ms)) } else { self.names.procedure(procedure) };
        if let Err(failure) = self.topics.ensure(&[(topic.clone(), Purpose::Calls)]).await {
            return self.refuse(id, failure);
        }
        let reply = delivery.wants_outcome.then_some((self.inbox.as_str(), self.reader.partition));
        let publication = record::call(delivery, topic, reply);
        let publisher = Arc::clone(&self.publisher);
        publishing.push(Box::pin(async move { (id, publisher.insist(publication, Patience::Endless).await) }));
    }

    fn refuse(&mut self, id: CallId, failure: Failure) {
        self.leave(id);
        self.ledger.refused(id, failure, &mut self.events);
    }

    /// A call takes no room any more.
    fn leave(&mut self, id: CallId) {
        if let Some(bytes) = self.outstanding.remove(&id) {
            self.room.give(bytes);
        }
    }

    fn published(&mut self, id: CallId, published: Published) {
        match published {
            Ok(()) => {
                self.leave(id);
                self.ledger.confirmed(id, &mut self.events);
            }
            Err(unpublished) => self.refuse(id, failure("publishing a call", &unpublished.error).may_have_run()),
        }
    }

    /// Something is in the inbox.
    fn read(&mut self, read: Read) -> Result<(), String> {
        let Read { spot, headers, body, .. } = read;
        if let Some(claim) = read_claim(headers.as_ref()) {
            self.reader.offsets().done(&spot);
            if Some(claim) == self.claim {
                self.claimed = true;
            } else if self.claimed {
                return Err("this inbox was opened elsewhere".to_owned());
            }
            return Ok(());
        }
        let surfacing = match read_response(headers.as_ref(), body) {
            Some(Response { id, state, attempts, outcome }) => {
                self.ledger.outcome(id, state, attempts, outcome, spot, &mut self.events)
            }
            None => {
                tracing::warn!(topic = self.inbox, "dropping a record that is no outcome");
                Surfacing::Superfluous(spot)
            }
        };
        if let Surfacing::Superfluous(spot) = surfacing {
            self.reader.offsets().done(&spot);
        }
        Ok(())
    }
}
