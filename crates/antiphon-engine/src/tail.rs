//! The end of a call's record: what most calls have little of, so that it takes a byte when there is nothing.

use crate::call::Attempt;
use crate::codec::{Malformed, Reader, Writer};
use crate::inbox::InboxKey;
use crate::record::name;
use crate::route_codec::{decode_callbacks, encode_callbacks};
use alloc::boxed::Box;
use alloc::vec::Vec;
use antiphon_protocol::{CallId, Callback, CallerId, Code, Key, Tag};

const HAS_INBOX: u8 = 1;
const NAMED_INBOX: u8 = 2;
const HAS_KEY: u8 = 4;
const REVIVES: u8 = 8;
const HAS_HISTORY: u8 = 16;

const TIED: u8 = 32;

/// What a call hangs together with.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Ties {
    /// The call whose callback it is.
    pub cause: Option<CallId>,
    /// Callbacks that were added to those of its route.
    pub callbacks: Vec<Callback>,
    /// Its callbacks stand in the journal by themselves: replay makes none of them again.
    pub made: bool,
    /// The groups that it is a child of, and its place in each.
    pub groups: Vec<(CallId, u32)>,
    /// A group that gets no more children.
    pub sealed: bool,
    /// Its ordering key, and the number under which it joined its lane; 0 until it has.
    pub ordering: Option<(Key, u64)>,
    /// Its concurrency key.
    pub concurrency: Option<Key>,
    /// The call within which it was made.
    pub parent: Option<CallId>,
}

const CAUSE: u8 = 1;
const CALLBACKS: u8 = 2;
const MADE: u8 = 4;
const GROUPS: u8 = 8;
const SEALED: u8 = 16;
const ORDERED: u8 = 32;
const CONCURRENT: u8 = 64;
const CHILD: u8 = 128;

impl Ties {
    /// Whether it has an ordering or a concurrency key.
    pub(crate) const fn is_serial(&self) -> bool {
        self.ordering.is_some() || self.concurrency.is_some()
    }

