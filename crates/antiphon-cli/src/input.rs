//! What people type: durations, instants, names, arguments. Every mistake is one line that says what to do.

use crate::ending::Ending;
use antiphon_protocol::{CallId, Key, Name, Pattern, Priority, Topic};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use std::fs;
use std::io::{self, Read};
use std::str::FromStr;
use std::time::Duration;

/// Reads a size in bytes, such as `4096`, `64KiB`, `16MiB` or `2GiB`.
pub fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err(format!("{text:?} is not a size: write it like 4096, 64KiB, 16MiB or 2GiB")),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    number.ok_or_else(|| format!("{text:?} is not a size: write it like 4096, 64KiB, 16MiB or 2GiB"))
}

/// Reads a duration such as `500ms`, `5s`, `1m30s` or `2h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed = SignedDuration::from_str(text.trim())
        .map_err(|_| format!("{text:?} is not a duration: write it like 500ms, 5s, 1m30s or 2h"))?;
    Duration::try_from(parsed).map_err(|_| format!("{text:?} lies in the past: a duration is not negative"))
}

/// Reads how long one attempt may take, in milliseconds, at least 1.
pub fn attempt_timeout(text: &str) -> Result<u32, String> {
    let ms = u32::try_from(duration(text)?.as_millis());
    ms.map(|ms| ms.max(1))
        .map_err(|_| format!("{text:?} is too long: an attempt takes at most {} ms (49 days)", u32::MAX))
}

/// Reads a deadline: a duration from now, or an instant; in milliseconds from now, at least 1.
pub fn deadline(text: &str) -> Result<u64, String> {
    let now = Timestamp::now();
    let left = match SignedDuration::from_str(text.trim()) {
        Ok(left) => left,
        Err(_) => now.duration_until(moment(text)?),
    };
    if left.is_negative() || left.is_zero() {
        return Err(format!("the deadline {text:?} lies in the past: give the time that is left, such as 5s"));
    }
    Ok(u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1))
}

/// Reads an instant, in milliseconds since 1970.
pub fn instant(text: &str) -> Result<u64, String> {
    Ok(u64::try_from(moment(text)?.as_millisecond()).unwrap_or(0))
}

fn moment(text: &str) -> Result<Timestamp, String> {
    let text = text.trim();
    let local = || {
        let civil = jiff::civil::DateTime::from_str(text).ok()?;
        Some(civil.to_zoned(TimeZone::system()).ok()?.timestamp())
    };
    Timestamp::from_str(text).ok().or_else(local).ok_or_else(|| {
        format!("{text:?} is neither a duration nor an instant: write 5s, 2026-01-31T18:00 or 2026-01-31T18:00:00Z")
    })
}

/// Reads how long ago something was (`1h`), or an instant; in milliseconds since 1970.
pub fn since(text: &str) -> Result<u64, String> {
    let Ok(ago) = duration(text) else { return instant(text) };
    let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
    Ok(now.saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)))
}

/// Reads a topic.
pub fn topic(text: &str) -> Result<Topic, String> {
    Topic::new(text).map_err(|error| error.to_string())
}

/// Reads a pattern of topics.
pub fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::new(text).map_err(|error| error.to_string())
}

/// Reads a name of a procedure, tenant or worker.
pub fn name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| error.to_string())
}

/// Reads an idempotency key.
pub fn key(text: &str) -> Result<Key, String> {
    Key::new(text).map_err(|error| error.to_string())
}

/// Reads a call's id.
pub fn call_id(text: &str) -> Result<CallId, String> {
    text.parse().map_err(|error: antiphon_protocol::ParseCallIdError| error.to_string())
}

/// Reads a class of urgency.
pub fn priority(text: &str) -> Result<Priority, String> {
    let number: i64 = text.parse().map_err(|_| format!("{text:?} is not a priority: it is 0 to 9, 9 first"))?;
    let class = u8::try_from(number).ok().and_then(|class| Priority::new(class).ok());
    class.ok_or_else(|| format!("priority {number} is out of range: it is 0 to 9, 9 first"))
}

