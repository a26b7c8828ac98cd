//! What the tests share: a server on a free port, sinks that keep what they are told, calls and offers.

use antiphon_broker::{Broker, Caller, Event, Inbox, Lease, Report, Sink, Submission, Wants, Worker};
use antiphon_embedded::DriverOptions;
use antiphon_protocol::{
    Call, CallId, CallerId, IncarnationId, Name, Offer, OfferedProcedure, Outcome, Payload, Route, Settlement, State,
};
use antiphon_server::{Address, Running, Server, ServerOptions};
use antiphon_wire::{Remote, RemoteOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// No test waits longer for one thing.
const PATIENCE: Duration = Duration::from_secs(10);

pub fn options(directory: Option<&Path>) -> ServerOptions {
    ServerOptions::new(DriverOptions { directory: directory.map(Path::to_path_buf), ..DriverOptions::default() })
}

pub fn any_port() -> Address {
    Address::Tcp("127.0.0.1:0".to_owned())
}

pub fn start(options: ServerOptions) -> Running {
    Server::new(options).listen(any_port()).start().unwrap()
}

/// Starts again where another server stopped.
pub fn start_at(options: ServerOptions, address: &Address) -> Running {
    Server::new(options).listen(address.clone()).start().unwrap()
}

pub fn remote_options() -> RemoteOptions {
    let mut options = RemoteOptions::default();
    options.backoff_first = Duration::from_millis(5);
    options.backoff_max = Duration::from_millis(50);
    options
}

pub async fn connect(address: &Address) -> Remote {
    Remote::connect(address.clone(), remote_options()).await.unwrap()
}

pub struct Heard(UnboundedReceiver<Event>);

struct Ear(UnboundedSender<Event>);

impl Sink for Ear {
    fn events(&self, events: &mut Vec<Event>) {
        // A test that has seen enough listens no more.
        events.drain(..).for_each(|event| drop(self.0.send(event)));
    }
}

pub fn ear() -> (Arc<dyn Sink>, Heard) {
    let (sender, receiver) = unbounded_channel();
    (Arc::new(Ear(sender)), Heard(receiver))
}

impl Heard {
    pub async fn next(&mut self) -> Event {
        tokio::time::timeout(PATIENCE, self.0.recv()).await.expect("an event comes").expect("the sink lives")
    }

    /// The next event that `pick` takes; others are passed over.
    pub async fn find<T>(&mut self, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        loop {
            if let Some(found) = pick(self.next().await) {
                return found;
            }
        }
    }

    pub async fn lease(&mut self) -> Lease {
        self.find(|event| if let Event::Lease(lease) = event { Some(lease) } else { None }).await
    }

    pub async fn outcome(&mut self) -> (u64, State, Outcome) {
        self.find(|event| match event {
            Event::Outcome { tag, state, outcome, .. } => Some((tag, state, outcome)),
            Event::Refused { failure, .. } => panic!("refused: {failure}"),
            _ => None,
        })
        .await
    }
}

pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

pub fn new_id() -> CallId {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    CallId::new(now.as_millis() as u64, random())
}

pub fn submission(tag: u64, wants: Wants, payload: impl Into<Vec<u8>>) -> Submission {
    let mut route = Route::new(Name::from_static("test.echo"));
    route.idempotent = true;
    let call = Call::new(new_id(), Arc::new(route), Payload::raw(payload.into()));
    Submission { call, tag, wants, resent: false }
}

/// The same of a call whose leases are recorded: those of idempotent calls do not outlive the broker.
pub fn recorded(tag: u64, payload: &str) -> Submission {
    let mut submission = submission(tag, Wants::Outcome, payload);
    let mut route = Route::clone(&submission.call.route);
    route.idempotent = false;
    submission.call.route = Arc::new(route);
    submission
}

pub async fn caller(broker: &Remote) -> (Box<dyn Caller>, Heard) {
    let (sink, heard) = ear();
    let caller = broker.open_caller(Inbox::Anonymous(CallerId(random())), sink).await.unwrap();
    (caller, heard)
}

pub async fn worker(broker: &Remote, slots: u32) -> (Box<dyn Worker>, Heard) {
    let (sink, heard) = ear();
    let offer = Offer {
        incarnation: IncarnationId(random()),
        name: Name::from_static("test-worker"),
        procedures: vec![OfferedProcedure { name: Name::from_static("test.echo"), idempotent: true, schema: None }],
        slots,
        labels: Vec::new(),
        held: Vec::new(),
    };
    (broker.open_worker(offer, sink).await.unwrap(), heard)
}

pub fn echo(lease: &Lease) -> Report {
    Report { lease: lease.lease, call: lease.call, settlement: Settlement::Succeed(lease.payload.clone()) }
}

pub fn reply(outcome: Outcome) -> Vec<u8> {
    match outcome {
        Outcome::Reply(payload) => payload.bytes.to_vec(),
        Outcome::Failure(failure) => panic!("{failure}"),
    }
}
