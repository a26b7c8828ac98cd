//! The limits that `docs/defaults.md` lists, and those that the code has.

use antiphon_embedded::DriverOptions;
use antiphon_server::ServerOptions;
use antiphon_wire::RemoteOptions;
use std::collections::BTreeMap;
use std::fmt::Debug;

/// Fields that are no limits, or whose default stands in the page's first table.
const ELSEWHERE: &[&str] = &[
    "Limits::durable",
    "Limits::calls_max",
    "Limits::retry_percent",
    "Limits::retries_min",
    "Limits::lease_ms",
    "Limits::lost_leases_max",
    "Limits::inbox_grace_ms",
    "Limits::outcome_ms",
    "Limits::outcome_bytes",
    "Limits::dead_letter_ms",
    "Limits::idempotency_ms",
    "Limits::order",
    "Limits::classes",
    "journal::Options::threads",
    "ServerOptions::driver",
    "ServerOptions::heartbeat",
    "Limits::event_ms",
    "RemoteOptions::heartbeat",
    "RemoteOptions::direct_writes",
    "RemoteOptions::agent",
    "RemoteOptions::connect",
];

#[test]
fn the_page_lists_every_limit_with_its_value() {
    let driver = DriverOptions::default();
    let mut limits = BTreeMap::new();
    limits.extend(fields("Limits", &driver.limits));
    limits.extend(fields("journal::Options", &driver.journal));
    limits.extend(fields("ServerOptions", &ServerOptions::new(driver.clone())));
    limits.extend(fields("RemoteOptions", &RemoteOptions::default()));
    limits.retain(|name, _| !ELSEWHERE.contains(&name.as_str()));
    limits.insert("DriverOptions::cache_bytes".to_owned(), driver.cache_bytes.to_string());
    limits.insert("DriverOptions::progress_bytes_max".to_owned(), driver.progress_bytes_max.to_string());
    limits.insert("DriverOptions::volatile_bytes_max".to_owned(), driver.volatile_bytes_max.to_string());
    let overflow = include_str!("../../../antiphon/src/overflow.rs");
    for (name, declared, value) in [
        ("CALLS_MAX", "const CALLS_MAX: usize = 4096;", 4096),
        ("BYTES_MAX", "const BYTES_MAX: usize = 64 << 20;", 64 << 20),
    ] {
        assert!(overflow.contains(declared), "a client's {name} has changed: say so here and on the page");
        limits.insert(format!("overflow::{name}"), value.to_string());
    }

    let page = include_str!("../../../../docs/defaults.md");
    let table = page.split("| limit |").nth(1).expect("the page has a table of limits");
    let mut documented = BTreeMap::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, value, unit, why] = cells[..] else { panic!("not four cells: {row}") };
        assert!(why.len() > 10, "{name} does not say why");
        assert!(!name.to_lowercase().contains("bytes") || unit == "bytes", "{name} has the unit {unit}");
        let text = if ["ns", "µs", "ms", "s"].contains(&unit) { format!("{value}{unit}") } else { value.to_owned() };
        let twice = documented.insert(name.trim_matches('`').to_owned(), text);
        assert!(twice.is_none(), "{name} is listed twice");
    }
    assert_eq!(documented, limits);
}

/// The fields of a structure and their values, as its `Debug` prints them.
fn fields(of: &str, options: &impl Debug) -> Vec<(String, String)> {
    let text = format!("{options:#?}");
    let own = text.lines().filter_map(|line| line.strip_prefix("    ")).filter(|line| !line.starts_with([' ', '}']));
    own.filter_map(|line| line.trim_end_matches(',').split_once(": "))
        .map(|(name, value)| (format!("{of}::{name}"), value.to_owned()))
        .collect()
}
