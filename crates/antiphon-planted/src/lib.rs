//! The switch for bugs planted on purpose. Nothing but a build with `--cfg planting` depends on this crate: there, each
//! site `planted!("name")` asks it; everywhere else that is the word `false`.

use std::cell::Cell;

thread_local! {
    static PLANTED: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Switches one bug on, and every other off, on this thread.
pub fn plant(bug: Option<&'static str>) {
    PLANTED.set(bug);
}

/// Whether this bug is on, on this thread.
#[must_use]
pub fn is_on(bug: &str) -> bool {
    PLANTED.get() == Some(bug)
}
