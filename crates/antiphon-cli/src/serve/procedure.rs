//! `[procedure."NAME"]` in the configuration file: what `antiphon queue limit` sets, set at every start.

use crate::ending::Ending;
use crate::{input, limit};
use antiphon_protocol::{Name, Rate, Setting, Settings};
use std::collections::BTreeMap;
use std::fmt::Display;
use toml::{Table, Value};

/// The longest that anything is kept, as in the rest of the file.
const KEPT_MS_MAX: u64 = super::config::YEARS_MS;

/// Reads all sections.
pub(super) fn settings(sections: BTreeMap<String, Table>) -> Result<Vec<(Name, Settings)>, Ending> {
    sections.into_iter().map(|(name, table)| section(&name, table)).collect()
}

fn section(name: &str, table: Table) -> Result<(Name, Settings), Ending> {
    let wrong = |key: &str, why: &dyn Display| Ending::usage(format!("procedure.\"{name}\".{key}: {why}"));
    let procedure = Name::new(name).map_err(|error| Ending::usage(format!("procedure.\"{name}\": {error}")))?;
    let mut settings = Settings::default();
    for (key, value) in table {
        if let (Value::Table(_), false) = (&value, is_known(&key)) {
            let text = format!("write the name in quotes: [procedure.\"{name}.{key}\"]");
            return Err(wrong(&key, &text));
        }
        read(&key, &value, &mut settings).map_err(|why| wrong(&key, &why))?;
    }
    if let Some(count) = settings.get(Setting::RateCount) {
        let rate = Rate::of(&settings).ok_or_else(|| wrong("rate", &format!("{count} is out of range")));
        rate.map(drop)?;
    } else if settings.get(Setting::RateBurst).is_some() {
        return Err(wrong("rate_burst", &"it means nothing without rate"));
    }
    Ok((procedure, settings))
}

const KEYS: [&str; 13] = [
    "queued_max",
    "queued_bytes_max",
    "tenant_queued_max",
    "tenant_queued_bytes_max",
    "running_max",
    "rate",
    "rate_burst",
    "outcome_ms",
    "outcome_bytes",
    "dead_letter_ms",
    "dead_letters_max",
    "retry_percent",
    "retries_min",
];

fn is_known(key: &str) -> bool {
    KEYS.contains(&key)
}

fn read(key: &str, value: &Value, settings: &mut Settings) -> Result<(), String> {
    let (setting, value) = match key {
        "rate" => {
            let text = value.as_str().ok_or_else(|| "write it like \"100/s\", \"30/min\" or \"5/h\"".to_owned())?;
            let (count, period_ms) = limit::pace(text)?;
            settings.set(Setting::RatePeriodMs, Some(period_ms));
            (Setting::RateCount, count)
        }
        "rate_burst" => (Setting::RateBurst, within(number(value)?, 1, 1_000_000)?),
        "retry_percent" if value.as_str() == Some("off") => (Setting::RetryPercent, u64::MAX),
        "retry_percent" => (Setting::RetryPercent, number(value)?),
        "retries_min" => (Setting::RetriesMin, number(value)?),
        "queued_max" => (Setting::QueuedMax, number(value)?),
        "queued_bytes_max" => (Setting::QueuedBytesMax, size(value)?),
        "tenant_queued_max" => (Setting::TenantQueuedMax, number(value)?),
        "tenant_queued_bytes_max" => (Setting::TenantQueuedBytesMax, size(value)?),
        "running_max" => (Setting::RunningMax, within(number(value)?, 1, u64::from(u32::MAX))?),
        "outcome_ms" => (Setting::OutcomeMs, within(span(value)?, 0, KEPT_MS_MAX)?),
        "outcome_bytes" => (Setting::OutcomeBytes, size(value)?),
        "dead_letter_ms" => (Setting::DeadLetterMs, within(span(value)?, 0, KEPT_MS_MAX)?),
        "dead_letters_max" => (Setting::DeadLettersMax, number(value)?),
        _ => return Err(format!("there is no such key; there are {}", KEYS.join(", "))),
    };
    settings.set(setting, Some(value));
    Ok(())
}

