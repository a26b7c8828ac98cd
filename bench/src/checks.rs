//! What is measured of Antiphon alone: its engine, slow disks, a backlog, crowds, what stands idle, delays, and growing
//! numbers of workers.

use crate::crowd::NOBODY;
use crate::growth;
use crate::process::Process;
use crate::punctuality::Lateness;
use crate::results::{Finding, median};
use antiphon_bench::cpu;
use antiphon_bench::load::Measured;
use anyhow::{Context, ensure};
use clap::ValueEnum;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Check {
    /// Cycles of the engine, with classes, tenants and deadlines
    Engine,
    /// Durable calls on a disk whose fsyncs take 1, 5 and 10 ms longer
    SlowFsync,
    /// A queue of ten million calls beside the one that is measured, and a restart with it
    Backlog,
    /// Ten thousand callers and as many workers that only stand there
    Crowd,
    /// What a broker takes that has nothing to do
    Idle,
    /// `antiphon call`, from its start to its end
    ColdStart,
    /// A thousand delayed calls due each second, and how late they begin
    Punctuality,
    /// Workers whose procedures sleep, added under load
    Growth,
}

/// What a check needs.
pub struct Stage<'a> {
    /// The bench itself.
    pub program: &'a Path,
    /// Where brokers keep their data.
    pub data: &'a Path,
    /// Calls of a backlog.
    pub waiting: u64,
    /// Callers of a crowd, and workers.
    pub crowd: usize,
}

/// How long calls go on for one figure, and before it.
const LENGTH_MS: u64 = 2_000;
const WARM_UP_MS: u64 = 700;
/// The system whose parts play in the checks: durable, idempotent.
const SYSTEM: &str = "antiphon-durable-idempotent";
/// How often the cold start is repeated.
const STARTS: usize = 40;
/// Delayed calls due in a second, and all of them.
const DUE_A_SECOND: u64 = 1_000;
const DUE: u64 = 15_000;
/// Up to how many workers are added, and how many of those the cores of any machine can serve: what a call costs all
/// processes together is some 20 µs.
const WORKERS_MAX: usize = 64;
const WORKERS_SERVED: usize = 16;

impl Check {
    pub const fn title(self) -> &'static str {
        match self {
            Self::Engine => "the engine alone",
            Self::SlowFsync => "slow fsyncs",
            Self::Backlog => "a backlog",
            Self::Crowd => "a crowd",
            Self::Idle => "idle",
            Self::ColdStart => "cold start",
            Self::Punctuality => "punctuality",
            Self::Growth => "growth",
        }
    }

    pub fn run(self, stage: &Stage<'_>) -> anyhow::Result<Vec<Finding>> {
        let findings = match self {
            Self::Engine => engine(),
            Self::SlowFsync => slow_fsync(stage),
            Self::Backlog => backlog(stage),
            Self::Crowd => crowd(stage),
            Self::Idle => idle(stage),
            Self::ColdStart => cold_start(stage),
            Self::Punctuality => punctuality(stage),
            Self::Growth => growth(stage),
        }?;
        for Finding { what, found, bar, reached } in &findings {
            eprintln!("  {what}: {found} (must: {bar}) {}", if *reached { "✓" } else { "✗" });
        }
        Ok(findings)
    }
}

fn finding(what: impl Into<String>, found: impl Into<String>, bar: impl Into<String>, reached: bool) -> Finding {
    Finding { what: what.into(), found: found.into(), bar: bar.into(), reached }
}

/// A broker, with a worker that gives back what it gets.
struct Scene {
    broker: Process,
    worker: Process,
    address: String,
    program: PathBuf,
}

impl Scene {
    fn open(stage: &Stage<'_>, data: &Path, sync: Duration) -> anyhow::Result<Self> {
        let mut command = Command::new(stage.program);
        let mut broker = Process::start_own(command.arg("slowed").arg(data).arg(sync.as_micros().to_string()))?;
        let address = broker.ready().context("starting the broker")?;
        let mut worker = Process::start_own(Command::new(stage.program).args(["worker", SYSTEM, &address]))?;
        worker.ready().context("starting the worker")?;
        Ok(Self { broker, worker, address, program: stage.program.to_owned() })
    }

    fn measure(&self, in_flight: usize) -> anyhow::Result<Measured> {
        let mut command = Command::new(&self.program);
        command.args(["caller", SYSTEM, &self.address, "--in-flight", &in_flight.to_string(), "--bytes", "64"]);
        command.args(["--ms", &LENGTH_MS.to_string(), "--warm-up-ms", &WARM_UP_MS.to_string()]);
        let line = Process::start_own(&mut command)?.line().context("the caller")?;
        serde_json::from_str(&line).context("what the caller measured")
    }

