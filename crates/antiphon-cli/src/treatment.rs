//! How calls are treated that others make: those of subscriptions and schedules.

use crate::input;
use antiphon_protocol::{Durability, Name, Priority, Route, defaults};
use clap::Args;

/// Which procedure, and how its calls are treated
#[derive(Debug, Args)]
pub struct Treatment {
    /// How long one attempt may take
    #[arg(long, value_parser = input::attempt_timeout, value_name = "DURATION", allow_hyphen_values = true)]
    attempt_timeout: Option<u32>,
    /// 0 to 9, 9 goes first
    #[arg(long, value_parser = input::priority, default_value = "4", allow_hyphen_values = true)]
    priority: Priority,
    /// The tenant its calls count for
    #[arg(long, value_parser = input::name)]
    tenant: Option<Name>,
    /// How often a call is tried, the first time included
    #[arg(long, value_name = "N", default_value_t = defaults::ATTEMPTS, value_parser = clap::value_parser!(u16).range(1..))]
    attempts: u16,
    /// Never start a call twice: a lost lease makes it dead, and it may have run
    #[arg(long)]
    at_most_once: bool,
    /// Keep its calls in memory only: they die with the broker
    #[arg(long)]
    volatile: bool,
}

impl Treatment {
    pub fn route(&self, procedure: Name) -> Route {
        let mut route = Route::new(procedure);
        route.tenant.clone_from(&self.tenant);
        route.priority = self.priority;
        route.durability = self.volatile.then_some(Durability::Volatile);
        route.attempts = if self.at_most_once { 1 } else { self.attempts };
        route.attempt_timeout_ms = self.attempt_timeout.unwrap_or(0);
        route.at_most_once = self.at_most_once;
        route
    }
}
