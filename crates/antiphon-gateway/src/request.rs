//! The head of a request, read within a deadline and a bound. Bodies are not read: nothing here takes one.

use std::io::{self, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The longest head that is read; a probe's has a hundred bytes, a browser's with cookies a few thousand.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The page at this path.
    Get(String),
    /// The same without its body.
    HeadOf(String),
    /// A method that is not served.
    Other,
    /// More than may be read, or not HTTP.
    Malformed,
}

/// Reads a head.
pub(crate) fn read(mut stream: &TcpStream, until: Instant) -> io::Result<Asked> {
    let mut bytes = Vec::with_capacity(1024);
    let mut buffer = [0; 1024];
    while !ends(&bytes) {
        if bytes.len() >= HEAD_BYTES_MAX {
            return Ok(Asked::Malformed);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        // Zero would mean no limit.
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(&mut buffer)? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            count => bytes.extend(buffer.iter().take(count)),
        }
    }
    Ok(parse(&bytes))
}

fn ends(bytes: &[u8]) -> bool {
    bytes.windows(4).any(|window| window == b"\r\n\r\n") || bytes.windows(2).any(|window| window == b"\n\n")
}

/// Reads the first line; the rest says nothing that matters here.
fn parse(bytes: &[u8]) -> Asked {
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or(&[]);
    let Ok(line) = core::str::from_utf8(line) else { return Asked::Malformed };
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Asked::Malformed;
    };
    if !version.starts_with("HTTP/1.") || !target.starts_with('/') {
        return Asked::Malformed;
    }
    let path = target.split(['?', '#']).next().unwrap_or("/").to_owned();
    match method {
        "GET" => Asked::Get(path),
        "HEAD" => Asked::HeadOf(path),
        _ => Asked::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, parse};

    #[test]
    fn first_lines_are_read_as_http_says() {
        assert_eq!(parse(b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n"), Asked::Get("/metrics".to_owned()));
        assert_eq!(parse(b"HEAD / HTTP/1.0\r\n\r\n"), Asked::HeadOf("/".to_owned()));
        assert_eq!(parse(b"DELETE / HTTP/1.1\r\n\r\n"), Asked::Other);
        for wrong in [&b"GET /"[..], b"GET / HTTP/2", b"GET  / HTTP/1.1", b"GET http://x/ HTTP/1.1", b"\xff / HTTP/1.1"]
        {
            assert_eq!(parse(wrong), Asked::Malformed, "{wrong:?}");
        }
    }
}
