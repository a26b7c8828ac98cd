//! The first program of the README: a service, a worker and a caller in one process. The broker is the URL that is given,
//! `memory:` without one.

use antiphon::{Antiphon, CallError, Code};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Debug, thiserror::Error, Serialize, Deserialize, antiphon::Failure)]
enum MathError {
    #[error("{n} is above {max}")]
    #[failure(code = OutOfRange)]
    TooLarge { n: u32, max: u32 },
}

#[antiphon::service]
trait Math {
    #[procedure(idempotent)]
    fn fib(&self, n: u32) -> Result<u64, MathError>;
}

struct Calculator;

impl Math for Calculator {
    fn fib(&self, n: u32) -> Result<u64, MathError> {
        if n > 93 {
            return Err(MathError::TooLarge { n, max: 93 });
        }
        Ok((0..n).fold((0, 1), |(a, b), _| (b, u64::wrapping_add(a, b))).0)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "memory:".to_owned());
    let antiphon = Antiphon::connect(&url).await?;
    let worker = antiphon.worker().service(MathService::new(Calculator)).slots(4).start().await?;

    let math = MathClient::new(&antiphon);
    println!("fib(90) = {}", math.fib(90).deadline_in(Duration::from_secs(5)).await?);

    match math.fib(300).await {
        Err(CallError::Failed(MathError::TooLarge { n, max })) => println!("{n} is too large: at most {max}"),
        other => println!("unexpected: {other:?}"),
    }

    let call = math.fib(40).idempotency_key("invoice-7").submit().await?;
    let id = call.id();
    drop(call); // does not cancel
    println!("{id} gave {}", antiphon.attach(MathClient::FIB, id).await?);

    let error =
        antiphon.call_raw("math.fob", antiphon::Payload::default()).deadline_in(Duration::from_millis(200)).await;
    assert!(error.is_err_and(|error| error.code() == Code::DeadlineExceeded && !error.may_have_run()));

    worker.drain(Duration::from_secs(30)).await?;
    antiphon.close().await;
    Ok(())
}
