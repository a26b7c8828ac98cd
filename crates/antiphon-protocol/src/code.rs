//! The 17 status codes, those of gRPC, with their numbers and names.

use core::fmt;
use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $text:literal;)*) => {
        /// A status code: the 17 codes of gRPC, with gRPC's numbers
        /// (<https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>).
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize)]
        #[repr(u8)]
        #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
        pub enum Code { $($(#[$doc])* $variant = $number,)* }

        impl Code {
            /// All codes, by number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code with this number, if there is one.
            #[must_use]
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }

            /// The code with this name, such as `OUT_OF_RANGE`.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$variant),)* _ => None }
            }

            /// The name, such as `OUT_OF_RANGE`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

codes! {
    /// No failure; never the code of a failure.
    Ok = 0, "OK";
    /// The call was cancelled.
    Cancelled = 1, "CANCELLED";
    /// What happened is not known; the call may have run.
    Unknown = 2, "UNKNOWN";
    /// The arguments are wrong whatever the system's state.
    InvalidArgument = 3, "INVALID_ARGUMENT";
    /// The deadline passed first.
    DeadlineExceeded = 4, "DEADLINE_EXCEEDED";
    /// The thing asked for does not exist.
    NotFound = 5, "NOT_FOUND";
    /// The thing to be made exists already.
    AlreadyExists = 6, "ALREADY_EXISTS";
    /// The owner of the connection may not do this.
    PermissionDenied = 7, "PERMISSION_DENIED";
    /// A limit is reached; later may work.
    ResourceExhausted = 8, "RESOURCE_EXHAUSTED";
    /// The system is not in the state the operation needs.
    FailedPrecondition = 9, "FAILED_PRECONDITION";
    /// A conflict ended the operation; the whole may be tried again.
    Aborted = 10, "ABORTED";
    /// A value is outside its range.
    OutOfRange = 11, "OUT_OF_RANGE";
    /// The broker or worker cannot do this.
    Unimplemented = 12, "UNIMPLEMENTED";
    /// A bug: a panic in a procedure, a broken invariant.
    Internal = 13, "INTERNAL";
    /// Not reachable or not ready now; trying again may work.
    Unavailable = 14, "UNAVAILABLE";
    /// Data was lost or damaged.
    DataLoss = 15, "DATA_LOSS";
    /// Who is asking is not known.
    Unauthenticated = 16, "UNAUTHENTICATED";
}

impl Code {
    /// Whether a failure with this code is tried again when nothing else is said: only `UNAVAILABLE`.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Unavailable)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}
