//! A line: one peer's connection, kept up over reconnects. Submitters share its state with the one task that does its
//! I/O; what is said on it is the business of its [`Side`].

use super::Address;
use super::dial::{Destination, Dialled, dial};
use super::session::Session;
use super::socket::Writer;
use crate::handshake::{Hello, Welcome};
use crate::{Arrival, FrameError, Outbound};
use antiphon_broker::{Event, OpenError, Sink};
use antiphon_protocol::{Epoch, LeaseTag, Offer};
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::{Poll, Waker};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Submitters write by themselves when this much is unsent, so that the other side begins while they go on.
const MUCH_BYTES: usize = 16 << 10;

/// What a peer says and understands.
pub(super) trait Side: Send + 'static {
    /// What a worker offers; sent with every new connection.
    fn offer(&mut self) -> Option<Offer>;
    /// A connection is up: lays down all that must be said again.
    fn restore(&mut self, outbound: &mut Outbound, up: &Up<'_>, events: &mut Vec<Event>);
    /// Takes an arrival that is not about the connection itself.
    fn take(
        &mut self,
        arrival: Arrival<'_>,
        outbound: &mut Outbound,
        events: &mut Vec<Event>,
    ) -> Result<(), FrameError>;
    /// Whether more can be handed over, after it could not; asked when something was sent or answered.
    fn became_writable(&mut self, outbound: &Outbound) -> bool;
    /// The connection is gone; answers whether another should be opened.
    fn lost(&mut self) -> bool;
}

/// A connection that is up.
pub(super) struct Up<'a> {
    pub(super) welcome: &'a Welcome,
    /// The broker's start that the peer knew before, if any.
    pub(super) before: Option<Epoch>,
    pub(super) kept: &'a [LeaseTag],
}

pub(super) struct Line<S> {
    destination: Arc<Destination>,
    sink: Arc<dyn Sink>,
    state: Mutex<State<S>>,
}

pub(super) struct State<S> {
    pub(super) side: S,
    pub(super) outbound: Outbound,
    /// The connection's writing half, while it is up.
    writer: Option<Arc<Writer>>,
    hello: Hello,
    epoch: Option<Epoch>,
    /// The task will look at `outbound` before it sleeps: nobody needs to wake it.
    pub(super) busy: bool,
    /// The task has taken bytes that are not all written: nobody may write past it.
    pub(super) midway: bool,
    waker: Option<Waker>,
    pub(super) closing: bool,
    /// Events made by submitters, delivered by the task.
    pub(super) events: Vec<Event>,
}

impl<S> State<S> {
    pub(super) const fn is_up(&self) -> bool {
        self.writer.is_some()
    }

    /// The task is to be woken by whoever changes something from now on.
    pub(super) fn sleep(&mut self, waker: &Waker) {
        self.busy = false;
        self.watch(waker);
    }

    /// Who closes the line wakes this task.
    pub(super) fn watch(&mut self, waker: &Waker) {
        match &self.waker {
            Some(known) if known.will_wake(waker) => (),
            _ => self.waker = Some(waker.clone()),
        }
    }
}

/// Why a connection ended.
pub(super) struct Lost {
    pub(super) reason: String,
    pub(super) last: bool,
}

