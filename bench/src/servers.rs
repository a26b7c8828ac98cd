//! The servers of other systems: started on a free port with throw-away data.

use crate::process::{Process, free_port};
use antiphon_bench::{Middle, System};
use anyhow::Context;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// How long after it listens RabbitMQ serves.
const RABBITMQ_SETTLES: Duration = Duration::from_secs(2);

/// A running broker, whatever system it is of.
pub struct Server {
    pub address: String,
    pub process: Process,
    /// The port of Erlang's port mapper, which outlives its node.
    epmd: Option<u16>,
    _data: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(port) = self.epmd {
            // It says no while its node runs; then it stays, harmless, on a port that nobody else knows.
            drop(Command::new("epmd").args(["-port", &port.to_string(), "-kill"]).output());
        }
    }
}

/// Starts what stands in the middle of a system, with its data below `base`.
pub fn start(system: System, own: &Path, base: &Path) -> anyhow::Result<Option<Server>> {
    let data = tempfile::Builder::new().prefix("antiphon-bench-").tempdir_in(base)?;
    let server = match system.middle() {
        Middle::None => return Ok(None),
        Middle::Own => {
            let directory = data.path().join("data");
            let mut process =
                Process::start_own(Command::new(own).args(["broker", &system_name(system)]).arg(directory))?;
            Server { address: process.ready()?, process, epmd: None, _data: data }
        }
        Middle::Nats { sync } => nats(sync, data)?,
        Middle::Redis { sync } => redis(system, sync, data)?,
        Middle::Rabbitmq => rabbitmq(data)?,
    };
    Ok(Some(server))
}

/// As the command line calls it.
pub fn system_name(system: System) -> String {
    use clap::ValueEnum;
    system.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// A server's program: as the environment names it, or by its usual name.
pub fn program(variable: &str, name: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| PathBuf::from(name), PathBuf::from)
}

fn nats(sync: bool, data: TempDir) -> anyhow::Result<Server> {
    let port = free_port()?;
    let store = data.path().join("store");
    let sync = if sync { "sync_interval: always" } else { "" };
    let configuration = data.path().join("nats.conf");
    let text = format!("listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {store:?}, {sync} }}\n");
    fs::write(&configuration, text)?;
    let mut command = Command::new(program("NATS_SERVER", "nats-server"));
    let mut process = Process::start(command.arg("-c").arg(&configuration))?;
    process.listens(port).context("nats-server: is it installed, and does it know the settings?")?;
    Ok(Server { address: format!("nats://127.0.0.1:{port}"), process, epmd: None, _data: data })
}

fn redis(system: System, sync: bool, data: TempDir) -> anyhow::Result<Server> {
    let port = free_port()?;
    let append_only = if system == System::RedisLists { "no" } else { "yes" };
    let every = if sync { "always" } else { "everysec" };
    let mut command = Command::new(program("REDIS_SERVER", "redis-server"));
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    command.args(["--appendonly", append_only, "--appendfsync", every]).arg("--dir").arg(data.path().canonicalize()?);
    let mut process = Process::start(&mut command)?;
    process.listens(port).context("redis-server: is it installed?")?;
    Ok(Server { address: format!("redis://127.0.0.1:{port}"), process, epmd: None, _data: data })
}

fn rabbitmq(data: TempDir) -> anyhow::Result<Server> {
    let (port, distribution, epmd) = (free_port()?, free_port()?, free_port()?);
    let home = data.path().canonicalize()?;
    let plugins = home.join("plugins");
    fs::write(&plugins, "[].")?;
    let mut command = Command::new(program("RABBITMQ_SERVER", "/usr/lib/rabbitmq/bin/rabbitmq-server"));
    command
        .env("HOME", &home)
        .env("RABBITMQ_NODENAME", format!("bench{port}@localhost"))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", port.to_string())
        .env("RABBITMQ_DIST_PORT", distribution.to_string())
        .env("ERL_EPMD_PORT", epmd.to_string())
        .env("RABBITMQ_MNESIA_BASE", home.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", home.join("log"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", &plugins)
        .env("RABBITMQ_CONFIG_FILE", home.join("none"));
    let mut process = Process::start(&mut command)?;
    process.listens(port).context("rabbitmq-server: is it installed?")?;
    std::thread::sleep(RABBITMQ_SETTLES);
    Ok(Server { address: format!("amqp://127.0.0.1:{port}/%2f"), process, epmd: Some(epmd), _data: data })
}
