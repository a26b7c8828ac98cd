//! Errors whose attributes are wrong.

use serde::{Deserialize, Serialize};

#[derive(Debug, thiserror::Error, Serialize, Deserialize, antiphon::Failure)]
enum NoSuchCode {
    #[error("no")]
    #[failure(code = TooLarge)]
    No,
}

#[derive(Debug, thiserror::Error, Serialize, Deserialize, antiphon::Failure)]
enum Fine {
    #[error("fine")]
    #[failure(code = Ok)]
    Fine,
}

#[derive(Debug, thiserror::Error, Serialize, Deserialize, antiphon::Failure)]
enum Option {
    #[error("no")]
    #[failure(retry = true)]
    No,
}

#[derive(Debug, thiserror::Error, Serialize, Deserialize, antiphon::Failure)]
enum Duration {
    #[error("no")]
    #[failure(retry_after = "2 weeks")]
    No,
}

#[derive(antiphon::Failure)]
enum Never {}

#[derive(antiphon::Failure)]
enum Generic<T> {
    Some(T),
}

fn main() {}
