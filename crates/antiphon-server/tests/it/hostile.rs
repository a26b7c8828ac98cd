//! Peers that misbehave: each is refused or closed, and nobody else notices.

use crate::world::{any_port, caller, connect, echo, options, random, reply, start, submission, worker};
use antiphon_broker::{Event, Wants};
use antiphon_protocol::{Code, IncarnationId, Name, Offer, OfferedProcedure, Route};
use antiphon_server::{Address, Running, Server, ServerOptions};
use antiphon_wire::{Arrival, Frame, Hello, Inbound, Outbound, Role};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

fn hello(role: Role) -> Hello {
    Hello {
        version_min: 1,
        version_max: 1,
        role,
        auth: 0,
        peer: random(),
        session: 1,
        inbox: None,
        credentials: Vec::new(),
        agent: "test".to_owned(),
    }
}

/// A peer that says what it likes.
struct Raw {
    stream: TcpStream,
    outbound: Outbound,
    inbound: Inbound,
    input: Vec<u8>,
}

impl Raw {
    async fn open(server: &Running) -> Self {
        let Some(Address::Tcp(address)) = server.local_address() else { panic!("no port") };
        let stream = TcpStream::connect(address.as_str()).await.unwrap();
        Self { stream, outbound: Outbound::new(), inbound: Inbound::new(), input: Vec::new() }
    }

    async fn greet(server: &Running, hello: &Hello) -> Self {
        let mut raw = Self::open(server).await;
        raw.outbound.hello(hello);
        raw.send().await;
        assert!(raw.heard().await.contains("Welcome"));
        raw.inbound.greeted(64 << 20);
        raw
    }

    async fn send(&mut self) {
        while !self.outbound.is_empty() {
            let bytes = self.outbound.unsent().to_vec();
            // A broker that has had enough closes while this is still sending.
            if self.stream.write_all(&bytes).await.is_err() {
                return;
            }
            self.outbound.advance(bytes.len());
        }
    }

