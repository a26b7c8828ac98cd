//! The gateway's tests: real requests to a real server.
#![allow(clippy::unwrap_used)]

use antiphon_embedded::DriverOptions;
use antiphon_gateway::{Gateway, GatewayOptions};
use antiphon_server::{Address, Server, ServerOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn ask(gateway: &Gateway, request: &str) -> String {
    let mut stream = TcpStream::connect(gateway.local_address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

fn get(gateway: &Gateway, path: &str) -> String {
    ask(gateway, &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"))
}

fn server() -> Server {
    Server::new(ServerOptions::new(DriverOptions::default())).listen(Address::Tcp("127.0.0.1:0".to_owned()))
}

#[test]
fn a_broker_is_alive_before_it_is_ready_and_gone_after_it_stopped() {
    let server = server();
    let gateway = Gateway::start("127.0.0.1:0", server.handle(), GatewayOptions::default()).unwrap();
    assert!(get(&gateway, "/livez").starts_with("HTTP/1.1 200 "));
    assert!(get(&gateway, "/readyz").starts_with("HTTP/1.1 503 "));
    assert!(get(&gateway, "/metrics").starts_with("HTTP/1.1 503 "));
    let running = server.start().unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while !get(&gateway, "/readyz").starts_with("HTTP/1.1 200 ") {
        assert!(Instant::now() < until, "never ready");
    }
    let metrics = get(&gateway, "/metrics");
    assert!(metrics.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{metrics}");
    assert!(metrics.contains("\nantiphon_accepted_total 0\n"), "{metrics}");
    running.stop().unwrap();
    assert!(get(&gateway, "/readyz").ends_with("stopped\n"));
    assert!(get(&gateway, "/livez").starts_with("HTTP/1.1 503 "));
    gateway.stop();
}

#[test]
fn what_is_not_served_is_refused_in_http() {
    let gateway = Gateway::start("127.0.0.1:0", server().handle(), GatewayOptions::default()).unwrap();
    assert!(ask(&gateway, "POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
    assert!(get(&gateway, "/").starts_with("HTTP/1.1 404 "));
    assert!(ask(&gateway, "nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
    let long = format!("GET / HTTP/1.1\r\nx: {}", "a".repeat(8 << 10));
    assert!(ask(&gateway, &long).starts_with("HTTP/1.1 400 "));
    let head = ask(&gateway, "HEAD /version HTTP/1.1\r\n\r\n");
    assert!(head.ends_with("\r\n\r\n") && head.contains("content-type: application/json\r\n"), "{head}");
    assert!(get(&gateway, "/version").contains("\"name\":\"antiphon\""));
}

#[test]
fn dribbling_peers_are_cut_off_and_delay_no_probe() {
    let mut options = GatewayOptions::default();
    options.requests_max = 4;
    options.deadline = Duration::from_millis(300);
    let gateway = Gateway::start("127.0.0.1:0", server().handle(), options).unwrap();
    let mut slow: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(gateway.local_address()).unwrap()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /li").unwrap();
    }
    assert!(get(&gateway, "/livez").starts_with("HTTP/1.1 200 "));
    for mut stream in slow {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0, "closed without an answer");
    }
}
