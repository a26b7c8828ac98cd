//! Antiphon itself, through the library that its users use.

use crate::slow_disk::SlowDisk;
use antiphon::{Antiphon, Failure, Worker};
use antiphon_bench::READY;
use antiphon_bench::load::{self, Echo, Measured, Plan};
use antiphon_embedded::DriverOptions;
use antiphon_journal::{Directory, Storage};
use antiphon_server::{Server, ServerOptions};
use antiphon_wire::{Address, Remote, RemoteOptions};
use anyhow::Context as _;
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[antiphon::service]
trait Echoes {
    #[procedure(idempotent, raw)]
    async fn again(&self, argument: Bytes) -> Result<Bytes, Failure>;
    #[procedure(raw)]
    async fn once(&self, argument: Bytes) -> Result<Bytes, Failure>;
}

struct Echoing;

impl Echoes for Echoing {
    async fn again(&self, argument: Bytes) -> Result<Bytes, Failure> {
        Ok(argument)
    }

    async fn once(&self, argument: Bytes) -> Result<Bytes, Failure> {
        Ok(argument)
    }
}

/// More than calls in flight: the worker must not be what is waited for.
const SLOTS: u32 = 65_536;

fn server(data: Option<&Path>) -> Server {
    let driver = DriverOptions {
        directory: data.map(Path::to_owned),
        limits: antiphon_engine::Limits::new(data.is_some()),
        ..DriverOptions::default()
    };
    Server::new(ServerOptions::new(driver)).listen(Address::Tcp("127.0.0.1:0".to_owned()))
}

pub fn broker(data: Option<&Path>) -> anyhow::Result<()> {
    serve(server(data))
}

/// Unsettled calls that a broker of the checks holds: more than the backlog that is asked about.
const CALLS_MAX: u32 = 20_000_000;
/// Connections that it takes: ten thousand callers, as many workers, and those that measure.
const CONNECTIONS_MAX: usize = 20_100;

/// A broker whose disk takes so much longer for each fsync, and that takes a crowd and a backlog.
pub fn slowed_broker(data: &Path, sync: Duration) -> anyhow::Result<()> {
    crate::crowd::raise_descriptors();
    let directory = Arc::new(Directory::create(data)?);
    let storage: Arc<dyn Storage> = if sync.is_zero() { directory } else { Arc::new(SlowDisk::new(directory, sync)) };
    let limits = antiphon_engine::Limits { calls_max: CALLS_MAX, ..antiphon_engine::Limits::new(true) };
    let driver = DriverOptions { storage: Some(storage), limits, ..DriverOptions::default() };
    let mut options = ServerOptions::new(driver);
    (options.connections_max, options.greeting_max) = (CONNECTIONS_MAX, CONNECTIONS_MAX);
    serve(Server::new(options).listen(Address::Tcp("127.0.0.1:0".to_owned())))
}

fn serve(server: Server) -> anyhow::Result<()> {
    let running = server.start()?;
    println!("{READY}{}", running.local_address().context("it listens")?);
    Ok(running.join()?)
}

async fn start_worker(antiphon: &Antiphon) -> anyhow::Result<Worker> {
    Ok(antiphon.worker().service(EchoesService::new(Echoing)).slots(SLOTS).start().await?)
}

pub async fn worker(address: &str) -> anyhow::Result<()> {
    let antiphon = Antiphon::connect(address).await?;
    let worker = start_worker(&antiphon).await?;
    println!("{READY}");
    Ok(worker.run_until(std::future::pending::<()>()).await?)
}

pub async fn direct_worker() -> anyhow::Result<()> {
    let hosted = server(None).serve_here()?;
    let serving = tokio::spawn(hosted.serve);
    let address = hosted.addresses.first().context("it listens")?.to_string();
    let broker = Remote::connect(hosted.inside, RemoteOptions::default()).await?;
    let antiphon = Antiphon::from_broker(Arc::new(broker));
    let worker = start_worker(&antiphon).await?;
    println!("{READY}{address}");
    worker.run_until(serving).await?;
    Ok(())
}

#[derive(Clone)]
struct Client {
    echo: EchoesClient,
    idempotent: bool,
}

impl Echo for Client {
    async fn call(&self, argument: Bytes) -> anyhow::Result<usize> {
        let call = if self.idempotent { self.echo.again(argument) } else { self.echo.once(argument) };
        Ok(call.await.map_err(|error| anyhow::anyhow!("{error}"))?.len())
    }
}

async fn measure(antiphon: Antiphon, idempotent: bool, plan: &Plan) -> anyhow::Result<Measured> {
    let measured = load::run(Client { echo: EchoesClient::new(&antiphon), idempotent }, plan).await;
    antiphon.close().await;
    measured
}

/// Calls are as durable as the broker makes them by default.
pub async fn caller(address: &str, idempotent: bool, plan: &Plan) -> anyhow::Result<Measured> {
    measure(Antiphon::connect(address).await?, idempotent, plan).await
}

/// Caller, broker and worker in this process.
pub async fn memory(plan: &Plan) -> anyhow::Result<Measured> {
    let antiphon = Antiphon::connect("memory:").await?;
    let worker = start_worker(&antiphon).await?;
    let measured = measure(antiphon, true, plan).await;
    drop(worker);
    measured
}
