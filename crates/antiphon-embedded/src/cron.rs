//! Cron expressions by the wall clock of a time zone. A local time that a change of the clocks leaves out comes when the
//! clocks have changed; one that comes twice counts the first time. So each local time makes one tick.

use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan};

/// How many days to look for a tick: the 29th of February comes within eight years.
const DAYS: u32 = 366 * 8;

/// Five fields, as sets of bits.
#[derive(Debug)]
pub(crate) struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether the day of the month, and that of the week, say nothing: if both say something, either will do.
    any_day: bool,
    any_weekday: bool,
    zone: TimeZone,
}

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

impl Cron {
    /// Reads an expression.
    pub fn new(expression: &str, zone: &str) -> Result<Self, String> {
        let fields: Vec<&str> = expression.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(format!(
                "{expression:?} has {} fields: give minute, hour, day of month, month and day of week, as in \
                 '0 9 * * MON-FRI'",
                fields.len()
            ));
        };
        let zone = TimeZone::get(zone)
            .map_err(|_| format!("{zone:?} is not a time zone: give a name such as Europe/Berlin or UTC"))?;
        let week = set(weekdays, "day of week", 0, 7, &WEEKDAYS, 0)?;
        let cron = Self {
            minutes: set(minutes, "minute", 0, 59, &[], 0)?,
            hours: set(hours, "hour", 0, 23, &[], 0)?,
            days: set(days, "day of month", 1, 31, &[], 0)?,
            months: set(months, "month", 1, 12, &MONTHS, 1)?,
            // Sunday is 0 and 7.
            weekdays: week | week >> 7,
            any_day: days.starts_with('*'),
            any_weekday: weekdays.starts_with('*'),
            zone,
        };
        match cron.after(0) {
            Some(_) => Ok(cron),
            None => Err(format!("{expression:?} never comes: no month has such a day")),
        }
    }

    /// The first tick after this time.
    pub fn after(&self, wall_ms: u64) -> Option<u64> {
        let mut date = self.local_date(wall_ms)?;
        for _ in 0..DAYS {
            if self.takes(date) {
                let found = self.times().filter_map(|(hour, minute)| self.tick(date, hour, minute));
                if let Some(tick_ms) = found.into_iter().find(|tick_ms| *tick_ms > wall_ms) {
                    return Some(tick_ms);
                }
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// The last tick at this time or before.
    pub fn until(&self, wall_ms: u64) -> Option<u64> {
        let mut date = self.local_date(wall_ms)?;
        for _ in 0..DAYS {
            if self.takes(date) {
                let times: Vec<_> = self.times().collect();
                let found = times.into_iter().rev().filter_map(|(hour, minute)| self.tick(date, hour, minute));
                if let Some(tick_ms) = found.into_iter().find(|tick_ms| *tick_ms <= wall_ms) {
                    return Some(tick_ms);
                }
            }
            date = date.checked_sub(1.day()).ok()?;
        }
        None
    }

    fn local_date(&self, wall_ms: u64) -> Option<Date> {
        let now = Timestamp::from_millisecond(i64::try_from(wall_ms).ok()?).ok()?;
        Some(now.to_zoned(self.zone.clone()).date())
    }

    fn takes(&self, date: Date) -> bool {
        let has = |bits: u64, number: i8| u32::try_from(number).is_ok_and(|number| bits >> number & 1 == 1);
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        let either = match (self.any_day, self.any_weekday) {
            (false, false) => day || weekday,
            _ => day && weekday,
        };
        has(self.months, date.month()) && either
    }

    /// The times of a day, in order.
    fn times(&self) -> impl Iterator<Item = (i8, i8)> {
        let bits = |bits: u64| (0..60_i8).filter(move |number| bits >> number & 1 == 1);
        let minutes = self.minutes;
        bits(self.hours).flat_map(move |hour| bits(minutes).map(move |minute| (hour, minute)))
    }

    /// When a local time comes.
    fn tick(&self, date: Date, hour: i8, minute: i8) -> Option<u64> {
        let local = self.zone.to_ambiguous_timestamp(date.at(hour, minute, 0, 0));
        let at = match local.offset() {
            AmbiguousOffset::Gap { .. } => {
                let before = local.earlier().ok()?;
                self.zone.following(before).next()?.timestamp()
            }
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => local.earlier().ok()?,
        };
        u64::try_from(at.as_millisecond()).ok()
    }
}

/// A field as a set of bits: numbers, names, ranges, steps and lists of them.
fn set(field: &str, what: &str, low: u32, high: u32, names: &[&str], first: u32) -> Result<u64, String> {
    let wrong = || {
        let examples = if names.is_empty() { String::new() } else { format!(", or names such as {}", names.join(" ")) };
        format!("{field:?} is no {what}: it takes {low} to {high}{examples}; lists 1,2; ranges 1-5; steps */5; or *")
    };
    let number = |text: &str| {
        let named = names.iter().zip(first..).find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, at)| at);
        named.or_else(|| text.parse().ok()).filter(|number| (low..=high).contains(number)).ok_or_else(wrong)
    };
    let mut bits = 0;
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse().ok().filter(|step| *step > 0).ok_or_else(wrong)?),
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (low, high),
            Some((from, to)) => (number(from)?, number(to)?),
            None if part.contains('/') => (number(range)?, high),
            None => (number(range)?, number(range)?),
        };
        if from > to {
            return Err(wrong());
        }
        (from..=to).step_by(step).for_each(|number| bits |= 1_u64 << number);
    }
    Ok(bits)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::Cron;
    use jiff::Timestamp;

    fn ticks(expression: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let cron = Cron::new(expression, zone).unwrap();
        let mut at = from.parse::<Timestamp>().unwrap().as_millisecond() as u64;
        let mut all = Vec::new();
        for _ in 0..count {
            let before = at;
            at = cron.after(at).unwrap();
            assert_eq!(cron.until(at), Some(at), "a tick is the last one at its time");
            assert!(cron.until(at - 1).unwrap() <= before.max(cron.until(at - 1).unwrap()));
            all.push(Timestamp::from_millisecond(at as i64).unwrap().to_string());
        }
        all
    }

    #[test]
    fn fields_take_numbers_names_lists_ranges_and_steps() {
        let week = ticks("0 9 * * MON-FRI", "UTC", "2026-01-02T09:00:00Z", 2);
        assert_eq!(week, ["2026-01-05T09:00:00Z", "2026-01-06T09:00:00Z"]);
        let steps = ticks("*/20,5 23 31 dec *", "UTC", "2026-01-01T00:00:00Z", 4);
        assert_eq!(steps[..2], ["2026-12-31T23:00:00Z", "2026-12-31T23:05:00Z"]);
        assert_eq!(ticks("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1), ["2104-02-29T00:00:00Z"]);
        // Both days say something: either will do. Sunday is 7, too.
        let either = ticks("0 0 13 * 7", "UTC", "2026-02-09T00:00:00Z", 3);
        assert_eq!(either, ["2026-02-13T00:00:00Z", "2026-02-15T00:00:00Z", "2026-02-22T00:00:00Z"]);
    }

    #[test]
    fn a_local_time_that_is_left_out_comes_when_the_clocks_have_changed_and_once() {
        // 2026-03-29: 02:00 becomes 03:00, which is 01:00 UTC.
        let daily = ticks("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3);
        assert_eq!(daily, ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
        let quarters = ticks("*/15 2,3 29 3 *", "Europe/Berlin", "2026-03-29T00:00:00Z", 4);
        assert_eq!(quarters[..2], ["2026-03-29T01:00:00Z", "2026-03-29T01:15:00Z"], "no instant comes twice");
    }

    #[test]
    fn a_local_time_that_comes_twice_counts_the_first_time() {
        // 2026-10-25: 03:00 becomes 02:00, which is 01:00 UTC.
        let daily = ticks("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(daily, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        let cron = Cron::new("30 2 * * *", "Europe/Berlin").unwrap();
        let second: Timestamp = "2026-10-25T01:30:00Z".parse().unwrap();
        assert_eq!(cron.until(second.as_millisecond() as u64), Some(second.as_millisecond() as u64 - 3_600_000));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (expression, zone, text) in [
            ("* * * *", "UTC", "4 fields"),
            ("61 * * * *", "UTC", "no minute"),
            ("0 9 * * MON-FUN", "UTC", "no day of week"),
            ("0 9 * * 5-1", "UTC", "no day of week"),
            ("*/0 * * * *", "UTC", "no minute"),
            ("0 0 30 2 *", "UTC", "never comes"),
            ("0 0 * * *", "Mars/Olympus", "not a time zone"),
        ] {
            let told = Cron::new(expression, zone).unwrap_err();
            assert!(told.contains(text), "{told}");
        }
    }
}
