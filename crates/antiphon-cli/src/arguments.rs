//! The command line as a whole: its commands, and what all of them take.

use crate::output::{Color, Format};
use crate::{
    bench, call, callback, cancel, completions, dead, demo, emit, events, explain, group, journal, ls, ping, plan,
    queue, result, schedule, serve, simulate, status, subscription, worker,
};
use clap::{Parser, Subcommand};

/// Typed, durable, asynchronous calls, answered exactly once.
#[derive(Debug, Parser)]
#[command(name = "antiphon", version, about, after_help = EXITS, propagate_version = true)]
pub struct Arguments {
    /// Where the broker is: antiphon://HOST[:PORT] or antiphon+unix:///PATH; amqp(s)://HOST and kafka://HOST when built with them; file:DIR opens a data directory here [default: antiphon://127.0.0.1:7400]
    #[arg(long, global = true, env = "ANTIPHON_URL", hide_env_values = true)]
    pub url: Option<String>,
    /// How results are printed
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// When to use colours; NO_COLOR turns them off as well
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub color: Color,
    #[command(subcommand)]
    pub command: Command,
}

const EXITS: &str = "Exit codes: 0 a reply, or done; 1 settled, but not a reply, or failed; 2 usage; 3 broker \
unreachable; 4 not settled in time; 5 id never seen or forgotten; 6 refused; 130 interrupted";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a broker
    Serve(serve::Serve),
    /// See it work: real work through callers, a broker and workers, two of which are killed on the way
    Demo(demo::Demo),
    /// Call a procedure and print its value
    Call(call::Call),
    /// Have a procedure called with the outcome of a call that is there already
    Callback(callback::AddCallback),
    /// Open groups of calls that settle together, seal them, look at them
    #[command(subcommand)]
    Group(group::Group),
    /// Print the outcome of a call
    Result(result::ResultOf),
    /// Print where a call stands, and what happened to it
    Status(status::Status),
    /// Say why a call stands where it stands: what it waits for, where it runs, or how it ended
    Explain(explain::Explain),
    /// Cancel calls: those named, or all that match
    Cancel(cancel::Cancel),
    /// Tell of an event: each subscription that matches makes one call of it
    Emit(emit::Emit),
    /// Print events as they come: those whose topic matches a pattern
    Events(events::Events),
    /// Call a procedure for each event whose topic matches a pattern
    #[command(subcommand)]
    Subscription(subscription::Subscriptions),
    /// Call a procedure again and again: at an interval, or at the times of a cron expression
    #[command(subcommand)]
    Schedule(schedule::Schedules),
    /// List calls, newest first
    Ls(ls::Ls),
    /// Serve procedures with any program; list and drain workers
    Worker(worker::Worker),
    /// Show queues: what waits, and who serves it; set what they may hold
    #[command(subcommand)]
    Queue(queue::Queue),
    /// Look at dead letters, revive or purge them
    #[command(subcommand)]
    Dead(dead::Dead),
    /// Ask the broker whether it is there, and how it is
    Ping(ping::Ping),
    /// Measure calls per second and latency
    ///
    /// With -o json one measurement is an object with `calls`, `errors`, `calls_per_second` and `latency_us`; several
    /// are such objects in an array `cells`. With -o jsonl each is a line.
    Bench(bench::Bench),
    /// Predict waits, deadlines missed and workers needed, before there is a broker
    Plan(plan::PlanOf),
    /// Try policies on a simulated load: the real engine on virtual time
    Simulate(simulate::Simulate),
    /// Look into a data directory that no broker has open
    #[command(subcommand)]
    Journal(journal::Journal),
    /// Print a script that completes this program's command line
    Completions(completions::Completions),
    #[command(hide = true)]
    DemoWorker(demo::worker::DemoWorker),
    #[command(hide = true)]
    BenchWorker(bench::worker::BenchWorker),
}
