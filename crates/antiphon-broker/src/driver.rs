//! How a program reaches brokers of a foreign kind: a driver maps the schemes of URLs to a broker.

use crate::{BoxFuture, Broker, OpenError};
use std::sync::Arc;

/// Opens brokers by URL. An adapter's crate gives one to `Antiphon::builder(url).driver(..)`.
pub trait Driver: Send + Sync + 'static {
    /// The schemes it opens, such as `["amqp", "amqps"]`, in lower case and without the colon.
    fn schemes(&self) -> &[&str];

    /// Opens the broker at `url`, which has one of these schemes.
    ///
    /// # Errors
    /// [`OpenError`] when the URL is malformed, or the broker cannot be reached or refuses.
    fn open<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Arc<dyn Broker>, OpenError>>;
}
