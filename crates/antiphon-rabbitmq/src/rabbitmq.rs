//! RabbitMQ behind the seam: what it can do, and how its callers and workers are opened.

use crate::address::Address;
use crate::caller_line::CallerLine;
use crate::caller_pump::CallerPump;
use crate::control::Claim;
use crate::dead_letters::DeadLetters;
use crate::delay::DELAY_MS_MAX;
use crate::link::server_version;
use crate::names::Names;
use crate::worker_line::WorkerLine;
use crate::worker_pump::WorkerPump;
use antiphon_broker::foreign::{Admission, DedupeStore, HandingCaller, HandingWorker, Ledger, Room};
use antiphon_broker::{
    AcceptedMeans, Attach, BoxFuture, Broker, Callbacks, Caller, CancelReach, Capabilities, Delay, Driver, Fencing,
    Idempotency, Inbox, Inspect, LeasesOf, OpenError, Ordering, Questions, Sink, Support, Worker,
};
use antiphon_protocol::{Code, Failure, NAME_BYTES_MAX, Offer, defaults};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// The first version whose quorum queues know priorities.
const PRIORITIES_SINCE: (u32, u32) = (4, 0);

/// Opens `amqp://` and `amqps://` URLs: give it to `Antiphon::builder(url).driver(..)`.
#[must_use]
pub fn driver() -> impl Driver {
    RabbitMqDriver
}

struct RabbitMqDriver;

impl Driver for RabbitMqDriver {
    fn schemes(&self) -> &[&str] {
        &["amqp", "amqps"]
    }

    fn open<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Arc<dyn Broker>, OpenError>> {
        Box::pin(async move { Ok(Arc::new(RabbitMq::open(url).await?) as Arc<dyn Broker>) })
    }
}

/// A RabbitMQ server or cluster. Every caller and every worker has a connection of its own, which is made again for as
/// long as it takes when it breaks.
pub struct RabbitMq {
    address: Arc<Address>,
    admission: Arc<Admission>,
    dead_letters: DeadLetters,
    closing: watch::Sender<bool>,
    pumps: Mutex<Vec<JoinHandle<()>>>,
}

