//! The service attribute and the Failure derive of Antiphon. Both are used through the crate `antiphon`, which the code
//! they make refers to.
//!
//! Here is only the expansion. What the code calls is in `antiphon`; wrong input is reported at the offending token.

mod adapter;
mod client;
mod duration;
mod failure;
mod options;
mod procedure;
mod service;

use proc_macro::TokenStream;

/// Makes a trait a service: a client to call it, an adapter for workers, and a constant per procedure.
///
/// For `trait Math` it makes `MathClient` (`new(&Antiphon)`, `within(&Context)`, a method per procedure that returns a
/// call, constants such as `MathClient::FIB`) and `MathService<T>` (`new(T)`, for `worker().service(..)`).
///
/// The service is named as the trait, in snake case; `#[antiphon::service(name = "math")]` names it otherwise. A procedure
/// is named `service.procedure`.
///
/// Methods take `&self`, then optionally `context: &Context`, then owned parameters, and return `Result<V, E>`, where `E`
/// is an enum with `#[derive(antiphon::Failure)]` or `antiphon::Failure` itself. A `fn` runs on a thread for blocking
/// work, an `async fn` on the runtime; implementations may be written as `async fn`, and their futures must be `Send`.
///
/// `#[procedure(..)]` on a method takes, separated by commas:
/// - `idempotent`: running it twice does no harm.
/// - `at_most_once`: never lease it twice.
/// - `attempts = 3`: how often it is tried, the first time included.
/// - `attempt_timeout = "30s"`: bound on one attempt; units are `ms`, `s`, `m`, `h`.
/// - `backoff = "200ms"`, `backoff_factor = 2.0`, `backoff_max = "1m"`: the waits before further attempts.
/// - `name = "rpc_queue"`: its whole name, instead of the service's and the method's: at a foreign broker, its queue's.
/// - `raw`: its one parameter and its value are bytes as they are, `Bytes` or `Vec<u8>`.
///
/// Arguments travel as null (no parameter), the value itself (one), or a map by name (two or more), where unknown
/// entries are ignored, missing `Option`s are `None`, and `#[serde(default)]` on a parameter gives its default.
#[proc_macro_attribute]
pub fn service(attribute: TokenStream, item: TokenStream) -> TokenStream {
    service::expand(attribute.into(), item.into()).unwrap_or_else(|error| error.to_compile_error()).into()
}

/// Makes an error one that procedures may return: it travels whole, with a status code and its text.
///
/// The error needs `Serialize`, `DeserializeOwned` and `Display`. `#[failure(..)]` on a variant, or on the whole for all
/// variants that say nothing, takes:
/// - `code = OutOfRange`: its status code; `Unknown` if nothing is said, as for an error of which nothing is known.
/// - `retryable` or `retryable = false`: whether another attempt may work; by default only `Unavailable` is.
/// - `retry_after = "2s"`: when trying again makes sense, instead of the backoff.
#[proc_macro_derive(Failure, attributes(failure))]
pub fn failure(item: TokenStream) -> TokenStream {
    failure::expand(item.into()).unwrap_or_else(|error| error.to_compile_error()).into()
}
