//! `docs/defaults.md` and [`antiphon_protocol::defaults`].

use crate::table;
use antiphon_protocol::defaults as d;
use std::collections::BTreeMap;

/// Every default with its value. A constant that is missing here is found by the test below.
fn values() -> BTreeMap<&'static str, String> {
    macro_rules! values {
        ($($name:ident)*) => { BTreeMap::from([$((stringify!($name), d::$name.to_string()),)*]) };
    }
    values! {
        ATTEMPTS BACKOFF_FIRST_MS BACKOFF_FACTOR_TENTHS BACKOFF_MAX_MS LEASE_MS LEASE_RENEWALS INBOX_GRACE_MS
        AWAITED_DEADLINE_MS PRIORITY OUTCOME_RETENTION_MS OUTCOME_RETENTION_BYTES DEAD_LETTER_RETENTION_MS
        IDEMPOTENCY_WINDOW_MS PAYLOAD_BYTES_MAX PROGRESS_ITEMS_MAX PROGRESS_BYTES_MAX SCHEDULE_LATE_MS SCHEDULE_BYTES_MAX LOST_LEASES_MAX CALLS_MAX RETRY_PERCENT RETRIES_MIN DISK_PERCENT_MAX
        CONCURRENCY CALL_SLOTS CALL_SLOTS_MAX CALL_LABELS_MAX WORKER_LABELS_MAX ANCESTORS_MAX PARKED_MAX DRAIN_MS SLOTS
        LISTEN HTTP DATA_DIRECTORY HEARTBEAT_MS CALLBACKS_MAX CALLBACK_DEPTH_MAX GROUP_CHILDREN_MAX GROUP_UNSEALED_MS
        LOST_DELIVERIES_MAX DELIVERY_LIMIT CONSUMER_TIMEOUT_MS
    }
}

#[test]
fn the_test_knows_every_constant() {
    let source = include_str!("../../src/defaults.rs");
    let mut declared: Vec<&str> = source
        .lines()
        .filter_map(|line| line.strip_prefix("pub const "))
        .filter_map(|rest| rest.split(':').next())
        .collect();
    declared.sort_unstable();
    assert_eq!(declared, values().into_keys().collect::<Vec<_>>());
}

#[test]
fn the_page_lists_every_default_with_its_value() {
    let rows = table::rows(&table::page("defaults.md"));
    let documented: BTreeMap<&str, String> = rows.iter().map(|row| (row[0].as_str(), row[1].clone())).collect();
    assert_eq!(documented, values());
    assert_eq!(documented.len(), rows.len(), "a default is listed twice");
}

#[test]
fn units_and_readable_values_are_right_and_every_default_says_why() {
    for row in table::rows(&table::page("defaults.md")) {
        let [name, value, unit, readable, why] = &row[..] else { panic!("not five cells: {row:?}") };
        let number: u64 = value.parse().unwrap_or(0);
        let expected = match name.as_str() {
            "BACKOFF_FACTOR_TENTHS" => ("tenths", String::new()),
            "DISK_PERCENT_MAX" | "RETRY_PERCENT" => ("percent", String::new()),
            name if name.contains("BYTES") => ("bytes", readable_bytes(number)),
            name if name.ends_with("_MS") => ("ms", readable_ms(number)),
            _ => ("", String::new()),
        };
        assert_eq!((unit.as_str(), readable.clone()), expected, "{name}");
        assert!(why.len() > 10, "{name} does not say why");
    }
}

fn readable_ms(ms: u64) -> String {
    match ms {
        ms if ms >= 3 * 86_400_000 => format!("{} days", ms / 86_400_000),
        ms if ms >= 3_600_000 => format!("{} h", ms / 3_600_000),
        ms if ms >= 60_000 => format!("{} min", ms / 60_000),
        ms if ms >= 1_000 => format!("{} s", ms / 1_000),
        ms => format!("{ms} ms"),
    }
}

fn readable_bytes(bytes: u64) -> String {
    if bytes < 1 << 20 { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes >> 20) }
}
