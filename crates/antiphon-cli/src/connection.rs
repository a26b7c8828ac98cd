//! A connection to the broker that `--url` names, and what commands do with it: ask, submit, serve.

use crate::ending::{Ending, REFUSED};
use crate::foreign;
use antiphon::Antiphon;
use antiphon_broker::{Broker, Caller, Capabilities, Event, Inbox, Questions, Sink, Support, Worker};
use antiphon_embedded::{Embedded, EmbeddedOptions};
use antiphon_protocol::{Answer, CallId, CallerId, Failure, Offer, ProcedureStatus, Query, defaults};
use antiphon_wire::{Address, Remote, RemoteOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A broker that answers.
#[derive(Clone)]
pub struct Connection {
    broker: Arc<dyn Broker>,
    /// Where it is.
    pub address: String,
}

impl Connection {
    /// Connects to `url`, or to the broker of this machine.
    pub async fn open(url: Option<&str>) -> Result<Self, Ending> {
        if let Some(directory) = url.and_then(|url| url.strip_prefix("file:")) {
            let broker = Arc::new(open_directory(directory)?);
            return Ok(Self { broker, address: format!("file:{directory}") });
        }
        if let Some(url) = url
            && let Some(broker) = foreign::open(url).await?
        {
            return Ok(Self { broker, address: foreign::shown(url) });
        }
        let address = address(url)?;
        let text = address.to_string();
        let remote = Remote::connect(address, options()).await?;
        Ok(Self { broker: Arc::new(remote), address: text })
    }

    /// The largest payload that the broker takes, in bytes.
    pub fn payload_bytes_max(&self) -> usize {
        usize::try_from(self.broker.capabilities().payload_bytes_max).unwrap_or(usize::MAX)
    }

    /// What the broker can do.
    pub fn capabilities(&self) -> &Capabilities {
        self.broker.capabilities()
    }

    /// Refuses what would never tell anything.
    pub fn passes_progress_on(&self) -> Result<(), Ending> {
        if self.broker.capabilities().progress == Support::Refused {
            let text = format!("the broker at {} does not pass progress on: leave out --progress", self.address);
            return Err(Ending::new(REFUSED, text));
        }
        Ok(())
    }

    /// Asks the broker.
    pub async fn ask(&self, query: Query) -> Result<Answer, Ending> {
        match self.answer(query).await? {
            Answer::Refused { code, message } => Err(Ending::refused(&Failure::new(code, message))),
            answer => Ok(answer),
        }
    }

    /// Asks the broker; a refusal is an answer, too.
    pub async fn answer(&self, query: Query) -> Result<Answer, Ending> {
        let no_answers = || Ending::new(REFUSED, "this broker answers no questions");
        let inspect = self.broker.inspect().ok_or_else(no_answers)?;
        inspect.ask(query).await.map_err(|failure| Ending::refused(&failure))
    }

    /// Whether the broker can be asked for its procedures and workers.
    pub fn lists_procedures(&self) -> bool {
        self.broker.capabilities().questions == Questions::All
    }

    /// All procedures that the broker knows.
    pub async fn procedures(&self) -> Result<Vec<ProcedureStatus>, Ending> {
        match self.ask(Query::Procedures).await? {
            Answer::Procedures(procedures) => Ok(procedures),
            other => Err(unexpected(&other)),
        }
    }

    /// Opens a caller with an inbox of its own.
    pub async fn caller(&self) -> Result<(Box<dyn Caller>, UnboundedReceiver<Event>), Ending> {
        let (sender, receiver) = unbounded_channel();
        let inbox = Inbox::Anonymous(CallerId(random()));
        Ok((self.broker.open_caller(inbox, Arc::new(Channel(sender))).await?, receiver))
    }

    /// Opens a caller whose events go to `sink`.
    pub async fn caller_into(&self, sink: Arc<dyn Sink>) -> Result<Box<dyn Caller>, Ending> {
        Ok(self.broker.open_caller(Inbox::Anonymous(CallerId(random())), sink).await?)
    }

    /// Opens a worker.
    pub async fn worker(&self, offer: Offer) -> Result<(Box<dyn Worker>, UnboundedReceiver<Event>), Ending> {
        let (sender, receiver) = unbounded_channel();
        Ok((self.broker.open_worker(offer, Arc::new(Channel(sender))).await?, receiver))
    }

    /// Opens a worker whose events go to `sink`.
    pub async fn worker_into(&self, offer: Offer, sink: Arc<dyn Sink>) -> Result<Box<dyn Worker>, Ending> {
        Ok(self.broker.open_worker(offer, sink).await?)
    }

    /// The same connection, as programs have it.
    pub fn antiphon(&self) -> Antiphon {
        Antiphon::from_broker(Arc::clone(&self.broker))
    }

    /// Sends what was handed over and says goodbye.
    pub async fn close(&self) {
        self.broker.close().await;
    }
}

/// Takes events from the connection to whoever runs the command.
struct Channel(UnboundedSender<Event>);

impl Sink for Channel {
    fn events(&self, events: &mut Vec<Event>) {
        for event in events.drain(..) {
            // The command may have ended; then nobody wants them.
            drop(self.0.send(event));
        }
    }
}

/// Opens a data directory that no broker has open, in this process. One that is not there is not made.
fn open_directory(directory: &str) -> Result<Embedded, Ending> {
    let path = Path::new(directory.strip_prefix("//").unwrap_or(directory));
    if !path.join("meta").exists() {
        let text = format!("{directory:?} holds no calls: `antiphon serve --data {directory}` makes and serves it");
        return Err(Ending::usage(text));
    }
    Ok(Embedded::open(EmbeddedOptions { directory: Some(path.to_owned()), ..EmbeddedOptions::default() })?)
}

fn options() -> RemoteOptions {
    let mut options = RemoteOptions::default();
    concat!("antiphon/", env!("CARGO_PKG_VERSION")).clone_into(&mut options.agent);
    options
}

fn address(url: Option<&str>) -> Result<Address, Ending> {
    let Some(url) = url else { return Ok(Address::Tcp(defaults::LISTEN.to_owned())) };
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    match scheme {
        "memory" => Err(Ending::usage(
            "memory: is a broker inside one program: run `antiphon serve --memory`, and leave --url out",
        )),
        "antiphon+tls" => Err(Ending::usage(format!("{url}: TLS is not built in yet"))),
        _ => url.parse().map_err(Ending::usage),
    }
}

/// An answer that does not fit the question: a broker of another version.
pub fn unexpected(answer: &Answer) -> Ending {
    Ending::failed(format!("the broker answered something else than was asked: {answer:?}"))
}

/// The wall clock, in milliseconds since 1970.
pub fn now_ms() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// The id of a new call.
pub fn new_call_id() -> CallId {
    CallId::new(now_ms(), random())
}

/// Random bytes.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    bytes
}
