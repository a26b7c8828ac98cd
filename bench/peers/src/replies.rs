//! For systems whose replies come on a path of their own: who waits for which number.

use anyhow::Context;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Bytes of the number in front of an argument and a value.
pub const NUMBER_BYTES: usize = 8;

/// Calls that wait for their reply.
#[derive(Clone, Default)]
pub struct Replies(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    next: u64,
    waiting: HashMap<u64, oneshot::Sender<usize>>,
}

impl Replies {
    /// Numbers that no earlier caller used: they begin at the time.
    pub fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let next = u64::try_from(now.as_micros()).unwrap_or(0) << 8;
        Self(Arc::new(Mutex::new(State { next, waiting: HashMap::new() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a call, and where its reply's length comes.
    pub fn expect(&self) -> (u64, oneshot::Receiver<usize>) {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        state.next += 1;
        let number = state.next;
        state.waiting.insert(number, sender);
        (number, receiver)
    }

    /// A reply has come; one that nobody waits for is of an earlier caller.
    pub fn came(&self, numbered: &[u8]) {
        let Some((number, value)) = numbered.split_first_chunk::<NUMBER_BYTES>() else { return };
        if let Some(sender) = self.state().waiting.remove(&u64::from_be_bytes(*number)) {
            sender.send(value.len()).unwrap_or_default();
        }
    }
}

/// An argument behind its number.
pub fn numbered(number: u64, argument: &Bytes) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(NUMBER_BYTES + argument.len());
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(argument);
    bytes
}

/// Waits for a reply.
pub async fn reply(receiver: oneshot::Receiver<usize>) -> anyhow::Result<usize> {
    receiver.await.context("the connection for replies is gone")
}
