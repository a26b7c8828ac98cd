//! Queues and exchanges: declared the same way every time, so that who comes first does not matter.

use crate::address::Address;
use crate::link::{failure, reply_code};
use crate::message::text;
use crate::names::{DELAY_HEADER, Names};
use crate::publication::short;
use antiphon_broker::Inbox;
use antiphon_protocol::{Failure, defaults};
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, Error, ExchangeKind};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Queues of ours that nobody else's limit may empty: the server counts a delivery to a caller that went, too.
const NO_LIMIT: i64 = 1 << 30;

/// Whether a queue keeps what it has taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Strength {
    /// It was declared as durable calls need it.
    Durable,
    /// Somebody declared it otherwise.
    Weaker,
}

/// What has been declared on one connection.
pub(crate) struct Topology {
    pub(crate) names: Arc<Names>,
    connection: Connection,
    /// Declarations fail by closing their channel: this one is for nothing else.
    channel: Option<Channel>,
    procedures: HashMap<String, Strength>,
    delays: HashSet<u64>,
    shared: bool,
}

impl Topology {
    pub(crate) fn new(address: &Address, connection: Connection) -> Self {
        Self {
            names: Arc::new(Names::new(address.prefix.clone())),
            connection,
            channel: None,
            procedures: HashMap::new(),
            delays: HashSet::new(),
            shared: false,
        }
    }

    pub(crate) const fn connection(&self) -> &Connection {
        &self.connection
    }

    async fn channel(&mut self) -> Result<Channel, Error> {
        match &self.channel {
            Some(channel) if channel.status().connected() => Ok(channel.clone()),
            _ => {
                let channel = self.connection.create_channel().await?;
                self.channel = Some(channel.clone());
                Ok(channel)
            }
        }
    }

    async fn queue(&mut self, name: &str, options: QueueDeclareOptions, arguments: FieldTable) -> Result<(), Error> {
        let channel = self.channel().await?;
        channel.queue_declare(short(name), options, arguments).await.map(drop)
    }

    /// Exchanges and the queue of dead letters, which all the others lead to.
    pub(crate) async fn declare_shared(&mut self) -> Result<(), Failure> {
        if self.shared {
            return Ok(());
        }
        let names = Arc::clone(&self.names);
        let exchanges = [(names.control(), ExchangeKind::Direct), (names.delay(), ExchangeKind::Headers)];
        for (name, kind) in exchanges {
            let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            let channel = self.channel().await.map_err(|error| failure("opening a channel", &error))?;
            let declared = channel.exchange_declare(short(&name), kind, options, FieldTable::default()).await;
            declared.map_err(|error| failure(&format!("declaring the exchange {name:?}"), &error))?;
        }
        let dead = names.dead();
        let mut arguments = quorum(NO_LIMIT);
        set(&mut arguments, "x-message-ttl", long(defaults::DEAD_LETTER_RETENTION_MS));
        let declared = self.queue(&dead, durable(), arguments).await;
        declared.map_err(|error| failure(&format!("declaring the queue {dead:?}"), &error))?;
        self.shared = true;
        Ok(())
    }

    /// The queue of a procedure.
    pub(crate) async fn procedure(&mut self, queue: &str) -> Result<Strength, Failure> {
        if let Some(strength) = self.procedures.get(queue) {
            return Ok(*strength);
        }
        self.declare_shared().await?;
        let mut arguments = quorum(i64::from(defaults::DELIVERY_LIMIT));
        set(&mut arguments, "x-overflow", text("reject-publish"));
        set(&mut arguments, "x-dead-letter-strategy", text("at-least-once"));
        set(&mut arguments, "x-dead-letter-exchange", text(""));
        set(&mut arguments, "x-dead-letter-routing-key", text(&self.names.dead()));
        let what = format!("declaring the queue {queue:?}");
        let strength = match self.queue(queue, durable(), arguments).await {
            Ok(()) => Strength::Durable,
            // A quorum queue that somebody declared without our limits keeps what it takes just as well.
            Err(error) if reply_code(&error) == Some(406) && self.is_quorum(queue).await => Strength::Durable,
            Err(error) if reply_code(&error) == Some(406) => {
                let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
                let found = self.queue(queue, passive, FieldTable::default()).await;
                found.map_err(|error| failure(&what, &error))?;
                Strength::Weaker
            }
            Err(error) => return Err(failure(&what, &error)),
        };
        self.procedures.insert(queue.to_owned(), strength);
        Ok(strength)
    }

