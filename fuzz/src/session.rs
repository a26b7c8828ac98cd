//! A real server, and clients of every role that say anything in any order. It must go on serving others.

use crate::Random;
use crate::choices::Choices;
use crate::scribe::{bytes, client_says};
use antiphon_embedded::DriverOptions;
use antiphon_server::{Address, Running, Server, ServerOptions};
use antiphon_wire::{Outbound, Role};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// Nobody waits longer for the server; it is loaded, not dead, before that.
const PATIENCE: Duration = Duration::from_secs(20);
/// After so many conversations a sound client asks whether the server is well.
const CHECKED_EVERY: u32 = 64;

struct Host {
    _running: Running,
    socket: PathBuf,
    _directory: TempDir,
    conversations: AtomicU32,
}

fn start(data: Option<&Path>, folder: &Path) -> (Running, PathBuf) {
    let socket = folder.join("socket");
    let mut driver = DriverOptions { directory: data.map(Path::to_path_buf), ..DriverOptions::default() };
    // Small, so that a long run meets them.
    driver.limits.calls_max = 2_000;
    driver.limits.routes_max = 200;
    driver.volatile_bytes_max = 64 << 20;
    let server = Server::new(ServerOptions::new(driver)).listen(Address::Unix(socket.clone()));
    (server.start().expect("a server starts on a socket of its own"), socket)
}

pub(crate) fn run(data: &[u8]) {
    static HOST: OnceLock<Host> = OnceLock::new();
    let host = HOST.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let (running, socket) = start(None, directory.path());
        Host { _running: running, socket, _directory: directory, conversations: AtomicU32::new(0) }
    });
    converse(&host.socket, data);
    if host.conversations.fetch_add(1, Ordering::Relaxed).is_multiple_of(CHECKED_EVERY) {
        greet_and_ask(&host.socket);
    }
}

fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
    stream
}

/// One client: a greeting, then up to forty frames, then what is left of the input.
fn converse(socket: &Path, data: &[u8]) {
    let mut choices = Choices(data);
    let roles = [Role::Caller, Role::Worker, Role::Inspector];
    let role = roles.get(usize::from(choices.byte() % 3)).copied().unwrap_or(Role::Caller);
    let mut out = Outbound::new();
    out.hello(&choices.hello(role));
    if role == Role::Worker {
        out.offer(&choices.offer());
    }
    for _ in 0..40 {
        if choices.0.len() < 4 {
            break;
        }
        client_says(role, &mut choices, &mut out);
    }
    let mut all = bytes(out);
    all.extend_from_slice(choices.0);
    let mut stream = connect(socket);
    // A server that has had enough closes while this is still sending.
    if stream.write_all(&all).is_ok() {
        drop(stream.read(&mut [0; 512]));
    }
}

/// A client without fault: it must be greeted and get an answer.
fn greet_and_ask(socket: &Path) {
    let mut stream = connect(socket);
    let mut out = Outbound::new();
    out.hello(&Choices(&[]).hello(Role::Inspector));
    out.ping(42);
    stream.write_all(&bytes(out)).expect("the server reads");
    let mut heard: Vec<u8> = Vec::new();
    let pong = 42_u64.to_le_bytes();
    while !heard.windows(pong.len()).any(|window| window == pong) {
        let mut buffer = [0; 512];
        let count = stream.read(&mut buffer).expect("the server answers a sound client");
        assert!(count > 0, "the server closed on a sound client");
        heard.extend(buffer.iter().take(count));
    }
}

/// Lets a durable server live through so many conversations; what it leaves is in the directory.
pub(crate) fn live_through(conversations: u32) -> TempDir {
    let (folder, data) = (tempfile::tempdir(), tempfile::tempdir());
    let (folder, data) = (folder.expect("a directory for the socket"), data.expect("a directory for the journal"));
    let (running, socket) = start(Some(data.path()), folder.path());
    let mut random = Random(3);
    for _ in 0..conversations {
        let input: Vec<u8> = (0..200).map(|_| random.number() as u8 % 32).collect();
        converse(&socket, &input);
    }
    running.stop().expect("a server stops");
    data
}

/// A few conversations of each role.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut random = Random(5);
    (0..12_u8).map(|role| [role].into_iter().chain((0..120).map(|_| random.number() as u8 % 32)).collect()).collect()
}
