//! Where a broker is.

use crate::Inside;
use core::fmt;
use core::str::FromStr;
use std::path::PathBuf;

/// Where a broker is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// A host name or IP address and a port, as `host:port`.
    Tcp(String),
    /// The path of a Unix socket.
    Unix(PathBuf),
    /// A broker on a runtime of this process. It has no text.
    Inside(Inside),
}

/// The text is not an address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not a broker's address: expected antiphon://host:port or antiphon+unix:///path")]
pub struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    /// Reads `antiphon://host[:port]`, `antiphon+unix:///path`, `host:port` or `/path`.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = || AddressError(text.to_owned());
        if let Some(path) = text.strip_prefix("antiphon+unix://").or_else(|| text.starts_with('/').then_some(text)) {
            return if path.is_empty() { Err(error()) } else { Ok(Self::Unix(PathBuf::from(path))) };
        }
        let host = text.strip_prefix("antiphon://").unwrap_or(text);
        let host = host.strip_suffix('/').unwrap_or(host);
        if host.is_empty() || host.contains('/') {
            return Err(error());
        }
        let bracketed = host.rfind(']').map_or(host, |end| host.get(end..).unwrap_or(host));
        match bracketed.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => Ok(Self::Tcp(host.to_owned())),
            Some(_) => Err(error()),
            None => Ok(Self::Tcp(format!("{host}:{}", default_port()))),
        }
    }
}

fn default_port() -> &'static str {
    antiphon_protocol::defaults::LISTEN.rsplit_once(':').map_or("7400", |(_, port)| port)
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host) => write!(formatter, "antiphon://{host}"),
            Self::Unix(path) => write!(formatter, "antiphon+unix://{}", path.display()),
            Self::Inside(_) => formatter.write_str("the broker of this process"),
        }
    }
}
