//! tarpc: bincode over TCP, no broker.

use antiphon_bench::READY;
use antiphon_bench::load::{self, Echo, Measured, Plan};
use bytes::Bytes;
use futures_util::StreamExt;
use tarpc::client;
use tarpc::context::{self, Context};
use tarpc::serde_transport::{self, Transport};
use tarpc::server::{self, Channel};
use tarpc::tokio_serde::formats::Bincode;
use tarpc::tokio_util::codec::LengthDelimitedCodec;
use tokio::net::{TcpListener, TcpStream};

const IN_FLIGHT: usize = 4096;
const FRAME_BYTES_MAX: usize = 64 << 20;

#[tarpc::service]
trait EchoRpc {
    async fn echo(argument: Bytes) -> Bytes;
}

#[derive(Clone)]
struct EchoServer;

impl EchoRpc for EchoServer {
    async fn echo(self, _: Context, argument: Bytes) -> Bytes {
        argument
    }
}

fn transport<Item, SinkItem>(
    stream: TcpStream,
) -> std::io::Result<Transport<TcpStream, Item, SinkItem, Bincode<Item, SinkItem>>>
where
    Item: for<'de> serde::Deserialize<'de>,
    SinkItem: serde::Serialize,
{
    stream.set_nodelay(true)?;
    let framed = LengthDelimitedCodec::builder().max_frame_length(FRAME_BYTES_MAX).new_framed(stream);
    Ok(serde_transport::new(framed, Bincode::default()))
}

pub async fn worker() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{READY}{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let config = server::Config { pending_response_buffer: IN_FLIGHT };
        let channel = server::BaseChannel::new(config, transport(stream)?);
        tokio::spawn(channel.execute(EchoServer.serve()).for_each(|call| async move {
            tokio::spawn(call);
        }));
    }
}

#[derive(Clone)]
struct Caller(EchoRpcClient);

impl Echo for Caller {
    async fn call(&self, argument: Bytes) -> anyhow::Result<usize> {
        Ok(self.0.echo(context::current(), argument).await?.len())
    }
}

pub async fn caller(address: &str, plan: &Plan) -> anyhow::Result<Measured> {
    let stream = TcpStream::connect(address).await?;
    let mut config = client::Config::default();
    config.max_in_flight_requests = IN_FLIGHT;
    config.pending_request_buffer = IN_FLIGHT;
    let client = EchoRpcClient::new(config, transport(stream)?).spawn();
    load::run(Caller(client), plan).await
}
