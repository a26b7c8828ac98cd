//! `amqps://`: with an authority that the URL names, and not without.

use crate::world::{LONG, connect, echo, number};
use antiphon::{Antiphon, OpenError};
use std::time::Duration;
use xtask::services::rabbitmq::Node;

#[tokio::test(flavor = "multi_thread")]
async fn amqps_trusts_the_authority_in_the_url_and_no_other() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let trusted = std::env::temp_dir().join(format!("antiphon-rabbitmq-{}.pem", std::process::id()));
    std::fs::write(&trusted, &certificate).unwrap();
    let node = tokio::task::spawn_blocking(move || Node::with_tls("tls", &certificate, &key).unwrap()).await.unwrap();
    let place = format!("amqps://guest:guest@localhost:{}/%2f", node.tls_port().unwrap());

    let antiphon = connect(&format!("{place}?server=3.10&ca={}", trusted.display())).await;
    let worker = echo(&antiphon, "tls.echo", Duration::ZERO).await;
    assert_eq!(antiphon.call_raw("tls.echo", number(1)).deadline_in(LONG).await.unwrap(), number(1));
    worker.stop().await.unwrap();
    std::fs::remove_file(trusted).unwrap();

    let untrusting = Antiphon::builder(&place).driver(antiphon_rabbitmq::driver()).connect().await;
    let opened = match untrusting {
        Ok(untrusting) => untrusting.inbox("tls").await.map(drop),
        Err(error) => Err(error),
    };
    match opened {
        Err(OpenError::Unreachable(text)) => assert!(text.to_lowercase().contains("cert"), "{text}"),
        Err(error) => panic!("unreachable, not: {error}"),
        Ok(()) => panic!("a certificate that nobody vouches for was trusted"),
    }
}
