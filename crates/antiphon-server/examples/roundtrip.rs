//! Measures calls over sockets: `roundtrip serve ADDRESS [DIRECTORY]`, `roundtrip work ADDRESS`, and
//! `roundtrip call ADDRESS IN_FLIGHT BYTES SECONDS`, each in a process of its own, or `roundtrip idle ADDRESS COUNT`
//! to hold connections open. Worker and caller live in their sinks: what is measured is the wire and the broker, not
//! futures.
#![allow(clippy::unwrap_used)]

use antiphon_broker::{Broker, Caller, Event, Inbox, Report, Sink, Submission, Wants, Worker};
use antiphon_embedded::DriverOptions;
use antiphon_protocol::{
    Answer, Call, CallId, CallerId, IncarnationId, Name, Offer, OfferedProcedure, Payload, Query, Route, Settlement,
};
use antiphon_server::{Address, Server, ServerOptions};
use antiphon_wire::{Remote, RemoteOptions};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["serve", address, rest @ ..] => serve(address, rest.first().copied()),
        ["work", address] => on_runtime(work(address.parse().unwrap())),
        ["call", address, in_flight, bytes, seconds] => on_runtime(call(
            address.parse().unwrap(),
            in_flight.parse().unwrap(),
            bytes.parse().unwrap(),
            Duration::from_secs_f64(seconds.parse().unwrap()),
        )),
        ["idle", address, count] => on_runtime(idle(address.parse().unwrap(), count.parse().unwrap())),
        _ => eprintln!(
            "usage: roundtrip serve ADDRESS [DIRECTORY] | work ADDRESS | call ADDRESS IN_FLIGHT BYTES SECONDS"
        ),
    }
}

fn on_runtime(run: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run);
}

