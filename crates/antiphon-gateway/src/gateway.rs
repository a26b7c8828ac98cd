//! The gateway's threads: one accepts, and each connection has one of its own for one request. Both are bounded, so a
//! slow or hostile peer costs little and delays no probe.

use crate::page;
use crate::request::{self, Asked};
use antiphon_server::ServerHandle;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How patient a gateway is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct GatewayOptions {
    /// How many requests are served at a time; 16: probes, a scraper or two, and an operator.
    pub requests_max: usize,
    /// How long a request may take, from its first byte to its last; 5 s.
    pub deadline: Duration,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self { requests_max: 16, deadline: Duration::from_secs(5) }
    }
}

/// A gateway that serves. Dropping it stops it.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How long to accept nothing after accepting failed, for want of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Gateway {
    /// Serves the probes and metrics of a server at this address, such as `127.0.0.1:7401`. May be started before the
    /// server is: it is alive then, and not ready.
    ///
    /// # Errors
    /// When the address cannot be listened on; the error names it.
    pub fn start(address: &str, server: ServerHandle, options: GatewayOptions) -> io::Result<Self> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot serve probes and metrics on {address}: {error}"))
        };
        let resolved: Vec<SocketAddr> = address.to_socket_addrs().map_err(named)?.collect();
        let listener = TcpListener::bind(resolved.as_slice()).map_err(named)?;
        let address = listener.local_addr()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&stopping);
        let serve = move || accept(&listener, &server, options, &watched);
        let thread = std::thread::Builder::new().name("antiphon-gateway".to_owned()).spawn(serve)?;
        Ok(Self { address, stopping, thread: Some(thread) })
    }

    /// Where it listens, a port that was asked for as 0 filled in.
    #[must_use]
    pub const fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening; requests under way are finished.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // Accepting waits for a connection: give it one. If it cannot be had, the thread ends with the process.
        let woken = TcpStream::connect_timeout(&self.address, ACCEPT_PAUSE).is_ok();
        if let Some(thread) = self.thread.take()
            && woken
        {
            drop(thread.join());
        }
    }
}

fn accept(listener: &TcpListener, server: &ServerHandle, options: GatewayOptions, stopping: &AtomicBool) {
    let busy = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = listener.accept();
        if stopping.load(Ordering::Acquire) {
            return;
        }
        match accepted {
            Ok((stream, _)) => admit(stream, server, options, &busy),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => (),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of an operator");
                std::thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

/// Gives a connection a thread, or closes it when there are too many.
fn admit(stream: TcpStream, server: &ServerHandle, options: GatewayOptions, busy: &Arc<AtomicUsize>) {
    if busy.fetch_add(1, Ordering::AcqRel) >= options.requests_max {
        busy.fetch_sub(1, Ordering::AcqRel);
        return;
    }
    let (server, done) = (server.clone(), Arc::clone(busy));
    let serve = move || {
        if let Err(error) = serve(&stream, &server, options.deadline) {
            tracing::debug!(%error, "a request of an operator was not finished");
        }
        done.fetch_sub(1, Ordering::AcqRel);
    };
    if let Err(error) = std::thread::Builder::new().name("antiphon-request".to_owned()).spawn(serve) {
        tracing::warn!(%error, "cannot start a thread for a request");
        busy.fetch_sub(1, Ordering::AcqRel);
    }
}

fn serve(mut stream: &TcpStream, server: &ServerHandle, deadline: Duration) -> io::Result<()> {
    let until = Instant::now() + deadline;
    let head = request::read(stream, until)?;
    let page = page::find(&head, server);
    let body = if matches!(head, Asked::HeadOf(_)) { "" } else { page.body.as_str() };
    let response = format!(
        "HTTP/1.1 {}\r\ncontent-type: {}\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\nconnection: close\r\n{}\r\n{body}",
        page.status,
        page.content_type,
        page.body.len(),
        page.header,
    );
    let mut unsent = response.as_bytes();
    while !unsent.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        // Zero would mean no limit.
        stream.set_write_timeout(Some(left.max(Duration::from_millis(1))))?;
        let written = stream.write(unsent)?;
        unsent = unsent.get(written..).unwrap_or(&[]);
    }
    stream.shutdown(std::net::Shutdown::Write)
}
