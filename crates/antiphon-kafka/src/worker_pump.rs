//! What moves leases and reports between the seam and the brokers, on one tokio task. An offset is committed only when
//! everything that follows from its record is confirmed.

use crate::chance::{closed, new_id, random, sleep_until, wall_ms};
use crate::names::{Names, STEPS_MS, step_ms};
use crate::offsets::Spot;
use crate::publisher::{Patience, Publication, Publisher, Unpublished};
use crate::reader::{News, Read, Reader};
use crate::record::{self, Asker, Request, read_request};
use crate::topics::Purpose;
use antiphon_broker::foreign::{Arrival, CallHeader, Ending, LeaseBook, Reported, Waiting, WorkerAsked};
use antiphon_broker::{Event, Report, Sink};
use antiphon_protocol::{Code, Epoch, Failure, LeaseTag, Outcome, Payload, State, defaults};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// How long a worker that is closed waits until its last settlements are confirmed.
const FAREWELL: Duration = Duration::from_secs(5);
/// How many records and reports are taken before the sink is told.
const BATCH: usize = 256;
/// How long to wait before what brokers refuse to take is offered again.
const PUBLISH_AGAIN: Duration = Duration::from_secs(1);
/// How long an outcome waits for its topic or partition to be there: longer than one moves or is made anew, and not so long
/// that the outcomes of askers who named none that is hold up a partition.
const HOMELESS: Duration = Duration::from_secs(60);
/// How long to wait before a lease that could not be committed is tried again.
const COMMIT_AGAIN: Duration = Duration::from_millis(50);

/// What is needed to answer a record.
#[derive(Clone, Debug)]
pub(crate) struct Answering {
    spot: Spot,
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

/// A record whose answer is on its way to the brokers.
struct Settling {
    procedure: u32,
    spot: Spot,
    lease: Option<LeaseTag>,
}

/// One of the records that an ending is published as.
struct Part {
    publication: Publication,
    /// Without it the call would be lost.
    must: bool,
    /// What is published of a call that must not be published twice, when nobody knows whether it was: its end.
    instead: Vec<Part>,
}

impl From<Waiting<Answering>> for Answerable {
    fn from(waiting: Waiting<Answering>) -> Self {
        let Waiting { header, procedure, payload, trace, delivery: answering, .. } = waiting;
        Self { header, procedure, payload, trace, answering }
    }
}

type Settlings = FuturesUnordered<Pin<Box<dyn Future<Output = Settling> + Send>>>;

/// A worker's pump.
pub(crate) struct WorkerPump {
    pub(crate) names: Names,
    pub(crate) publisher: Arc<Publisher>,
    /// What is offered, and the reader of each.
    pub(crate) procedures: Vec<String>,
    pub(crate) readers: Vec<Reader>,
    pub(crate) news: mpsc::UnboundedReceiver<News>,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) asked: mpsc::UnboundedReceiver<WorkerAsked>,
    pub(crate) closing: watch::Receiver<bool>,
    pub(crate) book: LeaseBook<Answering>,
    pub(crate) payload_bytes_max: u32,
    /// Calls of retry topics until they are due, by when that is.
    pub(crate) early: BTreeMap<(u64, u64), Waiting<Answering>>,
    pub(crate) sequence: u64,
    pub(crate) events: Vec<Event>,
    pub(crate) left: bool,
}

impl WorkerPump {
    /// Runs until the worker is closed.
    pub(crate) async fn run(mut self) {
        self.events.push(Event::Up { epoch: Epoch(1), kept: Vec::new() });
        self.tell();
        let mut settlings = Settlings::new();
        if let Err(reason) = self.pump(&mut settlings).await {
            self.events.push(Event::Down { reason, last: true });
        }
        let all = async {
            while let Some(settling) = settlings.next().await {
                self.settled(settling);
            }
        };
        drop(tokio::time::timeout(FAREWELL, all).await);
        self.tell();
        let readers = std::mem::take(&mut self.readers);
        futures_util::future::join_all(readers.into_iter().map(Reader::close)).await;
    }

    fn tell(&mut self) {
        if !self.events.is_empty() {
            self.sink.events(&mut self.events);
            self.events.clear();
        }
    }

    fn reader(&self, procedure: u32) -> Option<&Reader> {
        self.readers.get(usize::try_from(procedure).ok()?)
    }

