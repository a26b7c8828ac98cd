//! Where a node keeps what it needs, and what is written down about it: ports, process ids, its kind.

use anyhow::{Context, bail};
use std::collections::hash_map::RandomState;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The directory of all nodes: beside what cargo builds, so that every checkout has its own.
#[must_use]
pub fn directory() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    target.unwrap_or_else(|| beside.join("target")).join("services")
}

/// The directory of one node. Facts about it are files in it; whoever has it open has it for himself.
pub struct Place {
    node: String,
    path: PathBuf,
    /// Held as long as the place is open, so that two processes do not start one node.
    _lock: File,
}

impl Place {
    /// Opens the place of a node, making it if it is new. Waits while another process has it open.
    ///
    /// # Errors
    /// When its directory cannot be made.
    pub fn open(kind: &str, node: &str) -> anyhow::Result<Self> {
        let path = directory().join(node);
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        let lock = File::create(directory().join(format!(".{node}.lock"))).context("making a lock")?;
        lock.lock().context("locking a node")?;
        // It may have been removed by whoever had the lock.
        fs::create_dir_all(&path)?;
        let place = Self { node: node.to_owned(), path, _lock: lock };
        place.note("kind", kind)?;
        Ok(place)
    }

    /// The kind of server that a node is.
    pub(super) fn kind(node: &str) -> Option<String> {
        let text = fs::read_to_string(directory().join(node).join("kind")).ok()?;
        Some(text.trim().to_owned())
    }

    /// The node's name.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was written down as `fact`.
    #[must_use]
    pub fn fact(&self, fact: &str) -> Option<String> {
        fs::read_to_string(self.path.join(fact)).ok().map(|text| text.trim().to_owned())
    }

    /// Writes a fact down.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note(&self, fact: &str, value: &str) -> anyhow::Result<()> {
        fs::write(self.path.join(fact), value).with_context(|| format!("writing down {fact} of {}", self.node))
    }

    /// The port written down as `fact`, or one that is free now.
    ///
    /// # Errors
    /// When no port is free.
    pub fn port(&self, fact: &str) -> anyhow::Result<u16> {
        if let Some(port) = self.fact(fact).and_then(|text| text.parse().ok()) {
            return Ok(port);
        }
        let port = free_port().context("looking for a free port")?;
        self.note(fact, &port.to_string())?;
        Ok(port)
    }

    /// The process written down as `fact`, if it still runs and its command line contains `sign`: process ids are used
    /// again, and nobody else's process may be ended.
    #[must_use]
    pub fn process(&self, fact: &str, sign: &str) -> Option<u32> {
        let pid: u32 = self.fact(fact)?.parse().ok()?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        String::from_utf8_lossy(&line).contains(sign).then_some(pid)
    }

    /// Forgets the node and its data.
    ///
    /// # Errors
    /// When its directory cannot be removed.
    pub fn remove(&self) -> anyhow::Result<()> {
        fs::remove_dir_all(&self.path).with_context(|| format!("removing {}", self.path.display()))
    }
}

/// A port that nobody listens on, below those that operating systems give to outgoing connections (from 32768 on): a server
/// that starts, or starts again, seconds after its port was chosen must not find a client's connection there.
fn free_port() -> Option<u16> {
    let random = RandomState::new().build_hasher().finish();
    let candidates = (0..1_000_u64).map(|number| 10_000 + random.wrapping_add(number * 7_919) % 22_000);
    let mut ports = candidates.filter_map(|port| u16::try_from(port).ok());
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
}

/// Ends a process and waits until it is gone.
pub(super) fn end(pid: u32, signal: &str) -> anyhow::Result<()> {
    run(Command::new("kill").args([signal, &pid.to_string()]))?;
    wait_until(Duration::from_secs(30), || !runs(pid)).with_context(|| format!("process {pid} does not end"))
}

/// Whether a process runs: one that ended and was not waited for does not.
fn runs(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z'))
}

/// Waits until something is so.
pub(super) fn wait_until(bound: Duration, done: impl Fn() -> bool) -> anyhow::Result<()> {
    let start = Instant::now();
    while !done() {
        if start.elapsed() > bound {
            bail!("waited {bound:?} in vain");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Runs a command to its end and gives back what it said.
pub(super) fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("running {:?}", command.get_program()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    bail!("{:?} failed: {}{}", command.get_program(), said(&output.stdout), said(&output.stderr))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_place(test: &str, run: impl FnOnce(&Place) -> anyhow::Result<()>) {
        let place = Place::open("nothing", &format!("test-{test}-{}", std::process::id())).expect("it can be made");
        let result = run(&place).and(place.remove());
        drop(fs::remove_file(directory().join(format!(".{}.lock", place.node()))));
        result.expect("nothing fails");
    }

    #[test]
    fn a_process_of_somebody_else_is_not_the_nodes() {
        with_place("process", |place| {
            place.note("pid", &std::process::id().to_string())?;
            assert_eq!(place.process("pid", "xtask"), Some(std::process::id()));
            assert_eq!(place.process("pid", "another program"), None);
            Ok(())
        });
    }

    #[test]
    fn a_port_stays_the_same() {
        with_place("port", |place| {
            assert_eq!(place.port("port")?, place.port("port")?);
            assert_ne!(place.port("port")?, place.port("other-port")?);
            Ok(())
        });
    }
}
