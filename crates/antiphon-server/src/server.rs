//! A server's life: what it listens on, its start, its thread, its end.

use crate::handle::{Phase, ServerHandle};
use crate::inside::Hall;
use crate::listener::Listener;
use crate::turn::Turn;
use crate::{Address, ListenOptions, ServerOptions};
use antiphon_broker::OpenError;
use antiphon_embedded::Driver;
use antiphon_protocol::Failure;
use mio::{Poll, Token, Waker};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

/// The token of the waker; connections count from the other end.
pub(crate) const WAKER: Token = Token(usize::MAX);

/// A server that is not started yet.
#[derive(Debug)]
pub struct Server {
    options: ServerOptions,
    addresses: Vec<(Address, ListenOptions)>,
    handle: ServerHandle,
}

/// A server that runs.
#[derive(Debug)]
pub struct Running {
    addresses: Vec<Address>,
    handle: ServerHandle,
    thread: JoinHandle<Result<(), ServeError>>,
}

/// A server on the calling runtime, from [`Server::serve_here`].
#[derive(Debug)]
pub struct Hosted<F> {
    /// Where it listens, in the order of [`Server::listen`], with ports that were asked for as 0 filled in.
    pub addresses: Vec<Address>,
    /// Where callers and workers of this process connect, without a socket in between.
    pub inside: Address,
    /// Serves; to be spawned.
    pub serve: F,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}; is another broker running there?")]
    Listen {
        /// The address.
        address: Address,
        /// Why.
        error: io::Error,
    },
    /// Other machines could connect, without encryption or authentication.
    #[error(
        "{address} can be reached by other machines and there is no authentication: listen on 127.0.0.1, or allow it with --insecure"
    )]
    Insecure {
        /// The address.
        address: Address,
    },
    /// The operating system gives no poller or thread.
    #[error("cannot start the broker's thread: {0}")]
    Thread(io::Error),
}

/// Why a server ended by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The journal cannot be written: nothing is acknowledged any more, so the process should end.
    #[error("the journal cannot be written, so the broker stops: {0}")]
    Journal(Failure),
    /// The operating system's poller failed.
    #[error("cannot wait for connections: {0}")]
    Poll(io::Error),
    /// A bug: the broker's thread panicked.
    #[error("the broker's thread panicked")]
    Panicked,
}

impl Server {
    /// A server with these options that listens nowhere yet.
    #[must_use]
    pub fn new(options: ServerOptions) -> Self {
        Self { options, addresses: Vec::new(), handle: ServerHandle::default() }
    }

    /// Listens on this address too, on loopback only.
    #[must_use]
    pub fn listen(self, address: Address) -> Self {
        self.listen_with(address, ListenOptions::default())
    }

    /// Listens on this address too.
    #[must_use]
    pub fn listen_with(mut self, address: Address, options: ListenOptions) -> Self {
        self.addresses.push((address, options));
        self
    }

    /// The server from outside its thread; its phase tells when it has started.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// Listens, opens the data and recovers, then serves on a thread of its own. Who connects meanwhile waits.
    ///
    /// # Errors
    /// [`StartError`] says what cannot be had.
    pub fn start(self) -> Result<Running, StartError> {
        let handle = self.handle.clone();
        let (addresses, mut turn) = self.prepare()?;
        let turning = handle.clone();
        let run = move || {
            let ended = turn.run();
            turning.advance(Phase::Stopped);
            ended
        };
        let thread = std::thread::Builder::new().name("antiphon-turn".to_owned()).spawn(run);
        let thread = thread.map_err(StartError::Thread)?;
        Ok(Running { addresses, handle, thread })
    }

    /// The same, to be served by the calling tokio runtime (with I/O and time enabled) instead of a thread: spawn
    /// [`Hosted::serve`], and have the worker beside it connect to [`Hosted::inside`], on a current-thread runtime: then
    /// nothing has to be woken between broker and worker. What blocks the runtime blocks the broker. Ends as
    /// [`ServerHandle::stop`] says; whoever is inside learns that it has lost its broker for good.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn serve_here(
        self,
    ) -> Result<Hosted<impl Future<Output = Result<(), ServeError>> + Send + 'static>, StartError> {
        let handle = self.handle.clone();
        let (addresses, turn) = self.prepare()?;
        let hall = Hall::new();
        let inside = hall.address();
        let serve = async move {
            let ended = turn.run_here(hall).await;
            handle.advance(Phase::Stopped);
            ended
        };
        Ok(Hosted { addresses, inside, serve })
    }

    /// Listens, opens the data and recovers.
    fn prepare(self) -> Result<(Vec<Address>, Turn), StartError> {
        let Self { options, addresses, handle } = self;
        let poll = Poll::new().map_err(StartError::Thread)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(StartError::Thread)?);
        handle.set_waker(Arc::clone(&waker));
        let bind = |(address, options): &(Address, ListenOptions)| Listener::bind(address, *options);
        let listeners = addresses.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
        let addresses = listeners.iter().map(Listener::local_address).collect::<Result<_, _>>();
        let addresses = addresses.map_err(StartError::Thread)?;
        let wake = Arc::new(move || {
            if let Err(error) = waker.wake() {
                tracing::error!(%error, "cannot wake the broker's thread");
            }
        });
        let driver = Driver::open(options.driver.clone(), wake)?;
        let turn = Turn::new(driver, poll, listeners, options, handle).map_err(StartError::Thread)?;
        Ok((addresses, turn))
    }
}

impl Running {
    /// Where it listens, in the order of [`Server::listen`], with ports that were asked for as 0 filled in.
    #[must_use]
    pub fn local_addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The first of those.
    #[must_use]
    pub fn local_address(&self) -> Option<&Address> {
        self.addresses.first()
    }

    /// The server from outside its thread.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// Tells everybody goodbye and stops; returns when it has.
    ///
    /// # Errors
    /// As [`Running::join`].
    pub fn stop(self) -> Result<(), ServeError> {
        self.handle.stop();
        self.join()
    }

    /// Waits until it stops, by [`ServerHandle::stop`] or by itself.
    ///
    /// # Errors
    /// [`ServeError`] when it stopped by itself.
    pub fn join(self) -> Result<(), ServeError> {
        self.thread.join().unwrap_or(Err(ServeError::Panicked))
    }
}