/// Reads `PROCEDURE=COMMAND`.
pub fn served(text: &str) -> Result<(Name, String), String> {
    let Some((procedure, command)) = text.split_once('=') else {
        return Err(format!("{text:?} names no command: write 'PROCEDURE=COMMAND', such as 'text.count=wc -w'"));
    };
    if command.trim().is_empty() {
        return Err(format!("{text:?} has an empty command: write 'PROCEDURE=COMMAND', such as 'text.count=wc -w'"));
    }
    Ok((name(procedure.trim())?, command.to_owned()))
}

/// The bytes of an argument: the text itself, `@FILE`, or `-` for stdin.
pub fn argument(text: &str) -> Result<Vec<u8>, Ending> {
    match text.strip_prefix('@') {
        Some(path) => fs::read(path).map_err(|error| Ending::usage(format!("cannot read {path}: {error}"))),
        None if text == "-" => {
            let mut bytes = Vec::new();
            io::stdin().lock().read_to_end(&mut bytes)?;
            Ok(bytes)
        }
        None => Ok(text.as_bytes().to_vec()),
    }
}

/// Checks that bytes are one JSON value, and takes off the white space around it.
pub fn json(bytes: Vec<u8>) -> Result<Vec<u8>, Ending> {
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let at = error.valid_up_to();
        Ending::usage(format!("the argument is not UTF-8 at byte {at}: --raw sends bytes as they are"))
    })?;
    let text = text.trim();
    if text.is_empty() {
        return Err(Ending::usage("the argument is empty: leave it out, or write null, to send none"));
    }
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| {
        Ending::usage(format!(
            "the argument is not JSON: {error}; a text needs quotes of its own ('\"text\"'), --raw sends bytes as they are"
        ))
    })?;
    Ok(text.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_what_people_write() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1_500)));
        assert!(duration("-5s").unwrap_err().contains("past"));
        assert!(duration("soon").unwrap_err().contains("not a duration"));
    }

    #[test]
    fn a_deadline_lies_in_the_future() {
        assert_eq!(deadline("5s"), Ok(5_000));
        assert!(deadline("0s").unwrap_err().contains("past"));
        assert!(deadline("-1s").unwrap_err().contains("past"));
        assert!(deadline("2001-01-01T00:00:00Z").unwrap_err().contains("past"));
        assert!(deadline("tomorrow").unwrap_err().contains("neither"));
        assert!(deadline("2199-01-01T00:00:00Z").unwrap() > 1_000_000_000);
    }

    #[test]
    fn priorities_have_a_range() {
        assert_eq!(priority("9").unwrap().class(), 9);
        assert!(priority("10").unwrap_err().contains("out of range"));
        assert!(priority("-1").unwrap_err().contains("out of range"));
        assert!(priority("high").unwrap_err().contains("0 to 9"));
    }

    #[test]
    fn a_served_procedure_has_a_command() {
        assert_eq!(served("text.count=wc -w").unwrap().1, "wc -w");
        assert_eq!(served("a=b=c").unwrap().1, "b=c");
        assert!(served("text.count").unwrap_err().contains("PROCEDURE=COMMAND"));
        assert!(served("text.count= ").unwrap_err().contains("empty command"));
        assert!(served("Text=wc").unwrap_err().contains("characters"));
    }

    #[test]
    fn json_is_checked_and_kept_as_it_is() {
        assert_eq!(
            json(b" {\"n\": 12345678901234567890123} \n".to_vec()).unwrap(),
            b"{\"n\": 12345678901234567890123}"
        );
        assert!(json(b"{".to_vec()).unwrap_err().text.unwrap().contains("not JSON"));
        assert!(json(b"1 2".to_vec()).unwrap_err().text.unwrap().contains("not JSON"));
        assert!(json(b" ".to_vec()).unwrap_err().text.unwrap().contains("empty"));
        assert!(json(b"\"\xff\"".to_vec()).unwrap_err().text.unwrap().contains("UTF-8 at byte 1"));
    }
}