    /// Starts a part that says when it is ready.
    fn start(&self, part: &[&str]) -> anyhow::Result<Process> {
        let (name, rest) = part.split_first().context("a part has a name")?;
        let mut process =
            Process::start_own(Command::new(&self.program).args([name, self.address.as_str()]).args(rest))?;
        process.ready()?;
        Ok(process)
    }

    fn resident_mib(&self) -> anyhow::Result<f64> {
        resident_mib(self.broker.id())
    }
}

fn resident_mib(process: u32) -> anyhow::Result<f64> {
    let memory = cpu::memory_kib(&[("broker".to_owned(), process)])?;
    Ok(*memory.get("broker").context("the broker runs")? as f64 / 1024.0)
}

fn rate(measured: &Measured) -> f64 {
    measured.calls as f64 / measured.seconds
}

fn scratch(stage: &Stage<'_>) -> anyhow::Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("antiphon-bench-").tempdir_in(stage.data)?)
}

/// Cycles in a second, with the ten classes, three tenants and deadlines of the engine's own example.
fn engine() -> anyhow::Result<Vec<Finding>> {
    let mut command = match std::env::var_os("ANTIPHON_ENGINE_CYCLE") {
        Some(program) => Command::new(program),
        None => {
            let mut command = Command::new("cargo");
            command.args(["run", "--release", "--quiet", "-p", "antiphon-engine", "--example", "cycle", "--"]);
            command
        }
    };
    let output = command.arg("4000000").stderr(Stdio::inherit()).output().context("running the engine's example")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let each: f64 =
        said.split(' ').next().and_then(|ns| ns.parse().ok()).with_context(|| format!("it said {said:?}"))?;
    let found = format!("{:.2} M/s ({each:.0} ns each)", 1_000.0 / each);
    let what = "engine alone: submit, lease, settle, acknowledge; 10 classes, 3 tenants, deadlines";
    Ok(vec![finding(what, found, "≥ 1 M/s", each <= 1_000.0)])
}

/// A batch fills while the one before it is on its way to the disk: so calls a second times what a commit takes falls by
/// less than what it takes longer.
fn slow_fsync(stage: &Stage<'_>) -> anyhow::Result<Vec<Finding>> {
    let fast = {
        let data = scratch(stage)?;
        rate(&Scene::open(stage, &data.path().join("data"), Duration::ZERO)?.measure(1024)?)
    };
    let mut findings = Vec::new();
    for ms in [1_u64, 5, 10] {
        let data = scratch(stage)?;
        let scene = Scene::open(stage, &data.path().join("data"), Duration::from_millis(ms))?;
        let measured = scene.measure(1024)?;
        let (slow, p99_ms) = (rate(&measured), measured.p99_us / 1_000.0);
        // Without a pipeline each 1,024 calls take an fsync more than before.
        let serial = 1024.0 / (1024.0 / fast + ms as f64 / 1_000.0);
        let what = format!("1024 in flight, fsync {ms} ms longer: calls/s");
        let found = format!("{:.0} k of {:.0} k", slow / 1e3, fast / 1e3);
        findings.push(finding(
            what,
            found,
            format!("> {:.0} k, as if each batch waited for it", serial / 1e3),
            slow > serial,
        ));
        let what = format!("1024 in flight, fsync {ms} ms longer: p99");
        // What the disk itself takes is a tenth of the least of these.
        let bar = 3.0 * ms as f64;
        findings.push(finding(what, format!("{p99_ms:.1} ms"), format!("≤ {bar:.0} ms, 3 fsyncs"), p99_ms <= bar));
    }
    Ok(findings)
}

