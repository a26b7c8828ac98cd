//! The conformance suite on a broker of its own. It keeps everything in memory, so that no rule restarts it.

use antiphon_broker::Broker;
use antiphon_conformance::Harness;
use antiphon_kafka::Kafka;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::sync::OnceCell;
use xtask::services::kafka::Node;

/// The server of all rules: started by the first, stopped with the last.
fn node() -> Arc<Node> {
    static NODE: OnceLock<std::sync::Mutex<Weak<Node>>> = OnceLock::new();
    let mut node = NODE.get_or_init(std::sync::Mutex::default).lock().unwrap();
    node.upgrade().unwrap_or_else(|| {
        let started = Arc::new(Node::own("conformance").unwrap());
        *node = Arc::downgrade(&started);
        started
    })
}

struct Server {
    node: Arc<Node>,
    broker: OnceCell<Arc<Kafka>>,
}

impl Server {
    fn new() -> Self {
        // Starting takes a while, and blocks.
        Self { node: tokio::task::block_in_place(node), broker: OnceCell::new() }
    }
}

impl Harness for Server {
    async fn broker(&self) -> Arc<dyn Broker> {
        // One partition: two workers of a rule are no reason for a rebalance that moves a call.
        let url = format!("{}?partitions=1&fetch_wait=10", self.node.url());
        let open = async || Arc::new(Kafka::open(&url).await.unwrap());
        Arc::clone(self.broker.get_or_init(open).await) as Arc<dyn Broker>
    }

    fn grace(&self) -> Duration {
        Duration::from_millis(300)
    }
}

mod durable {
    use super::Server;

    antiphon_conformance::conformance_tests!(Server::new());
}
