//! The conformance suite, run by `antiphon://` over a loopback socket: server and remote broker together.

use crate::world::{connect, options, start};
use antiphon_broker::Broker;
use antiphon_conformance::Harness;
use antiphon_server::Running;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::Mutex;

/// A server, the directory it is on, and the broker connected to it.
struct Loopback {
    directory: Option<TempDir>,
    running: Mutex<Option<(Running, Arc<dyn Broker>)>>,
}

impl Loopback {
    fn memory() -> Self {
        Self { directory: None, running: Mutex::default() }
    }

    fn file() -> Self {
        Self { directory: Some(tempfile::tempdir().unwrap()), running: Mutex::default() }
    }
}

impl Harness for Loopback {
    async fn broker(&self) -> Arc<dyn Broker> {
        let mut running = self.running.lock().await;
        if let Some((_, broker)) = &*running {
            return Arc::clone(broker);
        }
        let server = start(options(self.directory.as_ref().map(TempDir::path)));
        let broker: Arc<dyn Broker> = Arc::new(connect(&server.local_addresses()[0]).await);
        *running = Some((server, Arc::clone(&broker)));
        broker
    }

    async fn restart(&self) -> Option<Arc<dyn Broker>> {
        self.directory.as_ref()?;
        let (server, broker) = self.running.lock().await.take()?;
        server.handle().stop();
        tokio::task::spawn_blocking(|| server.join()).await.unwrap().unwrap();
        // The worker and caller of before find nobody at the old address, and are done for.
        broker.close().await;
        Some(self.broker().await)
    }
}

mod memory {
    use super::Loopback;

    antiphon_conformance::conformance_tests!(Loopback::memory());
}

mod file {
    use super::Loopback;

    antiphon_conformance::conformance_tests!(Loopback::file());
}
