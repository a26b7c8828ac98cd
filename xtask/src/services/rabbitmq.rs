//! RabbitMQ: the system's package, installed where this is root; a container otherwise. Every node has its own name,
//! ports, cookie, port mapper and data, and runs outside of systemd, so that a server that is there already is left alone.

use super::Service;
use super::place::{Place, directory, end, run, wait_until};
use anyhow::{Context, bail};
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The wrapper in `sbin` changes the user and then never starts on directories of this one.
const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";
/// Names the directory of another Debian system whose server is run instead, such as one made by
/// `debootstrap --include=rabbitmq-server trixie DIRECTORY`, which has RabbitMQ 4. Needs root.
const ROOT: &str = "ANTIPHON_RABBITMQ_ROOT";
/// Runs a program in that system, with the nodes' directory where it is here. The mounts are the program's own.
const ENTER: &str = r#"mkdir -p "$1$2" && mount --rbind /proc "$1/proc" && mount --rbind /dev "$1/dev" &&
    mount --bind "$2" "$1$2" && { [ -s "$1/etc/hosts" ] || echo '127.0.0.1 localhost' > "$1/etc/hosts"; } &&
    root=$1 && shift 2 && exec chroot "$root" "$@""#;
/// What a container runs where the package cannot be installed.
const IMAGE: &str = "docker.io/library/rabbitmq:3";
/// A slow machine that builds something else beside takes a minute.
const START: Duration = Duration::from_secs(120);
/// Small logs and no thought of the machine's disk: all of it is thrown away.
const CONFIGURATION: &str = "raft.wal_max_size_bytes = 64000000\ndisk_free_limit.absolute = 50MB\n";

/// Facts about a node that listens for TLS.
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";
const TLS_PORT: &str = "tls-port";

/// The kind of server.
pub struct RabbitMq;

impl Service for RabbitMq {
    fn name(&self) -> &'static str {
        "rabbitmq"
    }

    fn up(&self, place: &Place) -> anyhow::Result<()> {
        if self.url(place).is_some() {
            return Ok(());
        }
        let port = place.port("port")?;
        if std::env::var_os(ROOT).is_some() || Path::new(PROGRAMS).exists() || (install_is_allowed() && install()?) {
            start(place, port)?;
        } else {
            start_container(place, port)?;
        }
        // The listeners open last, when everything else is ready.
        let answered = wait_until(START, || answers(port));
        answered.with_context(|| format!("the node does not answer on port {port}: {}", last_words(place)))
    }

    fn url(&self, place: &Place) -> Option<String> {
        let port: u16 = place.fact("port")?.parse().ok()?;
        let ours = place.fact("container").is_some() || pid(place).is_some();
        (ours && answers(port)).then(|| format!("amqp://guest:guest@127.0.0.1:{port}/%2f"))
    }

    fn down(&self, place: &Place) -> anyhow::Result<()> {
        if let Some(engine) = place.fact("container") {
            run(Command::new(engine).args(["rm", "--force", &container(place)]))?;
        }
        kill(place)?;
        let Some(mapper) = place.fact("mapper-port") else { return Ok(()) };
        // It has nobody left to map, and ends; one that is gone already is as good.
        drop(run(Command::new("epmd").args(["-port", &mapper, "-kill"])));
        Ok(())
    }
}

/// A node of a test: started when it is made, stopped when it is dropped, in between as the test likes.
pub struct Node {
    name: String,
    url: String,
    shared: bool,
}

