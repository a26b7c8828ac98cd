//! A consumer on a thread of its own, which is polled however long procedures take, so that a long one costs no rebalance.
//! Records go to a pump; what is settled comes back by way of the shared [`Offsets`].

use crate::offsets::{Commit, Offsets, Place, Spot};
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message, OwnedHeaders};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// How long a poll waits for records; what is asked of the thread waits as long.
const POLL: Duration = Duration::from_millis(10);
/// How often offsets are committed that nobody waits for.
const COMMIT: Duration = Duration::from_millis(100);
/// How long the brokers may take to say what was committed.
const ASKING: Duration = Duration::from_secs(10);

/// Where to read.
#[derive(Clone, Debug)]
pub(crate) enum Start {
    /// The share of a group's member in these topics.
    Share(Vec<String>),
    /// One partition, from what was committed on: the inbox of a name.
    Committed { topic: String },
    /// Any one partition, from its end on: the inbox of a caller without a name.
    End { topic: String, random: u64 },
}

/// A record that was read.
pub(crate) struct Read {
    /// Which reader of the pump's it comes from.
    pub(crate) reader: u32,
    pub(crate) spot: Spot,
    /// Whether whoever had its partition before may have started it.
    pub(crate) leased: bool,
    pub(crate) headers: Option<OwnedHeaders>,
    pub(crate) body: Vec<u8>,
    pub(crate) written_ms: u64,
}

/// What a reader tells its pump.
pub(crate) enum News {
    Read(Box<Read>),
    /// Partitions are another member's now.
    Lost,
    /// It reads no more.
    Failed(String),
}

enum Command {
    Commit(Option<oneshot::Sender<bool>>),
    Leave,
}

/// The thread's end of a pump. Dropping it ends the thread after a last commit.
pub(crate) struct Reader {
    commands: Sender<Command>,
    offsets: Arc<Mutex<Offsets>>,
    ended: Option<oneshot::Receiver<()>>,
    /// The partition that is read, where it is one.
    pub(crate) partition: i32,
}

impl Reader {
    /// Starts a thread; comes back when it knows where to begin.
    pub(crate) async fn start(
        config: &ClientConfig,
        group: &str,
        start: Start,
        number: u32,
        news: mpsc::UnboundedSender<News>,
        leases: Option<Arc<Leases>>,
    ) -> Result<Self, KafkaError> {
        let offsets = Arc::new(Mutex::new(Offsets::default()));
        let context = Member { offsets: Arc::clone(&offsets), leases: leases.clone(), news: news.clone() };
        let consumer: BaseConsumer<Member> = config
            .clone()
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("partition.assignment.strategy", "cooperative-sticky")
            // How soon the calls of a worker that went without a word are another's.
            .set("session.timeout.ms", "10000")
            .set("heartbeat.interval.ms", "2000")
            .set("fetch.min.bytes", "1")
            .set("fetch.error.backoff.ms", "50")
            .set("queued.max.messages.kbytes", "16384")
            .create_with_context(context)?;
        let (commands, asked) = channel();
        let (ready, started) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let thread = Thread { consumer, offsets: Arc::clone(&offsets), asked, news, number, leases };
        std::thread::Builder::new()
            .name("antiphon-kafka".to_owned())
            .spawn(move || {
                match thread.begin(start) {
                    Ok(partition) => {
                        drop(ready.send(Ok(partition)));
                        thread.run();
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
                // Leaving the group takes a moment.
                drop(thread);
                // Nobody may wait for it any more.
                let (Ok(()) | Err(())) = end.send(());
            })
            .map_err(|_| KafkaError::Canceled)?;
        let partition = started.await.unwrap_or(Err(KafkaError::Canceled))?;
        Ok(Self { commands, offsets, ended: Some(ended), partition })
    }

    pub(crate) fn offsets(&self) -> MutexGuard<'_, Offsets> {
        lock(&self.offsets)
    }

    /// Commits everything, changed or not, and says whether it worked.
    pub(crate) async fn commit(&self) -> bool {
        let (told, committed) = oneshot::channel();
        self.commands.send(Command::Commit(Some(told))).is_ok() && committed.await.unwrap_or(false)
    }

    /// Commits as soon as the thread gets to it.
    pub(crate) fn commit_soon(&self) {
        drop(self.commands.send(Command::Commit(None)));
    }

    /// Gives all partitions to the other members.
    pub(crate) fn leave(&self) {
        drop(self.commands.send(Command::Leave));
    }

    /// Ends the thread, and waits until it has left its group.
    pub(crate) async fn close(mut self) {
        let ended = self.ended.take();
        drop(self);
        if let Some(ended) = ended {
            drop(ended.await);
        }
    }
}

fn lock(offsets: &Mutex<Offsets>) -> MutexGuard<'_, Offsets> {
    offsets.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Commits up to where everything is settled.
fn commit(consumer: &BaseConsumer<Member>, offsets: &Mutex<Offsets>, mode: CommitMode) -> KafkaResult<()> {
    let commits = lock(offsets).commits();
    let committed = commit_all(consumer, &commits, mode);
    if committed.is_err() {
        lock(offsets).not_committed(commits.iter().map(|commit| &commit.place));
    }
    committed
}

fn commit_all<C: ConsumerContext>(consumer: &BaseConsumer<C>, commits: &[Commit], mode: CommitMode) -> KafkaResult<()> {
    if commits.is_empty() {
        return Ok(());
    }
    let mut list = TopicPartitionList::with_capacity(commits.len());
    for commit in commits {
        list.add_partition_offset(&commit.place.topic, commit.place.partition, Offset::Offset(commit.offset))?;
    }
    consumer.commit(&list, mode)
}

/// What was committed of a partition.
fn committed<C: ConsumerContext>(consumer: &BaseConsumer<C>, place: &Place) -> KafkaResult<Option<i64>> {
    let mut list = TopicPartitionList::new();
    list.add_partition(&place.topic, place.partition);
    let list = consumer.committed_offsets(list, ASKING)?;
    let elements = list.elements();
    Ok(elements.first().and_then(|element| match element.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }))
}

