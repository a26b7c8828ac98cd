//! The names of topics and groups on the brokers. Anybody may read them there: they are part of the interface.

use antiphon_broker::Inbox;

/// The longest name of a topic.
pub(crate) const TOPIC_BYTES_MAX: usize = 249;

/// How long retry topics hold a call, in milliseconds. A call waits in the longest that is not too long; within the
/// shortest it waits exactly, in the worker.
pub(crate) const STEPS_MS: [u64; 3] = [1_000, 30_000, 600_000];

/// Names, all with the URL's prefix.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    prefix: String,
}

impl Names {
    pub(crate) const fn new(prefix: String) -> Self {
        Self { prefix }
    }

    /// The topic of a procedure: its name.
    pub(crate) fn procedure(&self, procedure: &str) -> String {
        format!("{}{procedure}", self.prefix)
    }

    /// The topic in which a procedure's calls wait for so many milliseconds.
    pub(crate) fn retry(&self, procedure: &str, step_ms: u64) -> String {
        format!("{}{procedure}-retry-{step_ms}", self.prefix)
    }

    /// The group of a procedure's workers.
    pub(crate) fn group(&self, procedure: &str) -> String {
        format!("{}antiphon.{procedure}", self.prefix)
    }

    /// The group that reads nothing: what it has committed of a topic is up to where its calls were leased.
    pub(crate) fn leases(&self) -> String {
        format!("{}antiphon-leases", self.prefix)
    }

    /// The topic of dead letters, those of all procedures.
    pub(crate) fn dead(&self) -> String {
        format!("{}antiphon.dead", self.prefix)
    }

    /// The topic in which a caller's outcomes wait: its own if it has a name, one for all others.
    pub(crate) fn inbox(&self, inbox: &Inbox) -> String {
        match inbox {
            Inbox::Named(name) => format!("{}antiphon.inbox.{name}", self.prefix),
            Inbox::Anonymous(_) => format!("{}antiphon.callers", self.prefix),
        }
    }
}

/// The step for a wait of so many milliseconds.
pub(crate) fn step_ms(wait_ms: u64) -> u64 {
    let [first, ..] = STEPS_MS;
    STEPS_MS.iter().rev().copied().find(|step| *step <= wait_ms).unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_waits_in_the_longest_step_that_is_not_too_long() {
        assert_eq!(
            [1, 1_000, 29_999, 30_000, 599_999, 86_400_000].map(step_ms),
            [1_000, 1_000, 1_000, 30_000, 30_000, 600_000]
        );
    }
}
