//! How a command ends when it does not simply succeed: an exit code and one line for people.

use antiphon_broker::OpenError;
use antiphon_protocol::{Code, Failure};
use std::fmt::Display;
use std::io;

/// The call settled, but not with a reply; or what was asked for failed.
pub const NOT_A_REPLY: u8 = 1;
/// The command line, or what it names, is wrong.
pub const USAGE: u8 = 2;
/// No broker answers.
pub const UNREACHABLE: u8 = 3;
/// The call has not settled within the time given.
pub const NOT_SETTLED: u8 = 4;
/// The broker never saw this id, or has forgotten it.
pub const NOT_KNOWN: u8 = 5;
/// The broker refuses; nothing was begun.
pub const REFUSED: u8 = 6;
/// Stopped by Ctrl-C: what shells say for it.
pub const INTERRUPTED: u8 = 130;

/// The end of a command that did not simply succeed.
#[derive(Debug)]
pub struct Ending {
    /// The exit code.
    pub exit: u8,
    /// What to say on stderr; `None` when all is said, or nobody listens any more.
    pub text: Option<String>,
}

impl Ending {
    pub fn new(exit: u8, text: impl Display) -> Self {
        Self { exit, text: Some(text.to_string()) }
    }

    pub const fn silent(exit: u8) -> Self {
        Self { exit, text: None }
    }

    pub fn usage(text: impl Display) -> Self {
        Self::new(USAGE, text)
    }

    pub fn failed(text: impl Display) -> Self {
        Self::new(NOT_A_REPLY, text)
    }

    /// What a broker answered to something it did not take.
    pub fn refused(failure: &Failure) -> Self {
        let exit = match failure.code {
            Code::NotFound => NOT_KNOWN,
            Code::Unavailable => UNREACHABLE,
            _ => REFUSED,
        };
        Self::new(exit, failure)
    }
}

impl From<io::Error> for Ending {
    /// A closed pipe is the reader's way to say "enough".
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::silent(0) } else { Self::failed(error) }
    }
}

impl From<OpenError> for Ending {
    fn from(error: OpenError) -> Self {
        match &error {
            OpenError::Unreachable(_) => Self::new(UNREACHABLE, error),
            OpenError::Refused(failure) => Self::refused(failure),
            _ => Self::failed(error),
        }
    }
}
