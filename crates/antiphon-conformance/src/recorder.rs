//! A sink that keeps what it was told until a rule asks for it. It knows no call and no rule.

use antiphon_broker::{Event, Sink};
use antiphon_protocol::defaults;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How long a rule waits for what must come. It only bounds failure: nothing ever waits for it to pass.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The same where a lease of the default length has to end by itself first.
pub(crate) const PATIENCE_FOR_A_LEASE: Duration = Duration::from_millis(defaults::LEASE_MS as u64 + 15_000);

/// The events of one caller or worker, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    events: Mutex<Vec<Event>>,
    arrived: Notify,
}

impl Sink for Recorder {
    fn events(&self, events: &mut Vec<Event>) {
        self.lock().append(events);
        self.arrived.notify_waiters();
    }
}

impl Recorder {
    /// The first event that `pick` takes, which is removed. Waits for it at most [`PATIENCE`].
    pub(crate) async fn next<T>(&self, what: &str, pick: impl Fn(&Event) -> Option<T>) -> T {
        self.next_within(PATIENCE, what, pick).await
    }

    /// The same with another bound, for what must come only after a lease has ended.
    pub(crate) async fn next_within<T>(&self, bound: Duration, what: &str, pick: impl Fn(&Event) -> Option<T>) -> T {
        let found = tokio::time::timeout(bound, async {
            loop {
                // Made before looking, otherwise an event could arrive unnoticed in between.
                let arrived = self.arrived.notified();
                if let Some(found) = self.take(&pick) {
                    return found;
                }
                arrived.await;
            }
        });
        match found.await {
            Ok(found) => found,
            Err(_) => panic!("waited {bound:?} for {what}; what came instead: {}", self.brief()),
        }
    }

    /// The first event that `pick` takes of those that are here, which is removed.
    pub(crate) fn take<T>(&self, pick: impl Fn(&Event) -> Option<T>) -> Option<T> {
        let mut events = self.lock();
        let (place, found) = events.iter().enumerate().find_map(|(place, event)| Some((place, pick(event)?)))?;
        events.remove(place);
        Some(found)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        // A rule that panicked while holding it has failed already; its events are still true.
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is here, without payloads: those may have megabytes.
    fn brief(&self) -> String {
        let mut text = String::from("[");
        for event in self.lock().iter() {
            let written = match event {
                Event::Outcome { tag, id, state, .. } => write!(text, " Outcome(tag {tag}, {id}, {state})"),
                Event::Lease(lease) => write!(text, " Lease({}, attempt {})", lease.call, lease.attempt),
                other => write!(text, " {other:?}"),
            };
            written.expect("a String takes all text");
        }
        text.push_str(" ]");
        text
    }
}
