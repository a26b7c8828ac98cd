//! The `antiphon` program: one file per command. Results go to stdout, everything else to stderr, and the exit code
//! says how it ended.

mod arguments;
mod bench;
mod bulk;
mod call;
mod callback;
mod cancel;
mod chart;
mod children;
mod completions;
mod connection;
mod dead;
mod demo;
mod emit;
mod ending;
mod events;
mod explain;
mod foreign;
mod group;
mod input;
mod journal;
mod leases;
mod limit;
mod ls;
mod nearest;
mod output;
mod payload;
mod ping;
mod plan;
mod queue;
mod result;
mod schedule;
mod serve;
mod simulate;
mod status;
mod stop;
mod subscription;
mod treatment;
mod worker;

use arguments::{Arguments, Command};
use clap::Parser;
use ending::Ending;
use output::Output;
use std::future::Future;
use std::process::ExitCode;

/// A call takes a handful of small allocations on each side, which the C library's allocator makes a tenth of its cost.
/// Without huge pages: a broker that idles would take four of them more.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A wrong flag is told by clap, which exits with 2, and with 0 after help and version.
    let arguments = Arguments::parse();
    let output = Output::new(arguments.output, arguments.color);
    match run(arguments, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(ending) => {
            if let Some(text) = &ending.text {
                output.complain(text);
            }
            ExitCode::from(ending.exit)
        }
    }
}

fn run(arguments: Arguments, output: &Output) -> Result<(), Ending> {
    let url = arguments.url.as_deref();
    match arguments.command {
        Command::Serve(serve) => serve::run(serve, output),
        Command::Demo(demo) => client(demo::run(demo, output)),
        Command::Call(call) => client(call::run(call, url, output)),
        Command::Callback(callback) => client(callback::run(callback, url, output)),
        Command::Group(group) => client(group::run(group, url, output)),
        Command::Result(result) => client(result::run(result, url, output)),
        Command::Status(status) => client(status::run(status, url, output)),
        Command::Explain(explain) => client(explain::run(explain, url, output)),
        Command::Cancel(cancel) => client(cancel::run(cancel, url, output)),
        Command::Emit(emit) => client(emit::run(emit, url, output)),
        Command::Events(events) => client(events::run(events, url, output)),
        Command::Subscription(which) => client(subscription::run(which, url, output)),
        Command::Schedule(which) => client(schedule::run(which, url, output)),
        Command::Ls(ls) => client(ls::run(ls, url, output)),
        Command::Worker(worker) => client(worker::run(worker, url, output)),
        Command::Queue(queue) => client(queue::run(queue, url, output)),
        Command::Dead(dead) => client(dead::run(dead, url, output)),
        Command::Ping(ping) => client(ping::run(ping, url, output)),
        Command::Bench(bench) => client(bench::run(bench, url, output)),
        Command::Plan(plan) => plan::run(plan, url, output),
        Command::Simulate(simulate) => simulate::run(simulate, output),
        Command::Journal(journal) => journal::run(journal, output),
        Command::Completions(completions) => completions::run(&completions),
        Command::DemoWorker(worker) => client(demo::worker::run(worker, url)),
        Command::BenchWorker(worker) => client(bench::worker::run(worker, url)),
    }
}

/// Runs a command that talks to a broker: one thread is enough for it.
fn client(command: impl Future<Output = Result<(), Ending>>) -> Result<(), Ending> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(command);
    // A blocked read of stdin must not keep the program.
    runtime.shutdown_background();
    ended
}
