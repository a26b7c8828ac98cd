//! What a worker can be given to run: services made by the attribute, and single procedures on payloads.

use crate::attempt::Attempt;
use crate::context::Context;
use crate::procedure::{Codec, Procedure};
use antiphon_protocol::{Failure, Name, NameError, OfferedProcedure, Payload, Schema};
use std::future::Future;

/// Procedures that a worker runs. `#[antiphon::service]` implements it for its adapter, such as `MathService`.
pub trait Service: Send + Sync + 'static {
    /// What it serves; an attempt names its procedure by the place in this list.
    fn procedures(&self) -> Vec<OfferedProcedure>;

    /// Starts an attempt of the procedure at `place`: ends with [`Attempt::run`] or [`Attempt::run_blocking`]. Called
    /// on the broker's threads: it must not block.
    fn start(&self, place: usize, attempt: Attempt);
}

impl<A, V, E> Procedure<A, V, E> {
    /// This procedure as a worker offers it. Adapters that `#[antiphon::service]` makes call this.
    #[must_use]
    pub fn offered(&self, schema: Schema) -> OfferedProcedure {
        OfferedProcedure { name: self.route.procedure.clone(), idempotent: self.route.idempotent, schema: Some(schema) }
    }
}

/// How a procedure on payloads is offered.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RawProcedureOptions {
    /// Running it twice does no harm; not by default.
    pub idempotent: bool,
}

impl RawProcedureOptions {
    /// Running it twice does no harm.
    #[must_use]
    pub const fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }
}

/// One procedure on payloads, from [`WorkerBuilder::procedure`](crate::WorkerBuilder::procedure).
pub(crate) struct RawProcedure<F> {
    name: Name,
    options: RawProcedureOptions,
    run: F,
}

impl<F> RawProcedure<F> {
    pub(crate) fn new(name: &str, options: RawProcedureOptions, run: F) -> Result<Self, NameError> {
        Ok(Self { name: Name::new(name)?, options, run })
    }
}

impl<F, O> Service for RawProcedure<F>
where
    F: Fn(Context, Payload) -> O + Send + Sync + Clone + 'static,
    O: Future<Output = Result<Payload, Failure>> + Send + 'static,
{
    fn procedures(&self) -> Vec<OfferedProcedure> {
        vec![OfferedProcedure { name: self.name.clone(), idempotent: self.options.idempotent, schema: None }]
    }

    fn start(&self, _: usize, attempt: Attempt) {
        attempt.run_with(Codec::UNTYPED, self.run.clone());
    }
}