    async fn pump(&mut self, settlings: &mut Settlings) -> Result<(), String> {
        let (mut asked, mut news) = (Vec::new(), Vec::new());
        loop {
            let wake = sleep_until(self.next_wake());
            tokio::select! {
                biased;
                Some(settling) = settlings.next() => {
                    let mut next = Some(settling);
                    while let Some(settling) = next {
                        self.settled(settling);
                        next = settlings.next().now_or_never().flatten();
                    }
                }
                count = self.asked.recv_many(&mut asked, BATCH) => {
                    if count == 0 {
                        return Ok(());
                    }
                    for asked in asked.drain(..) {
                        self.ask(asked, settlings).await;
                    }
                }
                count = self.news.recv_many(&mut news, BATCH) => {
                    if count == 0 {
                        return Err("its readers have ended".to_owned());
                    }
                    for news in news.drain(..) {
                        match news {
                            News::Read(read) => self.read(*read, settlings).await,
                            News::Lost => self.lost(),
                            News::Failed(why) => return Err(why),
                        }
                    }
                }
                () = wake => self.book.advance(Instant::now(), &mut self.events),
                () = closed(&mut self.closing) => return Ok(()),
            }
            self.ripen();
            self.grant(settlings).await;
            self.leave(settlings);
            self.tell();
        }
    }

    /// When a deadline passes or a call of a retry topic is due.
    fn next_wake(&self) -> Option<Instant> {
        let due = self
            .early
            .first_key_value()
            .map(|((due_ms, _), _)| Instant::now() + Duration::from_millis(due_ms.saturating_sub(wall_ms())));
        due.into_iter().chain(self.book.next_wake()).min()
    }

    async fn ask(&mut self, asked: WorkerAsked, settlings: &mut Settlings) {
        match asked {
            WorkerAsked::Credit(slots) => self.book.credit(slots),
            WorkerAsked::Report(reports) => {
                for report in reports {
                    self.report(report, settlings).await;
                }
            }
            WorkerAsked::Extend(leases) => self.book.extend(&leases, &mut self.events),
            // What waits here stays uncommitted, and is read again by whoever gets the partition.
            WorkerAsked::Drain => drop(self.book.drain()),
        }
    }

    /// A draining worker that runs nothing any more gives its partitions to others.
    fn leave(&mut self, settlings: &Settlings) {
        if self.book.is_draining() && !self.left && self.book.running() == 0 && settlings.is_empty() {
            self.left = true;
            self.early.clear();
            self.readers.iter().for_each(Reader::leave);
        }
    }

    /// Partitions are others' now: what runs of them settles nothing any more.
    fn lost(&mut self) {
        let readers = &self.readers;
        let lost = |answering: &Answering| !readers.iter().any(|reader| reader.offsets().is_ours(&answering.spot));
        self.book.lose(lost, &mut self.events);
        self.early.retain(|_, waiting| !lost(&waiting.delivery));
    }

    async fn read(&mut self, read: Read, settlings: &mut Settlings) {
        let Read { reader: procedure, spot, leased, headers, body, written_ms } = read;
        let Request { header, payload, trace, asker } = match read_request(headers.as_ref(), body, new_id) {
            Ok(request) => request,
            Err((error, asker)) => {
                let header = CallHeader { durable: true, ..CallHeader::plain(new_id()) };
                let outcome = Outcome::Failure(Failure::new(Code::InvalidArgument, error.to_string()));
                let ending = Ending::Over { state: State::Dead, attempts: 0, outcome };
                let answering = Answering { spot, asker };
                let call = Answerable { header, procedure, payload: Payload::default(), trace: None, answering };
                return self.end(call, ending, None, settlings).await;
            }
        };
        let step_ms = self.step_of(procedure, &spot.place.topic);
        let due_ms = step_ms.map_or(0, |step| header.due_ms.min(written_ms.saturating_add(step)));
        let delivery = Answering { spot, asker };
        let waiting = Waiting { header, redelivered: u32::from(leased), procedure, payload, trace, delivery };
        if due_ms > wall_ms() {
            self.sequence += 1;
            self.early.insert((due_ms, self.sequence), waiting);
        } else {
            // A draining worker leaves it uncommitted.
            drop(self.book.arrive(waiting));
        }
    }

    /// How long the topic of a procedure holds calls; `None` for the one where they do not wait.
    fn step_of(&self, procedure: u32, topic: &str) -> Option<u64> {
        let name = self.procedures.get(usize::try_from(procedure).ok()?)?;
        STEPS_MS.into_iter().find(|step| self.names.retry(name, *step) == topic)
    }

    /// Calls of retry topics that have waited long enough join the others.
    fn ripen(&mut self) {
        let now_ms = wall_ms();
        while let Some(entry) = self.early.first_entry() {
            if entry.key().0 > now_ms {
                return;
            }
            drop(self.book.arrive(entry.remove()));
        }
    }

