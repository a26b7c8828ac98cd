//! What a broker is told: its configuration file, and the command line, which goes first.

use super::{LogFormat, Serve, address, procedure};
use crate::ending::Ending;
use antiphon_embedded::DriverOptions;
use antiphon_engine::Limits;
use antiphon_protocol::defaults;
use antiphon_server::{Address, ServerOptions};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest lease and heartbeat: a longer one is a mistake in units.
const DAY_MS: u32 = 24 * 3_600_000;
/// The longest that anything is kept, a hundred years: added to any clock it does not overflow.
pub(super) const YEARS_MS: u64 = 100 * 366 * 24 * 3_600_000;
/// More file descriptors than any system allows one process.
const CONNECTIONS_MAX: usize = 1 << 30;

/// The configuration file. What it does not name keeps its default; what it should not name is refused.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    data: Option<PathBuf>,
    memory: bool,
    listen: Vec<String>,
    http: Option<String>,
    log_format: Option<LogFormat>,
    insecure: bool,
    limits: LimitsConfig,
    journal: JournalConfig,
    /// By name: what holds for one procedure.
    procedure: BTreeMap<String, toml::Table>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LimitsConfig {
    payload_bytes_max: Option<u32>,
    cache_bytes: Option<usize>,
    calls_max: Option<u32>,
    queued_max: Option<u32>,
    queued_bytes_max: Option<u64>,
    tenant_queued_max: Option<u32>,
    tenant_queued_bytes_max: Option<u64>,
    predict: Option<bool>,
    retry_percent: Option<u32>,
    retries_min: Option<u32>,
    routes_max: Option<u32>,
    inbox_calls_max: Option<u32>,
    keys_max: Option<u32>,
    lease_ms: Option<u32>,
    lost_leases_max: Option<u8>,
    inbox_grace_ms: Option<u64>,
    outcome_ms: Option<u64>,
    outcome_bytes: Option<u64>,
    dead_letters_max: Option<u32>,
    procedures_max: Option<u32>,
    dead_letter_ms: Option<u64>,
    idempotency_ms: Option<u64>,
    connections_max: Option<usize>,
    heartbeat_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct JournalConfig {
    segment_bytes: Option<u32>,
    bytes_max: Option<u64>,
    free_bytes_min: Option<u64>,
}

/// Everything a broker is told.
pub(super) struct Settings {
    /// `None` keeps calls in memory.
    pub data: Option<PathBuf>,
    pub listen: Vec<Address>,
    /// `None` serves no probes and metrics.
    pub http: Option<String>,
    pub log_format: LogFormat,
    pub insecure: bool,
    pub until_stdin_ends: bool,
    pub server: ServerOptions,
}

impl Settings {
    pub(super) fn new(arguments: Serve) -> Result<Self, Ending> {
        let config = match &arguments.config {
            Some(path) => read(path)?,
            None => Config::default(),
        };
        if config.memory && config.data.is_some() {
            return Err(Ending::usage("the configuration asks for both data and memory: keep one"));
        }
        let memory = arguments.memory || (config.memory && arguments.data.is_none());
        let named = arguments.data.or(config.data);
        let data = (!memory).then(|| named.unwrap_or_else(|| PathBuf::from(defaults::DATA_DIRECTORY)));
        let mut listen = if arguments.listen.is_empty() { config.listen } else { arguments.listen };
        if listen.is_empty() {
            listen.push(defaults::LISTEN.to_owned());
        }
        let listen = listen.iter().map(|text| address(text)).collect::<Result<_, _>>().map_err(Ending::usage)?;
        let http = arguments.http.or(config.http).unwrap_or_else(|| defaults::HTTP.to_owned());
        let mut driver = driver(data.clone(), &config.limits, &config.journal)?;
        driver.procedures = procedure::settings(config.procedure)?;
        let mut server = ServerOptions::new(driver);
        set(&mut server.connections_max, config.limits.connections_max);
        set(&mut server.heartbeat, config.limits.heartbeat_ms.map(Duration::from_millis));
        Ok(Self {
            data,
            listen,
            http: Some(http).filter(|http| http != "none"),
            log_format: arguments.log_format.or(config.log_format).unwrap_or(LogFormat::Text),
            insecure: arguments.insecure || config.insecure,
            until_stdin_ends: arguments.until_stdin_ends,
            server,
        })
    }
}

fn read(path: &Path) -> Result<Config, Ending> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|error| Ending::usage(format!("cannot read {shown}: {error}")))?;
    toml::from_str(&text).map_err(|error| Ending::usage(format!("{shown}: {}", error.to_string().trim_end())))
}

