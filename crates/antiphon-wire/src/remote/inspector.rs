//! Questions to the broker: one connection for all of them, opened when one is asked and not kept up.

use super::dial::{Destination, dial, hello};
use super::line::{Closing, Line, Side, Up};
use crate::handshake::{Role, Welcome};
use crate::{Arrival, Frame, FrameError, Outbound};
use antiphon_broker::{BoxFuture, Event, Inspect, OpenError, Sink};
use antiphon_protocol::{Answer, Code, Failure, Offer, Query};
use slab::Slab;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

pub(super) struct Inspector {
    destination: Arc<Destination>,
    line: Mutex<Option<Arc<Line<InspectorSide>>>>,
}

pub(super) struct InspectorSide {
    asked: Slab<oneshot::Sender<Answer>>,
    ended: bool,
}

struct Nobody;

impl Sink for Nobody {
    fn events(&self, events: &mut Vec<Event>) {
        events.clear();
    }
}

impl Inspector {
    pub(super) const fn new(destination: Arc<Destination>) -> Self {
        Self { destination, line: Mutex::new(None) }
    }

    /// Opens the connection anew.
    pub(super) async fn open(&self) -> Result<Welcome, OpenError> {
        let hello = hello(Role::Inspector, &self.destination.options);
        let dialled = dial(&self.destination, &hello, None).await?;
        let welcome = dialled.welcome.clone();
        let side = InspectorSide { asked: Slab::new(), ended: false };
        let line = Arc::new(Line::new(Arc::clone(&self.destination), hello, Arc::new(Nobody), side));
        // The task ends with its connection.
        drop(tokio::spawn(Arc::clone(&line).keep(dialled)));
        if let Some(before) = self.line.lock().unwrap_or_else(PoisonError::into_inner).replace(line) {
            before.close();
        }
        Ok(welcome)
    }

    pub(super) fn close(&self) {
        if let Some(line) = self.line.lock().unwrap_or_else(PoisonError::into_inner).take() {
            line.close();
        }
    }

    /// Lays a question down; `None` when there is no connection.
    fn lay(&self, query: &Query) -> Option<oneshot::Receiver<Answer>> {
        let line = self.line.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let mut guard = line.state();
        let state = &mut *guard;
        if state.closing || state.side.ended {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        let ticket = u32::try_from(state.side.asked.insert(sender)).unwrap_or(u32::MAX);
        // Before the connection's task has begun, what is laid down waits for it.
        state.outbound.query(ticket, query);
        line.send(guard, true);
        Some(receiver)
    }
}

impl Drop for Inspector {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inspect for Inspector {
    fn ask(&self, query: Query) -> BoxFuture<'_, Result<Answer, Failure>> {
        Box::pin(async move {
            // A connection that broke unnoticed shows when it is used; a question changes nothing the second time, but
            // for those that answer the same then.
            for _ in 0..2 {
                let laid = self.lay(&query);
                if let Some(receiver) = laid
                    && let Ok(answer) = receiver.await
                {
                    return Ok(answer);
                }
                self.open().await.map_err(|error| match error {
                    OpenError::Refused(failure) => failure,
                    error => Failure::new(Code::Unavailable, error.to_string()),
                })?;
            }
            let text = format!("{} closed the connection instead of answering", self.destination.address);
            Err(Failure::new(Code::Unavailable, text).may_have_run())
        })
    }
}

impl Side for InspectorSide {
    fn offer(&mut self) -> Option<Offer> {
        None
    }

    fn restore(&mut self, _outbound: &mut Outbound, _up: &Up<'_>, _events: &mut Vec<Event>) {}

    fn take(&mut self, arrival: Arrival<'_>, _: &mut Outbound, _: &mut Vec<Event>) -> Result<(), FrameError> {
        let Arrival::Frame(Frame::Answer { ticket, answer }) = arrival else {
            return Err(FrameError::Field("kind for an inspector"));
        };
        let place = usize::try_from(ticket).unwrap_or(usize::MAX);
        if let Some(sender) = self.asked.try_remove(place) {
            // Who asked may have gone.
            drop(sender.send(*answer));
        }
        Ok(())
    }

    fn became_writable(&mut self, _outbound: &Outbound) -> bool {
        false
    }

    fn lost(&mut self) -> bool {
        self.ended = true;
        self.asked.clear();
        false
    }
}
