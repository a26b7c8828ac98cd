//! Disks that fail, fill up and lose power under a real broker. They need root, loop devices or strace, so
//! `cargo xtask prove` runs them, and says so where it cannot.

use crate::load::{self, CONFIG, Ledgers, Random};
use crate::stage::{self, Broker, Process, program, until};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// Runs a command of the system, which must succeed.
fn system(name: &str, arguments: &[&str]) {
    let ran = Command::new(name).args(arguments).output().unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(ran.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// Something mounted, until it is dropped.
struct Mount(PathBuf);

impl Mount {
    fn new(at: &Path, arguments: &[&str]) -> Self {
        fs::create_dir_all(at).unwrap();
        system("mount", &[arguments, &[at.to_str().unwrap()]].concat());
        Self(at.to_path_buf())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

/// The power goes: what was not synced never reaches the disk. `FS_IOC_SHUTDOWN` without flushing the log.
fn cut_power(mount: &Mount) {
    let script =
        "import fcntl,os,struct,sys\nfcntl.ioctl(os.open(sys.argv[1],os.O_RDONLY),0x8004587D,struct.pack('I',2))";
    system("python3", &["-c", script, mount.0.to_str().unwrap()]);
}

#[test]
#[ignore = "needs root and loop devices: cargo xtask prove"]
fn every_acknowledged_call_survives_power_cuts_of_its_file_system() {
    let mut random = Random::seeded();
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    let image = image.to_str().unwrap();
    fs::File::create(image).unwrap().set_len(192 << 20).unwrap();
    system("mkfs.ext4", &["-q", "-F", image]);
    let at = folder.path().join("disk");
    let mounted = || Mount::new(&at, &["-o", "loop", image]);
    let mut mount = mounted();
    let mut broker = Broker::start_on(&at.join("data"), CONFIG);
    let ledgers = Ledgers::in_directory_of(&broker);
    let workers: Vec<_> = (0..2).map(|_| load::worker(&broker.url)).collect();
    let callers: Vec<_> = (0..2).map(|_| ledgers.caller(&broker.url)).collect();
    let mut lines = 0;
    let cuts = load::faults(20);
    for _ in 0..cuts {
        until("calls are acknowledged", || ledgers.lines() > lines + 20);
        thread::sleep(Duration::from_millis(random.up_to(150)));
        cut_power(&mount);
        broker.process.kill();
        lines = ledgers.lines();
        drop(mount);
        mount = mounted();
        broker.restart();
    }
    drop(callers);
    load::settle(&broker);
    drop(workers);
    broker.stop();
    println!("{cuts} power cuts");
    load::check(broker.data(), &ledgers);
    drop(mount);
}

#[test]
#[ignore = "needs root: cargo xtask prove"]
fn a_full_disk_refuses_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("disk");
    let mount = Mount::new(&at, &["-t", "tmpfs", "-o", "size=24m", "tmpfs"]);
    let mut broker = Broker::start_on(&at.join("data"), "[journal]\nsegment_bytes = 1048576\nfree_bytes_min = 0\n");
    let payload = format!("\"{}\"", "x".repeat(200_000));
    let mut accepted = Vec::new();
    // Nobody serves these: they stay until the disk is full.
    let refused = loop {
        let ran = stage::run_with(broker.command(["call", "nobody.serves", "-", "--detach"]), payload.as_bytes());
        match ran.code {
            Some(0) => accepted.push(ran.stdout.trim().to_owned()),
            _ => break ran,
        }
        assert!(accepted.len() < 200, "24 MiB are never full");
    };
    refused.fails(6, "RESOURCE_EXHAUSTED");
    // What is there can be read, cancelled and settled on the full disk.
    assert_eq!(broker.state(&accepted[0]), "ready");
    broker.run(["cancel", &accepted[0]]).ok();
    broker.process.kill();
    broker.restart();
    assert_eq!(broker.state(&accepted[0]), "cancelled");
    assert!(accepted[1..].iter().all(|id| broker.state(id) == "ready"), "all acknowledged calls are there");
    println!("{} calls of 200 kB until the disk was full", accepted.len());
    broker.stop();
    drop(mount);
}

/// A broker whose `call`-th call of the system fails with `error`; none when it did not come up.
fn serve_failing(data: &Path, call: &str, error: &str, number: u64) -> (Process, Option<String>) {
    let mut command = Command::new("strace");
    let inject = format!("inject={call}:error={error}:when={number}");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject]);
    command.arg(program().get_program());
    command.args(["serve", "--http", "none", "--until-stdin-ends", "-o", "jsonl", "--listen", "127.0.0.1:0", "--data"]);
    command.arg(data).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = Process::spawn(command);
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Option<serde_json::Value> = serde_json::from_str(&line).ok();
    let url = ready.and_then(|ready| Some(ready["listen"][0].as_str()?.to_owned()));
    (process, url)
}

#[test]
#[ignore = "needs strace: cargo xtask prove"]
fn a_call_of_the_system_that_fails_loses_nothing_acknowledged() {
    let mut random = Random::seeded();
    let (mut served, mut ended) = (0, 0);
    for round in 0..load::faults(10) {
        let (call, error) = match round % 4 {
            0 | 1 => ("fdatasync", "EIO"),
            2 => ("pwrite64", "EIO"),
            _ => ("pwrite64", "ENOSPC"),
        };
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let (mut process, url) = serve_failing(&data, call, error, 1 + random.up_to(40));
        let ledgers = Ledgers::new(folder.path());
        if let Some(url) = url {
            served += 1;
            let _worker = load::worker(&url);
            let _caller = ledgers.caller(&url);
            // A broker that cannot trust its disk ends by itself; one that met the failure elsewhere goes on.
            for _ in 0..100 {
                if process.0.try_wait().unwrap().is_some() {
                    ended += 1;
                    break;
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        process.kill_if_running();
        let mut broker = Broker::start_on(&data, CONFIG);
        load::settle(&broker);
        broker.stop();
        load::check(broker.data(), &ledgers);
    }
    println!("{served} brokers served before the failure, {ended} ended because of it");
    assert!(served > 0 && ended > 0, "no failure came under load");
}
