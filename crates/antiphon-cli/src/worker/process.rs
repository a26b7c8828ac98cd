//! A process group of our own: started by `sh -c`, ended as a whole.

use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long a process may take to end after SIGTERM, before SIGKILL.
pub const GRACE: Duration = Duration::from_secs(5);
/// How much of what it says on stderr is kept: its end tells why it failed.
const TAIL_BYTES: usize = 2048;
/// How much is read at once.
const CHUNK_BYTES: usize = 16 << 10;

/// A child and all it starts. Whatever is left of the group is killed when this is dropped.
pub struct Group {
    pub child: Child,
    leader: Option<Pid>,
}

impl Group {
    /// Starts `sh -c command` as the leader of a process group of its own.
    pub fn start(command: &str, environment: &[(&str, String)], stderr: Stdio) -> io::Result<Self> {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).process_group(0).kill_on_drop(true);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        shell.envs(environment.iter().map(|(name, value)| (*name, value)));
        let child = shell.spawn()?;
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Self { child, leader })
    }

    /// Asks the whole group to end, then kills it.
    pub async fn end(&mut self) {
        self.signal(Signal::TERM);
        // Whether it ended in time or not, the rest of the group goes too.
        drop(timeout(GRACE, self.child.wait()).await);
        self.signal(Signal::KILL);
        drop(self.child.wait().await);
    }

    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader {
            // A group without processes is what we want.
            kill_process_group(leader, signal).unwrap_or_default();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Reads to the end, but at most `limit` bytes; whether there was more.
pub async fn read_bounded(mut from: impl AsyncRead + Unpin, limit: usize) -> io::Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = from.read(&mut chunk).await?;
        if count == 0 {
            return Ok((bytes, false));
        }
        bytes.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if bytes.len() > limit {
            return Ok((bytes, true));
        }
    }
}

/// Reads to the end and keeps the last of it, as text.
pub async fn read_tail(mut from: impl AsyncRead + Unpin) -> String {
    let mut tail = Vec::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        tail.extend_from_slice(chunk.get(..count).unwrap_or_default());
        let beyond = tail.len().saturating_sub(TAIL_BYTES);
        tail.drain(..beyond);
    }
    String::from_utf8_lossy(&tail).trim().to_owned()
}
