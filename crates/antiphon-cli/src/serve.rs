//! `antiphon serve`: a broker, from its start to the signal that ends it.

mod config;
mod procedure;

use crate::ending::{Ending, INTERRUPTED, USAGE};
use crate::ls::age;
use crate::output::{Format, Output};
use crate::stop::{self, Stops};
use antiphon_gateway::{Gateway, GatewayOptions};
use antiphon_protocol::{Answer, Query, State, defaults};
use antiphon_server::{Address, ListenOptions, Phase, Running, ServeError, Server, ServerHandle, StartError};
use clap::{Args, ValueEnum};
use config::Settings;
use serde::Deserialize;
use serde_json::json;
use std::fmt::Display;
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// How long the broker may take to say what it recovered.
const QUESTION: Duration = Duration::from_secs(10);

/// Run a broker
#[derive(Debug, Args)]
pub struct Serve {
    /// Where calls are kept [default: ./antiphon-data]
    #[arg(long, value_name = "DIR", conflicts_with = "memory")]
    data: Option<PathBuf>,
    /// Keep everything in memory: calls die with the broker
    #[arg(long)]
    memory: bool,
    /// Where to listen: HOST:PORT or unix:PATH; repeatable [default: 127.0.0.1:7400]
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// Where to serve probes and metrics: HOST:PORT or none [default: 127.0.0.1:7401]
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// A TOML file with these settings and the limits; what the command line says goes first
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How to log to stderr [default: text]; ANTIPHON_LOG filters, such as debug
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
    /// Listen where other machines can connect, without encryption or authentication
    #[arg(long)]
    insecure: bool,
    /// End when stdin ends: for programs that start a broker and must not leave it behind
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

/// How to log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    Text,
    Json,
}

pub fn run(arguments: Serve, output: &Output) -> Result<(), Ending> {
    let settings = Settings::new(arguments)?;
    log(settings.log_format)?;
    if settings.until_stdin_ends {
        stop::when_stdin_ends();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // From here on a signal ends the broker in order, also one that comes while it recovers.
        let mut stops = Stops::new()?;
        let began = Instant::now();
        let server = server(&settings);
        // Before the broker is: whoever probes learns that it lives and is not ready.
        let gateway = gateway(&settings, server.handle())?;
        let running = start(server)?;
        announce(&running, &settings, gateway.as_ref(), began.elapsed(), output);
        until_stopped(running, &mut stops).await
    })
}

fn log(format: LogFormat) -> Result<(), Ending> {
    let wanted = match std::env::var_os("ANTIPHON_LOG") {
        Some(wanted) if !wanted.is_empty() => wanted.to_string_lossy().into_owned(),
        _ => "info".to_owned(),
    };
    let wrong = |why: &dyn Display| {
        Ending::usage(format!("ANTIPHON_LOG={wanted}: {why}; write error, warn, info, debug, or antiphon_server=debug"))
    };
    // A word that is no level would be a filter for a module of that name: it silences all others.
    let is_known = |word: &str| word.contains(['=', '[']) || word.starts_with("antiphon") || is_level(word);
    if let Some(word) = wanted.split(',').map(str::trim).find(|word| !is_known(word)) {
        return Err(wrong(&format!("{word:?} is not a level")));
    }
    let filter = EnvFilter::try_new(&wanted).map_err(|error| wrong(&error))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => logs.with_ansi(false).init(),
        LogFormat::Json => logs.json().init(),
    }
    Ok(())
}

fn is_level(word: &str) -> bool {
    word.parse::<LevelFilter>().is_ok()
}

fn server(settings: &Settings) -> Server {
    let listen = if settings.insecure { ListenOptions::insecure() } else { ListenOptions::default() };
    let server = Server::new(settings.server.clone());
    settings.listen.iter().fold(server, |server, address| server.listen_with(address.clone(), listen))
}

