//! The conformance suite on a server of its own, which is killed and started again where a rule says so.

use crate::world::DECLARED;
use antiphon_broker::Broker;
use antiphon_conformance::Harness;
use antiphon_rabbitmq::RabbitMq;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::sync::{Mutex, RwLock, RwLockReadGuard};
use xtask::services::rabbitmq::Node;

/// Rules run while nobody restarts the server; whoever does waits until the others are done.
static SERVER: RwLock<()> = RwLock::const_new(());

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
    parameters: &'static str,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: Option<RwLockReadGuard<'static, ()>>,
    broker: Option<Arc<RabbitMq>>,
}

impl Server {
    fn new(parameters: &'static str) -> Self {
        // Starting takes seconds, and blocks.
        let node = tokio::task::block_in_place(node);
        Self { node, parameters, state: Mutex::default() }
    }

    async fn open(&self) -> Arc<RabbitMq> {
        Arc::new(RabbitMq::open(&format!("{}{}", self.node.url(), self.parameters)).await.unwrap())
    }
}

impl Harness for Server {
    async fn broker(&self) -> Arc<dyn Broker> {
        let mut state = self.state.lock().await;
        if state.running.is_none() {
            state.running = Some(SERVER.read().await);
        }
        if state.broker.is_none() {
            state.broker = Some(self.open().await);
        }
        state.broker.clone().unwrap()
    }

    async fn restart(&self) -> Option<Arc<dyn Broker>> {
        let mut state = self.state.lock().await;
        state.running = None;
        let alone = SERVER.write().await;
        tokio::time::sleep(DECLARED).await;
        let killed = tokio::task::block_in_place(|| self.node.kill().and_then(|()| self.node.start()));
        killed.unwrap();
        if let Some(old) = state.broker.take() {
            old.close().await;
        }
        let broker = self.open().await;
        state.broker = Some(Arc::clone(&broker));
        state.running = Some(alone.downgrade());
        Some(broker)
    }

    fn grace(&self) -> Duration {
        Duration::from_millis(150)
    }
}

mod durable {
    use super::Server;

    antiphon_conformance::conformance_tests!(Server::new(""));
}