fn number(value: &Value) -> Result<u64, String> {
    let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
    number.ok_or_else(|| format!("{value} is not a whole number of 0 or more"))
}

/// Bytes, as a number or with a unit.
fn size(value: &Value) -> Result<u64, String> {
    value.as_str().map_or_else(|| number(value), input::size)
}

/// Milliseconds, as a number or a duration with units.
fn span(value: &Value) -> Result<u64, String> {
    let Some(text) = value.as_str() else { return number(value) };
    input::duration(text).map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

fn within(value: u64, least: u64, most: u64) -> Result<u64, String> {
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    Err(format!("{value} is out of range: it is {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<(Name, Settings)>, String> {
        let sections: BTreeMap<String, Table> = toml::from_str(text).map_err(|error| error.to_string())?;
        settings(sections).map_err(|ending| ending.text.unwrap_or_default())
    }

    #[test]
    fn a_section_sets_what_queue_limit_sets() {
        let text = "[\"mail.send\"]\nqueued_max = 10\nqueued_bytes_max = \"2KiB\"\ntenant_queued_max = 3\n\
                    tenant_queued_bytes_max = 5\nrunning_max = 2\nrate = \"30/min\"\nrate_burst = 4\n\
                    outcome_ms = \"1h\"\noutcome_bytes = 9\ndead_letter_ms = 0\ndead_letters_max = 7\n\
                    retry_percent = \"off\"\nretries_min = 1\n";
        let all = parsed(text).unwrap();
        let (name, settings) = all.first().unwrap();
        assert_eq!((all.len(), name.as_str()), (1, "mail.send"));
        // All but the pause, which is what people do at run time.
        assert_eq!(settings.0.len(), Setting::ALL.len() - 1);
        let got = |setting| settings.get(setting).unwrap();
        assert_eq!((got(Setting::RateCount), got(Setting::RatePeriodMs)), (30, 60_000));
        assert_eq!((got(Setting::QueuedBytesMax), got(Setting::OutcomeMs)), (2_048, 3_600_000));
        assert_eq!(got(Setting::RetryPercent), u64::MAX);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key() {
        let cases = [
            ("[\"a.b\"]\nrunning = 1", "procedure.\"a.b\".running: there is no such key; there are queued_max,"),
            ("[\"a.b\"]\nrunning_max = 0", "procedure.\"a.b\".running_max: 0 is out of range: it is 1 to"),
            ("[\"a.b\"]\nqueued_max = -1", "procedure.\"a.b\".queued_max: -1 is not a whole number"),
            (
                "[\"a.b\"]\nqueued_bytes_max = \"2 parsecs\"",
                "procedure.\"a.b\".queued_bytes_max: \"2 parsecs\" is not a size",
            ),
            ("[\"a.b\"]\nrate = 5", "procedure.\"a.b\".rate: write it like \"100/s\""),
            ("[\"a.b\"]\nrate = \"fast\"", "procedure.\"a.b\".rate: \"fast\" is no rate"),
            ("[\"a.b\"]\nrate_burst = 5", "procedure.\"a.b\".rate_burst: it means nothing without rate"),
            ("[\"a.b\"]\noutcome_ms = \"soon\"", "procedure.\"a.b\".outcome_ms: \"soon\" is not a duration"),
            ("[\"A b\"]\nqueued_max = 1", "procedure.\"A b\": "),
            ("[mail.send]\nqueued_max = 1", "write the name in quotes: [procedure.\"mail.send\"]"),
        ];
        for (text, part) in cases {
            let told = parsed(text).unwrap_err();
            assert!(told.contains(part), "{part:?} is not in {told:?}");
        }
    }
}
