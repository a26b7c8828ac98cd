//! Waiting for a sub-call without holding the slot: the broker has it meanwhile, and a wait that is over takes it back
//! before the procedure goes on.

use crate::context::AttemptState;
use crate::leases::Leases;
use antiphon_protocol::CallId;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

/// Where an attempt's slot is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Slot {
    /// Here.
    #[default]
    Held,
    /// Given back.
    Given,
    /// Asked for again.
    Wanted,
}

/// What of an attempt waits.
#[derive(Default)]
pub(crate) struct Parking {
    /// Held while the broker is told, so that it hears of changes in their order. Its answer may come on the same thread:
    /// it takes the other lock alone.
    telling: Mutex<()>,
    waits: Mutex<Waits>,
}

#[derive(Default)]
struct Waits {
    slot: Slot,
    /// Waits that are not over.
    pending: usize,
    wakers: Vec<Waker>,
}

impl Waits {
    fn wake_later(&mut self, waker: &Waker) {
        if !self.wakers.iter().any(|known| known.will_wake(waker)) {
            self.wakers.push(waker.clone());
        }
    }
}

impl Parking {
    fn lock(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) -> MutexGuard<'_, ()> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn slot(&self) -> Slot {
        self.lock().slot
    }

    /// The slot is here again. Whoever still waits looks again, and gives it back.
    pub(crate) fn resumed(&self) {
        let mut waits = self.lock();
        waits.slot = Slot::Held;
        let wakers = std::mem::take(&mut waits.wakers);
        drop(waits);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Moves the slot on, if it is where it is said to be.
    fn change(&self, from: Slot, to: Slot) -> bool {
        let mut waits = self.lock();
        let changes = waits.slot == from;
        if changes {
            waits.slot = to;
        }
        changes
    }
}

/// A future that is waited for without the slot. Its value is given out when the slot is back.
pub(crate) struct Waiting<F: Future> {
    attempt: Arc<AttemptState>,
    leases: Weak<Leases>,
    awaits: Option<CallId>,
    future: Pin<Box<F>>,
    value: Option<F::Output>,
    pending: bool,
}

// Only the boxed future is ever pinned.
impl<F: Future> Unpin for Waiting<F> {}

impl<F: Future> Waiting<F> {
    pub(crate) fn new(attempt: Arc<AttemptState>, leases: Weak<Leases>, awaits: Option<CallId>, future: F) -> Self {
        Self { attempt, leases, awaits, future: Box::pin(future), value: None, pending: false }
    }

    /// Gives the slot back, unless it is gone already.
    fn give(&mut self, waker: &Waker) {
        let parking = &self.attempt.parking;
        let telling = parking.tell();
        let mut waits = parking.lock();
        waits.pending += usize::from(!self.pending);
        self.pending = true;
        waits.wake_later(waker);
        drop(waits);
        if let Some(leases) = self.leases.upgrade().filter(|leases| leases.can_park())
            && parking.change(Slot::Held, Slot::Given)
        {
            leases.park(self.attempt.lease, self.awaits);
        }
        drop(telling);
    }

    /// Takes the slot back; ready when it is here.
    fn take(&self, waker: &Waker) -> Poll<()> {
        let mut waits = self.attempt.parking.lock();
        if waits.slot == Slot::Held {
            return Poll::Ready(());
        }
        waits.wake_later(waker);
        drop(waits);
        self.want();
        Poll::Pending
    }

    /// Asks for the slot, if it was given back.
    fn want(&self) {
        let telling = self.attempt.parking.tell();
        if self.attempt.parking.change(Slot::Given, Slot::Wanted)
            && let Some(leases) = self.leases.upgrade()
        {
            leases.resume(self.attempt.lease);
        }
        drop(telling);
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.pending) {
            self.attempt.parking.lock().pending -= 1;
        }
    }
}

impl<F: Future> Future for Waiting<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if self.value.is_none() {
            match self.future.as_mut().poll(context) {
                Poll::Ready(value) => {
                    self.end();
                    self.value = Some(value);
                }
                Poll::Pending => {
                    self.give(context.waker());
                    return Poll::Pending;
                }
            }
        }
        self.take(context.waker()).map(|()| self.value.take().expect("a value is given out once"))
    }
}

/// Given up before it was over: the procedure goes on, and its slot is asked for.
impl<F: Future> Drop for Waiting<F> {
    fn drop(&mut self) {
        self.end();
        if self.attempt.parking.lock().pending == 0 {
            self.want();
        }
    }
}
