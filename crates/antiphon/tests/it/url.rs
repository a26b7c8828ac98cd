//! What URLs open, and what is said of those that open nothing.

use antiphon::{Antiphon, Broker, Driver, OpenError};
use antiphon_broker::BoxFuture;
use std::sync::Arc;

async fn refusal(url: &str) -> String {
    match Antiphon::connect(url).await {
        Err(OpenError::Refused(failure)) => failure.to_string(),
        other => panic!("{url}: {other:?}"),
    }
}

#[tokio::test]
async fn a_malformed_url_is_refused_with_what_is_expected() {
    for (url, expected) in [
        ("somewhere", "is not a URL"),
        ("memory:there", "file:there"),
        ("file:", "file:DIR"),
        ("file://host/there", "another host"),
        ("antiphon:host", "antiphon://HOST"),
        ("antiphon://", "antiphon://host:port"),
        ("antiphon://host:port", "antiphon://host:port"),
        ("antiphon+unix://relative", "antiphon+unix:///PATH"),
        ("antiphon+tls://host", "TLS is not built in"),
        ("gopher://host", "no driver opens gopher:"),
    ] {
        let text = refusal(url).await;
        assert!(text.contains(expected), "{url}: {text}");
    }
}

#[tokio::test]
async fn an_unknown_scheme_names_the_crate_to_add() {
    assert!(refusal("amqp://host").await.contains("antiphon-rabbitmq"));
    assert!(refusal("kafka://host").await.contains("antiphon-kafka"));
}

#[tokio::test]
async fn nobody_at_the_address_is_unreachable() {
    let opened = Antiphon::connect("antiphon+unix:///nonexistent/antiphon.socket").await;
    assert!(matches!(opened, Err(OpenError::Unreachable(_))));
}

struct Amqp;

impl Driver for Amqp {
    fn schemes(&self) -> &[&str] {
        &["amqp"]
    }

    fn open<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Arc<dyn Broker>, OpenError>> {
        let fake: Result<Arc<dyn Broker>, _> = match url {
            "amqp://here" => Ok(Arc::new(crate::fake::Fake::new())),
            other => Err(OpenError::Unreachable(other.to_owned())),
        };
        Box::pin(std::future::ready(fake))
    }
}

#[tokio::test]
async fn a_driver_opens_its_schemes() {
    assert!(Antiphon::builder("amqp://here").driver(Amqp).connect().await.is_ok());
    let opened = Antiphon::builder("amqp://there").driver(Amqp).connect().await;
    assert!(matches!(opened, Err(OpenError::Unreachable(url)) if url == "amqp://there"));
}

#[tokio::test]
async fn memory_and_a_directory_are_brokers_in_this_process() {
    let memory = Antiphon::connect("memory:").await.unwrap();
    assert!(!memory.capabilities().durable_by_default);
    let directory = std::env::temp_dir().join(format!("antiphon-url-{}", std::process::id()));
    let url = format!("file:{}", directory.display());
    let file = Antiphon::connect(&url).await.unwrap();
    assert!(file.capabilities().durable_by_default);
    assert!(matches!(Antiphon::connect(&url).await, Err(OpenError::InUse { .. })));
    file.close().await;
    let again = Antiphon::connect(&url).await.unwrap();
    again.close().await;
    std::fs::remove_dir_all(directory).unwrap();
}