fn backlog(stage: &Stage<'_>) -> anyhow::Result<Vec<Finding>> {
    let data = scratch(stage)?;
    let directory = data.path().join("data");
    let scene = Scene::open(stage, &directory, Duration::ZERO)?;
    let waiting = stage.waiting as f64;
    let (empty, before) = (rate(&scene.measure(1024)?), scene.resident_mib()?);
    let began = Instant::now();
    drop(scene.start(&["fill", &stage.waiting.to_string()])?);
    eprintln!("  {} calls queued in {:.1} s", stage.waiting, began.elapsed().as_secs_f64());
    let after = scene.resident_mib()?;
    let full = rate(&scene.measure(1024)?);
    let bytes = (after - before) * f64::from(1 << 20) / waiting;
    let Scene { broker, worker, .. } = scene;
    drop(worker);
    // Killed, not stopped: as after a crash.
    drop(broker);
    let began = Instant::now();
    let mut command = Command::new(stage.program);
    let mut broker = Process::start_own(command.arg("slowed").arg(&directory).arg("0"))?;
    let address = broker.ready()?;
    let seconds = began.elapsed().as_secs_f64();
    let ready = waiting_at(&address)?;
    ensure!(ready == stage.waiting, "{ready} of {} calls are there after the restart", stage.waiting);
    let queued = format!("with {:.0} M calls queued", waiting / 1e6);
    let (share, scanned) = (full / empty, waiting / seconds / 1e6);
    Ok(vec![
        finding(
            format!("{queued}: calls/s beside them, 1024 in flight, of those of an empty broker"),
            format!("{:.0} k of {:.0} k: {:.0} %", full / 1e3, empty / 1e3, share * 100.0),
            "≥ 90 %",
            share >= 0.9,
        ),
        finding(format!("{queued}: memory of each"), format!("{bytes:.0} bytes"), "≤ 150 bytes", bytes <= 150.0),
        finding(
            format!("{queued}: restart to serving"),
            format!("{seconds:.1} s: {scanned:.2} M calls/s"),
            "≥ 1 M calls/s",
            scanned >= 1.0,
        ),
    ])
}

/// How many calls wait that nobody serves.
fn waiting_at(address: &str) -> anyhow::Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let antiphon = antiphon::Antiphon::connect(address).await?;
        let procedures = antiphon.inspect().procedures().await.map_err(|failure| anyhow::anyhow!("{failure}"))?;
        let nobody = procedures.iter().find(|known| known.procedure.as_str() == NOBODY);
        Ok(nobody.map_or(0, |known| known.calls.iter().take(2).sum()))
    })
}

fn crowd(stage: &Stage<'_>) -> anyhow::Result<Vec<Finding>> {
    let data = scratch(stage)?;
    let scene = Scene::open(stage, &data.path().join("data"), Duration::ZERO)?;
    let (alone, before) = (scene.measure(64)?, scene.resident_mib()?);
    let each = stage.crowd.to_string();
    let _callers = scene.start(&["crowd", &each, "0"])?;
    let _workers = scene.start(&["crowd", "0", &each])?;
    let (beside, after) = (scene.measure(64)?, scene.resident_mib()?);
    let ratio = beside.p99_us / alone.p99_us;
    eprintln!("  {:.1} KiB a connection", (after - before) * 512.0 / stage.crowd as f64);
    Ok(vec![finding(
        format!("{each} callers and as many workers idle: p99 with 64 in flight, of that without them"),
        format!("{:.0} µs of {:.0} µs: {ratio:.2} ×", beside.p99_us, alone.p99_us),
        "≤ 2 ×",
        ratio <= 2.0,
    )])
}

fn punctuality(stage: &Stage<'_>) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for system in ["antiphon-volatile", SYSTEM] {
        findings.extend(punctuality_of(stage, system)?);
    }
    Ok(findings)
}

fn punctuality_of(stage: &Stage<'_>, system: &str) -> anyhow::Result<Vec<Finding>> {
    let data = scratch(stage)?;
    let mut broker = bare_broker(stage, system, &data.path().join("data"))?;
    let address = broker.ready().context("starting the broker")?;
    let mut command = Command::new(stage.program);
    command.args(["punctual", &address, &DUE.to_string(), &DUE_A_SECOND.to_string()]);
    let line = Process::start_own(&mut command)?.line().context("who has calls due")?;
    let Lateness { calls, early, p50_us, p99_us, max_us } = serde_json::from_str(&line)?;
    let kind = if system == SYSTEM { "durable" } else { "volatile" };
    let what = format!("{calls} {kind} calls delayed, {DUE_A_SECOND} due a second");
    let ms = |us: u64| us as f64 / 1_000.0;
    let found = format!("{:.2} ms (p50 {:.2} ms, longest {:.2} ms)", ms(p99_us), ms(p50_us), ms(max_us));
    Ok(vec![
        finding(format!("{what}: p99 of how late their procedures begin"), found, "< 5 ms", p99_us < 5_000),
        finding(format!("{what}: begun early"), early.to_string(), "0", early == 0 && calls == DUE),
    ])
}

