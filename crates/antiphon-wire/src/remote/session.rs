//! One connection while it is up: reads all there is, hands the sink one batch of events, writes once, sleeps.

use super::line::{Line, Lost, Side};
use super::socket::{Reader, Writer};
use crate::limits::FRAME_BYTES_MAX;
use crate::{Arrival, Frame, FrameError, Inbound};
use antiphon_broker::Event;
use antiphon_protocol::Code;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::sync::Arc;
use tokio::time::{Instant, Sleep, sleep_until};

/// A whole frame fits behind the beginning of another, and some hundred small ones are read at once.
const READ_BYTES: usize = 2 * FRAME_BYTES_MAX;
/// How much is read at a time unless a large frame is on its way: what came is handed on before more is read, so that
/// the other side and this one work at the same time.
const PORTION_BYTES: usize = 32 << 10;
/// Less than this in front is the beginning of a small frame, or of one whose length is not known yet.
const SMALL_BYTES: usize = 4 << 10;
/// How long a closing connection may take to send what was handed over.
const FAREWELL: Duration = Duration::from_secs(1);
/// Heartbeats that a broker may ask for: less would be busy work, more would never find a dead peer.
const HEARTBEATS: core::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(600);

pub(super) struct Session<'a, S> {
    line: &'a Line<S>,
    reader: Reader,
    writer: Arc<Writer>,
    inbound: Inbound,
    buffer: Vec<u8>,
    filled: usize,
    writing: Vec<u8>,
    written: usize,
    events: Vec<Event>,
    heartbeat: Duration,
    heard: Instant,
    pinged: bool,
    timer: Pin<Box<Sleep>>,
    /// The line is closed, and the time for sending what was handed over runs.
    farewell: bool,
    /// Goodbye was said.
    parted: bool,
}

impl<'a, S: Side> Session<'a, S> {
    pub(super) fn new(
        line: &'a Line<S>,
        reader: Reader,
        writer: Arc<Writer>,
        inbound: Inbound,
        rest: &[u8],
        heartbeat: Option<Duration>,
        heartbeat_ms: u32,
    ) -> Self {
        let heartbeat = heartbeat
            .unwrap_or(Duration::from_millis(u64::from(heartbeat_ms)))
            .clamp(*HEARTBEATS.start(), *HEARTBEATS.end());
        let mut buffer = vec![0; READ_BYTES.max(rest.len())];
        buffer.iter_mut().zip(rest).for_each(|(place, byte)| *place = *byte);
        let heard = Instant::now();
        Self {
            line,
            reader,
            writer,
            inbound,
            buffer,
            filled: rest.len(),
            writing: Vec::new(),
            written: 0,
            events: Vec::new(),
            heartbeat,
            heard,
            pinged: false,
            timer: Box::pin(sleep_until(heard + heartbeat)),
            farewell: false,
            parted: false,
        }
    }

    /// Runs until the connection ends.
    pub(super) async fn run(mut self) -> Lost {
        let lost = match self.decode() {
            Ok(()) => poll_fn(|context| self.turn(context)).await,
            Err(lost) => lost,
        };
        self.deliver();
        lost
    }

    fn turn(&mut self, context: &mut Context<'_>) -> Poll<Lost> {
        match self.read(context) {
            // Only a read that finds nothing has this task woken by the next bytes.
            Ok(true) => context.waker().wake_by_ref(),
            Ok(false) => (),
            Err(lost) => return Poll::Ready(lost),
        }
        self.deliver();
        // Timers first: a ping or a goodbye is to be written by this turn.
        if let Err(lost) = self.watch(context) {
            return Poll::Ready(lost);
        }
        match self.write(context) {
            Ok(false) => Poll::Pending,
            Ok(true) => Poll::Ready(Lost { reason: "closed".to_owned(), last: true }),
            Err(lost) => Poll::Ready(lost),
        }
    }

