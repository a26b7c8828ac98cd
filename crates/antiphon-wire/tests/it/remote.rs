//! The remote broker against a broker that follows a script: what is said again after a cut, and what a hostile broker
//! may not do.

use antiphon_broker::{Broker, Caller, Event, Inbox, Lease, OpenError, Report, Sink, Submission, Wants, Worker};
use antiphon_protocol::{
    Call, CallId, CallerId, Code, Durability, Epoch, IncarnationId, LeaseTag, Name, Offer, OfferedProcedure, Outcome,
    Payload, Route, Settlement, State,
};
use antiphon_wire::{Address, Arrival, Frame, Hello, Inbound, Outbound, Refusal, Remote, RemoteOptions, Role, Welcome};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

struct Script {
    listener: TcpListener,
    epoch: u32,
}

/// One connection, from the broker's side.
struct Talk {
    stream: TcpStream,
    inbound: Inbound,
    outbound: Outbound,
    input: Vec<u8>,
    hello: Hello,
}

impl Script {
    async fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), epoch: 1 }
    }

    fn address(&self) -> Address {
        Address::Tcp(self.listener.local_addr().unwrap().to_string())
    }

    fn welcome(&self) -> Welcome {
        Welcome {
            version: 1,
            accepted: 1,
            features: 1,
            broker: [0; 16],
            epoch: self.epoch,
            wall_ms: 0,
            payload_bytes_max: 1 << 20,
            heartbeat_ms: 15_000,
            lease_ms: 10_000,
            agent: String::new(),
        }
    }

    /// Accepts the next connection and greets it; a worker's offer is taken and answered with what it holds.
    async fn accept(&self) -> Talk {
        let (stream, _) = timeout(PATIENCE, self.listener.accept()).await.expect("a connection comes").unwrap();
        let hello = Hello {
            version_min: 0,
            version_max: 0,
            role: Role::Inspector,
            auth: 0,
            peer: [0; 16],
            session: 0,
            inbox: None,
            credentials: Vec::new(),
            agent: String::new(),
        };
        let mut talk = Talk { stream, inbound: Inbound::new(), outbound: Outbound::new(), input: Vec::new(), hello };
        talk.hello = talk.frame(|frame| if let Frame::Hello(hello) = frame { Some(hello) } else { None }).await;
        talk.outbound.welcome(&self.welcome());
        talk.send().await;
        talk.inbound.greeted(16 << 20);
        if talk.hello.role == Role::Worker {
            let offer = talk.frame(|frame| if let Frame::Offer(offer) = frame { Some(offer) } else { None }).await;
            let kept = offer.held.iter().map(|held| held.lease).collect();
            talk.outbound.event(&Event::Up { epoch: Epoch(self.epoch), kept });
            talk.send().await;
        }
        talk
    }

    /// A remote over this script, past the connection by which it learns what the broker can do.
    async fn remote(&self, options: RemoteOptions) -> Remote {
        let (remote, _) = tokio::join!(Remote::connect(self.address(), options), self.accept());
        remote.unwrap()
    }

    async fn caller(&self, remote: &Remote) -> (Box<dyn Caller>, Heard, Talk) {
        let (sink, heard) = ear();
        let (caller, talk) = tokio::join!(remote.open_caller(Inbox::Anonymous(CallerId([5; 16])), sink), self.accept());
        (caller.unwrap(), heard, talk)
    }

    async fn worker(&self, remote: &Remote) -> (Box<dyn Worker>, Heard, Talk) {
        let (sink, heard) = ear();
        let procedure = OfferedProcedure { name: Name::from_static("a.b"), idempotent: true, schema: None };
        let offer = Offer {
            incarnation: IncarnationId([6; 16]),
            name: Name::from_static("w"),
            procedures: vec![procedure],
            slots: 4,
            labels: Vec::new(),
            held: Vec::new(),
        };
        let (worker, talk) = tokio::join!(remote.open_worker(offer, sink), self.accept());
        (worker.unwrap(), heard, talk)
    }
}

impl Talk {
    async fn send(&mut self) {
        while !self.outbound.is_empty() {
            let count = self.stream.write(self.outbound.unsent()).await.unwrap();
            self.outbound.advance(count);
        }
    }

