//! The limit: frames through a process that only copies, with what any usable client keeps for a call: an id, a slab
//! of oneshots, a woken task, coalesced writes.

use antiphon_bench::READY;
use antiphon_bench::load::{self, Echo, Measured, Plan};
use anyhow::{Context, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};

const BUFFER_BYTES: usize = 256 << 10;
/// A frame's head: length, then id.
const HEAD_BYTES: usize = 12;
const CALLER: u8 = b'c';
const WORKER: u8 = b'w';

/// Copies between the worker, who stays, and one caller after the other.
pub async fn broker() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{READY}{}", listener.local_addr()?);
    let mut worker = accept(&listener, WORKER).await?;
    loop {
        let mut caller = accept(&listener, CALLER).await?;
        copy_both(&mut caller, &mut worker).await?;
    }
}

async fn accept(listener: &TcpListener, kind: u8) -> anyhow::Result<TcpStream> {
    let (mut stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    ensure!(stream.read_u8().await? == kind, "they connected in the wrong order");
    Ok(stream)
}

/// Until the caller leaves.
async fn copy_both(caller: &mut TcpStream, worker: &mut TcpStream) -> anyhow::Result<()> {
    let (mut from_caller, mut to_caller) = caller.split();
    let (mut from_worker, mut to_worker) = worker.split();
    let there = async {
        let mut buffer = vec![0; BUFFER_BYTES];
        while let count @ 1.. = from_caller.read(&mut buffer).await.unwrap_or(0) {
            to_worker.write_all(buffer.get(..count).unwrap_or(&[])).await?;
        }
        anyhow::Ok(())
    };
    let back = async {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = from_worker.read(&mut buffer).await?;
            ensure!(count > 0, "the worker left");
            // A caller that leaves waits for nothing any more.
            if to_caller.write_all(buffer.get(..count).unwrap_or(&[])).await.is_err() {
                return Ok(());
            }
        }
    };
    tokio::select! { ended = there => ended, ended = back => ended }
}

async fn connect(address: &str, kind: u8) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_u8(kind).await?;
    Ok(stream)
}

/// Sends whole frames back.
pub async fn worker(address: &str) -> anyhow::Result<()> {
    let mut stream = connect(address, WORKER).await?;
    println!("{READY}");
    let mut input = BytesMut::with_capacity(BUFFER_BYTES);
    loop {
        input.reserve(BUFFER_BYTES);
        ensure!(stream.read_buf(&mut input).await? > 0, "the relay is gone");
        let whole = whole_frames(&input);
        stream.write_all(&input.split_to(whole)).await?;
    }
}

/// How many bytes at the front are whole frames.
fn whole_frames(mut input: &[u8]) -> usize {
    let all = input.len();
    while let Some(length) = input.first_chunk::<4>() {
        let length = HEAD_BYTES + u32::from_le_bytes(*length) as usize;
        if input.len() < length {
            break;
        }
        input.advance(length);
    }
    all - input.len()
}

#[derive(Clone)]
struct Client(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    unsent: Notify,
}

#[derive(Default)]
struct State {
    out: BytesMut,
    waiting: Vec<Option<oneshot::Sender<usize>>>,
    vacant: Vec<usize>,
}

impl Client {
    fn with<R>(&self, run: impl FnOnce(&mut State) -> R) -> R {
        run(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn write(self, mut stream: OwnedWriteHalf) -> anyhow::Result<()> {
        loop {
            self.0.unsent.notified().await;
            loop {
                let mut out = self.with(|state| state.out.split());
                if out.is_empty() {
                    break;
                }
                stream.write_all_buf(&mut out).await?;
            }
        }
    }

    async fn read(self, mut stream: OwnedReadHalf) -> anyhow::Result<()> {
        let mut input = BytesMut::with_capacity(BUFFER_BYTES);
        loop {
            input.reserve(BUFFER_BYTES);
            ensure!(stream.read_buf(&mut input).await? > 0, "the relay is gone");
            let whole = whole_frames(&input);
            let mut frames = input.split_to(whole);
            self.with(|state| {
                while frames.has_remaining() {
                    let length = frames.get_u32_le() as usize;
                    let place = usize::try_from(frames.get_u64_le()).unwrap_or(usize::MAX);
                    frames.advance(length);
                    if let Some(waiting) = state.waiting.get_mut(place).and_then(Option::take) {
                        state.vacant.push(place);
                        // Who waited may have gone.
                        waiting.send(length).unwrap_or_default();
                    }
                }
            });
        }
    }
}

impl Echo for Client {
    async fn call(&self, argument: Bytes) -> anyhow::Result<usize> {
        let (sender, receiver) = oneshot::channel();
        self.with(|state| {
            let place = state.vacant.pop().unwrap_or_else(|| {
                state.waiting.push(None);
                state.waiting.len() - 1
            });
            if let Some(waiting) = state.waiting.get_mut(place) {
                *waiting = Some(sender);
            }
            state.out.put_u32_le(u32::try_from(argument.len()).unwrap_or(u32::MAX));
            state.out.put_u64_le(place as u64);
            state.out.put_slice(&argument);
        });
        self.0.unsent.notify_one();
        receiver.await.context("the connection is gone")
    }
}

pub async fn caller(address: &str, plan: &Plan) -> anyhow::Result<Measured> {
    let (reader, writer) = connect(address, CALLER).await?.into_split();
    let client = Client(Arc::new(Shared { state: Mutex::default(), unsent: Notify::new() }));
    let reading = tokio::spawn(client.clone().read(reader));
    let writing = tokio::spawn(client.clone().write(writer));
    let measured = load::run(client, plan).await;
    reading.abort();
    writing.abort();
    measured
}