    /// Reads once and decodes; whether there may be more.
    fn read(&mut self, context: &mut Context<'_>) -> Result<bool, Lost> {
        let portion = if self.filled < SMALL_BYTES { self.filled + PORTION_BYTES } else { self.buffer.len() };
        let free = self.buffer.get_mut(self.filled..portion).unwrap_or(&mut []);
        let count = match self.reader.poll_read(context, free) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(0)) => return Err(lost("the broker closed the connection")),
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(error)) => return Err(lost(format!("the connection broke: {error}"))),
        };
        self.filled += count;
        self.heard = Instant::now();
        self.pinged = false;
        self.decode()?;
        Ok(true)
    }

    fn decode(&mut self) -> Result<(), Lost> {
        let mut input = self.buffer.get(..self.filled).unwrap_or(&[]);
        {
            let state = &mut *self.line.state();
            // What the sink submits from within a batch is written by this turn.
            state.busy = true;
            loop {
                let arrival = match self.inbound.next(&mut input) {
                    Ok(None) => break,
                    Ok(Some(arrival)) => arrival,
                    Err(error) => return Err(malformed(error)),
                };
                match arrival {
                    Arrival::Frame(Frame::Ping(opaque)) => state.outbound.pong(opaque),
                    Arrival::Frame(Frame::Pong(_)) => (),
                    Arrival::Frame(Frame::Goodbye { code, last, text }) => {
                        return Err(Lost { reason: format!("the broker said goodbye: {code}: {text}"), last });
                    }
                    arrival => {
                        state.side.take(arrival, &mut state.outbound, &mut self.events).map_err(malformed)?;
                    }
                }
            }
        }
        let rest = input.len();
        self.buffer.copy_within(self.filled - rest..self.filled, 0);
        self.filled = rest;
        Ok(())
    }

    fn deliver(&mut self) {
        {
            let mut state = self.line.state();
            let state = &mut *state;
            self.events.append(&mut state.events);
            if state.side.became_writable(&state.outbound) {
                self.events.push(Event::Writable);
            }
        }
        if !self.events.is_empty() {
            self.line.sink().events(&mut self.events);
            self.events.clear();
        }
    }

    /// Writes until nothing is left or the socket takes no more; whether the connection has ended.
    fn write(&mut self, context: &mut Context<'_>) -> Result<bool, Lost> {
        loop {
            if self.written == self.writing.len() {
                self.writing.clear();
                self.written = 0;
                let mut state = self.line.state();
                state.midway = false;
                let closing = state.closing;
                let idle = state.outbound.is_empty();
                // Behind everything else: payloads in chunks would be overtaken by it.
                if closing && idle && !self.parted {
                    self.parted = true;
                    state.outbound.goodbye(Code::Ok, true, "closed");
                    continue;
                }
                if idle && state.events.is_empty() {
                    state.sleep(context.waker());
                    return Ok(self.parted);
                }
                if closing && !self.farewell {
                    drop(state);
                    self.begin_farewell(context);
                    continue;
                }
                if idle {
                    // Events that submitters made: another turn delivers them.
                    context.waker().wake_by_ref();
                    return Ok(false);
                }
                state.outbound.take(&mut self.writing);
                state.midway = true;
            }
            let unsent = self.writing.get(self.written..).unwrap_or(&[]);
            match self.writer.poll_write(context, unsent) {
                Poll::Ready(Ok(count)) => self.written += count,
                Poll::Ready(Err(error)) => return Err(lost(format!("the connection broke: {error}"))),
                Poll::Pending => {
                    self.wait(context);
                    return Ok(false);
                }
            }
            self.writable();
        }
    }

    /// The socket is full: bytes wait for it, and need not wake this task; closing the line does.
    fn wait(&mut self, context: &mut Context<'_>) {
        let mut state = self.line.state();
        state.watch(context.waker());
        if state.closing && !self.farewell {
            drop(state);
            self.begin_farewell(context);
        }
    }

    fn begin_farewell(&mut self, context: &Context<'_>) {
        self.farewell = true;
        self.timer.as_mut().reset(Instant::now() + FAREWELL);
        // The timer was reset after it was polled: only another turn has it watched.
        context.waker().wake_by_ref();
    }

    /// Tells the sink as soon as there is room, within the same turn.
    fn writable(&mut self) {
        let writable = {
            let mut state = self.line.state();
            let state = &mut *state;
            state.side.became_writable(&state.outbound)
        };
        if writable {
            self.events.push(Event::Writable);
            self.line.sink().events(&mut self.events);
            self.events.clear();
        }
    }

    /// Pings a silent broker, and gives it up after twice as long.
    fn watch(&mut self, context: &mut Context<'_>) -> Result<(), Lost> {
        while self.timer.as_mut().poll(context).is_ready() {
            if self.farewell {
                return Err(Lost { reason: "closed".to_owned(), last: true });
            }
            if self.line.is_inside() {
                // As silent as this thread is busy; its end shows by itself.
                self.heard = Instant::now();
            }
            let silent = self.heard.elapsed();
            if silent >= 2 * self.heartbeat {
                return Err(lost(format!("the broker was silent for {silent:?}")));
            }
            if silent >= self.heartbeat && !self.pinged {
                self.pinged = true;
                self.line.state().outbound.ping(0);
            }
            let limit = if self.pinged { 2 * self.heartbeat } else { self.heartbeat };
            self.timer.as_mut().reset(self.heard + limit);
        }
        Ok(())
    }
}

fn lost(reason: impl Into<String>) -> Lost {
    Lost { reason: reason.into(), last: false }
}

fn malformed(error: FrameError) -> Lost {
    lost(format!("the broker sent what is not a frame: {error}"))
}
