//! What callers and workers tell each other past the queues of calls: stop this call, and whose a named inbox is.

use crate::message::{find, read_name, text};
use crate::names::Names;
use crate::publication::{Publication, short};
use antiphon_protocol::{CallId, Name};
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{FieldTable, ShortString};

/// The key that all workers listen to.
pub(crate) const WORKERS: &str = "cancel";
const KIND: &str = "antiphon-control";

/// Who opened a named inbox, and when: the later one has it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Claim {
    /// When it was opened first, in milliseconds since 1970; a reconnect does not make it younger.
    pub(crate) opened_ms: u64,
    /// Tells apart what was opened at the same time.
    pub(crate) random: u64,
}

/// One thing told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    /// To all workers: whoever runs this call, stop it, and tell the queue.
    Cancel { call: CallId, answer_to: Option<ShortString> },
    /// To a caller: this worker has been asked to stop the call.
    Stopping { call: CallId, worker: Name },
    /// To whoever has a named inbox: it is mine, unless you are younger.
    Claimed { claim: Claim, answer_to: Option<ShortString> },
    /// To a claimant: it is not.
    Taken,
}

impl Told {
    /// The message.
    pub(crate) fn write(&self) -> (BasicProperties, Vec<u8>) {
        let (kind, call, body) = match self {
            Self::Cancel { call, .. } => ("cancel", Some(call), Vec::new()),
            Self::Stopping { call, worker } => ("stopping", Some(call), worker.as_bytes().to_vec()),
            Self::Claimed { claim, .. } => {
                ("claimed", None, format!("{} {}", claim.opened_ms, claim.random).into_bytes())
            }
            Self::Taken => ("taken", None, Vec::new()),
        };
        let mut headers = FieldTable::default();
        headers.insert(short(KIND), text(kind));
        let mut properties = BasicProperties::default().with_headers(headers).with_delivery_mode(1);
        if let Some(call) = call {
            properties = properties.with_correlation_id(short(&call.to_string()));
        }
        if let Self::Cancel { answer_to: Some(queue), .. } | Self::Claimed { answer_to: Some(queue), .. } = self {
            properties = properties.with_reply_to(queue.clone());
        }
        (properties, body)
    }

    /// To everybody who listens to `key`.
    pub(crate) fn broadcast(&self, names: &Names, key: &str) -> Publication {
        let (properties, body) = self.write();
        Publication { exchange: short(&names.control()), key: short(key), properties, body: body.into() }
    }

    /// To one queue.
    pub(crate) fn answer(&self, queue: &ShortString) -> Publication {
        let (properties, body) = self.write();
        Publication::to_queue(queue.as_str(), properties, body.into())
    }

    /// Reads the message; `None` for what nobody of this version says.
    pub(crate) fn read(delivery: &Delivery) -> Option<Self> {
        let properties = &delivery.properties;
        let answer_to = properties.reply_to().clone();
        let call = || properties.correlation_id().as_ref()?.as_str().parse().ok();
        match find(properties, KIND)? {
            "cancel" => Some(Self::Cancel { call: call()?, answer_to }),
            "stopping" => Some(Self::Stopping { call: call()?, worker: read_name(&delivery.data)? }),
            "claimed" => {
                let (opened, random) = std::str::from_utf8(&delivery.data).ok()?.split_once(' ')?;
                let claim = Claim { opened_ms: opened.parse().ok()?, random: random.parse().ok()? };
                Some(Self::Claimed { claim, answer_to })
            }
            "taken" => Some(Self::Taken),
            _ => None,
        }
    }
}