/// Up to where calls were leased, of all procedures: a group that reads nothing and only commits.
pub(crate) struct Leases {
    consumer: BaseConsumer,
}

impl Leases {
    pub(crate) fn open(config: &ClientConfig, group: &str) -> KafkaResult<Self> {
        let consumer = config.clone().set("group.id", group).set("enable.auto.commit", "false").create()?;
        Ok(Self { consumer })
    }

    fn commit(&self, offsets: &Mutex<Offsets>, mode: CommitMode) -> KafkaResult<()> {
        let commits = lock(offsets).lease_commits();
        let committed = commit_all(&self.consumer, &commits, mode);
        // What became of commits that nobody waits for piles up in the client until it is taken out, one at a time.
        for _ in 0..2 {
            drop(self.consumer.poll(Duration::ZERO));
        }
        if committed.is_err() {
            lock(offsets).not_committed(commits.iter().map(|commit| &commit.place));
        }
        committed
    }
}

/// What the client calls back while it is polled.
struct Member {
    offsets: Arc<Mutex<Offsets>>,
    /// `None` where what is read is not leased: outcomes.
    leases: Option<Arc<Leases>>,
    news: mpsc::UnboundedSender<News>,
}

impl ClientContext for Member {}

impl ConsumerContext for Member {
    /// Before partitions go: what is settled is committed, everything else is fenced here and comes again there.
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(list) = rebalance else { return };
        if !consumer.assignment_lost()
            && let Err(error) = commit(consumer, &self.offsets, CommitMode::Sync)
        {
            tracing::warn!(%error, "committing before partitions go: some calls will run again");
        }
        if let Some(leases) = &self.leases
            && let Err(error) = leases.commit(&self.offsets, CommitMode::Sync)
        {
            tracing::warn!(%error, "committing leases before partitions go: some lost ones will not be counted");
        }
        for element in list.elements() {
            let place = Place { topic: element.topic().into(), partition: element.partition() };
            lock(&self.offsets).revoked(&place);
        }
        drop(self.news.send(News::Lost));
    }

    fn commit_callback(&self, result: KafkaResult<()>, list: &TopicPartitionList) {
        if result.is_err() {
            let places = list.elements().into_iter();
            let places: Vec<Place> =
                places.map(|element| Place { topic: element.topic().into(), partition: element.partition() }).collect();
            lock(&self.offsets).not_committed(places.iter());
        }
    }
}

/// What the thread owns.
struct Thread {
    consumer: BaseConsumer<Member>,
    offsets: Arc<Mutex<Offsets>>,
    asked: Receiver<Command>,
    news: mpsc::UnboundedSender<News>,
    number: u32,
    /// `None` where what is read is not leased: outcomes.
    leases: Option<Arc<Leases>>,
}

