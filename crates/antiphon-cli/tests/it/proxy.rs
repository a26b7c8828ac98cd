//! A network that misbehaves: between broker and peers stands a proxy that delays, splits into single bytes, swallows,
//! cuts and resets. Whatever was acknowledged has exactly one outcome in the end.

use crate::load::{self, CONFIG, Ledgers, Random};
use crate::stage::Broker;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What one direction of a connection suffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    None,
    /// Each piece arrives late.
    Delayed,
    /// Each byte arrives alone.
    Split,
    /// From some byte on nothing arrives, and nobody is told: half open.
    Swallowed,
    /// From some byte on both sides are cut off.
    Cut,
}

/// How many bytes a connection still carries when its fault has begun: a sound or slow one would live for ever, and no other
/// fault get its turn.
const LIFE: u64 = 30_000;

const FAULTS: [Fault; 5] = [Fault::None, Fault::Delayed, Fault::Split, Fault::Swallowed, Fault::Cut];

/// What stands between, and how often it did what.
struct Proxy {
    address: String,
    healed: AtomicBool,
    fired: [AtomicU32; 5],
    random: Mutex<Random>,
    streams: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    fn start(target: &str, random: Random) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Arc::new(Self {
            address: listener.local_addr().unwrap().to_string(),
            healed: AtomicBool::new(false),
            fired: Default::default(),
            random: Mutex::new(random),
            streams: Mutex::default(),
        });
        let (accepting, target) = (Arc::clone(&proxy), target.to_owned());
        // It ends with the process of the tests.
        drop(thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                accepting.join(client, &target);
            }
        }));
        proxy
    }

    fn join(self: &Arc<Self>, client: TcpStream, target: &str) {
        let Ok(broker) = TcpStream::connect(target) else { return };
        for stream in [&client, &broker] {
            stream.set_nodelay(true).unwrap();
            self.streams.lock().unwrap().push(stream.try_clone().unwrap());
        }
        for (from, to) in [(&client, &broker), (&broker, &client)] {
            let (from, to, proxy) = (from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(self));
            let (number, after) = {
                let mut random = self.random.lock().unwrap();
                (random.up_to(FAULTS.len() as u64 - 1) as usize, random.up_to(30_000))
            };
            let number = if self.healed.load(Ordering::SeqCst) { 0 } else { number };
            drop(thread::spawn(move || proxy.carry(from, to, number, after)));
        }
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream, number: usize, after: u64) {
        let fault = FAULTS[number];
        let mut buffer = [0; 4096];
        let mut carried = 0;
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            carried += count as u64;
            let healed = self.healed.load(Ordering::SeqCst);
            let struck = carried > after && !healed;
            // In the end there would be none left but those that live.
            if carried > after + LIFE && !healed {
                break;
            }
            let bytes = &buffer[..count];
            if struck {
                self.fired[number].fetch_add(1, Ordering::Relaxed);
            }
            let sent = match fault {
                Fault::Cut if struck => break,
                Fault::Swallowed if struck => continue,
                Fault::Split if struck => bytes.chunks(1).try_for_each(|byte| to.write_all(byte)),
                Fault::Delayed if struck => {
                    thread::sleep(Duration::from_millis(20));
                    to.write_all(bytes)
                }
                _ => to.write_all(bytes),
            };
            if sent.is_err() {
                break;
            }
        }
        drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
    }

    /// From now on the network is sound; what was swallowed is over.
    fn heal(&self) {
        self.healed.store(true, Ordering::SeqCst);
        for stream in self.streams.lock().unwrap().drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

#[test]
fn every_acknowledged_call_has_one_outcome_whatever_the_network_does() {
    let mut random = Random::seeded();
    // Peers that hear nothing must find out soon.
    let mut broker = Broker::start_with(&CONFIG.replace("[limits]\n", "[limits]\nheartbeat_ms = 400\n"));
    let ledgers = Ledgers::in_directory_of(&broker);
    let proxy = Proxy::start(broker.address(), random.branch());
    let url = format!("antiphon://{}", proxy.address);
    let workers: Vec<_> = (0..2).map(|_| load::worker(&url)).collect();
    let callers: Vec<_> = (0..3).map(|_| ledgers.caller(&url)).collect();
    let wanted = load::faults(30);
    let fired = || FAULTS.iter().zip(&proxy.fired).map(|(fault, count)| (*fault, count.load(Ordering::Relaxed)));
    crate::stage::until("every fault has struck often enough", || {
        // Connections live long under a fault that only slows them down.
        thread::sleep(Duration::from_millis(50));
        let lines = ledgers.lines();
        lines > 500 && fired().filter(|(fault, _)| *fault != Fault::None).all(|(_, count)| count >= wanted / 10)
    });
    thread::sleep(Duration::from_secs(u64::from(wanted) / 10));
    println!("struck: {:?}", fired().collect::<Vec<_>>());
    proxy.heal();
    drop(callers);
    load::settle(&broker);
    drop(workers);
    broker.stop();
    load::check(broker.data(), &ledgers);
}
