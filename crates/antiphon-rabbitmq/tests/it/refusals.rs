//! What the server refuses is told as what it is: who may not enter, what may not be used, what is too weak.

use crate::world::{LONG, connect, echo, number};
use antiphon::{Antiphon, CallError, Code, OpenError};
use std::time::Duration;
use xtask::services::rabbitmq::Node;

async fn refused(url: &str) -> antiphon::Failure {
    let antiphon = Antiphon::builder(url).driver(antiphon_rabbitmq::driver()).connect().await.unwrap();
    match antiphon.inbox("billing").await {
        Err(OpenError::Refused(failure)) => failure,
        Err(error) => panic!("refused, not: {error}"),
        Ok(_) => panic!("it was let in"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_enter_is_told_why() {
    let node = Node::shared().unwrap();
    let wrong = refused(&node.url().replace("guest:guest@", "guest:wrong@")).await;
    assert_eq!(wrong.code, Code::Unauthenticated, "{wrong}");
    assert!(!wrong.message.contains("wrong@"), "{wrong}");
    let nowhere = refused(&node.url().replace("/%2f", "/nowhere")).await;
    assert_eq!(nowhere.code, Code::PermissionDenied, "{nowhere}");

    let user = format!("limited-{}", std::process::id());
    node.control(&["add_user", &user, "secret"]).unwrap();
    node.control(&["set_permissions", &user, "^$", "^$", "^$"]).unwrap();
    let powerless = refused(&node.url().replace("guest:guest@", &format!("{user}:secret@"))).await;
    node.control(&["delete_user", &user]).unwrap();
    assert_eq!(powerless.code, Code::PermissionDenied, "{powerless}");
    assert!(powerless.message.contains("permission"), "{powerless}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_unreachable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("amqp://guest:guest@{free}/%2f");
    match Antiphon::builder(&url).driver(antiphon_rabbitmq::driver()).connect().await {
        Err(OpenError::Unreachable(text)) => {
            assert!(text.contains("RabbitMQ at 127.0.0.1") && !text.contains("guest@"))
        }
        Err(error) => panic!("unreachable, not: {error}"),
        Ok(_) => panic!("nobody is there"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weaker_queue_is_for_volatile_calls_only() {
    use lapin::types::FieldTable;
    let node = Node::shared().unwrap();
    let name = format!("weak-{}", std::process::id());
    let plain = lapin::Connection::connect(node.url(), lapin::ConnectionProperties::default()).await.unwrap();
    let channel = plain.create_channel().await.unwrap();
    channel.queue_declare(name.as_str().into(), Default::default(), FieldTable::default()).await.unwrap();

    let strict = connect(node.url()).await;
    let worker = echo(&strict, &name, Duration::ZERO).await;
    match strict.call_raw(&name, number(1)).deadline_in(LONG).await {
        Err(CallError::Refused(failure)) => {
            assert_eq!(failure.code, Code::FailedPrecondition);
            assert!(failure.to_string().contains("accept=memory"), "{failure}");
        }
        other => panic!("a durable call needs a durable queue: {other:?}"),
    }
    let volatile = strict.call_raw(&name, number(2)).volatile().deadline_in(LONG).await;
    assert_eq!(volatile.unwrap(), number(2));

    let lenient = connect(&format!("{}?accept=memory", node.url())).await;
    assert_eq!(lenient.call_raw(&name, number(3)).deadline_in(LONG).await.unwrap(), number(3));
    worker.stop().await.unwrap();
}
