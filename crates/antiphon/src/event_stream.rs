//! Events as whoever watches them reads them: in the order in which the broker accepted them, none left out that is
//! kept, and no faster than they are read.

use crate::Antiphon;
use crate::encoding::decode;
use crate::session::{Link, Session};
use antiphon_broker::{Emission, Watch};
use antiphon_protocol::{CallId, Code, Failure, Pattern, Payload, Tag, Topic};
use serde::de::DeserializeOwned;
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// An event that was accepted by the broker.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct EmittedEvent {
    /// Its id.
    pub id: CallId,
    /// What it is about.
    pub topic: Topic,
    /// Its place among all events: strictly increasing, over restarts of a broker that journals, but with gaps. Read on
    /// after it with [`Antiphon::events_after`].
    pub number: u64,
    /// When the broker accepted it, in milliseconds since 1970.
    pub emitted_ms: u64,
    /// Whether it outlives the broker's memory.
    pub durable: bool,
    /// What it tells, as it was sent.
    pub payload: Payload,
}

impl EmittedEvent {
    /// What it tells.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when it is not a `T`.
    pub fn value<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        decode(&self.payload).map_err(|error| {
            let text = format!("event {} tells what is not of the type asked for: {error}", self.id);
            Failure::new(Code::InvalidArgument, text)
        })
    }
}

/// Events that match a pattern, from [`Antiphon::events`]. Dropping it ends it.
#[must_use = "events come only to whoever reads them"]
pub struct EventStream {
    session: Arc<Session>,
    tag: Tag,
}

/// The streams of a session.
#[derive(Default)]
pub(crate) struct Watching {
    feeds: HashMap<Tag, Feed>,
    tags: Tag,
}

/// What one stream has not read yet.
struct Feed {
    pattern: Pattern,
    /// The number after which to go on.
    after: u64,
    asked: Asked,
    items: VecDeque<Emission>,
    failure: Option<Failure>,
    waker: Option<Waker>,
}

/// Whether the broker was asked for what comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    No,
    /// To be asked when the caller is open.
    Soon,
    Yes,
}

impl Watching {
    fn insert(&mut self, pattern: Pattern, after: u64) -> Tag {
        self.tags += 1;
        let (items, failure, waker) = (VecDeque::new(), None, None);
        self.feeds.insert(self.tags, Feed { pattern, after, asked: Asked::No, items, failure, waker });
        self.tags
    }

    /// What is to be asked now that the caller is open.
    pub(crate) fn take_unasked(&mut self) -> Vec<Watch> {
        let unasked = self.feeds.iter_mut().filter(|(_, feed)| feed.asked == Asked::Soon);
        unasked.map(|(tag, feed)| feed.ask(*tag)).collect()
    }

    pub(crate) fn emitted(&mut self, tag: Tag, emission: Emission, last: bool) -> Option<Waker> {
        let feed = self.feeds.get_mut(&tag)?;
        feed.asked = if last { Asked::No } else { feed.asked };
        feed.after = emission.number;
        feed.items.push_back(emission);
        feed.waker.take()
    }

    pub(crate) fn watched(&mut self, tag: Tag, through: u64, failure: Option<Failure>) -> Option<Waker> {
        let feed = self.feeds.get_mut(&tag)?;
        (feed.after, feed.asked, feed.failure) = (through, Asked::No, failure);
        feed.waker.take()
    }

    /// Nothing comes any more; gives back whom to wake.
    pub(crate) fn end_all(&mut self, reason: &str) -> Vec<Waker> {
        let end = |feed: &mut Feed| {
            feed.asked = Asked::No;
            feed.failure.get_or_insert_with(|| Failure::new(Code::Unavailable, reason.to_owned()));
            feed.waker.take()
        };
        self.feeds.values_mut().filter_map(end).collect()
    }
}

impl Feed {
    fn ask(&mut self, tag: Tag) -> Watch {
        self.asked = Asked::Yes;
        Watch { tag, pattern: self.pattern.clone(), after: self.after }
    }
}

impl Antiphon {
    /// Events whose topic matches the pattern, from now on: what is emitted after this has returned comes. Patterns have
    /// tokens as topics do, or `*` for any one token, or `>` at the end for all that follow.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a malformed pattern, `UNIMPLEMENTED` when the broker has no events, `UNAVAILABLE` when it
    /// cannot be reached.
    pub async fn events(&self, pattern: &str) -> Result<EventStream, Failure> {
        let stream = self.watch(pattern, Watch::FROM_NOW)?;
        poll_fn(|context| stream.poll_begun(context)).await?;
        Ok(stream)
    }

    /// The same from the event after this number on; 0 begins with the oldest event that the broker keeps: it keeps them
    /// for 24 h, or until there are many later ones.
    ///
    /// # Errors
    /// As [`events`](Self::events), but for `UNAVAILABLE`, with which the stream ends.
    pub fn events_after(&self, pattern: &str, number: u64) -> Result<EventStream, Failure> {
        self.watch(pattern, number.min(Watch::FROM_NOW - 1))
    }

    fn watch(&self, pattern: &str, after: u64) -> Result<EventStream, Failure> {
        self.has_events()?;
        let pattern = Pattern::new(pattern).map_err(|error| Failure::new(Code::InvalidArgument, error.to_string()))?;
        let session = Arc::clone(self.session());
        let tag = session.lock().watches.insert(pattern, after);
        Ok(EventStream { session, tag })
    }
}

impl EventStream {
    /// The next event. Giving up waiting for it loses nothing.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the connection was closed, `DATA_LOSS` when an event cannot be read back, `RESOURCE_EXHAUSTED`
    /// when one is larger than this side takes, or too many patterns are watched. Asked once more, it goes on behind it if
    /// that is possible.
    pub async fn next(&mut self) -> Result<EmittedEvent, Failure> {
        let Emission { number, id, topic, emitted_ms, durable, payload } =
            poll_fn(|context| self.poll_next(context)).await?;
        Ok(EmittedEvent { id, topic, number, emitted_ms, durable, payload })
    }

    fn poll_begun(&self, context: &Context<'_>) -> Poll<Result<(), Failure>> {
        self.poll(context, |feed| (feed.after != Watch::FROM_NOW).then_some(()))
    }

    fn poll_next(&self, context: &Context<'_>) -> Poll<Result<Emission, Failure>> {
        self.poll(context, |feed| feed.items.pop_front())
    }

    /// Takes what is there, or asks for more.
    fn poll<T>(&self, context: &Context<'_>, take: impl FnOnce(&mut Feed) -> Option<T>) -> Poll<Result<T, Failure>> {
        let mut state = self.session.lock();
        if let Link::Ended(reason) = &state.link {
            let failure = Failure::new(Code::Unavailable, reason.clone());
            return Poll::Ready(Err(failure));
        }
        let feed = state.watches.feeds.get_mut(&self.tag).expect("a stream has its feed until it is dropped");
        if let Some(taken) = take(feed) {
            return Poll::Ready(Ok(taken));
        }
        if let Some(failure) = feed.failure.take() {
            return Poll::Ready(Err(failure));
        }
        feed.waker = Some(context.waker().clone());
        if feed.asked == Asked::No {
            feed.asked = Asked::Soon;
            if matches!(state.link, Link::Closed) {
                self.session.open(&mut state);
            }
            if let Some(caller) = state.link.caller() {
                let watches = state.watches.take_unasked();
                drop(state);
                caller.watch(&watches);
            }
        }
        Poll::Pending
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        drop(self.session.lock().watches.feeds.remove(&self.tag));
    }
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("EventStream").finish_non_exhaustive()
    }
}
