//! A server from outside its thread: stopping it, and asking it.

use crate::Counters;
use crate::counters::LiveCounters;
use antiphon_protocol::{Answer, Code, Failure, Query};
use mio::Waker;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// How many questions may wait at a time: the gateway asks one per request and bounds its own requests.
const QUESTIONS_MAX: usize = 64;

/// How far a server is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Phase {
    /// Recovering, or not started.
    Starting = 0,
    /// Serving.
    Ready = 1,
    /// Saying goodbye.
    Stopping = 2,
    /// Gone.
    Stopped = 3,
}

/// A server from outside its thread.
#[derive(Clone, Debug, Default)]
pub struct ServerHandle(pub(crate) Arc<Shared>);

#[derive(Debug, Default)]
pub(crate) struct Shared {
    phase: AtomicU8,
    questions: Mutex<Vec<Question>>,
    waker: OnceLock<Arc<Waker>>,
    pub(crate) counters: LiveCounters,
}

/// A question from outside, and where its answer goes.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) query: Query,
    pub(crate) answer: SyncSender<Answer>,
}

impl ServerHandle {
    /// How far the server is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.0.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            2 => Phase::Stopping,
            _ => Phase::Stopped,
        }
    }

    /// Asks the server to tell everybody goodbye and to stop; [`crate::Running::join`] waits for it.
    pub fn stop(&self) {
        self.advance(Phase::Stopping);
        self.wake();
    }

    /// What the server counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.0.counters.read()
    }

    /// Asks the broker, waiting at most `timeout`. Blocks: not for async code.
    ///
    /// # Errors
    /// `UNAVAILABLE` when it is not serving, `DEADLINE_EXCEEDED` when it is too busy.
    pub fn ask(&self, query: Query, timeout: Duration) -> Result<Answer, Failure> {
        let receiver = self.put(query)?;
        receiver.recv_timeout(timeout).map_err(|error| match error {
            RecvTimeoutError::Timeout => {
                Failure::new(Code::DeadlineExceeded, format!("the broker did not answer within {timeout:?}"))
            }
            RecvTimeoutError::Disconnected => unavailable(),
        })
    }

    fn put(&self, query: Query) -> Result<Receiver<Answer>, Failure> {
        if self.phase() != Phase::Ready {
            return Err(unavailable());
        }
        let (answer, receiver) = sync_channel(1);
        {
            let mut questions = self.0.questions.lock().unwrap_or_else(PoisonError::into_inner);
            if questions.len() >= QUESTIONS_MAX {
                return Err(Failure::new(Code::ResourceExhausted, "too many questions wait for the broker"));
            }
            questions.push(Question { query, answer });
        }
        self.wake();
        Ok(receiver)
    }

    pub(crate) fn questions(&self) -> Vec<Question> {
        core::mem::take(&mut *self.0.questions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_waker(&self, waker: Arc<Waker>) {
        // A server is started once; a second waker would be a bug, and the first keeps working.
        drop(self.0.waker.set(waker));
    }

    /// Moves on to a later phase; a stop that was asked for stays.
    pub(crate) fn advance(&self, phase: Phase) {
        self.0.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }

    fn wake(&self) {
        if let Some(Err(error)) = self.0.waker.get().map(|waker| waker.wake()) {
            tracing::error!(%error, "cannot wake the broker's thread");
        }
    }
}

fn unavailable() -> Failure {
    Failure::new(Code::Unavailable, "the broker is not serving")
}
