//! The program of the README, as it stands there: a service, a worker and a caller in one process. The broker is the URL
//! that is given, `memory:` without one.

use antiphon::{Antiphon, Code, Failure};
use std::time::Duration;

#[antiphon::service]
trait Math {
    #[procedure(idempotent, attempts = 3)]
    fn square(&self, n: u32) -> Result<u32, Failure>; // fn: a blocking thread; async fn: the runtime
}

struct Calculator;

impl Math for Calculator {
    fn square(&self, n: u32) -> Result<u32, Failure> {
        n.checked_mul(n).ok_or_else(|| Failure::new(Code::OutOfRange, "the square is too large"))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or("memory:".to_owned()); // or file:DIR, or antiphon://HOST:7400
    let antiphon = Antiphon::connect(&url).await?;
    let worker = antiphon.worker().service(MathService::new(Calculator)).start().await?;

    let math = MathClient::new(&antiphon);
    println!("{}", math.square(300).deadline_in(Duration::from_secs(5)).await?);
    if let Err(error) = math.square(70_000).await {
        println!("{error}; may have run: {}", error.may_have_run());
    }
    let call = math.square(40).idempotency_key("invoice-7").submit().await?; // file:, antiphon://: it is on disk now
    println!("{}", antiphon.attach(MathClient::SQUARE, call.id()).await?);

    Ok(worker.drain(Duration::from_secs(30)).await?)
}
