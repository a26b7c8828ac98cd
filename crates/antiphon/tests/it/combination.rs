//! Everything a caller may ask of a call, at once and at random, through the public client: on a broker in this process
//! and on a server over TCP. What must hold however it went: each call ends once and as it should, its group and its
//! callback are told, and nothing stays held behind it (a slot, a lane, a concurrency key, an idempotency key).

use antiphon::{Antiphon, Broker, CallError, CallId, CallOutcome, CallStatus, Failure, Knowledge, Payload, State};
use antiphon_broker::{Event, OpenError, Sink, Worker as Seat};
use antiphon_embedded::{DriverOptions, Embedded};
use antiphon_protocol::{IncarnationId, LeaseTag, Name, Offer, OfferedProcedure};
use antiphon_server::{Address, Server, ServerOptions};
use antiphon_wire::{Remote, RemoteOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(20);
const WORK: &str = "combined.work";

/// When the call is cancelled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cancel {
    Never,
    BeforeItStarts,
    WhileItRuns,
    WhenItsWorkerIsDead,
}

/// How the group of the call is decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    All,
    Any,
    Settled,
}

/// What is asked of the call.
#[derive(Clone, Copy, Debug)]
struct Asked {
    priority: u8,
    ordered: bool,
    concurrent: bool,
    delayed: bool,
    tenant: bool,
    callback: bool,
    kind: Kind,
    cancel: Cancel,
}

/// The same numbers for the same seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn pick<T: Copy, const N: usize>(&mut self, of: [T; N]) -> T {
        of.into_iter().cycle().nth(usize::try_from(self.below(60)).unwrap()).unwrap()
    }
}

fn asked(seed: u64) -> Asked {
    let mut random = Random(seed);
    let cancels = [Cancel::Never, Cancel::BeforeItStarts, Cancel::WhileItRuns, Cancel::WhenItsWorkerIsDead];
    Asked {
        priority: u8::try_from(random.below(10)).unwrap(),
        ordered: random.below(2) == 0,
        concurrent: random.below(2) == 0,
        delayed: random.below(2) == 0,
        tenant: random.below(2) == 0,
        callback: random.below(2) == 0,
        kind: random.pick([Kind::All, Kind::Any, Kind::Settled]),
        // Each of them in every run.
        cancel: cancels.into_iter().cycle().nth(usize::try_from(seed % 4).unwrap()).unwrap(),
    }
}

struct Ear(UnboundedSender<Event>);

impl Sink for Ear {
    fn events(&self, events: &mut Vec<Event>) {
        // The worker may be dead.
        events.drain(..).for_each(|event| drop(self.0.send(event)));
    }
}

/// A worker that takes one call and then dies.
struct Doomed {
    seat: Box<dyn Seat>,
    events: UnboundedReceiver<Event>,
}

impl Doomed {
    async fn open(broker: &Arc<dyn Broker>, seed: u64) -> Result<Self, OpenError> {
        let procedures = vec![OfferedProcedure { name: Name::from_static(WORK), idempotent: false, schema: None }];
        let mut incarnation = [9; 16];
        incarnation.iter_mut().zip(seed.to_le_bytes()).for_each(|(to, from)| *to = from);
        let (incarnation, name) = (IncarnationId(incarnation), Name::from_static("doomed"));
        let offer = Offer { incarnation, name, procedures, slots: 1, labels: Vec::new(), held: Vec::new() };
        let (sender, events) = unbounded_channel();
        Ok(Self { seat: broker.open_worker(offer, Arc::new(Ear(sender))).await?, events })
    }

    async fn lease(&mut self) -> (CallId, LeaseTag) {
        loop {
            if let Event::Lease(lease) = timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap() {
                return (lease.call, lease.lease);
            }
        }
    }

    fn die(self) {
        drop(self.seat);
    }
}

fn options(directory: &Path) -> DriverOptions {
    let mut options = DriverOptions { directory: Some(directory.to_owned()), ..DriverOptions::default() };
    // A dead worker's lease ends soon.
    options.limits.lease_ms = 300;
    // A machine that is busy for so long takes leases from workers that live, too; that buries no call here.
    options.limits.lost_leases_max = 50;
    options
}

async fn status(antiphon: &Antiphon, id: CallId) -> CallStatus {
    match antiphon.inspect().status(id).await.unwrap() {
        Knowledge::Known(status) => status,
        other => panic!("{id} is known, not {other:?}"),
    }
}

