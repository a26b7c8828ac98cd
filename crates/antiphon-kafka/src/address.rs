//! What a URL says: where the brokers are, and how their topics are used.

use antiphon_broker::OpenError;
use antiphon_protocol::{Code, Failure, Name};
use std::path::PathBuf;

const SCHEME: &str = "kafka://";
/// The longest prefix of topics' names: it and a procedure's name share 249 bytes.
const PREFIX_BYTES_MAX: usize = 64;
/// How many partitions a new topic has, unless the URL says otherwise: so many workers share a procedure.
const PARTITIONS: i32 = 8;

/// How long brokers may hold back the answer to a fetch while there is nothing to read, unless the URL says otherwise:
/// Kafka answers as soon as there is something.
const FETCH_WAIT_MS: i32 = 500;

/// A URL, read.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// `host:port`, several between commas.
    pub(crate) brokers: String,
    /// Goes before every topic's and group's name.
    pub(crate) prefix: String,
    /// How many partitions new topics have.
    pub(crate) partitions: i32,
    /// How many copies new topics have; the cluster's default where it is not said.
    pub(crate) replication: Option<i32>,
    /// Where a caller remembers which outcomes it has handled.
    pub(crate) dedupe: Option<PathBuf>,
    /// How long brokers may hold back the answer to a fetch while there is nothing to read, in milliseconds.
    pub(crate) fetch_wait_ms: i32,
}

impl Address {
    /// Reads `kafka://host[:port][,host[:port]…][?parameters]`.
    pub(crate) fn parse(url: &str) -> Result<Self, OpenError> {
        let rest = url.strip_prefix(SCHEME).ok_or_else(|| malformed(url, "it begins with kafka://"))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let place = place.trim_end_matches('/');
        if let Some((_, place)) = place.rsplit_once('@') {
            // The URL is not repeated: it holds a password.
            let text = format!("a user for Kafka at {place}: there is no SASL and no TLS, leave it out of the URL");
            return Err(OpenError::Refused(Failure::new(Code::Unimplemented, text)));
        }
        if place.is_empty() || place.contains('/') {
            return Err(malformed(url, "it is kafka://HOST:PORT, several between commas, and parameters"));
        }
        let with_port = |host: &str| if host.contains(':') { host.to_owned() } else { format!("{host}:9092") };
        let mut address = Self {
            brokers: place.split(',').map(with_port).collect::<Vec<_>>().join(","),
            prefix: String::new(),
            partitions: PARTITIONS,
            replication: None,
            dedupe: None,
            fetch_wait_ms: FETCH_WAIT_MS,
        };
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match key {
                "prefix" if value.len() <= PREFIX_BYTES_MAX && Name::new(value).is_ok() => {
                    value.clone_into(&mut address.prefix);
                }
                "prefix" => {
                    let text = format!("prefix is a name of at most {PREFIX_BYTES_MAX} bytes out of a-z 0-9 _ . -");
                    return Err(malformed(url, &text));
                }
                "fetch_wait" => address.fetch_wait_ms = count(url, key, value)?,
                "partitions" => address.partitions = count(url, key, value)?,
                "replication" => address.replication = Some(count(url, key, value)?),
                "dedupe" => address.dedupe = Some(PathBuf::from(value)),
                _ => {
                    let text = format!(
                        "{key:?} is no parameter: there are prefix, partitions, replication, fetch_wait, dedupe"
                    );
                    return Err(malformed(url, &text));
                }
            }
        }
        Ok(address)
    }
}

fn count(url: &str, key: &str, value: &str) -> Result<i32, OpenError> {
    match value.parse() {
        Ok(count) if (1..=10_000).contains(&count) => Ok(count),
        _ => Err(malformed(url, &format!("{key} is a number from 1 to 10000"))),
    }
}

fn malformed(url: &str, why: &str) -> OpenError {
    OpenError::Refused(Failure::new(Code::InvalidArgument, format!("the URL {url:?} is malformed: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_how() {
        let address =
            Address::parse("kafka://one,two:9093/?prefix=acme.&partitions=2&replication=3").expect("well-formed");
        assert_eq!((address.brokers.as_str(), address.prefix.as_str()), ("one:9092,two:9093", "acme."));
        assert_eq!((address.partitions, address.replication, address.fetch_wait_ms), (2, Some(3), 500));
    }

    #[test]
    fn a_malformed_url_is_refused_with_what_is_wrong() {
        for (url, part) in [
            ("kafka://", "HOST:PORT"),
            ("kafka://host/topic", "HOST:PORT"),
            ("kafka://host?partitions=0", "1 to 10000"),
            ("kafka://host?prefix=A", "a-z"),
            ("kafka://host?retries=3", "no parameter"),
        ] {
            let error = Address::parse(url).expect_err(url).to_string();
            assert!(error.contains(part) && error.contains(url), "{error}");
        }
    }

    #[test]
    fn a_user_is_refused_and_the_password_is_not_repeated() {
        let error = Address::parse("kafka://me:secret@host:9092").expect_err("there is no SASL").to_string();
        assert!(error.contains("no SASL") && error.contains("host:9092") && !error.contains("secret"), "{error}");
    }
}
