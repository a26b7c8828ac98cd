//! A connection within one process: two ways of bytes, without the operating system in between. For workers that have
//! their broker on their own runtime.

use crate::Carrier;
use bytes::{Buf, BytesMut};
use core::task::{Context, Poll, Waker};
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How much may be on one way: as a socket's buffers, enough for a batch and little enough to push back.
const UNREAD_BYTES_MAX: usize = 256 << 10;

/// A way that has more room than this gives it back when it is empty.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// One end. Dropping it ends both ways.
#[derive(Debug)]
pub struct Pipe {
    reads: Way,
    writes: Way,
}

/// One way, shared by both ends.
#[derive(Clone, Default, Debug)]
struct Way(Arc<Mutex<State>>);

#[derive(Default, Debug)]
struct State {
    unread: BytesMut,
    ended: bool,
    /// Woken by whatever is written.
    reader: Option<Waker>,
    /// Woken when there is room again.
    writer: Option<Waker>,
}

impl Way {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state();
        if state.ended {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let room = UNREAD_BYTES_MAX.saturating_sub(state.unread.len());
        if room == 0 && !bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let (fits, _) = bytes.split_at(room.min(bytes.len()));
        state.unread.extend_from_slice(fits);
        let reader = state.reader.clone();
        drop(state);
        reader.iter().for_each(Waker::wake_by_ref);
        Ok(fits.len())
    }

    fn poll_writable(&self, waker: &Waker) -> Poll<io::Result<()>> {
        let mut state = self.state();
        if state.ended || state.unread.len() < UNREAD_BYTES_MAX {
            return Poll::Ready(Ok(()));
        }
        keep(&mut state.writer, waker);
        Poll::Pending
    }

    fn read(&self, buffer: &mut [u8], waker: &Waker) -> Poll<io::Result<usize>> {
        let mut state = self.state();
        // Kept for good: who reads less than there might be is told of what follows, as by a socket.
        keep(&mut state.reader, waker);
        if state.unread.is_empty() {
            return if state.ended { Poll::Ready(Ok(0)) } else { Poll::Pending };
        }
        let count = buffer.len().min(state.unread.len());
        state.unread.copy_to_slice(buffer.get_mut(..count).unwrap_or(&mut []));
        if state.unread.is_empty() && state.unread.capacity() > KEPT_BYTES_MAX {
            state.unread = BytesMut::new();
        }
        let (writer, ended) = (state.writer.take(), state.ended);
        drop(state);
        writer.into_iter().for_each(Waker::wake);
        if ended {
            // Who was told of bytes and end at once reads again.
            waker.wake_by_ref();
        }
        Poll::Ready(Ok(count))
    }
}

fn keep(kept: &mut Option<Waker>, waker: &Waker) {
    if kept.as_ref().is_none_or(|kept| !kept.will_wake(waker)) {
        *kept = Some(waker.clone());
    }
}

impl Pipe {
    /// Both ends.
    #[must_use]
    pub fn pair() -> (Self, Self) {
        let (one, other) = (Way::default(), Way::default());
        (Self { reads: one.clone(), writes: other.clone() }, Self { reads: other, writes: one })
    }
}

/// Whoever read last is woken by whatever is written from then on, whether there was something to read or not.
impl Carrier for Pipe {
    fn poll_read(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.reads.read(buffer, context.waker())
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.writes.write(bytes)
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writes.poll_writable(context.waker())
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.reads.end();
        self.writes.end();
    }
}

/// A broker on a runtime of this process: connecting to it makes a [`Pipe`].
#[derive(Clone)]
pub struct Inside(Arc<Door>);

struct Door {
    /// Those that nobody has let in yet; `None` when the broker is gone.
    waiting: Mutex<Option<Vec<Pipe>>>,
    knock: Box<dyn Fn() + Send + Sync>,
}

impl Inside {
    /// A broker that hears a knock whenever somebody has connected.
    #[must_use]
    pub fn new(knock: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(Door { waiting: Mutex::new(Some(Vec::new())), knock: Box::new(knock) }))
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Vec<Pipe>>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn connect(&self) -> io::Result<Pipe> {
        let (pipe, theirs) = Pipe::pair();
        match &mut *self.waiting() {
            Some(waiting) => waiting.push(theirs),
            None => return Err(ErrorKind::ConnectionRefused.into()),
        }
        (self.0.knock)();
        Ok(pipe)
    }