    /// The next frame as text; nothing when the broker closed.
    async fn heard(&mut self) -> String {
        loop {
            let mut input = self.input.as_slice();
            let text = match self.inbound.next(&mut input).expect("the broker sends frames") {
                Some(Arrival::Frame(Frame::Accepted(entries))) => Some(format!("{:?}", entries.collect::<Vec<_>>())),
                Some(arrival) => Some(format!("{arrival:?}")),
                None => None,
            };
            let used = self.input.len() - input.len();
            self.input.drain(..used);
            if let Some(text) = text {
                return text;
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await.expect("something comes");
            if !matches!(read, Ok(count) if count > 0) {
                return String::new();
            }
        }
    }

    /// All that comes until the broker closes, as it is.
    async fn rest(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let read = timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.expect("the broker closes");
        drop(read);
        rest
    }
}

async fn assert_healthy(server: &Running) {
    let remote = connect(server.local_address().unwrap()).await;
    let (worker, mut leases) = worker(&remote, 1).await;
    let (caller, mut events) = caller(&remote).await;
    caller.submit(&mut vec![submission(1, Wants::Outcome, "fine")]);
    let lease = leases.lease().await;
    worker.report(&mut vec![echo(&lease)]);
    assert_eq!(reply(events.outcome().await.2), b"fine");
}

#[tokio::test]
async fn an_oversized_payload_is_refused_and_its_connection_goes_on() {
    let mut options = options(None);
    options.driver.payload_bytes_max = 100_000;
    let server = start(options);
    let mut raw = Raw::greet(&server, &hello(Role::Caller)).await;
    raw.outbound.route(0, &Route::new(Name::from_static("a.b")));
    raw.outbound.submit(1, 0, &submission(1, Wants::Acceptance, vec![0; 5_000_000]));
    raw.outbound.submit(2, 0, &submission(2, Wants::Acceptance, vec![0; 100_000]));
    raw.send().await;
    let refused = raw.heard().await;
    assert!(refused.contains("tag: 1") && refused.contains("5000000 bytes") && refused.contains("100000"), "{refused}");
    assert!(raw.heard().await.contains("tag: 2"));
    assert_eq!(server.handle().counters().oversized, 1);
    server.stop().unwrap();
}

#[tokio::test]
async fn a_peer_of_another_version_is_told_both_ranges() {
    let server = start(options(None));
    let mut raw = Raw::open(&server).await;
    raw.outbound.hello(&Hello { version_min: 7, version_max: 9, ..hello(Role::Caller) });
    raw.send().await;
    let refusal = raw.heard().await;
    assert!(refusal.contains("Unimplemented") && refusal.contains("7 to 9") && refusal.contains("1 to 1"), "{refusal}");
    assert_eq!(raw.heard().await, "");
    server.stop().unwrap();
}

#[tokio::test]
async fn http_and_tls_are_answered_in_their_own_language() {
    let server = start(options(None));
    let mut raw = Raw::open(&server).await;
    raw.stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let answer = String::from_utf8(raw.rest().await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("Antiphon protocol"), "{answer}");
    let mut raw = Raw::open(&server).await;
    raw.stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await.unwrap();
    assert_eq!(raw.rest().await, [0x15, 3, 3, 0, 2, 2, 0x28]);
    server.stop().unwrap();
}

#[tokio::test]
async fn nothing_is_taken_before_the_hello() {
    let server = start(options(None));
    let mut raw = Raw::open(&server).await;
    raw.outbound.route(0, &Route::new(Name::from_static("a.b")));
    raw.send().await;
    assert!(raw.heard().await.contains("Refusal"));
    assert_eq!(raw.heard().await, "");
    // And no method of authentication is mistaken for none.
    let mut raw = Raw::open(&server).await;
    raw.outbound.hello(&Hello { auth: 1, ..hello(Role::Caller) });
    raw.send().await;
    assert!(raw.heard().await.contains("Unauthenticated"));
    server.stop().unwrap();
}

#[tokio::test]
async fn malformed_bytes_end_only_their_own_connection() {
    let server = start(options(None));
    for round in 0_u32..60 {
        let mut raw = if round % 2 == 0 {
            Raw::open(&server).await
        } else {
            Raw::greet(&server, &hello([Role::Caller, Role::Worker, Role::Inspector][round as usize % 3])).await
        };
        let mut bytes: [u8; 64] = random();
        // Half of them with a believable length.
        if round % 4 < 2 {
            bytes[..4].copy_from_slice(&60_u32.to_le_bytes());
        }
        raw.stream.write_all(&bytes).await.unwrap();
        drop(raw.stream.shutdown().await);
        raw.rest().await;
    }
    assert_healthy(&server).await;
    server.stop().unwrap();
}

#[tokio::test]
async fn frames_of_another_role_and_unknown_routes_end_the_connection() {
    let server = start(options(None));
    let mut raw = Raw::greet(&server, &hello(Role::Caller)).await;
    raw.outbound.credit(1);
    raw.send().await;
    assert!(raw.heard().await.contains("Goodbye"));
    let mut raw = Raw::greet(&server, &hello(Role::Caller)).await;
    raw.outbound.submit(1, 3, &submission(1, Wants::Outcome, "x"));
    raw.send().await;
    let goodbye = raw.heard().await;
    assert!(goodbye.contains("Goodbye") && goodbye.contains("route index"), "{goodbye}");
    assert_eq!(raw.heard().await, "");
    assert_eq!(server.handle().counters().malformed, 2);
    server.stop().unwrap();
}

#[tokio::test]
async fn a_late_handshake_is_closed_however_it_dribbles() {
    let mut options = options(None);
    options.handshake_timeout = Duration::from_millis(200);
    let server = start(options);
    let mut raw = Raw::open(&server).await;
    let mut closed = false;
    for byte in [50_u8, 0, 0, 0, 1, 0, b'A', b'N', b'T', b'P'].into_iter().chain([0; 100]) {
        closed = closed || raw.stream.write_all(&[byte]).await.is_err();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(closed || raw.rest().await.is_empty());
    assert_eq!(server.handle().counters().refused, 1);
    // A worker that never offers is late too.
    let applicant = Raw::greet(&server, &hello(Role::Worker)).await;
    applicant.rest().await;
    server.stop().unwrap();
}

#[tokio::test]
async fn a_silent_peer_is_pinged_then_closed_and_one_that_answers_stays() {
    let mut options = options(None);
    options.heartbeat = Duration::from_millis(150);
    let server = start(options);
    let remote = connect(server.local_address().unwrap()).await;
    let (_caller, mut events) = caller(&remote).await;
    let mut raw = Raw::greet(&server, &hello(Role::Caller)).await;
    assert!(raw.heard().await.contains("Ping"));
    assert_eq!(raw.heard().await, "");
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(server.handle().counters().silent, 1);
    assert!(matches!(events.next().await, Event::Up { .. }));
    server.stop().unwrap();
    assert!(matches!(events.next().await, Event::Down { .. }), "it was up all the time");
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_held_back_then_closed() {
    let mut options: ServerOptions = options(None);
    options.unsent_bytes_max = 256 << 10;
    options.write_timeout = Duration::from_millis(300);
    let server = start(options);
    let remote = connect(server.local_address().unwrap()).await;
    let (worker, mut leases) = worker(&remote, 16).await;
    let echoing = tokio::spawn(async move {
        loop {
            let lease = leases.lease().await;
            worker.report(&mut vec![echo(&lease)]);
        }
    });
    let mut raw = Raw::greet(&server, &hello(Role::Caller)).await;
    raw.outbound.route(0, &Route::new(Name::from_static("test.echo")));
    let closed = async {
        for tag in 1..10_000 {
            raw.outbound.submit(tag, 0, &submission(tag, Wants::Outcome, vec![1; 60_000]));
            let bytes = raw.outbound.unsent().to_vec();
            if raw.stream.write_all(&bytes).await.is_err() {
                return;
            }
            raw.outbound.advance(bytes.len());
        }
    };
    timeout(PATIENCE, closed).await.expect("the broker closes a peer that never reads");
    assert_eq!(server.handle().counters().unread, 1);
    echoing.abort();
    assert_healthy(&server).await;
    server.stop().unwrap();
}

#[tokio::test]
async fn a_newer_session_fences_the_older() {
    let server = start(options(None));
    let first = hello(Role::Caller);
    let mut old = Raw::greet(&server, &first).await;
    let mut new = Raw::greet(&server, &Hello { session: 2, ..first.clone() }).await;
    let goodbye = old.heard().await;
    assert!(goodbye.contains("Goodbye") && goodbye.contains("last: true"), "{goodbye}");
    let mut late = Raw::open(&server).await;
    late.outbound.hello(&first);
    late.send().await;
    let refusal = late.heard().await;
    assert!(refusal.contains("Aborted") && refusal.contains("fenced by session 2"), "{refusal}");
    new.outbound.ping(9);
    new.send().await;
    assert!(new.heard().await.contains("Pong(9)"));
    server.stop().unwrap();
}

#[tokio::test]
async fn an_offer_that_comes_late_does_not_fence_the_newer_session_of_its_worker() {
    let server = start(options(None));
    let offer = Offer {
        incarnation: IncarnationId(random()),
        name: Name::from_static("reconnecting"),
        procedures: vec![OfferedProcedure { name: Name::from_static("test.echo"), idempotent: true, schema: None }],
        slots: 1,
        labels: Vec::new(),
        held: Vec::new(),
    };
    let first = hello(Role::Worker);
    let mut old = Raw::greet(&server, &first).await;
    let mut new = Raw::greet(&server, &Hello { session: 2, ..first }).await;
    new.outbound.offer(&offer);
    new.send().await;
    assert!(new.heard().await.contains("Up"));
    old.outbound.offer(&offer);
    old.send().await;
    let goodbye = old.heard().await;
    assert!(goodbye.contains("Aborted") && goodbye.contains("fenced by session 2"), "{goodbye}");
    new.outbound.ping(9);
    new.send().await;
    assert!(new.heard().await.contains("Pong(9)"));
    server.stop().unwrap();
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused() {
    let mut options = options(None);
    options.connections_max = 2;
    let server = start(options);
    let first = Raw::greet(&server, &hello(Role::Inspector)).await;
    let _second = Raw::greet(&server, &hello(Role::Inspector)).await;
    let mut third = Raw::open(&server).await;
    assert!(third.heard().await.contains(&format!("{:?}", Code::ResourceExhausted)));
    drop(first);
    let until = tokio::time::Instant::now() + PATIENCE;
    while server.handle().counters().connections == 2 {
        assert!(tokio::time::Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Raw::greet(&server, &hello(Role::Inspector)).await;
    server.stop().unwrap();
}

#[test]
fn what_cannot_be_listened_on_is_named() {
    let server = start(options(None));
    let taken = server.local_address().unwrap().clone();
    let error = Server::new(options(None)).listen(taken.clone()).start().unwrap_err().to_string();
    assert!(error.contains(&taken.to_string()), "{error}");
    let open = Address::Tcp("0.0.0.0:0".to_owned());
    let error = Server::new(options(None)).listen(any_port()).listen(open).start().unwrap_err().to_string();
    assert!(error.contains("0.0.0.0") && error.contains("--insecure"), "{error}");
    server.stop().unwrap();
}