    /// Gives free slots to what waits.
    async fn grant(&mut self, settlings: &mut Settlings) {
        let mut moving = Vec::new();
        while let Some(waiting) = self.book.grant() {
            let wall_ms = wall_ms();
            let judged = Arrival::judge(&waiting.header, waiting.redelivered, defaults::LOST_DELIVERIES_MAX, wall_ms);
            let ending = match judged {
                // It goes to the end of its topic with the lost lease counted in its header, which Kafka does not count.
                Arrival::Lease if waiting.redelivered > 0 || self.waits_out_of_order(&waiting) => {
                    Ending::Again(waiting.header.published_again(waiting.redelivered))
                }
                Arrival::Lease => {
                    if self.claim(&waiting).await {
                        self.book.lease(waiting, Instant::now(), wall_ms, &mut self.events);
                    }
                    continue;
                }
                Arrival::Early(header) => Ending::Again(header),
                Arrival::Over(ending) => ending,
            };
            if waiting.header.at_most_once && matches!(ending, Ending::Again(_)) {
                moving.push((waiting, ending));
            } else {
                self.end(waiting.into(), ending, None, settlings).await;
            }
        }
        self.claim_moving(&moving).await;
        for (waiting, ending) in moving {
            let reader = self.reader(waiting.procedure);
            if reader.is_some_and(|reader| reader.offsets().is_ours(&waiting.delivery.spot)) {
                self.end(waiting.into(), ending, None, settlings).await;
            }
        }
    }

    /// Whether an at-most-once call comes from a topic where calls are not leased in their order: it joins the others
    /// first, so that what is committed of leases says the truth of it.
    fn waits_out_of_order(&self, waiting: &Waiting<Answering>) -> bool {
        waiting.header.at_most_once && self.step_of(waiting.procedure, &waiting.delivery.spot.place.topic).is_some()
    }

    /// Counts a lease; one that must not be forgotten is committed first. `false` when the call is another worker's.
    async fn claim(&self, waiting: &Waiting<Answering>) -> bool {
        let Some(reader) = self.reader(waiting.procedure) else { return false };
        let spot = &waiting.delivery.spot;
        let is_first = reader.offsets().leased(spot);
        if is_first || waiting.header.at_most_once {
            while reader.offsets().is_ours(spot) && !reader.commit().await {
                tokio::time::sleep(COMMIT_AGAIN).await;
            }
        }
        reader.offsets().is_ours(spot)
    }

    /// Claims at-most-once calls that are published again, before they are: a worker that goes between that and the commit
    /// of their offsets leaves both, and whoever reads the first one then must not publish it once more.
    async fn claim_moving(&self, moving: &[(Waiting<Answering>, Ending)]) {
        for (procedure, reader) in (0..).zip(&self.readers) {
            let ours = moving.iter().filter(|(waiting, _)| waiting.procedure == procedure);
            let spots: Vec<&Spot> = ours.map(|(waiting, _)| &waiting.delivery.spot).collect();
            for spot in &spots {
                reader.offsets().leased(spot);
            }
            let are_ours = || {
                let offsets = reader.offsets();
                spots.iter().any(|spot| offsets.is_ours(spot))
            };
            while are_ours() && !reader.commit().await {
                tokio::time::sleep(COMMIT_AGAIN).await;
            }
        }
    }

    async fn report(&mut self, report: Report, settlings: &mut Settlings) {
        let Some(Reported { lease, held, settlement }) = self.book.report(report, &mut self.events) else { return };
        let ending = Ending::judge(&held.header, held.redelivered, held.stopped, settlement, wall_ms(), random());
        let call = Answerable {
            header: held.header,
            procedure: held.procedure,
            payload: held.payload,
            trace: held.trace,
            answering: held.delivery,
        };
        self.end(call, ending, Some(lease), settlings).await;
    }

    /// Publishes what an ending says; the record is settled once all of it is confirmed.
    async fn end(&mut self, call: Answerable, ending: Ending, lease: Option<LeaseTag>, settlings: &mut Settlings) {
        let (procedure, spot) = (call.procedure, call.answering.spot.clone());
        let Some(name) = usize::try_from(procedure).ok().and_then(|place| self.procedures.get(place)) else { return };
        let mut parts = match ending {
            Ending::Over { state, attempts, outcome } => {
                let (state, outcome) = self.fitting(state, outcome);
                self.over(name, &call, (state, attempts, &outcome))
            }
            Ending::Again(next) => vec![self.again(name, &Answerable { header: next, ..call })],
        };
        let publisher = Arc::clone(&self.publisher);
        settlings.push(Box::pin(async move {
            while !parts.is_empty() {
                let publishing = std::mem::take(&mut parts).into_iter().map(|part| publish(&publisher, part));
                parts = futures_util::future::join_all(publishing).await.into_iter().flatten().collect();
            }
            Settling { procedure, spot, lease }
        }));
    }

