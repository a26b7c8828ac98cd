//! The names of queues and exchanges on the server. Anybody may read them there: they are part of the interface.

use antiphon_broker::Inbox;
use std::fmt::Write;

/// Names, all with the URL's prefix.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    prefix: String,
}

/// What follows [`Names::delay`]'s exchange in a delay queue's name, and the header that leads there: the milliseconds.
pub(crate) const DELAY_HEADER: &str = "antiphon-delay";

impl Names {
    pub(crate) const fn new(prefix: String) -> Self {
        Self { prefix }
    }

    /// The queue of a procedure: its name.
    pub(crate) fn procedure(&self, procedure: &str) -> String {
        format!("{}{procedure}", self.prefix)
    }

    /// The procedure of a queue.
    pub(crate) fn procedure_of<'a>(&self, queue: &'a str) -> &'a str {
        queue.strip_prefix(&self.prefix).unwrap_or(queue)
    }

    /// The queue in which a caller's outcomes wait.
    pub(crate) fn inbox(&self, inbox: &Inbox) -> String {
        match inbox {
            Inbox::Named(name) => format!("{}antiphon.inbox.{name}", self.prefix),
            Inbox::Anonymous(caller) => {
                let mut name = format!("{}antiphon.caller.", self.prefix);
                for byte in caller.0 {
                    write!(name, "{byte:02x}").expect("a String takes all text");
                }
                name
            }
        }
    }

    /// The queue of dead letters, those of all procedures.
    pub(crate) fn dead(&self) -> String {
        format!("{}antiphon.dead", self.prefix)
    }

    /// The exchange that leads to delay queues.
    pub(crate) fn delay(&self) -> String {
        format!("{}antiphon.delay", self.prefix)
    }

    /// The queue in which calls wait for so many milliseconds.
    pub(crate) fn delay_queue(&self, ms: u64) -> String {
        format!("{}antiphon.delay.{ms}", self.prefix)
    }

    /// The exchange by which callers and workers reach each other.
    pub(crate) fn control(&self) -> String {
        format!("{}antiphon.control", self.prefix)
    }
}