    /// Those that have connected.
    pub fn accept(&self) -> Vec<Pipe> {
        self.waiting().as_mut().map(core::mem::take).unwrap_or_default()
    }

    /// Nobody gets in any more.
    pub fn close(&self) {
        drop(self.waiting().take());
    }
}

impl PartialEq for Inside {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Inside {}

impl fmt::Debug for Inside {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Inside").finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn read(pipe: &Pipe, woken: &Arc<Woken>, bytes: usize) -> Poll<Vec<u8>> {
        let mut buffer = vec![0; bytes];
        let waker = Waker::from(Arc::clone(woken));
        pipe.poll_read(&mut Context::from_waker(&waker), &mut buffer).map(|count| {
            buffer.truncate(count.expect("reading does not fail"));
            buffer
        })
    }

    #[test]
    fn bytes_come_in_order_and_the_reader_is_told_of_each_write() {
        let (here, there) = Pipe::pair();
        let woken = Arc::new(Woken::default());
        assert_eq!(read(&there, &woken, 10), Poll::Pending);
        assert_eq!(here.try_write(b"hello").expect("it is open"), 5);
        assert_eq!(read(&there, &woken, 3), Poll::Ready(b"hel".to_vec()));
        assert_eq!(here.try_write(b", you").expect("it is open"), 5);
        assert_eq!(woken.0.load(Ordering::Relaxed), 2, "one that read only a part is told of the rest");
        assert_eq!(read(&there, &woken, 100), Poll::Ready(b"lo, you".to_vec()));
        assert_eq!(read(&there, &woken, 100), Poll::Pending);
    }

    #[test]
    fn a_full_way_takes_a_part_and_wakes_its_writer_when_it_is_read() {
        let (here, there) = Pipe::pair();
        let woken = Arc::new(Woken::default());
        assert_eq!(here.try_write(&vec![7; UNREAD_BYTES_MAX + 1]).expect("it is open"), UNREAD_BYTES_MAX);
        assert_eq!(here.try_write(b"x").map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
        let waker = Waker::from(Arc::clone(&woken));
        assert!(here.poll_write(&mut Context::from_waker(&waker), b"x").is_pending());
        assert!(matches!(read(&there, &Arc::default(), 1), Poll::Ready(bytes) if bytes == [7]));
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(here.try_write(b"xy").expect("it is open"), 1);
    }

    #[test]
    fn an_end_that_is_dropped_ends_both_ways_behind_what_was_written() {
        let (here, there) = Pipe::pair();
        let woken = Arc::new(Woken::default());
        assert_eq!(read(&there, &woken, 10), Poll::Pending);
        here.try_write(b"last").expect("it is open");
        drop(here);
        assert!(woken.0.load(Ordering::Relaxed) >= 1);
        let before = woken.0.load(Ordering::Relaxed);
        assert_eq!(read(&there, &woken, 10), Poll::Ready(b"last".to_vec()));
        assert_eq!(woken.0.load(Ordering::Relaxed), before + 1, "there is the end still to be read");
        assert_eq!(read(&there, &woken, 10), Poll::Ready(Vec::new()));
        assert_eq!(there.try_write(b"x").map_err(|error| error.kind()), Err(ErrorKind::BrokenPipe));
    }

    #[test]
    fn nobody_gets_in_when_the_broker_is_gone() {
        let knocks = Arc::new(AtomicU32::new(0));
        let heard = Arc::clone(&knocks);
        let inside = Inside::new(move || {
            heard.fetch_add(1, Ordering::Relaxed);
        });
        let pipe = inside.connect().expect("it is open");
        assert_eq!((inside.accept().len(), knocks.load(Ordering::Relaxed)), (1, 1));
        assert_eq!(
            pipe.try_write(b"x").map_err(|error| error.kind()),
            Err(ErrorKind::BrokenPipe),
            "let in and dropped"
        );
        inside.close();
        assert_eq!(inside.connect().map(drop).map_err(|error| error.kind()), Err(ErrorKind::ConnectionRefused));
    }
}
