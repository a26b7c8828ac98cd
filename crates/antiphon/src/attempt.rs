//! One attempt under a lease: runs the procedure, bounds it in time, catches its panic, and reports how it ended.

use crate::context::{AttemptState, Context, Stop};
use crate::leases::Leases;
use crate::procedure::{Codec, Procedure};
use antiphon_protocol::{Code, ContentType, Failure, Payload, Settlement};
use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;
use tokio::time::Sleep;

/// How much longer than the deadline an attempt may run before it is stopped here. The broker, whose clock decides,
/// asks for the stop at the deadline itself; this is for when it cannot be heard.
const DEADLINE_GRACE: Duration = Duration::from_millis(250);

/// One attempt that is to be run. Dropping it gives the call back unharmed.
#[must_use = "dropping an attempt gives the call back"]
pub struct Attempt {
    leases: Arc<Leases>,
    state: Arc<AttemptState>,
    payload: Payload,
    reported: bool,
}

impl Attempt {
    pub(crate) const fn new(leases: Arc<Leases>, state: Arc<AttemptState>, payload: Payload) -> Self {
        Self { leases, state, payload, reported: false }
    }

    /// Runs it on the runtime. The future is dropped when the attempt is to stop.
    pub fn run<A, V, E, F, O>(self, procedure: &Procedure<A, V, E>, run: F)
    where
        A: Send + 'static,
        V: Send + 'static,
        E: Send + 'static,
        F: FnOnce(Context, A) -> O + Send + 'static,
        O: Future<Output = Result<V, E>> + Send + 'static,
    {
        self.run_with(procedure.codec, run);
    }

    pub(crate) fn run_with<A, V, E, F, O>(self, codec: Codec<A, V, E>, run: F)
    where
        A: Send + 'static,
        V: Send + 'static,
        E: Send + 'static,
        F: FnOnce(Context, A) -> O + Send + 'static,
        O: Future<Output = Result<V, E>> + Send + 'static,
    {
        let (leases, state) = (Arc::clone(&self.leases), Arc::clone(&self.state));
        leases.begin(state, self.keep(codec, run));
    }

    async fn keep<A, V, E, F, O>(mut self, codec: Codec<A, V, E>, run: F)
    where
        F: FnOnce(Context, A) -> O,
        O: Future<Output = Result<V, E>>,
    {
        let payload = std::mem::take(&mut self.payload);
        let settlement = {
            let context = self.context();
            let content_type = payload.content_type;
            let procedure = pin!(async move {
                match (codec.decode_arguments)(&payload) {
                    Ok(arguments) => settle(&codec, content_type, run(context, arguments).await),
                    Err(error) => undecodable(&error),
                }
            });
            // Dropped before the procedure is.
            let _before = Before(&self.state);
            bounded(&self.state, procedure).await
        };
        self.reported = true;
        self.leases.settle_together(&self.state, settlement);
    }

    /// Runs it on a thread for blocking work. It cannot be stopped from outside: it should call
    /// [`Context::check`] now and then, and keeps its slot until it returns.
    pub fn run_blocking<A, V, E, F>(mut self, procedure: &Procedure<A, V, E>, run: F)
    where
        A: 'static,
        V: 'static,
        E: 'static,
        F: FnOnce(&Context, A) -> Result<V, E> + Send + 'static,
    {
        let codec = procedure.codec;
        let (leases, state) = (Arc::clone(&self.leases), Arc::clone(&self.state));
        let running = leases.runtime().spawn_blocking(move || {
            let payload = std::mem::take(&mut self.payload);
            let context = self.context();
            let settlement = catch_unwind(AssertUnwindSafe(|| match (codec.decode_arguments)(&payload) {
                Ok(arguments) => settle(&codec, payload.content_type, run(&context, arguments)),
                Err(error) => undecodable(&error),
            }));
            let settlement = settlement.unwrap_or_else(|panic| panicked(&*panic));
            self.report(judge_blocking(&self.state, settlement));
        });
        leases.started(&state, running.abort_handle());
    }

