//! What travels beside an outcome's value, or instead of it.

use super::call_header::HeaderError;
use super::fields::{Reader, Writer};
use antiphon_protocol::{CallId, Code, Failure, Outcome, Payload, State};

/// An outcome without its bytes. As text it is the value of the header [`OUTCOME`](super::OUTCOME), such as
/// `1;id=0190a5c2-7b1e-7c3d-8e4f-001122334455;s=succeeded;a=1`; a failure's own text is in [`FAILURE`](super::FAILURE),
/// its details are the message's body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutcomeHeader {
    /// The call (`id`).
    pub id: CallId,
    /// The terminal state (`s`).
    pub state: State,
    /// How many attempts were started (`a`).
    pub attempts: u16,
    failure: Option<FailureFields>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct FailureFields {
    /// `c`
    code: Code,
    /// `ra`
    retry_after_ms: Option<u32>,
    /// `r`
    may_have_run: bool,
    /// `x`: the body is the procedure's own error, rather than nothing.
    details: bool,
}

impl OutcomeHeader {
    /// The header of an outcome.
    #[must_use]
    pub fn new(id: CallId, state: State, attempts: u16, outcome: &Outcome) -> Self {
        let failure = match outcome {
            Outcome::Reply(_) => None,
            Outcome::Failure(failure) => Some(FailureFields {
                code: failure.code,
                retry_after_ms: failure.retry_after_ms,
                may_have_run: failure.may_have_run,
                details: failure.details.is_some(),
            }),
        };
        Self { id, state, attempts, failure }
    }

    /// The header as text.
    #[must_use]
    pub fn write(&self) -> String {
        let mut writer = Writer::new();
        writer.field("id", self.id);
        writer.field("s", self.state);
        writer.field("a", self.attempts);
        if let Some(failure) = self.failure {
            writer.field("c", failure.code);
            if let Some(ms) = failure.retry_after_ms {
                writer.field("ra", ms);
            }
            writer.unless(0, "r", u8::from(failure.may_have_run));
            writer.unless(0, "x", u8::from(failure.details));
        }
        writer.finish()
    }

    /// Reads the header's text.
    ///
    /// # Errors
    /// [`HeaderError`] names what cannot be read.
    pub fn read(text: &str) -> Result<Self, HeaderError> {
        let reader = Reader::new(text).ok_or(HeaderError("version"))?;
        let id = reader.text("id").and_then(|text| text.parse().ok()).ok_or(HeaderError("id"))?;
        let state = reader.text("s").and_then(State::from_name).filter(|state| state.is_settled());
        let state = state.ok_or(HeaderError("s"))?;
        let attempts = reader.value("a", 1).map_err(HeaderError)?;
        let failure = match reader.text("c") {
            None if state == State::Succeeded => None,
            None => return Err(HeaderError("c")),
            Some(code) => Some(FailureFields {
                code: Code::from_name(code).ok_or(HeaderError("c"))?,
                retry_after_ms: match reader.text("ra") {
                    None => None,
                    Some(text) => Some(text.parse().map_err(|_| HeaderError("ra"))?),
                },
                may_have_run: reader.text("r") == Some("1"),
                details: reader.text("x") == Some("1"),
            }),
        };
        Ok(Self { id, state, attempts, failure })
    }

    /// The outcome, from what came beside the header: the failure's text, and the body.
    #[must_use]
    pub fn outcome(&self, text: Option<&str>, body: Payload) -> Outcome {
        let Some(fields) = self.failure else { return Outcome::Reply(body) };
        let mut failure = Failure::new(fields.code, text.unwrap_or_default());
        failure.retry_after_ms = fields.retry_after_ms;
        failure.may_have_run = fields.may_have_run;
        failure.details = fields.details.then_some(body);
        Outcome::Failure(failure)
    }
}