fn serve(address: &str, directory: Option<&str>) {
    let driver = DriverOptions { directory: directory.map(Into::into), ..DriverOptions::default() };
    let mut options = ServerOptions::new(driver);
    if let Ok(spin) = std::env::var("SPIN_US") {
        options.spin = Duration::from_micros(spin.parse().unwrap());
    }
    Server::new(options).listen(address.parse::<Address>().unwrap()).start().unwrap().join().unwrap();
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

fn remote_options() -> RemoteOptions {
    let mut options = RemoteOptions::default();
    options.direct_writes = std::env::var_os("NO_DIRECT").is_none();
    options
}

async fn connect(address: Address) -> Remote {
    Remote::connect(address, remote_options()).await.unwrap()
}

#[derive(Default)]
struct WorkerSink {
    worker: OnceLock<Box<dyn Worker>>,
    reports: Mutex<Vec<Report>>,
}

impl Sink for WorkerSink {
    fn events(&self, events: &mut Vec<Event>) {
        let mut reports = self.reports.lock().unwrap();
        reports.extend(events.drain(..).filter_map(|event| match event {
            Event::Lease(lease) => {
                Some(Report { lease: lease.lease, call: lease.call, settlement: Settlement::Succeed(lease.payload) })
            }
            _ => None,
        }));
        if !reports.is_empty() {
            self.worker.wait().report(&mut reports);
        }
    }
}

async fn work(address: Address) {
    let remote = connect(address).await;
    let sink = Arc::new(WorkerSink::default());
    let procedure = OfferedProcedure { name: Name::from_static("bench.echo"), idempotent: true, schema: None };
    let offer = Offer {
        incarnation: IncarnationId(random()),
        name: Name::from_static("bench"),
        procedures: vec![procedure],
        slots: 4096,
        labels: Vec::new(),
        held: Vec::new(),
    };
    let worker = remote.open_worker(offer, Arc::clone(&sink) as Arc<dyn Sink>).await.unwrap();
    assert!(sink.worker.set(worker).is_ok());
    std::future::pending::<()>().await;
}

struct CallerSink {
    caller: OnceLock<Box<dyn Caller>>,
    state: Mutex<State>,
    route: Arc<Route>,
    payload: Payload,
}

#[derive(Default)]
struct State {
    begun: Vec<Instant>,
    latencies: Vec<u32>,
    next: Vec<Submission>,
    done: Vec<CallId>,
    counter: u64,
    stopped: bool,
}

impl CallerSink {
    fn make(&self, state: &mut State, tag: u64, now: Instant) {
        state.counter += 1;
        let mut bits = [0; 10];
        // The first three bytes carry the version and variant of the id.
        bits.iter_mut().skip(3).zip(state.counter.to_le_bytes()).for_each(|(bit, byte)| *bit = byte);
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let id = CallId::new(u64::try_from(unix.as_millis()).unwrap(), bits);
        let call = Call::new(id, Arc::clone(&self.route), self.payload.clone());
        if let Some(begun) = state.begun.get_mut(usize::try_from(tag).unwrap()) {
            *begun = now;
        }
        state.next.push(Submission { call, tag, wants: Wants::Outcome, resent: false });
    }
}

impl Sink for CallerSink {
    fn events(&self, events: &mut Vec<Event>) {
        let now = Instant::now();
        let state = &mut *self.state.lock().unwrap();
        for event in events.drain(..) {
            match event {
                Event::Outcome { tag, id, .. } => {
                    let begun = state.begun.get(usize::try_from(tag).unwrap()).copied().unwrap();
                    let micros = now.duration_since(begun).as_nanos() / 100;
                    state.latencies.push(u32::try_from(micros).unwrap_or(u32::MAX));
                    state.done.push(id);
                    if !state.stopped {
                        self.make(state, tag, now);
                    }
                }
                Event::Refused { failure, .. } => eprintln!("refused: {failure}"),
                Event::Down { reason, .. } => eprintln!("down: {reason}"),
                _ => (),
            }
        }
        let Some(caller) = self.caller.get() else { return };
        if !state.next.is_empty() {
            caller.submit(&mut state.next);
        }
        if state.done.len() >= 256 {
            caller.acknowledge(&state.done);
            state.done.clear();
        }
    }
}

async fn call(address: Address, in_flight: u64, bytes: usize, time: Duration) {
    let remote = connect(address).await;
    let mut route = Route::new(Name::from_static("bench.echo"));
    route.idempotent = true;
    let sink = Arc::new(CallerSink {
        caller: OnceLock::new(),
        state: Mutex::new(State { counter: u64::from_le_bytes(random()), ..State::default() }),
        route: Arc::new(route),
        payload: Payload::raw(vec![7; bytes]),
    });
    let inbox = Inbox::Anonymous(CallerId(random()));
    let caller = remote.open_caller(inbox, Arc::clone(&sink) as Arc<dyn Sink>).await.unwrap();
    assert!(sink.caller.set(caller).is_ok());
    let mut first = {
        let state = &mut *sink.state.lock().unwrap();
        let now = Instant::now();
        state.begun = vec![now; usize::try_from(in_flight).unwrap() + 1];
        (1..=in_flight).for_each(|tag| sink.make(state, tag, now));
        std::mem::take(&mut state.next)
    };
    sink.caller.get().unwrap().submit(&mut first);
    tokio::time::sleep(Duration::from_secs(1)).await;
    sink.state.lock().unwrap().latencies.clear();
    let begun = Instant::now();
    tokio::time::sleep(time).await;
    let mut latencies = {
        let state = &mut *sink.state.lock().unwrap();
        state.stopped = true;
        std::mem::take(&mut state.latencies)
    };
    let seconds = begun.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |part: f64| {
        let place = (latencies.len() as f64 * part) as usize;
        f64::from(latencies.get(place).copied().unwrap_or(0)) / 10.0
    };
    let rate = latencies.len() as f64 / seconds;
    println!(
        "C={in_flight} {bytes} B: {rate:.0}/s p50 {:.0} us p99 {:.0} us p999 {:.0} us",
        at(0.5),
        at(0.99),
        at(0.999)
    );
    if let Ok(Answer::Broker(status)) = remote.inspect().unwrap().ask(Query::Broker).await {
        println!("  broker: settled {} syncs {} sync {} us", status.settled, status.syncs, status.sync_us);
    }
    remote.close().await;
}

async fn idle(address: Address, count: usize) {
    let mut remotes = Vec::new();
    for _ in 0..count {
        remotes.push(connect(address.clone()).await);
    }
    println!("{count} connections are open");
    tokio::time::sleep(Duration::from_secs(20)).await;
}
