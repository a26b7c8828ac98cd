//! What operators rule about procedures, and whether it lets a call start now.
//!
//! The rate is a bucket of tokens kept as one number, the time at which it will be full again (the virtual scheduling
//! algorithm of ITU-T I.371): in nanoseconds, so that nothing is rounded in favour of too many starts.

use crate::planted::planted;
use crate::procedure::Procedure;
use crate::{Engine, Now};
use alloc::boxed::Box;
use antiphon_protocol::{Rate, Setting, Settings};

/// A procedure's rule, and how far its rate is used up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ruled {
    pub rule: Rule,
    /// When the bucket is full again, monotonic, in nanoseconds.
    full_ns: u64,
    /// Whether a time at which a token comes is on the agenda.
    awaited: bool,
}

/// What holds for all calls of a procedure. By default nothing does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Rule {
    pub paused: bool,
    /// 0 is any number.
    pub running_max: u64,
    pub rate: Option<Rate>,
}

impl Rule {
    fn of(settings: &Settings) -> Self {
        Self {
            paused: settings.get(Setting::Paused).is_some_and(|paused| paused != 0),
            running_max: settings.get(Setting::RunningMax).unwrap_or(0),
            rate: Rate::of(settings),
        }
    }
}

const NS: u64 = 1_000_000;

impl Ruled {
    /// A rule whose bucket is empty.
    pub fn empty(rule: Rule, now: Now) -> Self {
        let filling_ns = rule.rate.map_or(0, |rate| rate.interval_ns().saturating_mul(u64::from(burst(&rate))));
        let full_ns = now.monotonic_ms.saturating_mul(NS).saturating_add(filling_ns);
        Self { rule, full_ns, awaited: false }
    }

    /// When the next token comes, monotonic, in milliseconds; 0 when there is one.
    pub fn token_ms(&self, now: Now) -> u64 {
        let Some(rate) = self.rule.rate else { return 0 };
        let room_ns = rate.interval_ns().saturating_mul(u64::from(burst(&rate)) - 1);
        let next_ns = self.full_ns.saturating_sub(room_ns);
        if next_ns <= now.monotonic_ms.saturating_mul(NS) { 0 } else { next_ns.div_ceil(NS) }
    }

    fn take_token(&mut self, now: Now) {
        if let Some(rate) = self.rule.rate.filter(|_| !planted!("starts use up no rate")) {
            self.full_ns = self.full_ns.max(now.monotonic_ms.saturating_mul(NS)).saturating_add(rate.interval_ns());
        }
    }
}

/// The clock has milliseconds: a bucket that holds less than one brings would lose what comes within it.
fn burst(rate: &Rate) -> u32 {
    rate.burst.max(u32::try_from(NS / rate.interval_ns().max(1)).unwrap_or(u32::MAX)).max(1)
}

impl Procedure {
    /// Whether its rule lets one more call start.
    pub fn may_start(&self, now: Now) -> bool {
        let Some(ruled) = &self.ruled else { return true };
        (!ruled.rule.paused || planted!("paused procedures start")) && !self.is_full() && ruled.token_ms(now) == 0
    }

    /// Whether as many calls run as may.
    pub fn is_full(&self) -> bool {
        self.ruled.as_ref().filter(|ruled| ruled.rule.running_max != 0).is_some_and(|ruled| {
            u64::from(self.running) >= ruled.rule.running_max + u64::from(planted!("a cap takes one more"))
        })
    }
}

impl Engine {
    /// What is set for a procedure has changed.
    pub(crate) fn put_rule(&mut self, place: u32) {
        let now = self.now;
        let it = self.procedures.get_mut(place);
        let before = it.ruled.as_deref().copied().unwrap_or_default();
        let rule = Rule::of(it.terms.settings());
        let same = rule.rate == before.rule.rate;
        let ruled = if same { Ruled { rule, ..before } } else { Ruled::empty(rule, now) };
        it.ruled = (rule != Rule::default()).then(|| Box::new(ruled));
        self.release_reservations(place);
        self.wake_procedure(place);
    }

    /// After a restart rates begin with an empty bucket: how much of it was used up before is not known.
    pub(crate) fn begin_rules(&mut self) {
        for place in 0..self.procedures.len() {
            self.put_rule(place);
        }
    }

    /// A call of the procedure starts: it uses up a token, and may be the last that may start now.
    pub(crate) fn count_start(&mut self, place: u32) {
        let now = self.now;
        let it = self.procedures.get_mut(place);
        it.running += 1;
        let Some(ruled) = &mut it.ruled else { return };
        ruled.take_token(now);
        if !it.may_start(now) {
            self.release_reservations(place);
            self.await_token(place);
        }
    }

    /// Puts the time at which a procedure gets its next token on the agenda, if it has none and calls wait.
    fn await_token(&mut self, place: u32) {
        let now = self.now;
        let Some(ruled) = &mut self.procedures.get_mut(place).ruled else { return };
        let token_ms = ruled.token_ms(now);
        if token_ms != 0 && !ruled.awaited {
            ruled.awaited = true;
            self.tokens_due.push(token_ms, place, 0);
        }
    }

    /// Procedures whose next token has come may start calls again.
    pub(crate) fn bring_tokens(&mut self) {
        while let Some(due) = self.tokens_due.pop(self.now.monotonic_ms) {
            if let Some(ruled) = &mut self.procedures.get_mut(due.index).ruled {
                ruled.awaited = false;
            }
            if planted!("a token wakes nobody") {
                continue;
            }
            self.wake_procedure(due.index);
        }
    }

    /// One call less of the procedure runs.
    pub(crate) fn count_stop(&mut self, place: u32) {
        let it = self.procedures.get_mut(place);
        let full = it.is_full();
        it.running -= 1;
        if full && !planted!("a place under a cap wakes nobody") {
            self.wake_procedure(place);
        }
    }

    /// Whatever waits for the procedure's rule is looked at again.
    pub(crate) fn wake_procedure(&mut self, place: u32) {
        let it = self.procedures.get_mut(place);
        let resuming = core::mem::take(&mut it.resuming);
        self.busy_workers.extend(resuming);
        if !self.procedures.get(place).may_start(self.now) {
            return self.await_token(place);
        }
        for at in 0..self.procedures.get(place).sections.len() {
            if let Some(section) = self.procedures.get(place).sections.get(at).copied() {
                self.wake_section(section);
            }
        }
    }
}
