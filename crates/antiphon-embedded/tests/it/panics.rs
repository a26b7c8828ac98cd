//! Panics of whoever uses the broker: in a sink, and while a caller is held. The broker goes on.

use antiphon_broker::{Broker, Caller, Event, Inbox, Sink};
use antiphon_embedded::{Embedded, EmbeddedOptions};
use antiphon_protocol::CallerId;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

/// Says that it heard something, then panics if it is to.
struct Ear {
    heard: Sender<()>,
    panics: bool,
}

impl Sink for Ear {
    fn events(&self, events: &mut Vec<Event>) {
        events.clear();
        // The test may have ended.
        self.heard.send(()).unwrap_or_default();
        assert!(!self.panics, "a sink panics");
    }
}

/// Opens a caller, which tells its sink that it is connected.
fn open(broker: &Embedded, number: u8, sink: Ear) -> Box<dyn Caller> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let inbox = Inbox::Anonymous(CallerId([number; 16]));
    runtime.block_on(broker.open_caller(inbox, Arc::new(sink))).unwrap()
}

/// Runs this on a thread of its own, which may hang; what it panics with goes with it.
fn ends(run: impl FnOnce() + Send + 'static) -> bool {
    let (ended, end) = channel();
    std::thread::spawn(move || {
        drop(catch_unwind(AssertUnwindSafe(run)));
        ended.send(()).unwrap_or_default();
    });
    end.recv_timeout(Duration::from_secs(10)).is_ok()
}

fn broker() -> Arc<Embedded> {
    Arc::new(Embedded::open(EmbeddedOptions::default()).unwrap())
}

#[test]
fn a_caller_that_is_let_go_by_a_panic_holds_nobody_up() {
    let broker = broker();
    let (heard, hearing) = channel();
    let held = {
        let (broker, heard) = (broker.clone(), heard.clone());
        move || {
            let _caller = open(&broker, 1, Ear { heard, panics: false });
            panic!("a program panics");
        }
    };
    assert!(ends(held), "the panic let go of the caller");
    hearing.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(ends(move || drop(open(&broker, 2, Ear { heard, panics: false }))), "the broker goes on");
    hearing.recv_timeout(Duration::from_secs(10)).unwrap();
}

#[test]
fn a_sink_that_panics_leaves_others_to_be_told() {
    let broker = broker();
    let (heard, hearing) = channel();
    let panicking = {
        let (broker, heard) = (broker.clone(), heard.clone());
        move || drop(open(&broker, 1, Ear { heard, panics: true }))
    };
    assert!(ends(panicking), "the panic of a sink goes to who was telling it");
    hearing.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(ends(move || drop(open(&broker, 2, Ear { heard, panics: false }))));
    hearing.recv_timeout(Duration::from_secs(10)).expect("the next one is told");
}
