//! Calls the arithmetic of this package: `cargo run --example caller antiphon://localhost`, with the example `worker`
//! running. With a broker of its own it brings its worker along: `cargo run --example caller memory:`.

use antiphon::{Antiphon, CallError, as_completed};
use antiphon_examples::{Calculator, MathClient, MathError, MathService};
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "antiphon://localhost".to_owned());
    let antiphon = Antiphon::connect(&url).await?;
    let here = url.starts_with("memory:") || url.starts_with("file:");
    let worker = match here {
        true => Some(antiphon.worker().service(MathService::new(Calculator)).start().await?),
        false => None,
    };
    let math = MathClient::new(&antiphon);

    match math.fib(300).deadline_in(Duration::from_secs(5)).await {
        Err(CallError::Failed(MathError::TooLarge { n, max })) => println!("fib({n}) is too large: at most {max}"),
        Ok(number) => println!("fib(300) = {number}"),
        Err(error) => eprintln!("{error}; may have run: {}", error.may_have_run()),
    }

    println!("the sum of the first 20: {}", math.fib_sum(20).await?);

    let calls: Vec<_> = (80..90).map(|n| math.fib(n).send()).collect();
    let mut completing = as_completed(calls);
    while let Some((place, number)) = completing.next().await {
        println!("fib({}) = {}", 80 + place, number?);
    }

    if let Some(worker) = worker {
        worker.drain(Duration::from_secs(30)).await?;
    }
    antiphon.close().await;
    Ok(())
}
