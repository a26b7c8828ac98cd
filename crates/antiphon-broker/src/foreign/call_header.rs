//! What travels beside a call's arguments while a foreign broker keeps it.

use super::fields::{Reader, Writer};
use antiphon_protocol::{Backoff, Call, CallId, Durability, Route, Start, defaults};
use std::fmt;

/// A call without its arguments, as it stands between two attempts. As text it is the value of the header
/// [`CALL`](super::CALL), such as `1;id=0190a5c2-7b1e-7c3d-8e4f-001122334455;n=3;o=d`.
///
/// Times are wall-clock times of whoever wrote them: the clocks of callers and workers must agree as far as deadlines and
/// delays are to be kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallHeader {
    /// The call.
    pub id: CallId,
    /// How often it is tried, the first time included (`n`).
    pub attempts: u16,
    /// How many attempts have failed (`f`).
    pub failed: u16,
    /// How many leases were lost before it was published again for another reason (`l`).
    pub lost: u16,
    /// How often it was published again (`h`).
    pub hops: u32,
    /// The wait before each further attempt (`b`).
    pub backoff: Backoff,
    /// Bound on one attempt in milliseconds; 0 is none (`t`).
    pub attempt_timeout_ms: u32,
    /// When its deadline passes, in milliseconds since 1970; 0 is none (`by`).
    pub deadline_ms: u64,
    /// When the next attempt may start, in milliseconds since 1970; 0 is at once (`at`).
    pub due_ms: u64,
    /// Its class, 0 to 9 (`p`).
    pub priority: u8,
    /// Whether it outlives its caller's connection and a restart of the broker (`d` in `o`).
    pub durable: bool,
    /// Whether running it twice does no harm (`i` in `o`).
    pub idempotent: bool,
    /// Whether it is leased once and never again (`m` in `o`).
    pub at_most_once: bool,
}

impl CallHeader {
    /// The header of a call that has just been made.
    #[must_use]
    pub fn new(call: &Call, durable: bool, wall_ms: u64) -> Self {
        let route = &*call.route;
        let due_ms = match call.start {
            Start::Now => 0,
            Start::In(ms) => wall_ms.saturating_add(ms),
            Start::At(ms) => ms,
        };
        Self {
            attempts: route.attempts,
            backoff: route.backoff,
            attempt_timeout_ms: route.attempt_timeout_ms,
            deadline_ms: if call.deadline_ms == 0 { 0 } else { wall_ms.saturating_add(call.deadline_ms) },
            due_ms: if due_ms <= wall_ms { 0 } else { due_ms },
            priority: route.priority.class(),
            durable,
            idempotent: route.idempotent,
            at_most_once: route.at_most_once,
            ..Self::plain(call.id)
        }
    }

    /// The header of a call that came without one: every default, volatile.
    #[must_use]
    pub const fn plain(id: CallId) -> Self {
        Self {
            id,
            attempts: defaults::ATTEMPTS,
            failed: 0,
            lost: 0,
            hops: 0,
            backoff: Backoff::DEFAULT,
            attempt_timeout_ms: 0,
            deadline_ms: 0,
            due_ms: 0,
            priority: defaults::PRIORITY,
            durable: false,
            idempotent: false,
            at_most_once: false,
        }
    }

    /// Whether a call of this route is durable on a broker whose calls are durable unless they say otherwise.
    #[must_use]
    pub fn is_durable(route: &Route, by_default: bool) -> bool {
        route.durability.map_or(by_default, |durability| durability == Durability::Durable)
    }

    /// The lease token of a delivery that the server says was handed out `redelivered` times before: it grows with every
    /// attempt, release and lost lease of the call.
    #[must_use]
    pub fn token(&self, redelivered: u32) -> u64 {
        (u64::from(self.hops) << 24) + u64::from(redelivered.min((1 << 24) - 2)) + 1
    }

    /// How many attempts were started, the one of this delivery included.
    #[must_use]
    pub fn started(&self, redelivered: u32) -> u16 {
        let redelivered = u16::try_from(redelivered).unwrap_or(u16::MAX);
        self.failed.saturating_add(self.lost).saturating_add(redelivered).saturating_add(1)
    }

    /// What remains until the deadline, in milliseconds; `None` is no deadline.
    #[must_use]
    pub fn remaining_ms(&self, wall_ms: u64) -> Option<u64> {
        (self.deadline_ms != 0).then(|| self.deadline_ms.saturating_sub(wall_ms))
    }

    /// The header as text.
    #[must_use]
    pub fn write(&self) -> String {
        let mut writer = Writer::new();
        writer.field("id", self.id);
        writer.unless(defaults::ATTEMPTS, "n", self.attempts);
        writer.unless(0, "f", self.failed);
        writer.unless(0, "l", self.lost);
        writer.unless(0, "h", self.hops);
        if self.backoff != Backoff::DEFAULT {
            let Backoff { first_ms, factor_tenths, max_ms } = self.backoff;
            writer.field("b", format_args!("{first_ms},{factor_tenths},{max_ms}"));
        }
        writer.unless(0, "t", self.attempt_timeout_ms);
        writer.unless(0, "by", self.deadline_ms);
        writer.unless(0, "at", self.due_ms);
        writer.unless(defaults::PRIORITY, "p", self.priority);
        let options: String = [(self.durable, 'd'), (self.idempotent, 'i'), (self.at_most_once, 'm')]
            .into_iter()
            .filter_map(|(set, letter)| set.then_some(letter))
            .collect();
        writer.unless(String::new(), "o", options);
        writer.finish()
    }

    /// Reads the header's text.
    ///
    /// # Errors
    /// [`HeaderError`] names what cannot be read.
    pub fn read(text: &str) -> Result<Self, HeaderError> {
        let reader = Reader::new(text).ok_or(HeaderError("version"))?;
        let id = reader.text("id").and_then(|text| text.parse().ok()).ok_or(HeaderError("id"))?;
        let backoff = match reader.text("b") {
            None => Backoff::DEFAULT,
            Some(text) => read_backoff(text).ok_or(HeaderError("b"))?,
        };
        let options = reader.text("o").unwrap_or_default();
        let read = || -> Result<Self, &'static str> {
            Ok(Self {
                id,
                attempts: reader.value("n", defaults::ATTEMPTS)?,
                failed: reader.value("f", 0)?,
                lost: reader.value("l", 0)?,
                hops: reader.value("h", 0)?,
                backoff,
                attempt_timeout_ms: reader.value("t", 0)?,
                deadline_ms: reader.value("by", 0)?,
                due_ms: reader.value("at", 0)?,
                priority: reader.value("p", defaults::PRIORITY)?,
                durable: options.contains('d'),
                idempotent: options.contains('i'),
                at_most_once: options.contains('m'),
            })
        };
        read().map_err(HeaderError)
    }
}

fn read_backoff(text: &str) -> Option<Backoff> {
    let mut parts = text.split(',');
    let backoff = Backoff {
        first_ms: parts.next()?.parse().ok()?,
        factor_tenths: parts.next()?.parse().ok()?,
        max_ms: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(backoff)
}

/// A header cannot be read; names the field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeaderError(pub &'static str);

impl fmt::Display for HeaderError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the field {:?} of a header is missing or malformed", self.0)
    }
}

impl std::error::Error for HeaderError {}
