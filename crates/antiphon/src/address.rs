//! From a URL to a broker: the built-in schemes, then drivers, then a word on which crate would know the scheme.

use antiphon_broker::{Broker, Driver, OpenError};
use antiphon_embedded::{Embedded, EmbeddedOptions};
use antiphon_protocol::{Code, Failure};
use antiphon_wire::{Address, Remote, RemoteOptions};
use std::path::PathBuf;
use std::sync::Arc;

/// Schemes of foreign brokers, and the crates whose drivers open them.
const FOREIGN: &[(&str, &str)] = &[
    ("amqp", "antiphon-rabbitmq"),
    ("amqps", "antiphon-rabbitmq"),
    ("kafka", "antiphon-kafka"),
    ("nats", "antiphon-nats"),
    ("postgres", "antiphon-postgres"),
    ("postgresql", "antiphon-postgres"),
];

/// Opens the broker that a URL names.
pub(crate) async fn open(url: &str, drivers: &[Box<dyn Driver>]) -> Result<Arc<dyn Broker>, OpenError> {
    let Some((scheme, rest)) = url.split_once(':') else {
        let text =
            format!("{url:?} is not a URL: expected memory:, file:DIR, antiphon://HOST or antiphon+unix:///PATH");
        return Err(wrong(text));
    };
    if let Some(driver) = drivers.iter().find(|driver| driver.schemes().contains(&scheme)) {
        return driver.open(url).await;
    }
    match scheme {
        "memory" if rest.is_empty() => embedded(None),
        "memory" => {
            Err(wrong(format!("{url}: memory: takes nothing after the colon; for a directory use file:{rest}")))
        }
        "file" => embedded(Some(directory(url, rest)?)),
        "antiphon" | "antiphon+unix" => remote(url).await,
        "antiphon+tls" => {
            let text = format!("{url}: TLS is not built in yet: use antiphon:// on a private network");
            Err(OpenError::Refused(Failure::new(Code::Unimplemented, text)))
        }
        _ => Err(foreign(url, scheme)),
    }
}

fn wrong(text: String) -> OpenError {
    OpenError::Refused(Failure::new(Code::InvalidArgument, text))
}

/// `file:DIR`, relative or absolute; `file:///DIR` is taken too.
fn directory(url: &str, rest: &str) -> Result<PathBuf, OpenError> {
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(path) if path.starts_with('/') => path,
        Some(_) => {
            let text = format!("{url}: a directory of another host cannot be opened: use file:DIR or file:///DIR");
            return Err(wrong(text));
        }
    };
    if path.is_empty() {
        return Err(wrong(format!("{url}: no directory is named: use file:DIR, such as file:./data")));
    }
    Ok(PathBuf::from(path))
}

fn embedded(directory: Option<PathBuf>) -> Result<Arc<dyn Broker>, OpenError> {
    let options = EmbeddedOptions { directory, ..EmbeddedOptions::default() };
    Ok(Arc::new(Embedded::open(options)?))
}

async fn remote(url: &str) -> Result<Arc<dyn Broker>, OpenError> {
    let has_slashes = url.starts_with("antiphon://") || url.starts_with("antiphon+unix:///");
    if !has_slashes {
        return Err(wrong(format!("{url}: expected antiphon://HOST[:PORT] or antiphon+unix:///PATH")));
    }
    let address: Address = url.parse().map_err(|error: antiphon_wire::AddressError| wrong(error.to_string()))?;
    let mut options = RemoteOptions::default();
    concat!("antiphon/", env!("CARGO_PKG_VERSION")).clone_into(&mut options.agent);
    Ok(Arc::new(Remote::connect(address, options).await?))
}

fn foreign(url: &str, scheme: &str) -> OpenError {
    let text = match FOREIGN.iter().find(|(known, _)| *known == scheme) {
        Some((_, name)) => {
            let module = name.replace('-', "_");
            format!(
                "{url}: add the crate {name} and connect with Antiphon::builder(url).driver({module}::driver()).connect()"
            )
        }
        None => {
            format!("{url}: no driver opens {scheme}: URLs; there are memory:, file:, antiphon:// and antiphon+unix://")
        }
    };
    OpenError::Refused(Failure::new(Code::Unimplemented, text))
}