impl Thread {
    /// Finds where to begin; gives back the partition, where it is one.
    fn begin(&self, start: Start) -> KafkaResult<i32> {
        let (topic, partition, offset) = match start {
            Start::Share(topics) => {
                let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
                return self.consumer.subscribe(&topics).map(|()| 0);
            }
            Start::Committed { topic } => {
                let place = Place { topic: topic.as_str().into(), partition: 0 };
                let offset = committed(&self.consumer, &place)?;
                (topic, 0, offset.map_or(Offset::Beginning, Offset::Offset))
            }
            Start::End { topic, random } => {
                let metadata = self.consumer.fetch_metadata(Some(&topic), ASKING)?;
                let count = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
                let count = u64::try_from(count.max(1)).unwrap_or(1);
                let partition = i32::try_from(random % count).unwrap_or(0);
                let (_, high) = self.consumer.fetch_watermarks(&topic, partition, ASKING)?;
                (topic, partition, Offset::Offset(high))
            }
        };
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, partition, offset)?;
        lock(&self.offsets).assigned(Place { topic: topic.as_str().into(), partition }, 0);
        self.consumer.assign(&list)?;
        Ok(partition)
    }

    /// Commits both: first what only the member that has a partition may, so that whoever is fenced gets no further.
    fn commit(&self, mode: CommitMode) -> KafkaResult<()> {
        commit(&self.consumer, &self.offsets, mode)?;
        self.leases.as_ref().map_or(Ok(()), |leases| leases.commit(&self.offsets, mode))
    }

    fn run(&self) {
        let mut committed = Instant::now();
        let mut looked = Instant::now();
        loop {
            match self.obey() {
                Ok(true) => committed = Instant::now(),
                Ok(false) => (),
                Err(()) => break,
            }
            if looked.elapsed() >= POLL {
                looked = Instant::now();
                self.pause();
            }
            if committed.elapsed() >= COMMIT {
                committed = Instant::now();
                // What cannot be committed now is committed later.
                drop(self.commit(CommitMode::Async));
            }
            match self.consumer.poll(POLL) {
                None => (),
                Some(Ok(record)) => self.hand_over(&record),
                Some(Err(error)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) => {
                    drop(self.news.send(News::Failed(error.to_string())));
                    break;
                }
                Some(Err(error)) => tracing::debug!(%error, "reading from Kafka; the client tries again"),
            }
        }
        drop(self.commit(CommitMode::Sync));
    }

    /// Does what was asked. `Ok(true)` when something was committed, `Err` when the pump is gone.
    fn obey(&self) -> Result<bool, ()> {
        let mut did = false;
        loop {
            match self.asked.try_recv() {
                Ok(Command::Commit(None)) => {
                    drop(self.commit(CommitMode::Async));
                    did = true;
                }
                Ok(Command::Commit(Some(told))) => {
                    // On this thread, otherwise a commit that nobody waits for could go out in between with what is
                    // to be waited for.
                    lock(&self.offsets).commit_anyway();
                    let committed = self.commit(CommitMode::Sync);
                    let (Ok(()) | Err(_)) = told.send(committed.is_ok());
                    did = true;
                }
                Ok(Command::Leave) => {
                    drop(self.commit(CommitMode::Sync));
                    self.consumer.unsubscribe();
                }
                Err(TryRecvError::Empty) => return Ok(did),
                Err(TryRecvError::Disconnected) => return Err(()),
            }
        }
    }

    fn hand_over(&self, record: &BorrowedMessage<'_>) {
        let place = Place { topic: record.topic().into(), partition: record.partition() };
        if !lock(&self.offsets).is_assigned(&place) {
            let Some(leased) = self.leased(&place) else { return };
            lock(&self.offsets).assigned(place.clone(), leased);
        }
        let Some((spot, leased)) = lock(&self.offsets).arrived(&place, record.offset()) else { return };
        let read = Read {
            reader: self.number,
            spot,
            leased,
            headers: record.headers().map(|headers| headers.detach()),
            body: record.payload().unwrap_or_default().to_vec(),
            written_ms: record.timestamp().to_millis().and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0),
        };
        drop(self.news.send(News::Read(Box::new(read))));
        if lock(&self.offsets).is_crowded(&place) {
            self.pause();
        }
    }

    /// Up to where a partition was leased by who had it before. Asked for as long as it takes: without it an
    /// at-most-once call could be leased twice. `None` when the pump is gone meanwhile.
    fn leased(&self, place: &Place) -> Option<i64> {
        let Some(leases) = &self.leases else { return Some(0) };
        loop {
            match committed(&leases.consumer, place) {
                Ok(leased) => return Some(leased.unwrap_or(0)),
                Err(error) => tracing::warn!(%error, topic = &*place.topic, "asking what was leased"),
            }
            if self.news.is_closed() {
                return None;
            }
        }
    }

    fn pause(&self) {
        let (pause, go_on) = lock(&self.offsets).pauses();
        let list = |places: &[Place]| {
            let mut list = TopicPartitionList::with_capacity(places.len());
            for place in places {
                list.add_partition(&place.topic, place.partition);
            }
            list
        };
        if !pause.is_empty() {
            drop(self.consumer.pause(&list(&pause)));
        }
        if !go_on.is_empty() {
            drop(self.consumer.resume(&list(&go_on)));
        }
    }
}