impl Node {
    /// The node that tests share. It is started if nobody did, and left running.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn shared() -> anyhow::Result<Self> {
        Self::open(RabbitMq.name(), true)
    }

    /// A node that only this test uses, and may kill.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn own(test: &str) -> anyhow::Result<Self> {
        Self::open(&format!("rabbitmq-{test}-{}", std::process::id()), false)
    }

    /// The same, and it listens for TLS too, with this certificate and key, both as PEM. Only the Debian package can.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn with_tls(test: &str, certificate: &str, key: &str) -> anyhow::Result<Self> {
        let name = format!("rabbitmq-{test}-{}", std::process::id());
        let place = Place::open(RabbitMq.name(), &name)?;
        place.note(CERTIFICATE, certificate)?;
        place.note(KEY, key)?;
        place.port(TLS_PORT)?;
        Self::start_at(&place, name, false)
    }

    /// The port for TLS, where there is one.
    ///
    /// # Errors
    /// When there is none.
    pub fn tls_port(&self) -> anyhow::Result<u16> {
        let port = self.place()?.fact(TLS_PORT).context("the node was started without TLS")?;
        Ok(port.parse()?)
    }

    fn open(name: &str, shared: bool) -> anyhow::Result<Self> {
        let place = Place::open(RabbitMq.name(), name)?;
        Self::start_at(&place, name.to_owned(), shared)
    }

    fn start_at(place: &Place, name: String, shared: bool) -> anyhow::Result<Self> {
        RabbitMq.up(place)?;
        let url = RabbitMq.url(place).context("the node is gone as soon as it was there")?;
        Ok(Self { name, url, shared })
    }

    /// Where it is: `amqp://guest:guest@127.0.0.1:PORT/%2f`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Kills it with `SIGKILL`: nothing is flushed.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&self) -> anyhow::Result<()> {
        let place = self.place()?;
        if let Some(engine) = place.fact("container") {
            return run(Command::new(engine).args(["kill", &container(&place)])).map(drop);
        }
        kill(&place)
    }

    /// Starts it again, at the same address and on what it had stored.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(&self) -> anyhow::Result<()> {
        RabbitMq.up(&self.place()?)
    }

    /// Runs `rabbitmqctl`.
    ///
    /// # Errors
    /// When that fails.
    pub fn control(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let place = self.place()?;
        if let Some(engine) = place.fact("container") {
            let container = container(&place);
            return run(Command::new(engine).args(["exec", &container, "rabbitmqctl", "-q"]).args(arguments));
        }
        run(command(&place, "rabbitmqctl")?.arg("-q").args(arguments))
    }

    fn place(&self) -> anyhow::Result<Place> {
        Place::open(RabbitMq.name(), &self.name)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.shared {
            return;
        }
        let stopped = self.place().and_then(|place| RabbitMq.down(&place).and_then(|()| place.remove()));
        if let Err(error) = stopped {
            eprintln!("stopping the node {}: {error:#}", self.name);
        }
    }
}

