//! Real servers for tests: installed where allowed, started on free local ports with throw-away data, stopped again.
//!
//! A server is a [`Service`] with a line in `all`. `cargo xtask services up` starts one shared node of each; a
//! test that kills its server makes a node of its own. Whatever was started is written down under
//! `target/services/NODE/`, which is how `down` finds it, and nothing else is ever stopped.

pub mod kafka;
mod place;
pub mod python;
pub mod rabbitmq;
pub mod tools;

pub use place::{Place, directory};

use anyhow::Context;
use std::fs;

/// A kind of server that tests need.
pub trait Service {
    /// Its name, which is also that of its shared node.
    fn name(&self) -> &'static str;

    /// Starts the node at `place`, installing the server where that is needed and allowed; does nothing when it runs.
    ///
    /// # Errors
    /// When it can be neither found nor installed, or does not start.
    fn up(&self, place: &Place) -> anyhow::Result<()>;

    /// Where the node at `place` is reached; `None` when it does not run.
    fn url(&self, place: &Place) -> Option<String>;

    /// Stops the node at `place`, if it runs.
    ///
    /// # Errors
    /// When it cannot be stopped.
    fn down(&self, place: &Place) -> anyhow::Result<()>;
}

/// Every kind of server there is. A new one is added here and in a file beside `rabbitmq.rs`.
fn all() -> Vec<Box<dyn Service>> {
    vec![Box::new(rabbitmq::RabbitMq), Box::new(kafka::Kafka)]
}

/// Starts the shared node of every service.
///
/// # Errors
/// When one cannot be started.
pub fn up() -> anyhow::Result<()> {
    for service in all() {
        let place = Place::open(service.name(), service.name())?;
        service.up(&place).with_context(|| format!("starting {}", service.name()))?;
    }
    Ok(())
}

/// Stops every node that was started under this target directory, those of tests included, and forgets their data.
///
/// # Errors
/// When one cannot be stopped; the others are.
pub fn down() -> anyhow::Result<()> {
    let mut result = Ok(());
    for (service, place) in nodes()? {
        let stopped = service.down(&place).with_context(|| format!("stopping {}", place.node()));
        result = result.and(stopped.and_then(|()| place.remove()));
    }
    result
}

/// One line for each node: its name, and where it is.
///
/// # Errors
/// When what was written down cannot be read.
pub fn status() -> anyhow::Result<Vec<String>> {
    let nodes = nodes()?;
    let line = |node: &str, at: &str| format!("{node:<12} {at}");
    let mut lines: Vec<String> = nodes
        .iter()
        .map(|(service, place)| line(place.node(), service.url(place).as_deref().unwrap_or("down")))
        .collect();
    let never = all().into_iter().filter(|service| !nodes.iter().any(|(_, place)| place.node() == service.name()));
    lines.extend(never.map(|service| line(service.name(), "down")));
    lines.sort();
    Ok(lines)
}

/// All nodes that were ever started here, with their kind.
fn nodes() -> anyhow::Result<Vec<(Box<dyn Service>, Place)>> {
    let mut nodes = Vec::new();
    let directory = directory();
    if !directory.exists() {
        return Ok(nodes);
    }
    for entry in fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))? {
        let node = entry?.file_name().to_string_lossy().into_owned();
        let Some(kind) = Place::kind(&node) else { continue };
        if let Some(service) = all().into_iter().find(|service| service.name() == kind) {
            nodes.push((service, Place::open(&kind, &node)?));
        }
    }
    Ok(nodes)
}
