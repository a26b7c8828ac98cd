//! Serves the arithmetic of this package until Ctrl-C, then drains: `cargo run --example worker antiphon://localhost`.

use antiphon::Antiphon;
use antiphon_examples::{Calculator, MathService};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "antiphon://localhost".to_owned());
    let antiphon = Antiphon::connect(&url).await?;
    let worker = antiphon.worker().service(MathService::new(Calculator)).slots(8).start().await?;
    eprintln!("serving math at {url}; Ctrl-C drains");
    worker.run_until(tokio::signal::ctrl_c()).await?;
    antiphon.close().await;
    Ok(())
}
