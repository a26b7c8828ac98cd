//! The remote broker: the seam over a socket. Every caller and worker has a connection of its own, which is kept up;
//! questions share one, which is opened again when one is asked.

mod address;
mod caller;
mod carrier;
mod dial;
mod inspector;
mod line;
mod options;
mod routes;
mod session;
mod socket;
mod worker;

pub use address::{Address, AddressError};
pub use carrier::{Carrier, Connect};
pub use options::RemoteOptions;

use crate::handshake::{Role, Welcome, feature};
use antiphon_broker::{
    AcceptedMeans, Attach, BoxFuture, Broker, Callbacks, Caller, CancelReach, Capabilities, Delay, Fencing,
    Idempotency, Inbox, Inspect, LeasesOf, OpenError, Ordering, Questions, Sink, Support, Worker,
};
use antiphon_protocol::{CallerId, Offer};
use caller::CallerSide;
use dial::{Destination, hello};
use inspector::Inspector;
use line::{Closing, Line};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::task::JoinHandle;
use worker::WorkerSide;

/// A broker behind a socket.
pub struct Remote {
    destination: Arc<Destination>,
    capabilities: Capabilities,
    inspector: Inspector,
    lines: Mutex<Vec<Kept>>,
}

/// A line and the task that keeps it.
type Kept = (Weak<dyn Closing>, JoinHandle<()>);

impl Remote {
    /// Connects, and learns what the broker can do. Must be called on a tokio runtime with I/O and time enabled; a
    /// current-thread one will do.
    ///
    /// # Errors
    /// [`OpenError::Unreachable`] when nothing answers at the address, at once; [`OpenError::Refused`] when what
    /// answers is not a broker, or speaks another version, or refuses.
    pub async fn connect(address: Address, options: RemoteOptions) -> Result<Self, OpenError> {
        let destination = Arc::new(Destination { address, options });
        let inspector = Inspector::new(Arc::clone(&destination));
        let welcome = inspector.open().await?;
        Ok(Self { destination, capabilities: capabilities(&welcome), inspector, lines: Mutex::new(Vec::new()) })
    }

    /// Where the broker is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.destination.address
    }

    fn keep<S: line::Side>(&self, line: &Arc<Line<S>>, dialled: dial::Dialled) {
        let task = tokio::spawn(Arc::clone(line).keep(dialled));
        let closing: Arc<dyn Closing> = Arc::clone(line) as Arc<dyn Closing>;
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|(line, _)| line.strong_count() > 0);
        lines.push((Arc::downgrade(&closing), task));
    }
}

impl Broker for Remote {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn open_caller(&self, inbox: Inbox, sink: Arc<dyn Sink>) -> BoxFuture<'_, Result<Box<dyn Caller>, OpenError>> {
        Box::pin(async move {
            let mut hello = hello(Role::Caller, &self.destination.options);
            match &inbox {
                Inbox::Anonymous(CallerId(id)) => hello.peer = *id,
                Inbox::Named(name) => hello.inbox = Some(name.clone()),
            }
            let dialled = dial::dial(&self.destination, &hello, None).await?;
            let side = CallerSide::new(hello.inbox.is_some(), &self.destination.options);
            let line = Arc::new(Line::new(Arc::clone(&self.destination), hello, sink, side));
            self.keep(&line, dialled);
            Ok(Box::new(caller::RemoteCaller(line)) as Box<dyn Caller>)
        })
    }

    fn open_worker(&self, offer: Offer, sink: Arc<dyn Sink>) -> BoxFuture<'_, Result<Box<dyn Worker>, OpenError>> {
        Box::pin(async move {
            let hello = hello(Role::Worker, &self.destination.options);
            let dialled = dial::dial(&self.destination, &hello, Some(&offer)).await?;
            let side = WorkerSide::new(offer, &self.destination.options);
            let line = Arc::new(Line::new(Arc::clone(&self.destination), hello, sink, side));
            self.keep(&line, dialled);
            Ok(Box::new(worker::RemoteWorker(line)) as Box<dyn Worker>)
        })
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        Some(&self.inspector)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.inspector.close();
            let lines = core::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner));
            for (line, _) in &lines {
                if let Some(line) = line.upgrade() {
                    line.close();
                }
            }
            for (_, task) in lines {
                // A line bounds its own farewell; one that panicked has nothing left to flush.
                drop(task.await);
            }
        })
    }
}

fn capabilities(welcome: &Welcome) -> Capabilities {
    let has = |bit: u32| if welcome.features & bit == 0 { Support::Refused } else { Support::Native };
    let is = |bit: u32| welcome.features & bit != 0;
    Capabilities {
        accepted: match welcome.accepted {
            1 => AcceptedMeans::Fsynced,
            2 => AcceptedMeans::Replicated,
            _ => AcceptedMeans::Memory,
        },
        durable_by_default: is(feature::DURABLE_BY_DEFAULT),
        fencing: Fencing::AtSettle,
        cancel: CancelReach::Running,
        attach: Attach::ById,
        ordering: if is(feature::LANES) { Ordering::Lanes } else { Ordering::None },
        idempotency: if is(feature::IDEMPOTENCY_KEYS) { Idempotency::ByKey } else { Idempotency::ById },
        delay: Delay::Exact,
        callbacks: if is(feature::CALLBACKS) { Callbacks::Atomic } else { Callbacks::None },
        groups: has(feature::GROUPS),
        late_binding: Support::Native,
        priorities: has(feature::PRIORITIES),
        concurrency_keys: has(feature::CONCURRENCY_KEYS),
        needs: has(feature::NEEDS),
        parking: has(feature::PARKING),
        tenants: Support::Native,
        leases: LeasesOf::Incarnation,
        questions: Questions::All,
        named_inboxes: has(feature::NAMED_INBOXES),
        progress: has(feature::PROGRESS),
        events: has(feature::EVENTS),
        schedules: has(feature::SCHEDULES),
        payload_bytes_max: welcome.payload_bytes_max,
    }
}
