//! Connections: made, judged when they cannot be made, and asked for what the server is.

use crate::address::{Address, version};
use antiphon_broker::OpenError;
use antiphon_protocol::{Code, Failure};
use lapin::tcp::OwnedTLSConfig;
use lapin::uri::AMQPScheme;
use lapin::{Connection, ConnectionProperties, Error, ErrorKind};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a server may take to let somebody in.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// The wait before the next try to connect again, at first and at most; each is twice the one before.
pub(crate) const AGAIN: Duration = Duration::from_millis(100);
pub(crate) const AGAIN_MAX: Duration = Duration::from_secs(5);

/// Connects; `role` is what the server's lists show.
pub(crate) async fn connect(address: &Address, role: &str) -> Result<Connection, OpenError> {
    let properties = ConnectionProperties::default()
        .with_connection_name(format!("antiphon {role}").into())
        .with_client_property("product".into(), "Antiphon".into())
        .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
    let runtime = lapin::runtime::default_runtime().map_err(|error| unreachable(address, &error.to_string()))?;
    let tls = OwnedTLSConfig { identity: None, cert_chain: authorities(address)? };
    let connecting = Connection::connect_uri_with_config(address.uri.clone(), properties, tls, runtime);
    match tokio::time::timeout(OPEN_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(refusal(address, &error)),
        Err(_) => Err(unreachable(address, &format!("it does not answer within {} s", OPEN_TIMEOUT.as_secs()))),
    }
}

fn authorities(address: &Address) -> Result<Option<String>, OpenError> {
    let Some(path) = &address.ca else { return Ok(None) };
    match std::fs::read_to_string(path) {
        Ok(pem) => Ok(Some(pem)),
        Err(error) => {
            let text = format!("the authorities in {} cannot be read: {error}", path.display());
            Err(OpenError::Refused(Failure::new(Code::InvalidArgument, text)))
        }
    }
}

fn unreachable(address: &Address, why: &str) -> OpenError {
    OpenError::Unreachable(format!("RabbitMQ at {} cannot be reached: {why}", address.server()))
}

/// The server's reply code, if it said one.
pub(crate) fn reply_code(error: &Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

/// Why the server does not let somebody in.
fn refusal(address: &Address, error: &Error) -> OpenError {
    let user = &address.uri.authority.userinfo.username;
    match reply_code(error) {
        Some(403) => {
            let text = format!("RabbitMQ at {} does not let {user:?} in: user or password is wrong", address.server());
            OpenError::Refused(Failure::new(Code::Unauthenticated, text))
        }
        Some(530) => {
            let text =
                format!("RabbitMQ at {} has no such vhost, or {user:?} may not use it: {error}", address.server());
            OpenError::Refused(Failure::new(Code::PermissionDenied, text))
        }
        _ => unreachable(address, &error.to_string()),
    }
}

/// What a failed operation on a queue means for whoever wanted it.
pub(crate) fn failure(what: &str, error: &Error) -> Failure {
    let (code, hint) = match reply_code(error) {
        Some(403) => (Code::PermissionDenied, "the user lacks the permission"),
        Some(404) => (Code::NotFound, "it is not there"),
        Some(405) => (Code::FailedPrecondition, "another connection has it for itself"),
        Some(406) => (Code::FailedPrecondition, "it exists with other arguments"),
        _ => (Code::Unavailable, "the connection broke"),
    };
    Failure::new(code, format!("{what}: {hint} ({error})"))
}

/// The server's version, from its greeting. `None` where that is encrypted and the URL does not say.
pub(crate) async fn server_version(address: &Address) -> Result<Option<(u32, u32)>, OpenError> {
    if address.version.is_some() || address.uri.scheme == AMQPScheme::AMQPS {
        return Ok(address.version);
    }
    let authority = &address.uri.authority;
    let greeting = async {
        let mut stream = TcpStream::connect((authority.host.as_str(), authority.port)).await?;
        stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
        let mut head = [0; 7];
        stream.read_exact(&mut head).await?;
        let [_, _, _, a, b, c, d] = head;
        // One frame; a server that says more than this in it is none.
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX).min(1 << 16);
        let mut frame = vec![0; length];
        stream.read_exact(&mut frame).await?;
        Ok::<_, std::io::Error>(frame)
    };
    match tokio::time::timeout(OPEN_TIMEOUT, greeting).await {
        Ok(Ok(frame)) => Ok(read_version(&frame)),
        Ok(Err(error)) => Err(unreachable(address, &error.to_string())),
        Err(_) => Err(unreachable(address, "it does not speak AMQP")),
    }
}

/// The value of `version` among the server's properties: a length byte and the key, `S`, four bytes of length, the text.
fn read_version(frame: &[u8]) -> Option<(u32, u32)> {
    const KEY: &[u8] = b"\x07versionS";
    let at = frame.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let length = frame.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)?;
    let text = frame.get(at + 4..at + 4 + usize::try_from(length).ok()?)?;
    version(std::str::from_utf8(text).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_in_the_greeting() {
        let greeting = b"\x00\x0a\x00\x0a\x00\x09\x00\x00\x01\xc2\x07productS\x00\x00\x00\x08RabbitMQ\x07versionS\x00\x00\x00\x064.0.5 ";
        assert_eq!(read_version(greeting), Some((4, 0)));
        assert_eq!(read_version(b"\x07versionS\x00\x00\x00\xffcut"), None);
        assert_eq!(read_version(b""), None);
    }
}
