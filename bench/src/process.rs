//! Processes that the bench starts, and ends with itself.

use antiphon_bench::{READY, cpu};
use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take until it listens; RabbitMQ takes some seconds.
const LISTENING: Duration = Duration::from_secs(60);

/// A running process; dropping it ends it and what it started.
pub struct Process {
    child: Child,
    /// Open as long as the process is to run.
    _stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts a process whose output is not wanted.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self::spawn(command)
    }

    /// Starts one of ours; its errors are shown.
    pub fn start_own(command: &mut Command) -> anyhow::Result<Self> {
        command.stdout(Stdio::piped());
        Self::spawn(command)
    }

    fn spawn(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).spawn().with_context(|| format!("starting {command:?}"))?;
        let stdout = child.stdout.take().map(BufReader::new);
        Ok(Self { _stdin: child.stdin.take(), stdout, child })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it prints.
    pub fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if let Some(stdout) = &mut self.stdout {
            stdout.read_line(&mut line)?;
        }
        if line.is_empty() {
            bail!("a process ended before it said what it should");
        }
        Ok(line.trim_end().to_owned())
    }

    /// Waits until it says that it can be used, and where.
    pub fn ready(&mut self) -> anyhow::Result<String> {
        let line = self.line()?;
        let address = line.strip_prefix(READY.trim_end()).with_context(|| format!("it printed {line:?}"))?;
        Ok(address.trim().to_owned())
    }

    /// Waits until something listens at this port.
    pub fn listens(&mut self, port: u16) -> anyhow::Result<()> {
        let give_up = Instant::now() + LISTENING;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended at once: {status}");
            }
            if Instant::now() > give_up {
                bail!("it does not listen after {LISTENING:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Any of them may have ended by itself.
        for pid in cpu::descendants(self.id()).into_iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
            kill_process(pid, Signal::KILL).unwrap_or_default();
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A port that nobody listens on now.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