    /// Whether a queue that exists was declared as a quorum queue and nothing else.
    async fn is_quorum(&mut self, queue: &str) -> bool {
        let mut arguments = FieldTable::default();
        set(&mut arguments, "x-queue-type", text("quorum"));
        self.queue(queue, durable(), arguments).await.is_ok()
    }

    /// Somebody deleted a queue: it is declared again when it is needed next.
    pub(crate) fn forget(&mut self, queue: &str) {
        self.procedures.remove(queue);
        self.delays.clear();
        self.shared = false;
    }

    /// The queue in which calls wait for so many milliseconds, bound to its exchange.
    pub(crate) async fn delay(&mut self, ms: u64) -> Result<(), Failure> {
        if self.delays.contains(&ms) {
            return Ok(());
        }
        self.declare_shared().await?;
        let (queue, exchange) = (self.names.delay_queue(ms), self.names.delay());
        let mut arguments = quorum(NO_LIMIT);
        set(&mut arguments, "x-overflow", text("reject-publish"));
        set(&mut arguments, "x-dead-letter-strategy", text("at-least-once"));
        // To the default exchange under the key it came with, which is the procedure's queue.
        set(&mut arguments, "x-dead-letter-exchange", text(""));
        set(&mut arguments, "x-message-ttl", long(ms));
        let what = format!("declaring the queue {queue:?}");
        self.queue(&queue, durable(), arguments).await.map_err(|error| failure(&what, &error))?;
        let mut matching = FieldTable::default();
        set(&mut matching, "x-match", text("all"));
        set(&mut matching, DELAY_HEADER, text(&ms.to_string()));
        let channel = self.channel().await.map_err(|error| failure(&what, &error))?;
        let bound =
            channel.queue_bind(short(&queue), short(&exchange), short(""), QueueBindOptions::default(), matching).await;
        bound.map_err(|error| failure(&what, &error))?;
        self.delays.insert(ms);
        Ok(())
    }

    /// A caller's inbox. Says whether it was there before.
    pub(crate) async fn inbox(&mut self, inbox: &Inbox) -> Result<bool, Failure> {
        self.declare_shared().await?;
        let name = self.names.inbox(inbox);
        let what = format!("declaring the queue {name:?}");
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let found = match self.queue(&name, passive, FieldTable::default()).await {
            Ok(()) => true,
            Err(error) if reply_code(&error) == Some(404) => false,
            Err(error) => return Err(failure(&what, &error)),
        };
        let mut arguments = quorum(NO_LIMIT);
        if matches!(inbox, Inbox::Anonymous(_)) {
            set(&mut arguments, "x-expires", long(defaults::INBOX_GRACE_MS));
        }
        self.queue(&name, durable(), arguments).await.map_err(|error| failure(&what, &error))?;
        Ok(found)
    }

    /// A queue of this connection alone, bound to the control exchange under these keys.
    pub(crate) async fn control(&mut self, keys: &[&str]) -> Result<String, Failure> {
        self.declare_shared().await?;
        let what = "declaring a queue for control messages";
        let exchange = self.names.control();
        let channel = self.channel().await.map_err(|error| failure(what, &error))?;
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let declared = channel.queue_declare(short(""), options, FieldTable::default()).await;
        let queue = declared.map_err(|error| failure(what, &error))?.name().clone();
        for key in keys {
            let options = QueueBindOptions::default();
            let bound = channel.queue_bind(queue.clone(), short(&exchange), short(key), options, FieldTable::default());
            bound.await.map_err(|error| failure(what, &error))?;
        }
        Ok(queue.as_str().to_owned())
    }
}

const fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions { passive: false, durable: true, exclusive: false, auto_delete: false, nowait: false }
}

fn quorum(delivery_limit: i64) -> FieldTable {
    let mut arguments = FieldTable::default();
    set(&mut arguments, "x-queue-type", text("quorum"));
    set(&mut arguments, "x-delivery-limit", AMQPValue::LongLongInt(delivery_limit));
    arguments
}

fn set(arguments: &mut FieldTable, key: &str, value: AMQPValue) {
    arguments.insert(short(key), value);
}

fn long(ms: u64) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(ms).unwrap_or(i64::MAX))
}