    fn encode(&self, to: &mut Writer<'_>) {
        let mut flags = 0;
        flags |= if self.cause.is_some() { CAUSE } else { 0 };
        flags |= if self.callbacks.is_empty() { 0 } else { CALLBACKS };
        flags |= if self.made { MADE } else { 0 };
        flags |= if self.groups.is_empty() { 0 } else { GROUPS };
        flags |= if self.sealed { SEALED } else { 0 };
        flags |= if self.ordering.is_some() { ORDERED } else { 0 };
        flags |= if self.concurrency.is_some() { CONCURRENT } else { 0 };
        flags |= if self.parent.is_some() { CHILD } else { 0 };
        to.u8(flags);
        if let Some(cause) = self.cause {
            to.bytes(&cause.to_bytes());
        }
        if !self.callbacks.is_empty() {
            encode_callbacks(&self.callbacks, to);
        }
        if !self.groups.is_empty() {
            to.u8(u8::try_from(self.groups.len()).unwrap_or(u8::MAX));
            for (group, place) in self.groups.iter().take(usize::from(u8::MAX)) {
                to.bytes(&group.to_bytes());
                to.u32(*place);
            }
        }
        if let Some((key, turn)) = &self.ordering {
            to.u64(*turn);
            to.text(key.as_str());
        }
        if let Some(key) = &self.concurrency {
            to.text(key.as_str());
        }
        if let Some(parent) = self.parent {
            to.bytes(&parent.to_bytes());
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let flags = from.u8()?;
        let cause = if flags & CAUSE != 0 { Some(CallId::from_bytes(from.array()?)) } else { None };
        let callbacks = if flags & CALLBACKS != 0 { decode_callbacks(from)? } else { Vec::new() };
        let mut groups = Vec::new();
        if flags & GROUPS != 0 {
            for _ in 0..from.u8()? {
                groups.push((CallId::from_bytes(from.array()?), from.u32()?));
            }
        }
        let mut ties = Self { cause, callbacks, made: flags & MADE != 0, groups, ..Self::default() };
        ties.sealed = flags & SEALED != 0;
        if flags & ORDERED != 0 {
            let turn = from.u64()?;
            ties.ordering = Some((key(from)?, turn));
        }
        if flags & CONCURRENT != 0 {
            ties.concurrency = Some(key(from)?);
        }
        if flags & CHILD != 0 {
            ties.parent = Some(CallId::from_bytes(from.array()?));
        }
        Ok(ties)
    }
}

fn key(from: &mut Reader<'_>) -> Result<Key, Malformed> {
    Key::new(from.text()?).map_err(|_| Malformed)
}

/// What most calls have little of.
pub(crate) struct Tail {
    pub inbox: Option<(InboxKey, Tag)>,
    pub key: Option<(Key, u64)>,
    pub revives: Option<CallId>,
    pub history: Vec<Attempt>,
    pub ties: Option<Box<Ties>>,
}

/// One byte says what follows.
pub(crate) fn encode_tail(
    inbox: Option<&(InboxKey, Tag)>,
    key: Option<&(Key, u64)>,
    revives: Option<CallId>,
    history: &[Attempt],
    ties: Option<&Ties>,
    to: &mut Writer<'_>,
) {
    let mut flags = 0;
    flags |= match inbox {
        None => 0,
        Some((InboxKey::Anonymous(_), _)) => HAS_INBOX,
        Some((InboxKey::Named(_), _)) => HAS_INBOX | NAMED_INBOX,
    };
    flags |= if key.is_some() { HAS_KEY } else { 0 };
    flags |= if revives.is_some() { REVIVES } else { 0 };
    flags |= if history.is_empty() { 0 } else { HAS_HISTORY };
    let ties = ties.filter(|ties| **ties != Ties::default());
    flags |= if ties.is_some() { TIED } else { 0 };
    to.u8(flags);
    if let Some((inbox, tag)) = inbox {
        to.u64(*tag);
        match inbox {
            InboxKey::Anonymous(caller) => to.bytes(&caller.0),
            InboxKey::Named(name) => to.text(name),
        }
    }
    if let Some((key, hash)) = key {
        to.u64(*hash);
        to.text(key.as_str());
    }
    if let Some(id) = revives {
        to.bytes(&id.to_bytes());
    }
    if !history.is_empty() {
        to.u8(u8::try_from(history.len()).unwrap_or(u8::MAX));
        for attempt in history.iter().take(usize::from(u8::MAX)) {
            encode_attempt(attempt, to);
        }
    }
    if let Some(ties) = ties {
        ties.encode(to);
    }
}

pub(crate) fn decode_tail(from: &mut Reader<'_>) -> Result<Tail, Malformed> {
    let flags = from.u8()?;
    let mut inbox = None;
    if flags & HAS_INBOX != 0 {
        let tag = from.u64()?;
        let key = if flags & NAMED_INBOX != 0 {
            InboxKey::Named(name(from)?)
        } else {
            InboxKey::Anonymous(CallerId(from.array()?))
        };
        inbox = Some((key, tag));
    }
    let mut key = None;
    if flags & HAS_KEY != 0 {
        let hash = from.u64()?;
        key = Some((Key::new(from.text()?).map_err(|_| Malformed)?, hash));
    }
    let revives = if flags & REVIVES != 0 { Some(CallId::from_bytes(from.array()?)) } else { None };
    let mut history = Vec::new();
    if flags & HAS_HISTORY != 0 {
        for _ in 0..from.u8()? {
            history.push(decode_attempt(from)?);
        }
    }
    let ties = if flags & TIED != 0 { Some(Ties::decode(from)?) } else { None };
    // Ties that tie nothing are written as none: so they are read.
    let ties = ties.filter(|ties| *ties != Ties::default()).map(Box::new);
    Ok(Tail { inbox, key, revives, history, ties })
}

const WORKER: u8 = 1;
const LOST: u8 = 2;

pub(crate) fn encode_attempt(attempt: &Attempt, to: &mut Writer<'_>) {
    to.u16(attempt.attempt);
    to.u64(attempt.ended_ms);
    to.u8(attempt.code as u8);
    to.text(&attempt.text);
    to.u8(if attempt.worker.is_some() { WORKER } else { 0 } | if attempt.lost { LOST } else { 0 });
    if let Some(worker) = &attempt.worker {
        to.text(worker);
    }
}

pub(crate) fn decode_attempt(from: &mut Reader<'_>) -> Result<Attempt, Malformed> {
    let (attempt, ended_ms) = (from.u16()?, from.u64()?);
    let code = Code::from_number(from.u8()?).ok_or(Malformed)?;
    let text = from.string()?;
    let flags = from.u8()?;
    let worker = if flags & WORKER != 0 { Some(name(from)?) } else { None };
    Ok(Attempt { attempt, ended_ms, code, text, worker, lost: flags & LOST != 0 })
}
