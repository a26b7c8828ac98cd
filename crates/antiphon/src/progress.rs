//! What a running call tells of itself, as its caller hears it: a stream that ends with the call. It holds the newest
//! items only, so that a reader who is slow is not far behind.

use crate::encoding::decode;
use antiphon_broker::{Progress as Told, Support};
use antiphon_protocol::{Code, Failure, Payload, Tag, defaults};
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Something that a running call told of itself.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Progress<P> {
    /// What it told.
    pub value: P,
    /// Which attempt told it, counted from 1. What a later attempt tells begins anew.
    pub attempt: u16,
    /// Its place: strictly increasing for a call, over attempts and restarts of the broker, but with gaps.
    pub sequence: u64,
}

/// What a running call tells of itself, from [`SubmittedCall::progress`](crate::SubmittedCall::progress).
#[must_use = "progress comes only to whoever reads it"]
pub struct ProgressStream<P> {
    feed: Arc<Mutex<Feed>>,
    value: PhantomData<fn() -> P>,
}

/// Items between the session and the stream.
#[derive(Default)]
pub(crate) struct Feed {
    items: VecDeque<Told>,
    bytes: usize,
    /// The newest sequence that came.
    seen: u64,
    closed: bool,
    waker: Option<Waker>,
}

fn lock(feed: &Mutex<Feed>) -> MutexGuard<'_, Feed> {
    feed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The session's side of a stream. Dropping it ends the stream.
pub(crate) struct Source(Arc<Mutex<Feed>>);

impl Source {
    /// A stream and its source.
    pub(crate) fn new<P>() -> (Self, ProgressStream<P>) {
        let feed = Arc::default();
        (Self(Arc::clone(&feed)), ProgressStream { feed, value: PhantomData })
    }

    /// Passes an item on; gives back whom to wake.
    pub(crate) fn push(&self, item: Told) -> Option<Waker> {
        let mut feed = lock(&self.0);
        // Asked for again, it comes again.
        if item.sequence <= feed.seen {
            return None;
        }
        feed.seen = item.sequence;
        feed.bytes += item.payload.bytes.len();
        feed.items.push_back(item);
        while feed.items.len() > defaults::PROGRESS_ITEMS_MAX || feed.bytes > defaults::PROGRESS_BYTES_MAX {
            let Some(oldest) = feed.items.pop_front() else { break };
            feed.bytes -= oldest.payload.bytes.len();
        }
        feed.waker.take()
    }

    /// The newest sequence that came.
    pub(crate) fn seen(&self) -> u64 {
        lock(&self.0).seen
    }

    /// Whether nobody reads it any more.
    fn is_unread(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Ends the stream; gives back whom to wake.
    pub(crate) fn close(&self) -> Option<Waker> {
        let mut feed = lock(&self.0);
        feed.closed = true;
        feed.waker.take()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Some(waker) = self.close() {
            waker.wake();
        }
    }
}

impl<P: DeserializeOwned> ProgressStream<P> {
    /// The next item; `None` after the last, once the call has ended. Giving up waiting for it loses
    /// nothing.
    ///
    /// An item that is not a `P` is an error with `INVALID_ARGUMENT`; the next may be one.
    pub async fn next(&mut self) -> Option<Result<Progress<P>, Failure>> {
        let Told { sequence, attempt, payload } = poll_fn(|context| self.poll_next(context)).await?;
        Some(match decode(&payload) {
            Ok(value) => Ok(Progress { value, attempt, sequence }),
            Err(error) => {
                let text = format!("the call told of itself what is not of the type asked for: {error}");
                Err(Failure::new(Code::InvalidArgument, text))
            }
        })
    }
}

impl<P> ProgressStream<P> {
    /// The next item as it came; `None` when the call has ended.
    pub async fn next_raw(&mut self) -> Option<Progress<Payload>> {
        let Told { sequence, attempt, payload } = poll_fn(|context| self.poll_next(context)).await?;
        Some(Progress { value: payload, attempt, sequence })
    }

    fn poll_next(&mut self, context: &Context<'_>) -> Poll<Option<Told>> {
        let mut feed = lock(&self.feed);
        if let Some(item) = feed.items.pop_front() {
            feed.bytes -= item.payload.bytes.len();
            return Poll::Ready(Some(item));
        }
        if feed.closed {
            return Poll::Ready(None);
        }
        feed.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl<P> std::fmt::Debug for ProgressStream<P> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ProgressStream").finish_non_exhaustive()
    }
}

impl crate::session::Session {
    /// Follows a call that is waited for under this tag. A stream of before ends.
    pub(crate) fn follow<P>(&self, tag: Tag) -> Result<ProgressStream<P>, Failure> {
        if self.broker.capabilities().progress == Support::Refused {
            let text = "this broker does not pass on what running calls tell of themselves";
            return Err(Failure::new(Code::Unimplemented, text));
        }
        let (source, stream) = Source::new();
        let mut state = self.lock();
        let Some(call) = state.pending.find(tag) else { return Ok(stream) };
        let (id, known) = (call.id, call.accepted.is_some() || call.ending.is_some());
        state.sources.retain(|_, source| !source.is_unread());
        let before = state.sources.insert(tag, source);
        // One that the broker may not have yet is asked for when it has.
        let caller = state.link.caller().filter(|_| known);
        if caller.is_none() && known {
            state.follows.push((id, tag));
        }
        drop(state);
        drop(before);
        if let Some(caller) = caller {
            caller.follow(&[(id, tag, 0)]);
        }
        Ok(stream)
    }
}

impl crate::session::State {
    /// Passes on what a call told of itself.
    pub(crate) fn progress(&mut self, tag: Tag, told: Told) -> Option<Waker> {
        self.sources.get(&tag)?.push(told)
    }
}
