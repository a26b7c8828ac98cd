//! Dead letters at a foreign broker: what is written on one, and the questions about them that can be answered.

use super::{CallHeader, OutcomeHeader};
use antiphon_protocol::{Answer, AttemptRecord, CallFilter, CallId, CallStatus, Code, Name, Outcome, Payload, State};

/// How many dead letters a list has that does not say.
const LISTED: u32 = 100;

/// A dead letter, as it was read.
#[derive(Debug)]
pub struct DeadLetter<'a> {
    /// The call as it stood.
    pub header: &'a CallHeader,
    /// The arguments.
    pub payload: &'a Payload,
    /// Its procedure; empty where nobody wrote it down.
    pub procedure: &'a str,
    /// What it died of; `None` where nobody of ours buried it.
    pub died: Option<OutcomeHeader>,
    /// When, in milliseconds since 1970.
    pub died_ms: u64,
    /// The failure's text, or what the server says of it.
    pub message: &'a str,
}

impl DeadLetter<'_> {
    /// Where it stands.
    #[must_use]
    pub fn status(self) -> CallStatus {
        let Self { header, payload, procedure, died, died_ms, message } = self;
        let attempts = died.as_ref().map_or(header.started(0).saturating_sub(1), |died| died.attempts);
        let code = match died.map(|died| died.outcome(None, Payload::default())) {
            Some(Outcome::Failure(failure)) => failure.code,
            Some(Outcome::Reply(_)) | None => Code::Unknown,
        };
        let message = message.to_owned();
        let history =
            vec![AttemptRecord { attempt: attempts, ended_ms: died_ms, code, message, worker: None, lost: false }];
        CallStatus {
            id: header.id,
            procedure: Name::new(procedure).unwrap_or(Name::from_static("-")),
            tenant: None,
            state: State::Dead,
            priority: header.priority,
            durable: header.durable,
            submitted_ms: header.id.unix_ms(),
            since_ms: died_ms,
            deadline_ms: header.deadline_ms,
            attempts,
            attempts_max: header.attempts,
            lost_leases: u8::try_from(header.lost).unwrap_or(u8::MAX),
            payload_bytes: u32::try_from(payload.bytes.len()).unwrap_or(u32::MAX),
            worker: None,
            stopping: false,
            history,
            cause: None,
            callbacks: Vec::new(),
            groups: Vec::new(),
            is_group: false,
        }
    }
}

/// The dead letters that a filter asks for, newest first.
#[must_use]
pub fn listed(dead: impl IntoIterator<Item = CallStatus>, filter: &CallFilter) -> Vec<CallStatus> {
    let limit = if filter.limit == 0 { LISTED } else { filter.limit };
    let asked = |status: &CallStatus| {
        let procedure = filter.procedure.as_ref().is_none_or(|procedure| *procedure == status.procedure);
        procedure && filter.tenant.is_none() && status.submitted_ms >= filter.since_ms
    };
    let mut found: Vec<CallStatus> = dead.into_iter().filter(asked).collect();
    found.sort_by_key(|status| std::cmp::Reverse((status.since_ms, status.id)));
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    found
}

/// The answer where a call is to be revived or purged that is no dead letter.
#[must_use]
pub fn not_dead(id: CallId) -> Answer {
    let message = format!("call {id} is no dead letter here");
    Answer::Refused { code: Code::FailedPrecondition, message }
}

/// The answer to any other question.
#[must_use]
pub fn dead_letters_only(broker: &str) -> Answer {
    let message = format!("{broker} answers questions about dead letters only: it finds no call, and knows no worker");
    Answer::Refused { code: Code::Unimplemented, message }
}

impl CallHeader {
    /// The header under which a dead letter is published anew, as another call.
    #[must_use]
    pub fn revived(&self, id: CallId) -> Self {
        Self { id, failed: 0, lost: 0, hops: 0, deadline_ms: 0, due_ms: 0, ..self.clone() }
    }
}
