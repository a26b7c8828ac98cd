//! What a URL says: where the server is, and how its queues are used.

use antiphon_broker::OpenError;
use antiphon_protocol::{Code, Failure, Name, defaults};
use lapin::uri::AMQPUri;
use std::path::PathBuf;
use std::time::Duration;

/// The longest prefix of queue names: it and a procedure's name share 255 bytes.
const PREFIX_BYTES_MAX: usize = 64;

/// A URL, read.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// Where to connect, without our own parameters.
    pub(crate) uri: AMQPUri,
    /// Goes before every queue's and exchange's name.
    pub(crate) prefix: String,
    /// Where requests that name no queue for their answer are answered.
    pub(crate) reply_queue: Option<String>,
    /// Whether queues may be weaker than durable calls need: every call is volatile unless it says otherwise.
    pub(crate) accept_memory: bool,
    /// Where a caller remembers which outcomes it has handled.
    pub(crate) dedupe: Option<PathBuf>,
    /// The authorities to trust, in PEM, instead of the system's.
    pub(crate) ca: Option<PathBuf>,
    /// How long the server lets a delivery wait for its settlement.
    pub(crate) consumer_timeout: Duration,
    /// The server's version, where it cannot be asked for.
    pub(crate) version: Option<(u32, u32)>,
}

impl Address {
    /// Reads `amqp[s]://[user:password@]host[:port][/vhost][?parameters]`. Parameters that are not ours are the
    /// connection's: `heartbeat`, `channel_max`, `frame_max`, `connection_timeout`.
    pub(crate) fn parse(url: &str) -> Result<Self, OpenError> {
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        let mut address = Self {
            uri: AMQPUri::default(),
            prefix: String::new(),
            reply_queue: None,
            accept_memory: false,
            dedupe: None,
            ca: None,
            consumer_timeout: Duration::from_millis(defaults::CONSUMER_TIMEOUT_MS),
            version: None,
        };
        let mut rest = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = decode(value).ok_or_else(|| malformed(url, &format!("{key} has a broken %-escape")))?;
            match key {
                "prefix" => address.prefix = prefix(url, value)?,
                "reply_queue" => address.reply_queue = Some(queue(url, value)?),
                "accept" if value == "memory" => address.accept_memory = true,
                "accept" if value == "durable" => address.accept_memory = false,
                "accept" => return Err(malformed(url, "accept is durable (the default) or memory")),
                "dedupe" => address.dedupe = Some(PathBuf::from(value)),
                "ca" => address.ca = Some(PathBuf::from(value)),
                "consumer_timeout" => address.consumer_timeout = Duration::from_millis(number(url, key, &value)?),
                "server" => {
                    address.version = Some(
                        version(&value)
                            .ok_or_else(|| malformed(url, "server is the version of the server, such as 4.0"))?,
                    )
                }
                "heartbeat" | "channel_max" | "frame_max" | "connection_timeout" | "auth_mechanism" => {
                    rest.push(parameter)
                }
                _ => {
                    let known = "prefix, reply_queue, accept, dedupe, ca, consumer_timeout, server, heartbeat, \
                                 channel_max, frame_max, connection_timeout, auth_mechanism";
                    return Err(malformed(url, &format!("{key:?} is no parameter: there are {known}")));
                }
            }
        }
        let place = if rest.is_empty() { place.to_owned() } else { format!("{place}?{}", rest.join("&")) };
        address.uri = place.parse().map_err(|error: String| malformed(url, &error))?;
        Ok(address)
    }

    /// The server as people know it, without user and password.
    pub(crate) fn server(&self) -> String {
        let AMQPUri { authority, vhost, .. } = &self.uri;
        format!("{}:{} (vhost {:?})", authority.host, authority.port, vhost)
    }
}

fn prefix(url: &str, value: String) -> Result<String, OpenError> {
    if value.len() > PREFIX_BYTES_MAX {
        return Err(malformed(url, &format!("the prefix has more than {PREFIX_BYTES_MAX} bytes")));
    }
    queue(url, value)
}

fn queue(url: &str, value: String) -> Result<String, OpenError> {
    match Name::new(&value) {
        Ok(_) => Ok(value),
        Err(error) => Err(malformed(url, &error.to_string())),
    }
}

fn number(url: &str, key: &str, value: &str) -> Result<u64, OpenError> {
    value.parse().map_err(|_| malformed(url, &format!("{key} is a number of milliseconds")))
}

/// The first two numbers of a version.
pub(crate) fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    Some((parts.next()?.parse().ok()?, parts.next().unwrap_or("0").parse().ok()?))
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// The URL without what stands before the `@`, for messages.
fn malformed(url: &str, what: &str) -> OpenError {
    let scheme = url.split("://").next().unwrap_or_default();
    let place = url.rsplit('@').next().unwrap_or_default();
    let shown = if url.contains('@') { format!("{scheme}://…@{place}") } else { url.to_owned() };
    OpenError::Refused(Failure::new(Code::InvalidArgument, format!("{shown}: {what}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn wrong(url: &str) -> String {
        Address::parse(url).unwrap_err().to_string()
    }

    #[test]
    fn a_url_says_how_queues_are_used() {
        let url = "amqp://me:secret@host:5673/my%2fhost?prefix=acme.&reply_queue=response_queue&accept=memory\
                   &dedupe=%2Ftmp%2Fseen&consumer_timeout=60000&server=4.1&heartbeat=5";
        let address = Address::parse(url).unwrap();
        assert_eq!((address.uri.authority.port, &*address.uri.vhost), (5673, "my/host"));
        assert_eq!((&*address.prefix, address.reply_queue.as_deref()), ("acme.", Some("response_queue")));
        assert_eq!(address.dedupe.as_deref(), Some(std::path::Path::new("/tmp/seen")));
        assert_eq!((address.accept_memory, address.version), (true, Some((4, 1))));
        assert_eq!((address.consumer_timeout, address.uri.query.heartbeat), (Duration::from_mins(1), Some(5)));
    }

    #[test]
    fn a_mistake_in_a_url_is_named_and_shows_no_password() {
        let text = wrong("amqp://me:secret@host/?prefx=a");
        assert!(text.contains("\"prefx\" is no parameter") && !text.contains("secret"), "{text}");
        assert!(wrong("amqp://host/?accept=disk").contains("accept is"));
        assert!(wrong("amqp://host/?prefix=A").contains("outside"));
        assert!(wrong("amqp://host/?consumer_timeout=1h").contains("milliseconds"));
        assert!(wrong("amqp://host/?prefix=%2").contains("escape"));
    }
}
