//! The client against a broker that says anything after (or instead of) its greeting. It must end, well or with an
//! error, and none of its own tasks may panic.

use crate::Random;
use crate::choices::Choices;
use crate::samples::welcome;
use crate::scribe::{broker_says, bytes};
use antiphon_broker::{Broker, Event, Inbox, Report, Sink, Submission, Wants};
use antiphon_protocol::{
    Call, CallId, CallerId, IncarnationId, Name, Offer, OfferedProcedure, Payload, Query, Route, Settlement,
};
use antiphon_wire::{Address, Outbound, Remote, RemoteOptions};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

/// Panics anywhere in the process; the runtime would keep those of its tasks to itself.
static PANICS: AtomicU32 = AtomicU32::new(0);

fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            before(info);
        }));
    });
}

struct Ear;

impl Sink for Ear {
    fn events(&self, events: &mut Vec<Event>) {
        events.clear();
    }
}

/// Says one part of the input to each connection that comes, in turn, then closes it.
fn malicious(listener: &UnixListener, data: &[u8], over: &AtomicBool) {
    let parts: Vec<&[u8]> = data.chunks(1.max(data.len() / 4)).collect();
    for number in 0.. {
        let Ok((mut stream, _)) = listener.accept() else { return };
        if over.load(Ordering::SeqCst) {
            return;
        }
        let part = parts.get(number % parts.len().max(1)).copied().unwrap_or(&[]);
        let mut choices = Choices(part);
        let mut out = Outbound::new();
        if choices.byte() % 8 != 0 {
            out.welcome(&welcome());
        }
        for _ in 0..20 {
            if choices.0.len() < 4 {
                break;
            }
            broker_says(&mut choices, &mut out);
        }
        let mut all = bytes(out);
        all.extend_from_slice(choices.0);
        // The client may have had enough.
        drop(stream.set_read_timeout(Some(Duration::from_millis(200))));
        drop(stream.read(&mut [0; 4096]));
        drop(stream.write_all(&all));
    }
}

pub(crate) fn run(data: &[u8]) {
    count_panics();
    let before = PANICS.load(Ordering::SeqCst);
    let folder = tempfile::tempdir().expect("a temporary directory can be made");
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).expect("a socket of its own");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| malicious(&listener, data, &over));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let address = Address::Unix(socket.clone());
        let ended = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), converse(address)).await });
        over.store(true, Ordering::SeqCst);
        drop(std::os::unix::net::UnixStream::connect(&socket));
        drop(runtime);
        assert!(ended.is_ok(), "the client hangs");
    });
    assert_eq!(PANICS.load(Ordering::SeqCst), before, "something panicked");
}

fn submission(number: u8) -> Submission {
    let call = Call::new(
        CallId::new(1_700_000_000_000, [number; 10]),
        Arc::new(Route::new(Name::from_static("a.b"))),
        Payload::raw(vec![number; 3]),
    );
    Submission { call, tag: u64::from(number), wants: Wants::AcceptanceAndOutcome, resent: false }
}

/// A short life of a client; whatever goes wrong is an answer like any other.
async fn converse(address: Address) {
    let mut options = RemoteOptions::default();
    options.open_timeout = Duration::from_millis(300);
    options.backoff_first = Duration::from_millis(1);
    options.backoff_max = Duration::from_millis(2);
    let Ok(remote) = Remote::connect(address, options).await else { return };
    let caller = remote.open_caller(Inbox::Anonymous(CallerId([1; 16])), Arc::new(Ear)).await;
    if let Ok(caller) = &caller {
        caller.submit(&mut (0..3).map(submission).collect());
        caller.cancel(&[submission(1).call.id]);
        caller.attach(&[(submission(7).call.id, 9)]);
    }
    let offered = OfferedProcedure { name: Name::from_static("a.b"), idempotent: true, schema: None };
    let offer = Offer {
        incarnation: IncarnationId([1; 16]),
        name: Name::from_static("w"),
        procedures: vec![offered],
        labels: Vec::new(),
        slots: 4,
        held: Vec::new(),
    };
    let worker = remote.open_worker(offer, Arc::new(Ear)).await;
    if let Ok(worker) = &worker {
        let lease = antiphon_protocol::LeaseTag { slot: 1, token: 1 << 40 | 1 };
        worker.report(&mut vec![Report { lease, call: submission(1).call.id, settlement: Settlement::Release }]);
        worker.extend(&[lease]);
    }
    if let Some(inspect) = remote.inspect() {
        drop(tokio::time::timeout(Duration::from_millis(5), inspect.ask(Query::Broker)).await);
    }
    tokio::time::sleep(Duration::from_millis(2)).await;
    drop((caller, worker));
    remote.close().await;
}

/// Conversations of brokers.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut random = Random(6);
    (0..8).map(|_| (0..200).map(|_| random.number() as u8 % 32).collect()).collect()
}