impl RabbitMq {
    /// Reaches the server at `url`; see the README for its parameters. Must be called within a tokio runtime, which
    /// everything that is opened runs on.
    ///
    /// # Errors
    /// [`OpenError::Refused`] with `INVALID_ARGUMENT` for a malformed URL, [`OpenError::Unreachable`] when no server
    /// answers. Wrong passwords and missing permissions are refused when a caller or worker is opened.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        let address = Arc::new(Address::parse(url)?);
        let version = server_version(&address).await?;
        let name = match version {
            Some((major, minor)) => format!("RabbitMQ {major}.{minor}"),
            None => "RabbitMQ".to_owned(),
        };
        let priorities = version.is_some_and(|version| version >= PRIORITIES_SINCE);
        let capabilities = capabilities(address.accept_memory, priorities);
        let admission = Arc::new(Admission::new(capabilities, name, DELAY_MS_MAX));
        let dead_letters = DeadLetters::new(Arc::clone(&address));
        Ok(Self { address, admission, dead_letters, closing: watch::Sender::new(false), pumps: Mutex::default() })
    }

    fn keep(&self, pump: JoinHandle<()>) {
        let mut pumps = self.pumps.lock().unwrap_or_else(PoisonError::into_inner);
        pumps.retain(|pump| !pump.is_finished());
        pumps.push(pump);
    }

    async fn caller(&self, inbox: Inbox, sink: Arc<dyn Sink>) -> Result<Box<dyn Caller>, OpenError> {
        let named = matches!(inbox, Inbox::Named(_));
        let mut ledger = Ledger::new(named, self.admission.capabilities().durable_by_default);
        let store = DedupeStore::open_for(&mut ledger, self.address.dedupe.as_deref().filter(|_| named))?;
        let claim = Claim::new();
        let line = CallerLine::open(&self.address, &inbox, claim).await?;
        let (pump, asked) = mpsc::unbounded_channel();
        let room = Arc::new(Room::default());
        // A pump that is gone has said so by its last event.
        let caller = HandingCaller::new(Arc::clone(&room), move |asked| drop(pump.send(asked)));
        let pump = CallerPump {
            address: Arc::clone(&self.address),
            admission: Arc::clone(&self.admission),
            inbox,
            claim,
            sink,
            room,
            asked,
            closing: self.closing.subscribe(),
            store,
            ledger,
            events: Vec::new(),
            again: Vec::new(),
            outstanding: HashMap::new(),
            homeless: HashMap::new(),
            epoch: 0,
        };
        self.keep(tokio::spawn(pump.run(line)));
        Ok(Box::new(caller))
    }

    async fn worker(&self, offer: Offer, sink: Arc<dyn Sink>) -> Result<Box<dyn Worker>, OpenError> {
        let names = Names::new(self.address.prefix.clone());
        let queues: Vec<String> = offer.procedures.iter().map(|offered| names.procedure(&offered.name)).collect();
        if let Some(queue) = queues.iter().find(|queue| queue.len() > NAME_BYTES_MAX) {
            let text = format!("the queue's name {queue:?} has more than {NAME_BYTES_MAX} bytes");
            return Err(OpenError::Refused(Failure::new(Code::InvalidArgument, text)));
        }
        let line = WorkerLine::open(&self.address, &queues, offer.slots).await?;
        let (pump, asked) = mpsc::unbounded_channel();
        let address = Arc::clone(&self.address);
        let moving = WorkerPump::new(address, &offer, queues, sink, asked, self.closing.subscribe());
        self.keep(tokio::spawn(moving.run(line)));
        Ok(Box::new(HandingWorker::new(move |asked| drop(pump.send(asked)))))
    }
}

impl Broker for RabbitMq {
    fn capabilities(&self) -> &Capabilities {
        self.admission.capabilities()
    }

    fn open_caller(&self, inbox: Inbox, sink: Arc<dyn Sink>) -> BoxFuture<'_, Result<Box<dyn Caller>, OpenError>> {
        Box::pin(self.caller(inbox, sink))
    }

    fn open_worker(&self, offer: Offer, sink: Arc<dyn Sink>) -> BoxFuture<'_, Result<Box<dyn Worker>, OpenError>> {
        Box::pin(self.worker(offer, sink))
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        Some(&self.dead_letters)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.closing.send_replace(true);
        let pumps = std::mem::take(&mut *self.pumps.lock().unwrap_or_else(PoisonError::into_inner));
        Box::pin(async move {
            for pump in pumps {
                // One that panicked has said so.
                drop(pump.await);
            }
        })
    }
}

fn capabilities(accept_memory: bool, priorities: bool) -> Capabilities {
    Capabilities {
        accepted: if accept_memory { AcceptedMeans::Memory } else { AcceptedMeans::Replicated },
        durable_by_default: !accept_memory,
        fencing: Fencing::AtCaller,
        cancel: CancelReach::Started,
        attach: Attach::InboxOnly,
        ordering: Ordering::None,
        idempotency: Idempotency::ById,
        delay: Delay::Stepped,
        callbacks: Callbacks::None,
        groups: Support::Refused,
        progress: Support::Refused,
        events: Support::Refused,
        schedules: Support::Refused,
        late_binding: Support::Native,
        priorities: if priorities { Support::Emulated } else { Support::Refused },
        tenants: Support::Refused,
        leases: LeasesOf::Connection,
        questions: Questions::DeadLetters,
        concurrency_keys: Support::Refused,
        needs: Support::Refused,
        parking: Support::Refused,
        named_inboxes: Support::Native,
        payload_bytes_max: defaults::PAYLOAD_BYTES_MAX,
    }
}
