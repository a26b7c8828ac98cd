//! A run: for each repetition and size, each system is started, measured with each number of calls in flight, ended.

use crate::checks::Stage;
use crate::process::Process;
use crate::results::{Cell, Results};
use crate::servers::system_name;
use crate::{Arguments, machine, report, servers};
use antiphon_bench::System;
use antiphon_bench::load::Measured;
use anyhow::{Context, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the clients of other systems are built from.
const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/Cargo.toml");

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut results = if arguments.fresh { Results::default() } else { Results::read(&arguments.results)? };
    if !arguments.report {
        let systems = arguments.systems()?;
        let programs = Programs::find(&systems)?;
        results.versions.extend(machine::versions());
        std::fs::create_dir_all(&arguments.data)?;
        results.fsync_us.push(machine::fsync_us(&arguments.data)?);
        for repetition in 1..=arguments.repetitions {
            for bytes in &arguments.bytes {
                for system in &systems {
                    eprintln!("{repetition}/{} · {bytes} bytes · {}", arguments.repetitions, system_name(*system));
                    match measure(arguments, &programs, *system, *bytes) {
                        Ok(mut measured) => results.measurements.append(&mut measured),
                        // One peer that cannot be had is no reason to throw away the others.
                        Err(error) => eprintln!("  not measured: {error:#}"),
                    }
                    results.write(&arguments.results)?;
                }
            }
        }
        for check in &arguments.checks {
            eprintln!("{}", check.title());
            let (waiting, crowd) = (arguments.waiting, arguments.crowd);
            let stage = Stage { program: &programs.own, data: &arguments.data, waiting, crowd };
            match check.run(&stage) {
                Ok(findings) => results.keep(findings),
                Err(error) => eprintln!("  not measured: {error:#}"),
            }
            results.write(&arguments.results)?;
        }
    }
    report::write(&results, &arguments.out, &machine::describe()?)
}

/// The programs that play the parts.
struct Programs {
    own: PathBuf,
    peers: Option<PathBuf>,
}

impl Programs {
    /// Builds the peers' clients if any of the systems needs them.
    fn find(systems: &[System]) -> anyhow::Result<Self> {
        let own = std::env::current_exe()?;
        if systems.iter().all(|system| is_own(*system)) {
            return Ok(Self { own, peers: None });
        }
        if let Some(peers) = std::env::var_os("ANTIPHON_BENCH_PEERS") {
            return Ok(Self { own, peers: Some(peers.into()) });
        }
        let target = own.ancestors().nth(2).context("this program lies in a target directory")?.to_owned();
        eprintln!("building the peers' clients (minutes, the first time)");
        let status = Command::new("cargo")
            .args(["build", "--release", "--quiet", "--manifest-path", PEERS, "--target-dir"])
            .arg(&target)
            .status()
            .context("running cargo")?;
        ensure!(status.success(), "the peers' clients cannot be built");
        Ok(Self { own, peers: Some(target.join("release/antiphon-bench-peers")) })
    }

    fn of(&self, system: System) -> &Path {
        match &self.peers {
            Some(peers) if !is_own(system) => peers,
            _ => &self.own,
        }
    }
}

fn is_own(system: System) -> bool {
    matches!(system.group(), "limit" | "antiphon")
}

fn measure(
    arguments: &Arguments,
    programs: &Programs,
    system: System,
    bytes: usize,
) -> anyhow::Result<Vec<(Cell, Measured)>> {
    let program = programs.of(system);
    let name = system_name(system);
    let mut watched = Vec::new();
    let server = servers::start(system, &programs.own, &arguments.data)?;
    let mut address = server.as_ref().map_or("-", |server| &server.address).to_owned();
    if let Some(process) = server.as_ref().map(|server| &server.process) {
        watched.push(format!("broker={}", process.id()));
    }
    let mut worker = None;
    if system.has_worker() {
        let mut process = Process::start_own(Command::new(program).args(["worker", &name, &address]))?;
        let own_address = process.ready().context("starting the worker")?;
        if !own_address.is_empty() {
            address = own_address;
        }
        watched.push(format!("worker={}", process.id()));
        worker = Some(process);
    }
    let mut measured = Vec::new();
    for in_flight in &arguments.in_flight {
        let mut command = Command::new(program);
        command.args(["caller", &name, &address, "--in-flight", &in_flight.to_string()]);
        command.args(["--bytes", &bytes.to_string(), "--ms", &arguments.ms.to_string()]);
        command.args(["--warm-up-ms", &arguments.warm_up_ms.to_string()]);
        command.args(watched.iter().flat_map(|watched| ["--watch", watched]));
        let line = Process::start_own(&mut command)?.line().context("the caller")?;
        let figures: Measured = serde_json::from_str(&line).context("what the caller measured")?;
        let rate = figures.calls as f64 / figures.seconds;
        let cpu: f64 = figures.cpu_us.values().sum();
        eprintln!("  {in_flight:>5} in flight: {rate:>9.0}/s, p50 {:.1} µs, {cpu:.2} µs CPU", figures.p50_us);
        measured.push((Cell { bytes, system, in_flight: *in_flight }, figures));
    }
    drop((worker, server));
    Ok(measured)
}