fn driver(data: Option<PathBuf>, from: &LimitsConfig, journal: &JournalConfig) -> Result<DriverOptions, Ending> {
    let mut driver = DriverOptions { limits: Limits::new(data.is_some()), directory: data, ..DriverOptions::default() };
    check(from, journal)?;
    set(&mut driver.payload_bytes_max, from.payload_bytes_max);
    set(&mut driver.cache_bytes, from.cache_bytes);
    let limits = &mut driver.limits;
    set(&mut limits.calls_max, from.calls_max);
    set(&mut limits.queued_max, from.queued_max);
    set(&mut limits.queued_bytes_max, from.queued_bytes_max);
    set(&mut limits.tenant_queued_max, from.tenant_queued_max);
    set(&mut limits.tenant_queued_bytes_max, from.tenant_queued_bytes_max);
    set(&mut limits.predict, from.predict);
    set(&mut limits.retry_percent, from.retry_percent);
    set(&mut limits.retries_min, from.retries_min);
    set(&mut limits.routes_max, from.routes_max);
    set(&mut limits.inbox_calls_max, from.inbox_calls_max);
    set(&mut limits.keys_max, from.keys_max);
    set(&mut limits.lease_ms, from.lease_ms);
    set(&mut limits.lost_leases_max, from.lost_leases_max);
    set(&mut limits.inbox_grace_ms, from.inbox_grace_ms);
    set(&mut limits.outcome_ms, from.outcome_ms);
    set(&mut limits.outcome_bytes, from.outcome_bytes);
    set(&mut limits.dead_letters_max, from.dead_letters_max);
    set(&mut limits.procedures_max, from.procedures_max);
    set(&mut limits.dead_letter_ms, from.dead_letter_ms);
    set(&mut limits.idempotency_ms, from.idempotency_ms);
    set(&mut driver.journal.segment_bytes, journal.segment_bytes);
    set(&mut driver.journal.bytes_max, journal.bytes_max);
    set(&mut driver.journal.free_bytes_min, journal.free_bytes_min);
    Ok(driver)
}

/// Refuses what no broker could work with, rather than to start and refuse every call.
fn check(limits: &LimitsConfig, journal: &JournalConfig) -> Result<(), Ending> {
    within("limits.payload_bytes_max", limits.payload_bytes_max, 1, defaults::PAYLOAD_BYTES_MAX)?;
    within("limits.calls_max", limits.calls_max, 1, u32::MAX)?;
    within("limits.routes_max", limits.routes_max, 1, u32::MAX)?;
    within("limits.inbox_calls_max", limits.inbox_calls_max, 1, u32::MAX)?;
    within("limits.procedures_max", limits.procedures_max, 1, u32::MAX)?;
    // Below, a worker could not renew its leases in time; above, what a dead worker ran would wait for days.
    within("limits.lease_ms", limits.lease_ms, 100, DAY_MS)?;
    within("limits.lost_leases_max", limits.lost_leases_max, 1, u8::MAX)?;
    within("limits.inbox_grace_ms", limits.inbox_grace_ms, 0, YEARS_MS)?;
    within("limits.outcome_ms", limits.outcome_ms, 0, YEARS_MS)?;
    within("limits.dead_letter_ms", limits.dead_letter_ms, 0, YEARS_MS)?;
    within("limits.idempotency_ms", limits.idempotency_ms, 0, YEARS_MS)?;
    within("limits.connections_max", limits.connections_max, 1, CONNECTIONS_MAX)?;
    within("limits.heartbeat_ms", limits.heartbeat_ms, 100, u64::from(DAY_MS))?;
    within("journal.segment_bytes", journal.segment_bytes, 64 << 10, 1 << 30)
}

fn within<T: PartialOrd + Display>(key: &str, given: Option<T>, least: T, most: T) -> Result<(), Ending> {
    match given {
        Some(value) if value < least || value > most => {
            Err(Ending::usage(format!("{key} = {value} is out of range: it is {least} to {most}")))
        }
        _ => Ok(()),
    }
}

fn set<T>(setting: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *setting = given;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_names_only_what_there_is() {
        let config: Config =
            toml::from_str("data = \"d\"\nlisten = [\"unix:/s\"]\n[limits]\nlease_ms = 500\n").unwrap();
        assert_eq!(config.limits.lease_ms, Some(500));
        assert!(toml::from_str::<Config>("dtaa = \"d\"").unwrap_err().to_string().contains("unknown field `dtaa`"));
        assert!(toml::from_str::<Config>("[limits]\nlease = 1").is_err());
    }
    #[test]
    fn any_text_is_a_configuration_or_an_error() {
        let whole = "data = \"d\"\nlisten = [\"unix:/s\", \"127.0.0.1:0\"]\nhttp = \"none\"\n[limits]\nlease_ms = 500\n\
                     connections_max = 9\n[journal]\nsegment_bytes = 65536\n";
        let mut random = antiphon_fuzz::Random(7);
        for _ in 0..3_000 {
            let mut bytes = whole.as_bytes().to_vec();
            antiphon_fuzz::mutate(&mut random, &mut bytes, b"= 99999999999999999999 -1 1e9 [[limits]]");
            let text = String::from_utf8_lossy(&bytes);
            if let Ok(config) = toml::from_str::<Config>(&text) {
                // A number out of range is refused in words.
                drop(driver(None, &config.limits, &config.journal));
            }
        }
    }
}