    /// What is published of a call that is over: the outcome for whoever asked, and the dead letter.
    fn over(&self, name: &str, call: &Answerable, over: (State, u16, &Outcome)) -> Vec<Part> {
        let Answerable { header, payload, trace, answering: Answering { asker, .. }, .. } = call;
        // An outcome whose asker has gone is for nobody.
        let outcome = record::outcome(header, over, asker);
        let part = |publication, must| Part { publication, must, instead: Vec::new() };
        let mut parts: Vec<Part> = outcome.map(|publication| part(publication, false)).into_iter().collect();
        if over.0 == State::Dead && header.durable {
            let topic = self.names.procedure(name);
            let call = record::call_again(header, payload, trace.as_deref(), asker, topic);
            let letter = record::dead_letter(call, self.names.dead(), name, header, over, wall_ms());
            parts.push(part(letter, true));
        }
        parts
    }

    /// A call that goes on, as it is published again.
    fn again(&self, name: &str, call: &Answerable) -> Part {
        let Answerable { header, payload, trace, answering: Answering { asker, .. }, .. } = call;
        let wait_ms = header.due_ms.saturating_sub(wall_ms());
        let topic = if wait_ms > 0 { self.names.retry(name, step_ms(wait_ms)) } else { self.names.procedure(name) };
        let publication = record::call_again(header, payload, trace.as_deref(), asker, topic);
        let mut instead = Vec::new();
        if header.at_most_once {
            let text = "it may run once, and nobody knows whether it was published again";
            let lost = Outcome::Failure(Failure::new(Code::Unknown, text).may_have_run());
            instead = self.over(name, call, (State::Dead, header.started(0).saturating_sub(1), &lost));
        }
        Part { publication, must: true, instead }
    }

    /// An outcome that brokers take: a reply that is too large for them fails the call.
    fn fitting(&self, state: State, outcome: Outcome) -> (State, Outcome) {
        let bytes = match &outcome {
            Outcome::Reply(value) => value.bytes.len(),
            Outcome::Failure(_) => 0,
        };
        let max = self.payload_bytes_max;
        if bytes <= usize::try_from(max).unwrap_or(usize::MAX) {
            return (state, outcome);
        }
        let text = format!("the reply has {bytes} bytes, at most {max} are allowed");
        (State::Failed, Outcome::Failure(Failure::new(Code::ResourceExhausted, text).may_have_run()))
    }

    /// The brokers have confirmed what an ending says.
    fn settled(&mut self, settling: Settling) {
        let Settling { procedure, spot, lease } = settling;
        let settled = self.reader(procedure).is_some_and(|reader| reader.offsets().done(&spot));
        if let Some(lease) = lease {
            self.events.push(if settled { Event::Settled { lease } } else { Event::Stale { lease } });
        }
    }
}

/// Publishes; what must be is offered for as long as it takes, also past what only an operator can mend. Gives back what
/// is to be published instead.
async fn publish(publisher: &Arc<Publisher>, part: Part) -> Vec<Part> {
    let Part { publication, must, instead } = part;
    let patience = if must { Patience::Endless } else { Patience::Homeless(HOMELESS) };
    loop {
        let published = Arc::clone(publisher).insist(publication.clone(), patience).await;
        let Err(Unpublished { error, may_be_written }) = published else { return Vec::new() };
        let topic = &publication.topic;
        if !must {
            tracing::warn!(%error, topic, "nobody can be told of an outcome");
            return Vec::new();
        }
        if publication.once && may_be_written {
            tracing::error!(%error, topic, "nobody knows whether a call that may run once was published again");
            return instead;
        }
        tracing::error!(%error, topic, "a call cannot be published again, or as a dead letter; it is tried again");
        tokio::time::sleep(PUBLISH_AGAIN).await;
    }
}

/// What a worker of these procedures needs to be there.
pub(crate) fn topics(names: &Names, procedures: &[String]) -> Vec<(String, Purpose)> {
    let of = |name: &String| {
        let steps = STEPS_MS.map(|step| names.retry(name, step));
        steps.into_iter().chain([names.procedure(name)]).collect::<Vec<_>>()
    };
    let mut topics: Vec<_> = procedures.iter().flat_map(of).map(|topic| (topic, Purpose::Calls)).collect();
    topics.push((names.dead(), Purpose::Dead));
    topics
}
