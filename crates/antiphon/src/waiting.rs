//! Waiting for many calls: all, any, the first failure, as they complete; and a map that keeps a bound in flight.

use crate::CallError;
use crate::call_builder::CallBuilder;
use crate::submitted::{SubmittedCall, Submitting};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Waits until all calls have ended; results are in the order of the calls.
pub async fn wait_all<V, E>(calls: impl IntoIterator<Item = SubmittedCall<V, E>>) -> Vec<Result<V, CallError<E>>> {
    let mut results = Vec::new();
    // Outcomes wait in the session, so waiting for one after the other loses nothing.
    for call in calls {
        results.push(call.await);
    }
    results
}

/// Waits until one call has ended; gives its place among `calls` and its result, and the others in their order.
/// `None` when there are no calls.
pub async fn wait_any<V, E>(
    calls: impl IntoIterator<Item = SubmittedCall<V, E>>,
) -> Option<(usize, Result<V, CallError<E>>, Vec<SubmittedCall<V, E>>)> {
    let mut completing = as_completed(calls);
    let (place, result) = completing.next().await?;
    Some((place, result, completing.into_rest()))
}

/// Waits until one call has failed, or all have ended. Gives the place and error of the failed one and the calls that
/// have not ended; otherwise all values in the order of the calls.
///
/// # Errors
/// The [`FirstFailure`].
pub async fn wait_first_failure<V, E>(
    calls: impl IntoIterator<Item = SubmittedCall<V, E>>,
) -> Result<Vec<V>, FirstFailure<V, E>> {
    let mut completing = as_completed(calls);
    let mut values = Vec::new();
    values.resize_with(completing.calls.len(), || None);
    while let Some((place, result)) = completing.next().await {
        match result {
            Ok(value) => {
                if let Some(slot) = values.get_mut(place) {
                    *slot = Some(value);
                }
            }
            Err(error) => return Err(FirstFailure { place, error, rest: completing.into_rest() }),
        }
    }
    Ok(values.into_iter().flatten().collect())
}

/// The first of many calls that failed.
#[derive(Debug)]
#[non_exhaustive]
pub struct FirstFailure<V, E> {
    /// Its place among the calls, counted from 0.
    pub place: usize,
    /// Its error.
    pub error: CallError<E>,
    /// The calls that have not ended; dropping them does not cancel them.
    pub rest: Vec<SubmittedCall<V, E>>,
}

/// Gives calls as they complete.
pub fn as_completed<V, E>(calls: impl IntoIterator<Item = SubmittedCall<V, E>>) -> AsCompleted<V, E> {
    let mut completing = AsCompleted { calls: Vec::new(), woken: Arc::default(), left: 0 };
    // Each is polled once to leave its waker.
    calls.into_iter().for_each(|call| completing.push(call));
    completing
}

/// A call's place among many, counted from 0, and its result.
type Completed<V, E> = (usize, Result<V, CallError<E>>);

/// Calls as they complete, from [`as_completed`]. One wake looks at one call, however many there are.
pub struct AsCompleted<V, E> {
    calls: Vec<Option<(SubmittedCall<V, E>, Waker)>>,
    woken: Arc<Woken>,
    left: usize,
}

impl<V, E> AsCompleted<V, E> {
    /// The next call that completes: its place among the calls, counted from 0, and its result. `None` after the last.
    pub async fn next(&mut self) -> Option<Completed<V, E>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &Context<'_>) -> Poll<Option<Completed<V, E>>> {
        self.poll_each(context, |call, context| Pin::new(call).poll(context))
    }

    /// One more; its place is behind those there are.
    pub(crate) fn push(&mut self, call: SubmittedCall<V, E>) {
        let place = self.calls.len();
        let waker = Waker::from(Arc::new(Place { place, woken: Arc::clone(&self.woken) }));
        self.calls.push(Some((call, waker)));
        self.woken.lock().ready.push_back(place);
        self.left += 1;
    }

    /// Looks at each call that woke, until one has completed.
    pub(crate) fn poll_each<T>(
        &mut self,
        context: &Context<'_>,
        mut poll: impl FnMut(&mut SubmittedCall<V, E>, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<Option<(usize, T)>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        // Before looking, so that a call that completes meanwhile wakes.
        self.woken.lock().waker = Some(context.waker().clone());
        loop {
            let Some(place) = self.woken.lock().ready.pop_front() else { return Poll::Pending };
            let Some(entry) = self.calls.get_mut(place) else { continue };
            let Some((call, waker)) = entry else { continue };
            if let Poll::Ready(result) = poll(call, &mut Context::from_waker(waker)) {
                *entry = None;
                self.left -= 1;
                return Poll::Ready(Some((place, result)));
            }
        }
    }

    /// The calls that have not completed, in their order.
    #[must_use]
    pub fn into_rest(self) -> Vec<SubmittedCall<V, E>> {
        self.calls.into_iter().flatten().map(|(call, _)| call).collect()
    }
}

#[derive(Default)]
struct Woken(Mutex<Ready>);

#[derive(Default)]
struct Ready {
    ready: VecDeque<usize>,
    waker: Option<Waker>,
}

impl Woken {
    fn lock(&self) -> std::sync::MutexGuard<'_, Ready> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes whoever waits for all, and says which call.
struct Place {
    place: usize,
    woken: Arc<Woken>,
}

impl Wake for Place {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut ready = self.woken.lock();
        ready.ready.push_back(self.place);
        let waker = ready.waker.take();
        drop(ready);
        waker.into_iter().for_each(Waker::wake);
    }
}

/// Submits calls with at most `in_flight` (at least 1) of them unsettled, and gives their results in order. Calls are
/// taken from the iterator as there is room, so it may be endless.
pub fn map<A, V, E, I>(calls: I, in_flight: usize) -> Map<I::IntoIter, V, E>
where
    I: IntoIterator<Item = CallBuilder<A, V, E>>,
{
    Map { calls: calls.into_iter(), in_flight: in_flight.max(1), unsent: None, sent: VecDeque::new() }
}

/// Results in order, from [`map`].
pub struct Map<I, V, E> {
    calls: I,
    in_flight: usize,
    /// Waits for room in this process.
    unsent: Option<Submitting<V, E>>,
    sent: VecDeque<SubmittedCall<V, E>>,
}

impl<A, V, E, I: Iterator<Item = CallBuilder<A, V, E>>> Map<I, V, E> {
    /// The next result, in the order of the calls; `None` after the last. Giving up waiting for it loses nothing.
    pub async fn next(&mut self) -> Option<Result<V, CallError<E>>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<V, CallError<E>>>> {
        while self.sent.len() < self.in_flight {
            if self.unsent.is_none() {
                self.unsent = self.calls.next().map(CallBuilder::submit);
            }
            let Some(unsent) = &mut self.unsent else { break };
            let Poll::Ready(call) = unsent.poll_sent(context) else { break };
            self.unsent = None;
            self.sent.push_back(call);
        }
        let Some(first) = self.sent.front_mut() else {
            return if self.unsent.is_some() { Poll::Pending } else { Poll::Ready(None) };
        };
        let result = std::task::ready!(Pin::new(first).poll(context));
        drop(self.sent.pop_front());
        Poll::Ready(Some(result))
    }

    /// All results, in the order of the calls.
    pub async fn collect(mut self) -> Vec<Result<V, CallError<E>>> {
        let mut results = Vec::new();
        while let Some(result) = self.next().await {
            results.push(result);
        }
        results
    }
}