/// A broker, and nobody else.
fn bare_broker(stage: &Stage<'_>, system: &str, data: &Path) -> anyhow::Result<Process> {
    Process::start_own(Command::new(stage.program).args(["broker", system]).arg(data))
}

/// Workers are processes of their own with a few slots each. The calls are those of a caller that always has more than
/// all of them can take; what they settle is what the broker counts.
fn growth(stage: &Stage<'_>) -> anyhow::Result<Vec<Finding>> {
    let data = scratch(stage)?;
    // In memory: what grows with the workers is what is looked at, not the disk.
    let mut broker = bare_broker(stage, "antiphon-volatile", &data.path().join("data"))?;
    let address = broker.ready().context("starting the broker")?;
    let start = |arguments: &[&str]| {
        let mut process = Process::start_own(Command::new(stage.program).args(arguments))?;
        process.ready()?;
        anyhow::Ok(process)
    };
    let mut workers = vec![start(&["sleeper", &address])?];
    let in_flight = 2 * WORKERS_MAX * growth::SLOTS as usize;
    let _caller = start(&["press", &address, &in_flight.to_string()])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let antiphon = runtime.block_on(antiphon::Antiphon::connect(&address))?;
    let measure = |length_ms| runtime.block_on(growth::settled_within(&antiphon, Duration::from_millis(length_ms)));
    let (mut findings, mut alone) = (Vec::new(), 0.0);
    for count in std::iter::successors(Some(1), |count| Some(count * 2)).take_while(|count| *count <= WORKERS_MAX) {
        while workers.len() < count {
            workers.push(start(&["sleeper", &address])?);
        }
        measure(WARM_UP_MS)?;
        let rate = measure(LENGTH_MS)?;
        alone = if count == 1 { rate } else { alone };
        let times = rate / alone;
        let bound = if count <= WORKERS_SERVED { 0.9 * count as f64 } else { 0.9 * WORKERS_SERVED as f64 };
        let (slots, ms) = (growth::SLOTS, growth::SLEEP.as_millis());
        findings.push(finding(
            format!("{count} workers of {slots} slots, procedures that sleep {ms} ms, added under load: calls/s"),
            format!("{rate:.0}, {times:.2} × one worker"),
            format!("≥ {bound:.1} ×"),
            times >= bound,
        ));
    }
    Ok(findings)
}

/// The program itself: it is what people run.
fn antiphon_program(stage: &Stage<'_>) -> anyhow::Result<PathBuf> {
    if let Some(program) = std::env::var_os("ANTIPHON") {
        return Ok(program.into());
    }
    let target = stage.program.ancestors().nth(2).context("this program lies in a target directory")?;
    let build = ["build", "--release", "--quiet", "-p", "antiphon-cli", "--target-dir"];
    let status = Command::new("cargo").args(build).arg(target).status().context("running cargo")?;
    ensure!(status.success(), "the antiphon program cannot be built");
    Ok(target.join("release/antiphon"))
}

fn idle(stage: &Stage<'_>) -> anyhow::Result<Vec<Finding>> {
    let data = scratch(stage)?;
    let mut command = Command::new(antiphon_program(stage)?);
    command.args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data"]).arg(data.path().join("data"));
    let mut broker = Process::start_own(&mut command)?;
    broker.line().context("antiphon serve")?;
    std::thread::sleep(Duration::from_secs(1));
    let mib = resident_mib(broker.id())?;
    let what = "`antiphon serve --data DIR` with nothing to do: resident memory";
    Ok(vec![finding(what, format!("{mib:.1} MiB"), "< 15 MB", mib * 1.048_576 < 15.0)])
}

fn cold_start(stage: &Stage<'_>) -> anyhow::Result<Vec<Finding>> {
    let program = antiphon_program(stage)?;
    let data = scratch(stage)?;
    let scene = Scene::open(stage, &data.path().join("data"), Duration::ZERO)?;
    let mut times = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let began = Instant::now();
        let mut command = Command::new(&program);
        command.args(["call", "echoes.again", "7", "--url", &scene.address]).stdin(Stdio::null());
        let output = command.output().context("antiphon call")?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        ensure!(output.stdout.trim_ascii() == b"7", "antiphon call said {}", String::from_utf8_lossy(&output.stderr));
    }
    let ms = median(times);
    let what = format!("`antiphon call` against a running broker, from its start to its end, median of {STARTS}");
    Ok(vec![finding(what, format!("{ms:.1} ms"), "< 20 ms", ms < 20.0)])
}
