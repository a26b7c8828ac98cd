//! Serves `rpc_queue` for whoever speaks AMQP: the other side of `examples/python/rpc_client.py`.
//!
//! ```sh
//! cargo run -p antiphon-rabbitmq --example rpc_worker -- 'amqp://localhost/%2f?reply_queue=response_queue'
//! ```

use antiphon::{Antiphon, Code, Failure};

#[derive(serde::Serialize, serde::Deserialize)]
struct Request {
    num: u32,
}

#[antiphon::service]
trait Math {
    // The whole name, and so the queue's.
    #[procedure(name = "rpc_queue", idempotent)]
    fn fib(&self, request: Request) -> Result<u64, Failure>;
}

struct Calculator;

impl Math for Calculator {
    fn fib(&self, Request { num }: Request) -> Result<u64, Failure> {
        if num > 93 {
            return Err(Failure::new(Code::OutOfRange, format!("{num} is above 93")));
        }
        Ok((0..num).fold((0_u64, 1_u64), |(before, value), _| (value, before.wrapping_add(value))).0)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or("amqp://localhost/%2f".to_owned());
    let antiphon = Antiphon::builder(&url).driver(antiphon_rabbitmq::driver()).connect().await?;
    let worker = antiphon.worker().service(MathService::new(Calculator)).start().await?;
    println!("serving rpc_queue");
    worker.run_until(tokio::signal::ctrl_c()).await?;
    antiphon.close().await;
    Ok(())
}
