//! Opening a connection: connect, handshake, and a worker's offer, within one deadline.

use super::socket::{Reader, Writer, connect};
use super::{Address, RemoteOptions};
use crate::handshake::{Hello, Role, Stranger, Welcome};
use crate::limits::{PAYLOAD_BYTES_CEILING, VERSION_MAX, VERSION_MIN};
use crate::{Arrival, Frame, FrameError, Inbound, Outbound};
use antiphon_broker::{Event, OpenError};
use antiphon_protocol::{Code, Epoch, Failure, LeaseTag, Offer};
use core::future::poll_fn;
use std::io;

/// Where connections go, and how.
pub(super) struct Destination {
    pub(super) address: Address,
    pub(super) options: RemoteOptions,
}

/// A connection whose handshake is done.
pub(super) struct Dialled {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    pub(super) inbound: Inbound,
    pub(super) welcome: Welcome,
    /// What came behind the frames of the opening.
    pub(super) rest: Vec<u8>,
    /// Of a worker's held leases, those it keeps.
    pub(super) kept: Vec<LeaseTag>,
}

/// How much is read at a time while opening.
const READ_BYTES: usize = 4 << 10;

/// The hello of a new peer. Sessions begin at the wall clock's milliseconds, so that whoever opens the same inbox
/// later is the newer one.
pub(super) fn hello(role: Role, options: &RemoteOptions) -> Hello {
    let mut peer = [0; 16];
    if getrandom::fill(&mut peer).is_err() {
        peer = [0; 16];
    }
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Hello {
        version_min: VERSION_MIN,
        version_max: VERSION_MAX,
        role,
        auth: 0,
        peer,
        session: u64::try_from(wall.as_millis()).unwrap_or(0),
        inbox: None,
        credentials: Vec::new(),
        agent: options.agent.clone(),
    }
}

pub(super) async fn dial(to: &Destination, hello: &Hello, offer: Option<&Offer>) -> Result<Dialled, OpenError> {
    match tokio::time::timeout(to.options.open_timeout, open(to, hello, offer)).await {
        Ok(opened) => opened,
        Err(_) => Err(OpenError::Unreachable(format!(
            "{} did not answer within {:?}: is it an antiphon broker?",
            to.address, to.options.open_timeout
        ))),
    }
}

async fn open(to: &Destination, hello: &Hello, offer: Option<&Offer>) -> Result<Dialled, OpenError> {
    let address = &to.address;
    let by = to.options.connect.as_deref();
    let (reader, writer) = connect(address, by).await.map_err(|error| match address {
        // Its next start has another address: to try again is in vain.
        Address::Inside(_) => {
            OpenError::Refused(Failure::new(Code::Unavailable, "the broker of this process has stopped"))
        }
        _ => OpenError::Unreachable(format!("cannot connect to {address}: {error}; is `antiphon serve` running?")),
    })?;
    let mut opening = Opening { to, reader, writer, inbound: Inbound::new(), rest: Vec::new() };
    let mut outbound = Outbound::new();
    outbound.hello(hello);
    opening.write(&mut outbound).await?;
    let welcome = opening.welcome().await?;
    let payload_bytes_max = welcome.payload_bytes_max.min(to.options.payload_bytes_max).min(PAYLOAD_BYTES_CEILING);
    opening.inbound.greeted(payload_bytes_max);
    let mut kept = Vec::new();
    if let Some(offer) = offer {
        outbound.offer(offer);
        opening.write(&mut outbound).await?;
        (_, kept) = opening.up().await?;
    }
    let Opening { reader, writer, inbound, rest, .. } = opening;
    Ok(Dialled { reader, writer, inbound, welcome, rest, kept })
}

struct Opening<'a> {
    to: &'a Destination,
    reader: Reader,
    writer: Writer,
    inbound: Inbound,
    rest: Vec<u8>,
}

impl Opening<'_> {
    async fn write(&self, outbound: &mut Outbound) -> Result<(), OpenError> {
        while !outbound.is_empty() {
            let written = poll_fn(|context| self.writer.poll_write(context, outbound.unsent())).await;
            outbound.advance(written.map_err(|error| self.broken(&error))?);
        }
        Ok(())
    }

    async fn welcome(&mut self) -> Result<Welcome, OpenError> {
        self.answer(|frame| match frame {
            Frame::Welcome(welcome) if (VERSION_MIN..=VERSION_MAX).contains(&welcome.version) => Ok(Some(welcome)),
            _ => Err(FrameError::Field("answer to the hello")),
        })
        .await
    }

    async fn up(&mut self) -> Result<(Epoch, Vec<LeaseTag>), OpenError> {
        self.answer(|frame| match frame {
            Frame::Event(Event::Up { epoch, kept }) => Ok(Some((epoch, kept))),
            Frame::Ping(_) | Frame::Pong(_) => Ok(None),
            _ => Err(FrameError::Field("answer to the offer")),
        })
        .await
    }

    /// Reads frames until one is the answer.
    async fn answer<T>(
        &mut self,
        mut take: impl FnMut(Frame<'_>) -> Result<Option<T>, FrameError>,
    ) -> Result<T, OpenError> {
        loop {
            let mut input = self.rest.as_slice();
            let arrival = self.inbound.next(&mut input);
            let taken = match arrival {
                Ok(None) => None,
                Ok(Some(Arrival::Frame(Frame::Refusal(refusal)))) => {
                    return Err(refused(Failure::new(refusal.code, refusal.text)));
                }
                Ok(Some(Arrival::Frame(Frame::Goodbye { code, text, .. }))) => {
                    return Err(refused(Failure::new(code, text)));
                }
                Ok(Some(Arrival::Frame(frame))) => Some(take(frame).map_err(|error| self.foreign(error))?),
                Ok(Some(Arrival::Oversized(..))) => return Err(self.foreign(FrameError::Field("payload"))),
                Err(error) => return Err(self.foreign(error)),
            };
            let used = self.rest.len() - input.len();
            self.rest.drain(..used);
            match taken {
                Some(Some(value)) => return Ok(value),
                Some(None) => (),
                None => self.read().await?,
            }
        }
    }

    async fn read(&mut self) -> Result<(), OpenError> {
        let mut buffer = [0; READ_BYTES];
        let count = poll_fn(|context| self.reader.poll_read(context, &mut buffer)).await;
        match count {
            Ok(0) => Err(self.broken(&io::Error::from(io::ErrorKind::UnexpectedEof))),
            Ok(count) => {
                self.rest.extend(buffer.iter().take(count));
                Ok(())
            }
            Err(error) => Err(self.broken(&error)),
        }
    }

    fn broken(&self, error: &io::Error) -> OpenError {
        OpenError::Unreachable(format!("{} closed the connection while opening it: {error}", self.to.address))
    }

    fn foreign(&self, error: FrameError) -> OpenError {
        let address = &self.to.address;
        let what = match Stranger::recognise(&self.rest) {
            Some(Stranger::Http) => "it speaks HTTP; is this the port of its probes?".to_owned(),
            Some(Stranger::Tls) => "it speaks TLS".to_owned(),
            None => error.to_string(),
        };
        let text = format!("{address} does not answer like an antiphon broker: {what}");
        OpenError::Refused(Failure::new(Code::FailedPrecondition, text))
    }
}

/// A refusal that may pass is like a broker that is not there yet.
fn refused(failure: Failure) -> OpenError {
    match failure.code {
        Code::Unavailable | Code::ResourceExhausted => OpenError::Unreachable(failure.to_string()),
        _ => OpenError::Refused(failure),
    }
}
