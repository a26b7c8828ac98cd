//! Numbers as people read them, and rates and targets as they write them.

use antiphon_queueing::{PerSecond, Target};

/// A time with three digits and its unit.
pub fn seconds(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let (scaled, unit) = match value.abs() {
        0.0 => (0.0, "s"),
        small if small < 0.999_5e-6 => (value * 1e9, "ns"),
        small if small < 0.999_5e-3 => (value * 1e6, "µs"),
        small if small < 0.999_5 => (value * 1e3, "ms"),
        small if small < 120.0 => (value, "s"),
        small if small < 7_200.0 => (value / 60.0, "min"),
        _ => (value / 3_600.0, "h"),
    };
    format!("{} {unit}", plain(scaled))
}

/// A number with three digits and no more than it needs.
pub fn plain(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if !value.is_finite() {
        return "-".to_owned();
    }
    let digits = value.abs().log10().floor();
    if !(-6.0..9.0).contains(&digits) {
        return format!("{value:.1e}");
    }
    let decimals = (2.0 - digits).clamp(0.0, 9.0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A part of 1, in percent.
pub fn percent(value: f64) -> String {
    format!("{} %", plain(value * 100.0))
}

/// Reads a rate such as `80/s`, `5000/min` or `2/h`, per second.
pub fn rate(text: &str) -> Result<f64, String> {
    text.parse::<PerSecond>().map(|rate| rate.0)
}

/// Reads a coefficient of variation.
pub fn variation(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("{text:?} is not a number, such as 1.5"))?;
    if (0.0..=1_000.0).contains(&value) { Ok(value) } else { Err(format!("{text} is not within 0 and 1000")) }
}

/// Reads a target such as `p99=100ms` or `mean=20ms`.
pub fn target(text: &str) -> Result<Target, String> {
    let wrong = || format!("{text:?} is not a target: write it like p99=100ms or mean=20ms");
    let (of, time) = text.split_once('=').ok_or_else(wrong)?;
    let quantile = match of.trim() {
        "mean" => None,
        of => {
            let percent: f64 = of.strip_prefix('p').ok_or_else(wrong)?.parse().map_err(|_| wrong())?;
            if !(percent > 0.0 && percent < 100.0) {
                return Err(format!("p{percent} is no percentile: it lies between p0 and p100"));
            }
            Some(percent / 100.0)
        }
    };
    Ok(Target { quantile, response_s: duration_s(time)? })
}

/// Reads a duration above 0, in seconds.
pub fn duration_s(text: &str) -> Result<f64, String> {
    let length = crate::input::duration(text)?;
    if length.is_zero() { Err(format!("{text:?} is no time: it must be above 0")) } else { Ok(length.as_secs_f64()) }
}

/// Reads a file with a time on each line: a number of seconds, or a duration such as `12ms` or `1m30s`. Empty lines and what
/// follows a # are left out. A complaint begins with the number of the line.
pub fn times_s(text: &str) -> Result<Vec<f64>, String> {
    let lines = text.lines().enumerate().map(|(place, line)| (place + 1, line.split('#').next().unwrap_or("").trim()));
    let times = lines.filter(|(_, line)| !line.is_empty()).map(|(number, line)| match line.parse::<f64>() {
        Ok(seconds) if seconds >= 0.0 && seconds.is_finite() => Ok(seconds),
        Ok(_) => Err(format!("{number}: {line} is no time")),
        Err(_) => crate::input::duration(line)
            .map(|length| length.as_secs_f64())
            .map_err(|error| format!("{number}: {error}, or a number of seconds")),
    });
    times.collect()
}

/// A target as it was written.
pub fn target_text(target: Target) -> String {
    let of = target.quantile.map_or_else(|| "mean".to_owned(), |quantile| format!("p{}", plain_percent(quantile)));
    format!("{of} ≤ {}", seconds(target.response_s))
}

pub fn plain_percent(quantile: f64) -> String {
    let text = format!("{:.6}", quantile * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_no_idle_zeros() {
        for (value, text) in [
            (0.0, "0 s"),
            (0.01, "10 ms"),
            (0.012_345, "12.3 ms"),
            (1.0, "1 s"),
            (0.000_05, "50 µs"),
            (3.0e-8, "30 ns"),
            (90.0, "90 s"),
            (600.0, "10 min"),
            (86_400.0, "24 h"),
            (f64::INFINITY, "-"),
        ] {
            assert_eq!(seconds(value), text);
        }
        assert_eq!(plain(1_234.5), "1234");
        assert_eq!(plain(0.000_000_012), "1.2e-8");
        assert_eq!(plain(123_456_789.0), "123456789");
        assert_eq!(plain(1e300), "1.0e300");
        assert_eq!(percent(0.8), "80 %");
    }

    #[test]
    fn files_of_times_take_seconds_durations_and_remarks() {
        assert_eq!(times_s("0.02\n12ms # a remark\n\n1m30s\n# nothing\n"), Ok(vec![0.02, 0.012, 90.0]));
        assert!(times_s("1\nsoon\n").unwrap_err().starts_with("2: "));
        assert!(times_s("-1\n").unwrap_err().contains("no time"));
        assert!(times_s("NaN\n").unwrap_err().contains("no time"));
    }

    #[test]
    fn rates_and_targets_are_what_people_write() {
        assert_eq!(rate("80/s"), Ok(80.0));
        assert_eq!(rate("30/min"), Ok(0.5));
        assert!(rate("80").unwrap_err().contains("80/s"));
        assert!(rate("-1/s").unwrap_err().contains("above 0"));
        let parsed = target("p99.9=100ms").unwrap();
        assert!((parsed.quantile.unwrap() - 0.999).abs() < 1e-12);
        assert_eq!(target_text(parsed), "p99.9 ≤ 100 ms");
        assert_eq!(target("mean=1s").unwrap().quantile, None);
        assert!(target("p100=1s").unwrap_err().contains("between"));
        assert!(target("p99").unwrap_err().contains("p99=100ms"));
        assert!(target("p99=0s").unwrap_err().contains("above 0"));
    }
}
