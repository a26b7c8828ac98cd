//! Times and rates as people write them: `10ms`, `80/s`.

use serde::{Deserialize, Serialize};

/// The longest time that can be written, in seconds: 31 years.
const LONGEST_S: f64 = 1e9;
/// Rates that can be written, per second.
const RATES: std::ops::RangeInclusive<f64> = 1e-9..=1e12;

/// A time, in seconds, at most 10⁹; written as `10ms`, `1.5s`, `2min`, `1h` or `1d`.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "f64")]
pub struct Seconds(pub f64);

/// A rate, per second, 10⁻⁹ to 10¹²; written as `80/s`, `5000/min`, `2/h` or `1/d`.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "f64")]
pub struct PerSecond(pub f64);

/// What a unit of time is in seconds.
fn unit_s(unit: &str) -> Option<f64> {
    Some(match unit.trim() {
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" | "sec" | "second" => 1.0,
        "m" | "min" | "minute" => 60.0,
        "h" | "hour" => 3_600.0,
        "d" | "day" => 86_400.0,
        _ => return None,
    })
}

impl std::str::FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a time: write it like 10ms, 1.5s, 2min or 1h");
        let text = text.trim();
        let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(end);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let seconds = number * unit_s(unit).ok_or_else(wrong)?;
        if seconds <= LONGEST_S {
            Ok(Self(seconds))
        } else {
            Err(format!("{text:?} is too long: the longest is 10000d"))
        }
    }
}

impl std::str::FromStr for PerSecond {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a rate: write it like 80/s, 5000/min or 2/h");
        let (number, unit) = text.split_once('/').ok_or_else(wrong)?;
        let number: f64 = number.trim().parse().map_err(|_| wrong())?;
        let per_s = number / unit_s(unit).ok_or_else(wrong)?;
        if !(per_s > 0.0 && per_s.is_finite()) {
            return Err(format!("{text:?} is not a rate of arrivals: it must be above 0"));
        }
        if RATES.contains(&per_s) { Ok(Self(per_s)) } else { Err(format!("{text:?} is not within 1e-9/s and 1e12/s")) }
    }
}

impl TryFrom<String> for Seconds {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TryFrom<String> for PerSecond {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Seconds> for f64 {
    fn from(it: Seconds) -> Self {
        it.0
    }
}

impl From<PerSecond> for f64 {
    fn from(it: PerSecond) -> Self {
        it.0
    }
}
