//! gRPC by tonic, no broker. Written out here instead of generated: one unary method.

use antiphon_bench::READY;
use antiphon_bench::load::{self, Echo, Measured, Plan};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::uri::PathAndQuery;
use std::convert::Infallible;
use std::task::{Context, Poll};
use tokio::net::TcpListener;
use tonic::client::Grpc;
use tonic::server::{NamedService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower_service::Service;

const PATH: &str = "/bench.Echo/Echo";
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 128 << 20;
const MESSAGE_BYTES_MAX: usize = 64 << 20;

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Parcel {
    #[prost(bytes = "bytes", tag = "1")]
    value: Bytes,
}

#[derive(Clone)]
struct EchoService;

impl NamedService for EchoService {
    const NAME: &'static str = "bench.Echo";
}

struct Method;

impl UnaryService<Parcel> for Method {
    type Response = Parcel;
    type Future = BoxFuture<'static, Result<Response<Parcel>, Status>>;

    fn call(&mut self, request: Request<Parcel>) -> Self::Future {
        Box::pin(async move { Ok(Response::new(request.into_inner())) })
    }
}

impl Service<http::Request<tonic::body::Body>> for EchoService {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(async move {
            let codec = ProstCodec::<Parcel, Parcel>::default();
            let mut grpc = tonic::server::Grpc::new(codec)
                .apply_max_message_size_config(Some(MESSAGE_BYTES_MAX), Some(MESSAGE_BYTES_MAX));
            Ok(grpc.unary(Method, request).await)
        })
    }
}

pub async fn worker() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{READY}{}", listener.local_addr()?);
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .add_service(EchoService)
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await?;
    Ok(())
}

#[derive(Clone)]
struct Caller(Channel);

impl Echo for Caller {
    async fn call(&self, argument: Bytes) -> anyhow::Result<usize> {
        let mut grpc = Grpc::new(self.0.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        grpc.ready().await?;
        let codec = ProstCodec::<Parcel, Parcel>::default();
        let request = Request::new(Parcel { value: argument });
        let response: Response<Parcel> = grpc.unary(request, PathAndQuery::from_static(PATH), codec).await?;
        Ok(response.into_inner().value.len())
    }
}

pub async fn caller(address: &str, plan: &Plan) -> anyhow::Result<Measured> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    load::run(Caller(endpoint.connect().await?), plan).await
}
