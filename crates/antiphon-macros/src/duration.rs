//! Durations in attributes: a whole number and a unit, such as `30s`.

use syn::{Error, LitStr, Result};

/// In milliseconds; 1 ms to 49 days.
pub fn milliseconds(literal: &LitStr) -> Result<u32> {
    let text = literal.value();
    let wrong = || Error::new(literal.span(), "expected a duration such as \"250ms\", \"30s\", \"5m\" or \"1h\"");
    let digits = text.find(|character: char| !character.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u32 = number.parse().map_err(|_| wrong())?;
    let factor = match unit.trim() {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    match number.checked_mul(factor) {
        Some(0) => Err(Error::new(literal.span(), "a duration is at least 1 ms; for none, leave it out")),
        Some(milliseconds) => Ok(milliseconds),
        None => Err(Error::new(literal.span(), "a duration is at most 49 days")),
    }
}
