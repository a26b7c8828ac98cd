//! The conformance suite, run by `antiphon://` over a loopback socket, and by a broker on the runtime of its peers, which
//! come in without one: server and remote broker together.

use crate::world::{connect, options, start};
use antiphon_broker::Broker;
use antiphon_conformance::Harness;
use antiphon_server::{Running, ServeError, Server, ServerHandle};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

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

/// A broker on the runtime of the test, and the broker as its peers see it.
struct Beside {
    directory: Option<TempDir>,
    hosted: Mutex<Option<Host>>,
}

/// A broker that is served, and how to stop it.
struct Host {
    handle: ServerHandle,
    serving: JoinHandle<Result<(), ServeError>>,
    broker: Arc<dyn Broker>,
}

impl Beside {
    fn memory() -> Self {
        Self { directory: None, hosted: Mutex::default() }
    }

    fn file() -> Self {
        Self { directory: Some(tempfile::tempdir().unwrap()), hosted: Mutex::default() }
    }
}

impl Harness for Beside {
    async fn broker(&self) -> Arc<dyn Broker> {
        let mut hosted = self.hosted.lock().await;
        if let Some(host) = &*hosted {
            return Arc::clone(&host.broker);
        }
        let server = Server::new(options(self.directory.as_ref().map(TempDir::path)));
        let handle = server.handle();
        let served = server.serve_here().unwrap();
        let serving = tokio::spawn(served.serve);
        let broker: Arc<dyn Broker> = Arc::new(connect(&served.inside).await);
        *hosted = Some(Host { handle, serving, broker: Arc::clone(&broker) });
        broker
    }

    async fn restart(&self) -> Option<Arc<dyn Broker>> {
        self.directory.as_ref()?;
        let Host { handle, serving, broker } = self.hosted.lock().await.take()?;
        handle.stop();
        serving.await.unwrap().unwrap();
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

mod beside_in_memory {
    use super::Beside;

    antiphon_conformance::conformance_tests!(Beside::memory());
}

mod beside_on_file {
    use super::Beside;

    antiphon_conformance::conformance_tests!(Beside::file());
}
