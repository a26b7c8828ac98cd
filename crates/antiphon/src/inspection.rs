//! Questions to the broker about calls, procedures and workers.

use antiphon_broker::Broker;
use antiphon_protocol::{
    Answer, BrokerStatus, CallFilter, CallId, CallStatus, Code, Explanation, Failure, Knowledge, ProcedureStatus,
    Query, WorkerStatus,
};

/// Questions to a broker. All of them fail with `UNAVAILABLE` when it cannot be reached, with `UNIMPLEMENTED` when it
/// has no look-up, and with the broker's own code when it refuses.
#[derive(Clone, Copy)]
pub struct Inspection<'a> {
    broker: &'a dyn Broker,
}

impl<'a> Inspection<'a> {
    pub(crate) const fn new(broker: &'a dyn Broker) -> Self {
        Self { broker }
    }

    /// Asks anything; what the broker refuses comes back as an error.
    ///
    /// # Errors
    /// As for all questions.
    pub async fn ask(&self, query: Query) -> Result<Answer, Failure> {
        let inspect = self.broker.inspect().ok_or_else(|| {
            Failure::new(Code::Unimplemented, "this broker has no look-up: it cannot tell where calls stand")
        })?;
        match inspect.ask(query).await? {
            Answer::Refused { code, message } => Err(Failure::new(code, message)),
            answer => Ok(answer),
        }
    }

    /// Where a call stands.
    ///
    /// # Errors
    /// As for all questions.
    pub async fn status(&self, id: CallId) -> Result<Knowledge, Failure> {
        match self.ask(Query::Status(id)).await? {
            Answer::Status(knowledge) => Ok(knowledge),
            other => Err(unexpected(&other)),
        }
    }

    /// Why a call stands where it stands.
    ///
    /// # Errors
    /// As for all questions.
    pub async fn explain(&self, id: CallId) -> Result<Explanation, Failure> {
        match self.ask(Query::Explain(id)).await? {
            Answer::Explained(explanation) => Ok(explanation),
            other => Err(unexpected(&other)),
        }
    }

    /// Calls that match, newest first.
    ///
    /// # Errors
    /// As for all questions.
    pub async fn calls(&self, filter: CallFilter) -> Result<Vec<CallStatus>, Failure> {
        match self.ask(Query::Calls(filter)).await? {
            Answer::Calls(calls) => Ok(calls),
            other => Err(unexpected(&other)),
        }
    }

    /// All procedures with calls or workers.
    ///
    /// # Errors
    /// As for all questions.
    pub async fn procedures(&self) -> Result<Vec<ProcedureStatus>, Failure> {
        match self.ask(Query::Procedures).await? {
            Answer::Procedures(procedures) => Ok(procedures),
            other => Err(unexpected(&other)),
        }
    }

    /// All workers.
    ///
    /// # Errors
    /// As for all questions.
    pub async fn workers(&self) -> Result<Vec<WorkerStatus>, Failure> {
        match self.ask(Query::Workers).await? {
            Answer::Workers(workers) => Ok(workers),
            other => Err(unexpected(&other)),
        }
    }

    /// The broker itself.
    ///
    /// # Errors
    /// As for all questions.
    pub async fn broker(&self) -> Result<BrokerStatus, Failure> {
        match self.ask(Query::Broker).await? {
            Answer::Broker(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }
}

/// An answer that does not fit the question: a broker of another version.
pub(crate) fn unexpected(answer: &Answer) -> Failure {
    Failure::new(Code::Internal, format!("the broker answered something else than was asked: {answer:?}"))
}
