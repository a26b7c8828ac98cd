//! How a procedure's own error travels: as a failure with a code, its text, and itself as details.

use crate::encoding;
use antiphon_protocol::{Code, ContentType, Failure};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// An error that a procedure may return. Derive it for enums with `#[derive(antiphon::Failure)]`; [`Failure`] itself
/// is one for procedures that need no error of their own.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an error that a procedure may return",
    note = "derive `antiphon::Failure` for it, or return `antiphon::Failure` itself"
)]
pub trait ProcedureError: Sized + Send + 'static {
    /// What kind of failure it is.
    fn code(&self) -> Code;

    /// Whether another attempt may work; the attempts of the call bound how often it is tried. By default as its
    /// code says: only `UNAVAILABLE`.
    fn is_retryable(&self) -> bool {
        self.code().is_retryable()
    }

    /// The failure that is sent in its place; details are encoded as the request was.
    fn to_failure(&self, content_type: ContentType) -> Failure;

    /// The error that was sent.
    ///
    /// # Errors
    /// The failure as it came when its details are missing or are not such an error: sent by a worker of another
    /// version, or written by hand.
    fn from_failure(failure: Failure) -> Result<Self, Failure>;
}

impl ProcedureError for Failure {
    fn code(&self) -> Code {
        self.code
    }

    fn to_failure(&self, _: ContentType) -> Failure {
        self.clone()
    }

    fn from_failure(failure: Failure) -> Result<Self, Failure> {
        Ok(failure)
    }
}

/// What the derive calls: a failure with the error itself as details. An error that cannot be encoded keeps its code
/// and text.
#[doc(hidden)]
pub fn encode_error<E: Serialize + std::fmt::Display>(
    error: &E,
    code: Code,
    retry_after_ms: Option<u32>,
    content_type: ContentType,
) -> Failure {
    // A raw procedure's errors are still typed: raw bytes hold none, so they are sent as MessagePack.
    let content_type = if content_type == ContentType::Raw { ContentType::MessagePack } else { content_type };
    let mut failure = Failure::new(code, error.to_string());
    failure.details = encoding::encode(error, content_type).ok();
    failure.retry_after_ms = retry_after_ms;
    failure
}

/// What the derive calls.
#[doc(hidden)]
pub fn decode_error<E: DeserializeOwned>(failure: Failure) -> Result<E, Failure> {
    match failure.details.as_ref().map(encoding::decode) {
        Some(Ok(error)) => Ok(error),
        _ => Err(failure),
    }
}