    fn context(&self) -> Context {
        Context::new(Arc::clone(&self.state), &self.leases)
    }

    fn report(&mut self, settlement: Settlement) {
        self.reported = true;
        self.leases.settle(&self.state, settlement);
    }
}

/// Notes whether the thread is calm. A runtime may end because the program that has it panics, which is not the fault
/// of what runs on it.
struct Before<'a>(&'a AttemptState);

impl Drop for Before<'_> {
    fn drop(&mut self) {
        self.0.calm.store(!std::thread::panicking(), Ordering::Relaxed);
    }
}

/// An attempt that is dropped before it ended: aborted as it was asked to stop, or the runtime ends.
impl Drop for Attempt {
    fn drop(&mut self) {
        if self.reported {
            return;
        }
        let settlement = match self.state.stop() {
            Stop::Cancelled => Settlement::Stop,
            _ if std::thread::panicking() && self.state.calm.load(Ordering::Relaxed) => {
                panicked(&"a value of the procedure panicked when it was dropped")
            }
            _ => Settlement::Release,
        };
        self.leases.settle(&self.state, settlement);
    }
}

/// Polls the procedure until it ends, panics, or is out of time.
async fn bounded(state: &AttemptState, mut procedure: Pin<&mut impl Future<Output = Settlement>>) -> Settlement {
    let deadline = state.deadline.map(|until| until + DEADLINE_GRACE);
    let first = state.times_out.into_iter().chain(deadline).min();
    // Made only when the procedure is pending: most have ended at the first poll.
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| procedure.as_mut().poll(context))) {
        Ok(Poll::Ready(settlement)) => Poll::Ready(settlement),
        Ok(Poll::Pending) => match &first {
            Some(until) => {
                let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(*until)));
                let ended = || if state.times_out == Some(*until) { timed_out() } else { Settlement::Stop };
                timer.as_mut().poll(context).map(|()| ended())
            }
            None => Poll::Pending,
        },
        Err(panic) => Poll::Ready(panicked(&*panic)),
    })
    .await
}

/// What a procedure returned, as a settlement.
fn settle<A, V, E>(codec: &Codec<A, V, E>, content_type: ContentType, result: Result<V, E>) -> Settlement {
    match result {
        Ok(value) => match (codec.encode_value)(&value, content_type) {
            Ok(payload) => Settlement::Succeed(payload),
            Err(error) => {
                let text = format!("the value cannot be encoded: {error}");
                Settlement::Bury(Failure::new(Code::Internal, text).may_have_run())
            }
        },
        Err(error) => {
            let failure = (codec.encode_error)(&error, content_type).may_have_run();
            if (codec.is_retryable)(&error) { Settlement::Retry(failure) } else { Settlement::Fail(failure) }
        }
    }
}

/// A blocking procedure that was asked to stop and returned an error has stopped; a value is a value.
fn judge_blocking(state: &AttemptState, settlement: Settlement) -> Settlement {
    match (&settlement, state.stop()) {
        (Settlement::Fail(_) | Settlement::Retry(_), Stop::Cancelled) => Settlement::Stop,
        (Settlement::Fail(_) | Settlement::Retry(_), Stop::Drained) => Settlement::Release,
        (Settlement::Fail(_) | Settlement::Retry(_), Stop::No) if state.has_timed_out() => timed_out(),
        _ => settlement,
    }
}

fn timed_out() -> Settlement {
    Settlement::Retry(Failure::new(Code::DeadlineExceeded, "the attempt took longer than its timeout").may_have_run())
}

fn undecodable(error: &str) -> Settlement {
    Settlement::Bury(Failure::new(Code::InvalidArgument, format!("the arguments cannot be read: {error}")))
}

fn panicked(panic: &(dyn Any + Send)) -> Settlement {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text");
    Settlement::Bury(Failure::new(Code::Internal, format!("the procedure panicked: {text}")).may_have_run())
}