pub(super) fn install_is_allowed() -> bool {
    let root = run(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    root && Path::new("/usr/bin/apt-get").exists()
}

/// Installs the package without starting its server. Says whether it is there now.
fn install() -> anyhow::Result<bool> {
    println!("installing rabbitmq-server (apt-get)");
    let policy = Path::new("/usr/sbin/policy-rc.d");
    let ours = !policy.exists();
    if ours {
        fs::write(policy, "#!/bin/sh\nexit 101\n")?;
        fs::set_permissions(policy, Permissions::from_mode(0o755))?;
    }
    let apt = |arguments: &[&str]| {
        run(Command::new("apt-get").args(["-qq", "-y"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    let installed =
        apt(&["update"]).and_then(|_| apt(&["install", "--no-install-recommends", "rabbitmq-server"])).map(drop);
    if ours {
        fs::remove_file(policy)?;
        // The package would start its server at the next boot; nobody asked for that.
        drop(run(Command::new("systemctl").args(["disable", "rabbitmq-server"])));
    }
    installed?;
    Ok(Path::new(PROGRAMS).exists())
}

fn start(place: &Place, port: u16) -> anyhow::Result<()> {
    let path = place.path();
    let mut configuration = CONFIGURATION.to_owned();
    if let Some(port) = place.fact(TLS_PORT) {
        let [certificate, key] = [CERTIFICATE, KEY].map(|file| path.join(file).display().to_string());
        let option = |name: &str, value: &str| format!("ssl_options.{name} = {value}\n");
        configuration.push_str(&format!("listeners.ssl.1 = 127.0.0.1:{port}\n"));
        configuration.push_str(&option("certfile", &certificate));
        configuration.push_str(&option("cacertfile", &certificate));
        configuration.push_str(&option("keyfile", &key));
        configuration.push_str(&option("verify", "verify_none"));
        configuration.push_str(&option("fail_if_no_peer_cert", "false"));
    }
    fs::write(path.join("rabbitmq.conf"), configuration)?;
    fs::write(path.join("enabled_plugins"), "[].\n")?;
    let cookie = path.join(".erlang.cookie");
    if !cookie.exists() {
        fs::write(&cookie, format!("antiphon{}{port}", std::process::id()))?;
        fs::set_permissions(&cookie, Permissions::from_mode(0o400))?;
    }
    place.note("mapper-port", &place.port("mapper-port")?.to_string())?;
    let log = fs::File::create(path.join("start.log"))?;
    let mut server = command(place, "rabbitmq-server")?;
    server.arg("-detached").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let status = server.status().context("running rabbitmq-server")?;
    if !status.success() {
        bail!("rabbitmq-server: {status}: {}", last_words(place));
    }
    Ok(())
}

/// One of RabbitMQ's programs, about the node at `place`.
fn command(place: &Place, program: &str) -> anyhow::Result<Command> {
    let path = place.path();
    let program = PathBuf::from(PROGRAMS).join(program);
    let mut command = match std::env::var_os(ROOT) {
        None => Command::new(program),
        Some(root) => {
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", ENTER, "sh"]).arg(root).arg(directory()).arg(program);
            command
        }
    };
    command
        .env("HOME", path)
        .env("RABBITMQ_NODENAME", node_name(place))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", place.port("port")?.to_string())
        .env("RABBITMQ_DIST_PORT", place.port("distribution-port")?.to_string())
        .env("RABBITMQ_MNESIA_BASE", path.join("data"))
        .env("RABBITMQ_LOG_BASE", path.join("log"))
        .env("RABBITMQ_PID_FILE", path.join("pid"))
        .env("RABBITMQ_CONFIG_FILE", path.join("rabbitmq.conf"))
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", path.join("enabled_plugins"))
        // Two cores are shared with what is tested: schedulers that spin would take from it.
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+sbwt none +sbwtdcpu none +sbwtdio none")
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_EPMD_PORT", place.port("mapper-port")?.to_string());
    Ok(command)
}

fn node_name(place: &Place) -> String {
    format!("antiphon-{}@localhost", place.node())
}

fn pid(place: &Place) -> Option<u32> {
    // Its home is the node's directory, which no other process has.
    place.process("pid", &format!("-home\0{}\0", place.path().display()))
}

fn kill(place: &Place) -> anyhow::Result<()> {
    pid(place).map_or(Ok(()), |pid| end(pid, "-KILL"))
}

fn container(place: &Place) -> String {
    format!("antiphon-{}-{}", place.node(), place.fact("port").unwrap_or_default())
}

/// Makes a container, or starts the one that was killed.
fn start_container(place: &Place, port: u16) -> anyhow::Result<()> {
    if let Some(engine) = place.fact("container") {
        return run(Command::new(engine).args(["start", &container(place)])).map(drop);
    }
    let works = |engine: &&str| run(Command::new(engine).arg("info")).is_ok();
    let Some(engine) = ["docker", "podman"].into_iter().find(works) else {
        bail!(
            "RabbitMQ is not installed, this is not root on Debian, and neither docker nor podman works: \
             install the package rabbitmq-server"
        );
    };
    let publish = format!("127.0.0.1:{port}:5672");
    run(Command::new(engine).args(["run", "--detach", "--name", &container(place), "--publish", &publish, IMAGE]))?;
    place.note("container", engine)
}

/// Whether a server speaks AMQP there.
fn answers(port: u16) -> bool {
    let address = ([127, 0, 0, 1], port).into();
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { return false };
    let mut first = [0_u8; 1];
    let spoke = stream
        .set_read_timeout(Some(Duration::from_secs(2)))
        .and_then(|()| stream.write_all(b"AMQP\x00\x00\x09\x01"))
        .and_then(|()| stream.read_exact(&mut first));
    // A method frame: the server opens the conversation.
    spoke.is_ok() && first == [1]
}

/// What the node said last, for the error that it did not start.
fn last_words(place: &Place) -> String {
    let log = place.path().join("log").join(format!("{}.log", node_name(place)));
    let text = fs::read_to_string(log).or_else(|_| fs::read_to_string(place.path().join("start.log")));
    let text = text.unwrap_or_default();
    let from = text.lines().count().saturating_sub(15);
    text.lines().skip(from).collect::<Vec<_>>().join("\n")
}