impl<S: Side> Line<S> {
    pub(super) fn new(destination: Arc<Destination>, hello: Hello, sink: Arc<dyn Sink>, side: S) -> Self {
        let state = State {
            side,
            outbound: Outbound::new(),
            writer: None,
            hello,
            epoch: None,
            busy: true,
            midway: false,
            waker: None,
            closing: false,
            events: Vec::new(),
        };
        Self { destination, sink, state: Mutex::new(state) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The broker is in this process.
    pub(super) fn is_inside(&self) -> bool {
        matches!(self.destination.address, Address::Inside(_))
    }

    pub(super) fn sink(&self) -> &dyn Sink {
        &*self.sink
    }

    /// Something was laid down: sends it, or has the task send it. With `alone`, nothing else is in flight, so nothing
    /// would be gained by waiting for company.
    pub(super) fn send(&self, mut state: MutexGuard<'_, State<S>>, alone: bool) {
        let much = !state.midway && state.outbound.bytes() >= MUCH_BYTES;
        if state.busy && !much {
            return;
        }
        if (alone || much) && self.destination.options.direct_writes && state.events.is_empty() {
            let state = &mut *state;
            let written = state.writer.as_ref().map(|writer| writer.try_write(state.outbound.unsent()));
            if let Some(Ok(count)) = written {
                state.outbound.advance(count);
            }
            // An error is the task's to find: it reads the same socket.
            if state.outbound.is_empty() {
                return;
            }
        }
        if state.busy {
            return;
        }
        state.busy = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Keeps the connection up until the peer is closed or given up.
    pub(super) async fn keep(self: Arc<Self>, dialled: Dialled) {
        let mut next = Some(dialled);
        while let Some(dialled) = next.take() {
            let lost = self.run(dialled).await;
            let again = self.down(&lost);
            self.deliver(&mut vec![Event::Down { reason: lost.reason, last: !again }]);
            if again {
                next = self.dial_again().await;
            }
        }
    }

    async fn run(&self, dialled: Dialled) -> Lost {
        let Dialled { reader, writer, inbound, welcome, rest, kept } = dialled;
        let writer = Arc::new(writer);
        let mut events = Vec::new();
        {
            let state = &mut *self.state();
            state.writer = Some(Arc::clone(&writer));
            let up = Up { welcome: &welcome, before: state.epoch, kept: &kept };
            state.side.restore(&mut state.outbound, &up, &mut events);
            state.epoch = Some(Epoch(welcome.epoch));
            state.busy = true;
        }
        self.deliver(&mut vec![Event::Up { epoch: Epoch(welcome.epoch), kept }]);
        self.deliver(&mut events);
        let heartbeat = self.destination.options.heartbeat;
        Session::new(self, reader, writer, inbound, &rest, heartbeat, welcome.heartbeat_ms).run().await
    }

    fn deliver(&self, events: &mut Vec<Event>) {
        if !events.is_empty() {
            self.sink.events(events);
            events.clear();
        }
    }

    /// The connection is gone; answers whether to open another.
    fn down(&self, lost: &Lost) -> bool {
        let mut state = self.state();
        state.writer = None;
        state.outbound.clear();
        state.midway = false;
        // Nobody reads the socket meanwhile: who changes something must wake the waiting.
        state.busy = false;
        let again = state.side.lost() && !lost.last && !state.closing;
        state.closing |= !again;
        again
    }

    async fn dial_again(&self) -> Option<Dialled> {
        let mut failed = 0;
        loop {
            self.unless_closing(tokio::time::sleep(self.destination.options.backoff(failed))).await?;
            failed = failed.saturating_add(1);
            let (hello, offer) = {
                let mut state = self.state();
                // Also after a hello that was given up: it may arrive behind this one, and must not take over from it.
                state.hello.session += 1;
                (state.hello.clone(), state.side.offer())
            };
            match self.unless_closing(dial(&self.destination, &hello, offer.as_ref())).await? {
                Ok(dialled) => return Some(dialled),
                Err(OpenError::Refused(failure)) => {
                    self.state().closing = true;
                    self.deliver(&mut vec![Event::Down { reason: failure.to_string(), last: true }]);
                    return None;
                }
                Err(error) => tracing::debug!(%error, "cannot reconnect"),
            }
        }
    }

    /// Waits, also delivering what submitters have for the sink, until the line is closed.
    async fn unless_closing<T>(&self, wait: impl Future<Output = T>) -> Option<T> {
        let mut wait = pin!(wait);
        poll_fn(|context| {
            loop {
                let mut state = self.state();
                if state.closing {
                    return Poll::Ready(None);
                }
                let mut events = core::mem::take(&mut state.events);
                if events.is_empty() {
                    state.sleep(context.waker());
                    break;
                }
                drop(state);
                self.deliver(&mut events);
            }
            wait.as_mut().poll(context).map(Some)
        })
        .await
    }
}

/// A line that can be asked to end, whatever its side.
pub(super) trait Closing: Send + Sync {
    /// Sends what was handed over, says goodbye and ends.
    fn close(&self);
}

impl<S: Side> Closing for Line<S> {
    fn close(&self) {
        let mut state = self.state();
        state.closing = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
