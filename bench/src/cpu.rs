//! Processor time and memory of processes and all that they started, from `/proc`.

use anyhow::Context;
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// Processor time of each, its descendants included.
pub fn times(watched: &[(String, u32)]) -> anyhow::Result<BTreeMap<String, Duration>> {
    let parents = parents()?;
    Ok(watched.iter().map(|(name, pid)| (name.clone(), family(*pid, &parents).into_iter().map(time).sum())).collect())
}

/// Resident KiB of each, its descendants included.
pub fn memory_kib(watched: &[(String, u32)]) -> anyhow::Result<BTreeMap<String, u64>> {
    let parents = parents()?;
    Ok(watched
        .iter()
        .map(|(name, pid)| (name.clone(), family(*pid, &parents).into_iter().map(resident).sum()))
        .collect())
}

/// What a process started, and what that started.
pub fn descendants(pid: u32) -> Vec<u32> {
    let family = parents().map(|parents| family(pid, &parents)).unwrap_or_default();
    family.into_iter().skip(1).collect()
}

/// The parent of every process.
fn parents() -> anyhow::Result<Vec<(u32, u32)>> {
    let entries = fs::read_dir("/proc").context("reading /proc")?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(pids.filter_map(|pid: u32| Some((pid, parent(pid)?))).collect())
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// A process and its descendants.
fn family(pid: u32, parents: &[(u32, u32)]) -> Vec<u32> {
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        next += 1;
    }
    family
}

/// The time all threads ran, in the scheduler's nanoseconds.
fn time(pid: u32) -> Duration {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Duration::ZERO };
    let nanos = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_memory_and_its_children_count() {
        let own = [("own".to_owned(), std::process::id())];
        assert!(memory_kib(&own).is_ok_and(|memory| memory.get("own").is_some_and(|kib| *kib > 100)));
        assert_eq!(family(1, &[(2, 1), (3, 2), (4, 9)]), [1, 2, 3]);
    }
}
