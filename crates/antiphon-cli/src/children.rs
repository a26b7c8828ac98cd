//! Processes of this program that another command of it starts: brokers and workers. They end with whoever started
//! them, however that ends: when it drops them, or when their stdin does.

use crate::ending::Ending;
use crate::worker::process::read_tail;
use serde::Deserialize;
use std::env;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long a broker may take until it serves.
const START: Duration = Duration::from_secs(20);
/// How long what a killed broker said may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long a process may take to end when it is asked to.
const STOP: Duration = Duration::from_secs(5);

/// A process of this program. Dropping it kills it.
pub struct Process(Child);

impl Process {
    /// Starts this program with other arguments.
    pub fn start(
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        stdout: Stdio,
        stderr: Stdio,
    ) -> Result<Self, Ending> {
        let program =
            env::current_exe().map_err(|error| Ending::failed(format!("cannot find this program: {error}")))?;
        let mut command = Command::new(program);
        command.args(arguments).env_remove("ANTIPHON_URL");
        command.stdin(Stdio::piped()).stdout(stdout).stderr(stderr).kill_on_drop(true);
        Ok(Self(command.spawn().map_err(|error| Ending::failed(format!("cannot start a process: {error}")))?))
    }

    /// Its process id; 0 once it has ended.
    pub fn id(&self) -> u32 {
        self.0.id().unwrap_or(0)
    }

    /// Waits for the line that says where a broker listens.
    async fn ready(&mut self) -> Result<String, String> {
        let stdout = self.0.stdout.take().ok_or("it has no stdout")?;
        let mut line = String::new();
        let read = timeout(START, BufReader::new(stdout).read_line(&mut line)).await;
        read.map_err(|_| "it is not ready after 20 s")?.map_err(|error| error.to_string())?;
        let ready: Ready = serde_json::from_str(&line).map_err(|_| "it ended at once")?;
        ready.listen.into_iter().next().ok_or_else(|| "it listens nowhere".to_owned())
    }

    /// SIGKILL: it gets no chance to say or save anything.
    pub async fn kill(&mut self) -> Result<(), Ending> {
        Ok(self.0.kill().await?)
    }

    /// Asks it to end and waits; kills it when it does not.
    pub async fn stop(mut self) -> Result<(), Ending> {
        let pid = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(std::io::Error::from)?;
        }
        match timeout(STOP, self.0.wait()).await {
            Ok(ended) => ended.map(drop)?,
            Err(_) => self.0.kill().await?,
        }
        Ok(())
    }
}

/// A broker in a process of its own.
pub struct Broker {
    pub process: Process,
    /// Where it listens, as `HOST:PORT`.
    pub address: String,
}

#[derive(Deserialize)]
struct Ready {
    listen: Vec<String>,
}

impl Broker {
    /// Starts a broker on `data` and waits until it serves. A port of 0 takes a free one.
    pub async fn start(data: &Path, address: &str) -> Result<Self, Ending> {
        let fixed = ["serve", "--until-stdin-ends", "--http", "none", "-o", "jsonl", "--listen", address, "--data"];
        let arguments = fixed.into_iter().map(OsStr::new).chain([data.as_os_str()]);
        let mut process = Process::start(arguments, Stdio::piped(), Stdio::piped())?;
        // Read to its end: a broker that logs must not find its stderr full.
        let stderr = process.0.stderr.take().map(|stderr| tokio::spawn(read_tail(stderr)));
        match process.ready().await {
            Ok(url) => {
                let address = url.strip_prefix("antiphon://").unwrap_or(&url).to_owned();
                Ok(Self { process, address })
            }
            Err(why) => {
                process.kill().await?;
                let said = match stderr {
                    Some(stderr) => timeout(LAST_WORDS, stderr).await.ok().and_then(Result::ok).unwrap_or_default(),
                    None => String::new(),
                };
                let said = if said.is_empty() { said } else { format!("; it said: {said}") };
                Err(Ending::failed(format!("the broker's process did not start: {why}{said}")))
            }
        }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("antiphon://{}", self.address)
    }
}
