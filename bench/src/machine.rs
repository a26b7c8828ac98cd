//! What the figures depend on: the machine, its disk, versions.

use anyhow::Context;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Microseconds of an fdatasync of 4 KiB over zeroed bytes in this directory: the median of 200.
pub fn fsync_us(directory: &Path) -> anyhow::Result<f64> {
    let file = tempfile::tempfile_in(directory)?;
    file.write_all_at(&vec![0; 4 << 20], 0)?;
    file.sync_all()?;
    let page = vec![1; 4096];
    let mut times = Vec::with_capacity(200);
    for place in 0..200_u64 {
        file.write_all_at(&page, place * 4096)?;
        let began = Instant::now();
        file.sync_data()?;
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    Ok(crate::results::median(times))
}

/// Processor, cores, memory, kernel.
pub fn describe() -> anyhow::Result<String> {
    let cpu = fs::read_to_string("/proc/cpuinfo").context("reading /proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    let cores = std::thread::available_parallelism()?;
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory.lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let model = model.unwrap_or("an unnamed processor");
    Ok(format!("{cores} cores of {model}, {} GiB, Linux {}", kib.div_ceil(1 << 20), kernel.trim()))
}

/// Versions of what is installed; what is not is left out.
pub fn versions() -> BTreeMap<String, String> {
    let programs: [(&str, &str, &str, &[&str]); 4] = [
        ("nats-server", "NATS_SERVER", "nats-server", &["--version"]),
        ("redis-server", "REDIS_SERVER", "redis-server", &["--version"]),
        ("rabbitmq", "RABBITMQ_VERSION", "dpkg-query", &["-W", "-f", "${Version}", "rabbitmq-server"]),
        ("rustc", "RUSTC", "rustc", &["--version"]),
    ];
    let version = |(name, variable, program, arguments): (&str, &str, &str, &[&str])| {
        let output = Command::new(crate::servers::program(variable, program)).args(arguments).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        (output.status.success() && !text.is_empty()).then(|| (name.to_owned(), text))
    };
    programs.into_iter().filter_map(version).collect()
}
