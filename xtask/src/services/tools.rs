//! Programs that building the adapters needs, and a machine with Rust and gcc alone has not.

use super::place::run;
use super::rabbitmq::install_is_allowed;
use std::process::Command;

/// What librdkafka is built with: the program, and Debian's package that has it.
const TOOLS: [(&str, &str); 2] = [("g++", "g++"), ("make", "make")];

/// Installs what is missing. Says what that was.
///
/// # Errors
/// When something is missing and none may be installed.
pub fn install() -> anyhow::Result<String> {
    let there = |program: &str| run(Command::new(program).arg("--version")).is_ok();
    let missing: Vec<&str> = TOOLS.iter().filter(|(program, _)| !there(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(String::new());
    }
    let names = missing.join(" ");
    anyhow::ensure!(install_is_allowed(), "install {names}: the Kafka adapter builds librdkafka with them");
    run(Command::new("apt-get").args(["-qq", "update"]))?;
    let install = ["-qq", "-y", "install", "--no-install-recommends"];
    run(Command::new("apt-get").args(install).args(&missing).env("DEBIAN_FRONTEND", "noninteractive"))?;
    Ok(format!("installed {names}"))
}