/// Plays one call with everything asked of it, on names of its own.
async fn play(broker: &Arc<dyn Broker>, seed: u64) {
    let it = asked(seed);
    let antiphon = Antiphon::from_broker(Arc::clone(broker));
    let (lane, key) = (format!("lane-{seed}"), format!("key-{seed}"));
    let call = || {
        let mut call = antiphon.call_raw(WORK, Payload::json("1")).priority(it.priority).attempts(5);
        call = if it.ordered { call.ordering_key(&lane) } else { call };
        call = if it.concurrent { call.concurrency_key(&lane) } else { call };
        if it.tenant { call.tenant("acme") } else { call }
    };
    let first = || {
        let call = call().idempotency_key(&key);
        let call = if it.callback { call.callback_raw(antiphon::CallbackOn::Outcome, "combined.after") } else { call };
        if it.delayed { call.delay(Duration::from_millis(30)) } else { call }
    };
    let group = antiphon.group::<u32, Failure>();
    let group = match it.kind {
        Kind::All => group.all(),
        Kind::Any => group.any(),
        Kind::Settled => group.settled(),
    };
    let group = group.open().await.unwrap();
    let child = first().group(group.id()).submit().await.unwrap();
    let id = child.id();

    let mut doomed = None;
    if it.cancel != Cancel::BeforeItStarts {
        let mut worker = Doomed::open(broker, seed).await.unwrap();
        let (leased, lease) = worker.lease().await;
        assert_eq!((leased, lease.token > 0), (id, true));
        doomed = Some(worker);
    }
    // Behind it in its lane and key, if it has them.
    let next = call().submit().await.unwrap();
    if matches!(it.cancel, Cancel::BeforeItStarts | Cancel::WhileItRuns) {
        antiphon.cancel(id).await.unwrap();
    }
    if let Some(worker) = doomed {
        worker.die();
    }
    if it.cancel == Cancel::WhenItsWorkerIsDead {
        antiphon.cancel(id).await.unwrap();
    }
    let good = antiphon.worker().slots(1);
    let good = good.procedure(WORK, antiphon::RawProcedureOptions::default(), async |_, _| Ok(Payload::json("7")));
    let good = good.procedure("combined.after", antiphon::RawProcedureOptions::default(), async |_, told| Ok(told));
    let good = good.start().await.unwrap();

    let cancelled = it.cancel != Cancel::Never;
    let expected = if cancelled { State::Cancelled } else { State::Succeeded };
    let settled = timeout(PATIENCE, child.settled()).await.expect("the call ends").unwrap();
    assert_eq!((settled.id, settled.state), (id, expected));
    // What was behind it runs, so its lane, key and slot are free again.
    let value = timeout(PATIENCE, next).await.expect("what is behind it goes on").unwrap();
    assert_eq!(&*value.bytes, b"7");
    check_group(group, it.kind, id, expected).await;

    // The same key is the same call with the stored outcome; one that never started has freed it.
    let again = first().submit().await.unwrap();
    let same = it.cancel != Cancel::BeforeItStarts;
    assert_eq!(again.id() == id, same, "the idempotency key of a call that started is its own");
    let state = timeout(PATIENCE, again.settled()).await.expect("the key leads to an outcome").unwrap().state;
    assert_eq!(state, if same { expected } else { State::Succeeded });

    let standing = status(&antiphon, id).await;
    assert_eq!((standing.state, standing.attempts > 0), (expected, same), "{standing:?}");
    if it.callback {
        let after = standing.callbacks.first().expect("its callback is named").id;
        let told = timeout(PATIENCE, antiphon.attach_raw(after)).await.expect("its callback is called").unwrap();
        let told: CallOutcome<u32> = serde_json::from_slice(&told.bytes).unwrap();
        assert_eq!((told.id, told.state), (id, expected));
    }
    check_nothing_is_held(&antiphon, id).await;
    good.stop().await.unwrap();
}

/// The group is decided by its child, once it is sealed.
async fn check_group(group: antiphon::Group<u32, Failure>, kind: Kind, child: CallId, state: State) {
    let ended = timeout(PATIENCE, async { group.seal().await }).await.expect("the group ends");
    let children = match (kind, state, ended) {
        (Kind::Settled, _, Ok(children)) | (_, State::Succeeded, Ok(children)) => children,
        (Kind::All | Kind::Any, State::Cancelled, Err(CallError::Failed(failed))) => failed.children,
        (_, _, ended) => panic!("a group of {kind:?} with a child that {state}: {ended:?}"),
    };
    let told: Vec<_> = children.iter().map(|child| (child.id, child.state)).collect();
    assert_eq!(told, [(child, state)]);
}

/// No lease, slot or count is left behind.
async fn check_nothing_is_held(antiphon: &Antiphon, id: CallId) {
    let free = async || {
        let procedures = antiphon.inspect().procedures().await.unwrap();
        let workers = antiphon.inspect().workers().await.unwrap();
        let work = procedures.into_iter().find(|it| it.procedure.as_str() == WORK).unwrap();
        let waiting: u64 = work.calls.iter().zip(State::ALL).filter(|(_, it)| !it.is_settled()).map(|(n, _)| n).sum();
        waiting == 0
            && work.running == 0
            && workers.iter().all(|it| it.leased == 0)
            && !status(antiphon, id).await.stopping
    };
    let all = timeout(PATIENCE, async {
        while !free().await {
            sleep(Duration::from_millis(10)).await;
        }
    });
    all.await.expect("slots, leases and counts are given back");
}

/// Some seeds, which differ between the brokers.
async fn play_all(broker: Arc<dyn Broker>, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        println!("seed {seed}: {:?}", asked(seed));
        play(&broker, seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_at_once_holds_together_on_a_broker_in_this_process() {
    let place = tempfile::tempdir().unwrap();
    let broker = Arc::new(Embedded::open(options(&place.path().join("data"))).unwrap());
    play_all(broker, 0..16).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_at_once_holds_together_on_a_server_over_tcp() {
    let place = tempfile::tempdir().unwrap();
    let any_port = Address::Tcp("127.0.0.1:0".to_owned());
    let options = ServerOptions::new(options(&place.path().join("data")));
    let running = Server::new(options).listen(any_port).start().unwrap();
    let address = running.local_addresses().first().unwrap().clone();
    let remote = Remote::connect(address, RemoteOptions::default()).await.unwrap();
    let remote: Arc<dyn Broker> = Arc::new(remote);
    play_all(Arc::clone(&remote), 100..116).await;
    remote.close().await;
    running.stop().unwrap();
}
