//! The conformance suite, run by `memory:` and `file:`.

use antiphon_broker::Broker;
use antiphon_conformance::Harness;
use antiphon_embedded::{Embedded, EmbeddedOptions};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// A broker, and the directory it is on.
pub struct Local {
    directory: Option<TempDir>,
    broker: Mutex<Option<Arc<Embedded>>>,
}

impl Local {
    pub fn memory() -> Self {
        Self { directory: None, broker: Mutex::default() }
    }

    pub fn file() -> Self {
        Self { directory: Some(tempfile::tempdir().unwrap()), broker: Mutex::default() }
    }

    fn open(&self) -> Arc<Embedded> {
        let directory = self.directory.as_ref().map(|directory| directory.path().join("data"));
        let journal = antiphon_journal_options();
        Arc::new(Embedded::open(EmbeddedOptions { directory, journal, ..EmbeddedOptions::default() }).unwrap())
    }
}

/// Small segments, so that rolling and recycling happen in tests, too.
fn antiphon_journal_options() -> antiphon_journal::Options {
    let mut options = antiphon_journal::Options::new();
    options.segment_bytes = 1 << 20;
    options
}

impl Harness for Local {
    async fn broker(&self) -> Arc<dyn Broker> {
        let mut broker = self.broker.lock().unwrap();
        let broker: Arc<Embedded> = Arc::clone(broker.get_or_insert_with(|| self.open()));
        broker
    }

    async fn restart(&self) -> Option<Arc<dyn Broker>> {
        self.directory.as_ref()?;
        let old = self.broker.lock().unwrap().take();
        if let Some(old) = old {
            old.close().await;
        }
        Some(self.broker().await)
    }
}

mod memory {
    use super::Local;

    antiphon_conformance::conformance_tests!(Local::memory());
}

mod file {
    use super::Local;

    antiphon_conformance::conformance_tests!(Local::file());
}