fn gateway(settings: &Settings, handle: ServerHandle) -> Result<Option<Gateway>, Ending> {
    let Some(http) = &settings.http else { return Ok(None) };
    let resolved = http.to_socket_addrs().map_err(|error| {
        Ending::usage(format!("{http:?} is not an address for --http: {error}; write {} or none", defaults::HTTP))
    })?;
    if !settings.insecure && resolved.into_iter().any(|address| !address.ip().is_loopback()) {
        return Err(Ending::usage(format!(
            "{http} can be reached by other machines and there is no authentication: serve probes on 127.0.0.1, or allow it with --insecure"
        )));
    }
    let started = Gateway::start(http, handle, GatewayOptions::default());
    started.map(Some).map_err(|error| Ending::failed(format!("{error}; --http names another address, or none")))
}

fn start(server: Server) -> Result<Running, Ending> {
    server.start().map_err(|error| match &error {
        StartError::Insecure { .. } => Ending::new(USAGE, error),
        _ => Ending::failed(error),
    })
}

/// One line that tells people and programs that it is ready.
fn announce(running: &Running, settings: &Settings, gateway: Option<&Gateway>, took: Duration, output: &Output) {
    let handle = running.handle();
    while handle.phase() == Phase::Starting {
        thread::sleep(Duration::from_millis(1));
    }
    let calls = match handle.ask(Query::Broker, QUESTION) {
        Ok(Answer::Broker(broker)) => broker.calls,
        _ => [0; 8],
    };
    let waiting: u64 = State::ALL.iter().zip(calls).filter(|(state, _)| !state.is_settled()).map(|(_, n)| n).sum();
    let settled = calls.iter().sum::<u64>() - waiting;
    let addresses: Vec<String> = running.local_addresses().iter().map(Address::to_string).collect();
    let http = gateway.map(|gateway| format!("http://{}", gateway.local_address()));
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let printed = if output.format == Format::Table {
        let data = match &settings.data {
            Some(data) => format!("data in {}", data.display()),
            None => "calls in memory only".to_owned(),
        };
        let addresses = addresses.into_iter().chain(http).collect::<Vec<_>>().join(" and ");
        output.line(
            format!(
                "antiphon {} serves {addresses}, {data}, {waiting} waiting and {settled} settled calls recovered in {}",
                env!("CARGO_PKG_VERSION"),
                age(took_ms)
            )
            .as_bytes(),
        )
    } else {
        // One line, so that whoever started it reads it whole.
        let ready = json!({
            "listen": addresses, "http": http, "data": settings.data, "waiting": waiting, "settled": settled, "took_ms": took_ms,
            "pid": std::process::id(),
        });
        output.line(ready.to_string().as_bytes())
    };
    // A broker serves whether or not anybody reads its first line.
    drop(printed);
}

async fn until_stopped(running: Running, stops: &mut Stops) -> Result<(), Ending> {
    let handle = running.handle();
    let (ended, mut end) = oneshot::channel();
    thread::Builder::new().name("antiphon-join".to_owned()).spawn(move || ended.send(running.join()))?;
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = &mut end => return match ended {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(Ending::failed(error)),
                Err(_) => Err(Ending::failed(ServeError::Panicked)),
            },
            () = stops.next() => {
                if stopping {
                    return Err(Ending::new(INTERRUPTED, "stopped without saying goodbye; what was acknowledged is on disk"));
                }
                stopping = true;
                tracing::info!("stopping");
                handle.stop();
            }
        }
    }
}

/// Reads `HOST:PORT`, `unix:PATH`, or a URL.
fn address(text: &str) -> Result<Address, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        if path.is_empty() {
            return Err("unix: names no path: write unix:/run/antiphon.sock".to_owned());
        }
        return Ok(Address::Unix(PathBuf::from(path)));
    }
    text.parse()
        .map_err(|_| format!("{text:?} is not an address: write {} or unix:/run/antiphon.sock", defaults::LISTEN))
}
