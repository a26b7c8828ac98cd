//! W3C trace context: from a caller to its worker, and in the headers that anybody can read.

use crate::world::{LONG, connect, number};
use antiphon::{Context, Failure, Payload, RawProcedureOptions};
use lapin::types::AMQPValue;
use xtask::services::rabbitmq::Node;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_reaches_the_worker_and_stands_in_plain_headers() {
    let node = Node::shared().unwrap();
    let antiphon = connect(node.url()).await;
    let name = format!("traced-{}", std::process::id());
    let call = antiphon.call_raw(&name, number(1)).trace(&format!("{PARENT}\nvendor=1")).deadline_in(LONG);
    let call = call.submit().await.unwrap();
    let plain = lapin::Connection::connect(node.url(), lapin::ConnectionProperties::default()).await.unwrap();
    let channel = plain.create_channel().await.unwrap();
    let got = channel.basic_get(name.as_str().into(), Default::default()).await.unwrap().unwrap();
    let headers = got.properties.headers().clone().unwrap();
    let header = |key: &str| match headers.inner().get(key) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        other => panic!("{key}: {other:?}"),
    };
    assert_eq!((header("traceparent"), header("tracestate")), (PARENT.to_owned(), "vendor=1".to_owned()));
    plain.close(200, "seen".into()).await.unwrap();

    let seen = |context: Context, _: Payload| async move {
        Ok::<_, Failure>(Payload::json(format!("{:?}", context.trace().unwrap_or_default())))
    };
    let worker = antiphon.worker().procedure(&name, RawProcedureOptions::default(), seen).start().await.unwrap();
    let value = String::from_utf8(call.await.unwrap().bytes.to_vec()).unwrap();
    assert_eq!(value, format!("{:?}", format!("{PARENT}\nvendor=1")));
    worker.stop().await.unwrap();
}