    /// The next frame that `pick` takes; others are passed over.
    async fn frame<T>(&mut self, mut pick: impl FnMut(Frame<'_>) -> Option<T>) -> T {
        loop {
            let mut input = self.input.as_slice();
            let mut picked = None;
            while picked.is_none() {
                match self.inbound.next(&mut input).expect("the client sends frames") {
                    Some(Arrival::Frame(frame)) => picked = pick(frame),
                    Some(oversized) => panic!("{oversized:?}"),
                    None => break,
                }
            }
            let used = self.input.len() - input.len();
            self.input.drain(..used);
            if let Some(picked) = picked {
                return picked;
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await.expect("something comes");
            assert!(read.unwrap() > 0, "the client closed");
        }
    }

    /// The next submission: its tag, whether it was sent before, and what it carries.
    async fn submission(&mut self) -> (u64, bool, Vec<u8>) {
        self.frame(|frame| match frame {
            Frame::Submit(submitted) => Some((submitted.tag, submitted.resent, submitted.payload.bytes.to_vec())),
            _ => None,
        })
        .await
    }
}

struct Heard(UnboundedReceiver<Event>);

struct Ear(UnboundedSender<Event>);

impl Sink for Ear {
    fn events(&self, events: &mut Vec<Event>) {
        events.drain(..).for_each(|event| drop(self.0.send(event)));
    }
}

fn ear() -> (Arc<dyn Sink>, Heard) {
    let (sender, receiver) = unbounded_channel();
    (Arc::new(Ear(sender)), Heard(receiver))
}

impl Heard {
    async fn find<T>(&mut self, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        loop {
            let event = timeout(PATIENCE, self.0.recv()).await.expect("an event comes").expect("the sink lives");
            if let Some(found) = pick(event) {
                return found;
            }
        }
    }

    async fn down(&mut self) -> (bool, String) {
        self.find(|event| if let Event::Down { last, reason } = event { Some((last, reason)) } else { None }).await
    }

    async fn up(&mut self) -> Vec<LeaseTag> {
        self.find(|event| if let Event::Up { kept, .. } = event { Some(kept) } else { None }).await
    }
}

fn options() -> RemoteOptions {
    let mut options = RemoteOptions::default();
    options.backoff_first = Duration::from_millis(2);
    options.backoff_max = Duration::from_millis(10);
    options
}

fn submission(tag: u64, durability: Option<Durability>, payload: Vec<u8>) -> Submission {
    let mut route = Route::new(Name::from_static("a.b"));
    route.durability = durability;
    let id = CallId::from_bytes([u8::try_from(tag).unwrap(); 16]);
    Submission {
        call: Call::new(id, Arc::new(route), Payload::raw(payload)),
        tag,
        wants: Wants::AcceptanceAndOutcome,
        resent: false,
    }
}

fn id(tag: u8) -> CallId {
    CallId::from_bytes([tag; 16])
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_said_at_once_and_by_address() {
    let script = Script::new().await;
    let address = script.address();
    drop(script);
    let Err(OpenError::Unreachable(text)) = Remote::connect(address.clone(), options()).await else {
        panic!("reached")
    };
    assert!(text.contains(&address.to_string()) && text.contains("antiphon serve"), "{text}");
}

#[tokio::test]
async fn what_answers_but_is_no_broker_is_refused_in_words() {
    let answers: [(&[u8], &str); 3] = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP"),
        (&[0x15, 3, 3, 0, 2, 2, 0x28], "does not answer like an antiphon broker"),
        (&[0xff; 64], "does not answer like an antiphon broker"),
    ];
    for (answer, expected) in answers {
        let script = Script::new().await;
        let serve = async {
            let (mut stream, _) = script.listener.accept().await.unwrap();
            stream.write_all(answer).await.unwrap();
            stream
        };
        let (opened, _stream) = tokio::join!(Remote::connect(script.address(), options()), serve);
        let Err(OpenError::Refused(failure)) = opened else { panic!("taken for a broker") };
        assert!(failure.message.contains(expected), "{failure}");
    }
}

#[tokio::test]
async fn a_refusal_of_the_version_is_handed_on() {
    let script = Script::new().await;
    let serve = async {
        let (mut stream, _) = script.listener.accept().await.unwrap();
        let mut outbound = Outbound::new();
        outbound.refusal(&Refusal::new(Code::Unimplemented, "speaks 2 to 3"));
        stream.write_all(outbound.unsent()).await.unwrap();
        stream
    };
    let (opened, _stream) = tokio::join!(Remote::connect(script.address(), options()), serve);
    let Err(OpenError::Refused(failure)) = opened else { panic!("not refused") };
    assert_eq!((failure.code, failure.message.as_str()), (Code::Unimplemented, "speaks 2 to 3"));
}

#[tokio::test]
async fn what_is_unanswered_is_sent_again_and_what_is_accepted_is_attached() {
    let script = Script::new().await;
    let remote = script.remote(options()).await;
    let (caller, mut heard, mut talk) = script.caller(&remote).await;
    let session = talk.hello.session;
    caller.submit(&mut (1..=4).map(|tag| submission(tag, None, vec![tag as u8; 10])).collect());
    let mut tags = Vec::new();
    for _ in 0..4 {
        let (tag, resent, _) = talk.submission().await;
        assert!(!resent);
        tags.push(tag);
    }
    // The first is accepted, the second answered whole, and the connection breaks within a frame.
    talk.outbound.event(&Event::Accepted { tag: tags[0], id: id(1), duplicate: false, wait_ms: None });
    let outcome = Outcome::Reply(Payload::raw("done"));
    let outcome = |tag, id| Event::Outcome { tag, id, state: State::Succeeded, attempts: 1, outcome: outcome.clone() };
    talk.outbound.event(&outcome(tags[1], id(2)));
    talk.send().await;
    talk.outbound.event(&outcome(tags[2], id(3)));
    let bytes = talk.outbound.unsent().to_vec();
    talk.stream.write_all(&bytes[..bytes.len() - 1]).await.unwrap();
    heard.find(|event| matches!(event, Event::Outcome { tag: 2, .. }).then_some(())).await;
    drop(talk);
    assert!(!heard.down().await.0);

    let mut talk = script.accept().await;
    assert_eq!(talk.hello.peer, [5; 16]);
    assert_eq!(talk.hello.session, session + 1);
    let attached = talk.frame(|frame| match frame {
        Frame::Attach(calls) => Some(calls.collect::<Vec<_>>()),
        Frame::Submit(_) => panic!("what was ready first is said first"),
        _ => None,
    });
    assert_eq!(attached.await, [(tags[0], id(1))]);
    assert_eq!(talk.submission().await, (tags[2], true, vec![3; 10]));
    assert_eq!(talk.submission().await, (tags[3], true, vec![4; 10]));
    // An outcome that comes again, because its acknowledgement was lost, is acknowledged and not told again.
    talk.outbound.event(&outcome(tags[1], id(2)));
    talk.outbound.event(&outcome(tags[0], id(1)));
    talk.send().await;
    let told = heard.find(|event| if let Event::Outcome { tag, .. } = event { Some(tag) } else { None });
    assert_eq!(told.await, 1);
    let acknowledged =
        talk.frame(|frame| if let Frame::Acknowledge(calls) = frame { Some(calls.collect::<Vec<_>>()) } else { None });
    assert_eq!(acknowledged.await, [id(2)]);
}

#[tokio::test]
async fn a_hello_that_was_given_up_never_takes_over_from_the_next() {
    let script = Script::new().await;
    let remote = script.remote(options()).await;
    let (_caller, mut heard, talk) = script.caller(&remote).await;
    let session = talk.hello.session;
    drop(talk);
    heard.down().await;
    // It connects and gets no answer; its hello may still be on its way when the next connection's arrives.
    drop(script.listener.accept().await.unwrap());
    let talk = script.accept().await;
    assert_eq!(talk.hello.session, session + 2, "each connection has a session of its own");
}

#[tokio::test]
async fn a_deadline_goes_on_while_the_line_is_down() {
    let script = Script::new().await;
    let remote = script.remote(options()).await;
    let (caller, mut heard, mut talk) = script.caller(&remote).await;
    let mut late = submission(1, None, vec![1]);
    late.call.deadline_ms = 60_000;
    caller.submit(&mut vec![late]);
    talk.submission().await;
    drop(talk);
    heard.down().await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(20)).await;
    tokio::time::resume();
    let mut talk = script.accept().await;
    let left = talk.frame(|frame| if let Frame::Submit(call) = frame { Some(call.deadline_ms) } else { None }).await;
    assert!((1..=40_000).contains(&left), "{left} ms are left of a minute after 20 s");
}

#[tokio::test]
async fn volatile_calls_of_an_earlier_start_of_the_broker_fail_as_may_have_run() {
    let mut script = Script::new().await;
    let remote = script.remote(options()).await;
    let (caller, mut heard, mut talk) = script.caller(&remote).await;
    caller.submit(&mut vec![
        submission(1, Some(Durability::Volatile), Vec::new()),
        submission(2, Some(Durability::Durable), Vec::new()),
    ]);
    talk.submission().await;
    talk.submission().await;
    drop(talk);
    heard.down().await;
    script.epoch = 2;
    let mut talk = script.accept().await;
    assert!(talk.submission().await.1);
    let (tag, failure) =
        heard.find(|event| if let Event::Refused { tag, failure } = event { Some((tag, failure)) } else { None }).await;
    assert_eq!((tag, failure.code, failure.may_have_run), (1, Code::Unavailable, true));
}

fn lease(slot: u32, procedure: u32) -> Lease {
    Lease {
        lease: LeaseTag { slot, token: 1 << 40 },
        call: id(1),
        procedure,
        attempt: 1,
        attempts_max: 3,
        lease_ms: 10_000,
        attempt_timeout_ms: 0,
        deadline_ms: 0,
        payload: Payload::raw("x"),
        trace: None,
    }
}

#[tokio::test]
async fn a_worker_brings_its_leases_and_says_unanswered_reports_again() {
    let script = Script::new().await;
    let remote = script.remote(options()).await;
    let (worker, mut heard, mut talk) = script.worker(&remote).await;
    for slot in 0..3 {
        talk.outbound.event(&Event::Lease(lease(slot, 0)));
    }
    talk.send().await;
    let report = |slot| Report { lease: lease(slot, 0).lease, call: id(1), settlement: Settlement::Release };
    for _ in 0..3 {
        heard.find(|event| matches!(event, Event::Lease(_)).then_some(())).await;
    }
    worker.report(&mut vec![report(0), report(1)]);
    let reported = |frame: Frame<'_>| if let Frame::Report(report) = frame { Some(report.lease.slot) } else { None };
    assert_eq!([talk.frame(reported).await, talk.frame(reported).await], [0, 1]);
    talk.outbound.event(&Event::Settled { lease: lease(0, 0).lease });
    talk.send().await;
    heard.find(|event| matches!(event, Event::Settled { .. }).then_some(())).await;
    drop(talk);
    heard.down().await;
    worker.credit(2);
    let mut talk = script.accept().await;
    let kept: Vec<u32> = heard.up().await.iter().map(|lease| lease.slot).collect();
    assert_eq!(kept, [1, 2], "what is settled is not held any more");
    assert_eq!(talk.frame(reported).await, 1);
}

#[tokio::test]
async fn a_hostile_broker_gets_errors_and_the_line_comes_back() {
    let script = Script::new().await;
    let remote = script.remote(options()).await;
    let (caller, mut heard, mut talk) = script.caller(&remote).await;
    let foreign = crate::golden::bytes(|out| out.event(&Event::Lease(lease(0, 0))));
    let scripts: [&[u8]; 4] = [&u32::MAX.to_le_bytes(), &[2, 0, 0, 0, 0x7f, 0], &[3, 0, 0, 0, 0x20, 0, 1], &foreign];
    for bytes in scripts {
        talk.stream.write_all(bytes).await.unwrap();
        let (last, reason) = heard.down().await;
        assert!(!last && reason.contains("not a frame"), "{reason}");
        talk = script.accept().await;
    }
    // Tags that were never given are passed over.
    caller.submit(&mut vec![submission(1, None, Vec::new())]);
    let (tag, ..) = talk.submission().await;
    for wrong in [0, tag + 1, tag ^ 1 << 40, u64::MAX] {
        talk.outbound.event(&Event::Accepted { tag: wrong, id: id(9), duplicate: false, wait_ms: None });
        talk.outbound
            .event(&Event::Refused { tag: wrong, failure: antiphon_protocol::Failure::new(Code::Internal, "") });
    }
    talk.outbound.event(&Event::Accepted { tag, id: id(1), duplicate: false, wait_ms: None });
    talk.send().await;
    let first = heard.find(|event| if let Event::Up { .. } = event { None } else { Some(event) }).await;
    assert!(matches!(first, Event::Accepted { tag: 1, id: it, .. } if it == id(1)), "{first:?}");
}

#[tokio::test]
async fn a_broker_that_leases_what_was_not_offered_is_left() {
    let script = Script::new().await;
    let remote = script.remote(options()).await;
    let (_worker, mut heard, mut talk) = script.worker(&remote).await;
    talk.outbound.event(&Event::Lease(lease(0, 1)));
    talk.send().await;
    let (last, reason) = heard.down().await;
    assert!(!last && reason.contains("procedure"), "{reason}");
}

#[tokio::test]
async fn a_silent_broker_is_pinged_then_left() {
    let script = Script::new().await;
    let mut options = options();
    options.heartbeat = Some(Duration::from_millis(150));
    let remote = script.remote(options).await;
    let (_caller, mut heard, mut talk) = script.caller(&remote).await;
    talk.frame(|frame| matches!(frame, Frame::Ping(_)).then_some(())).await;
    talk.outbound.pong(0);
    talk.send().await;
    talk.frame(|frame| matches!(frame, Frame::Ping(_)).then_some(())).await;
    let (last, reason) = heard.down().await;
    assert!(!last && reason.contains("silent"), "{reason}");
}

#[tokio::test]
async fn submissions_wait_when_too_much_is_unanswered() {
    let script = Script::new().await;
    let mut options = options();
    options.kept_bytes_max = 100_000;
    let remote = script.remote(options).await;
    let (caller, mut heard, mut talk) = script.caller(&remote).await;
    let mut calls: Vec<Submission> = (1..=10).map(|tag| submission(tag, None, vec![0; 40_000])).collect();
    caller.submit(&mut calls);
    assert_eq!(calls.len(), 7, "as many as fit, and the one that no longer fits whole");
    let mut tags = Vec::new();
    for _ in 0..3 {
        tags.push(talk.submission().await.0);
    }
    for tag in tags {
        talk.outbound.event(&Event::Accepted { tag, id: id(1), duplicate: false, wait_ms: None });
    }
    talk.send().await;
    heard.find(|event| matches!(event, Event::Writable).then_some(())).await;
    caller.submit(&mut calls);
    assert_eq!(calls.len(), 4);
    // And one that the broker would not take is refused without being sent.
    let mut large = vec![submission(99, None, vec![0; (1 << 20) + 1])];
    for _ in 0..2 {
        let (tag, ..) = talk.submission().await;
        talk.outbound.event(&Event::Accepted { tag, id: id(1), duplicate: false, wait_ms: None });
    }
    talk.send().await;
    heard.find(|event| matches!(event, Event::Writable).then_some(())).await;
    caller.submit(&mut large);
    let refused =
        heard.find(|event| if let Event::Refused { tag, failure } = event { Some((tag, failure)) } else { None });
    let (tag, failure) = refused.await;
    assert_eq!((tag, failure.code, failure.may_have_run), (99, Code::ResourceExhausted, false));
}

#[tokio::test]
async fn a_dropped_caller_says_goodbye_after_what_it_handed_over() {
    let script = Script::new().await;
    let remote = script.remote(options()).await;
    let (caller, mut heard, mut talk) = script.caller(&remote).await;
    caller.submit(&mut vec![submission(1, None, vec![0; 900_000])]);
    drop(caller);
    talk.submission().await;
    talk.frame(|frame| matches!(frame, Frame::Goodbye { .. }).then_some(())).await;
    assert!(heard.down().await.0);
    timeout(PATIENCE, remote.close()).await.expect("closing ends");
}

#[tokio::test]
async fn a_fenced_caller_does_not_come_back() {
    let script = Script::new().await;
    let remote = script.remote(options()).await;
    let (caller, mut heard, mut talk) = script.caller(&remote).await;
    talk.outbound.goodbye(Code::Aborted, true, "fenced");
    talk.send().await;
    assert!(heard.down().await.0);
    let mut calls = vec![submission(1, None, Vec::new())];
    caller.submit(&mut calls);
    assert_eq!(calls.len(), 1, "nothing is taken any more");
}

#[tokio::test]
async fn questions_are_asked_again_on_a_new_connection() {
    let script = Script::new().await;
    let (remote, talk) = tokio::join!(Remote::connect(script.address(), options()), script.accept());
    let remote = remote.unwrap();
    drop(talk);
    let asked = remote.inspect().unwrap().ask(antiphon_protocol::Query::Workers);
    let serve = async {
        let mut talk = script.accept().await;
        let ticket =
            talk.frame(|frame| if let Frame::Query { ticket, .. } = frame { Some(ticket) } else { None }).await;
        talk.outbound.answer(ticket, &antiphon_protocol::Answer::Workers(Vec::new()));
        talk.send().await;
        talk
    };
    let (answer, _talk) = tokio::join!(timeout(PATIENCE, asked), serve);
    assert_eq!(answer.expect("an answer comes").unwrap(), antiphon_protocol::Answer::Workers(Vec::new()));
}
