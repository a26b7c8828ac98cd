//! The journal's records: facts about calls, never commands. Replaying them runs no policy.
//!
//! To change a record: give it a new number in [`Kind`], keep reading the old one for ever, write only the new one,
//! and add its golden bytes to the tests. Fields are little-endian, texts carry a 16-bit length first.

use crate::call::Attempt;
use crate::codec::{Malformed, Reader, Writer};
use crate::event::Emitted;
use crate::inbox::InboxKey;
use crate::kind::Kind;
use crate::recurring::{Scheduled, Ticked};
use crate::route_codec::{LastRoute, decode_callbacks, encode_callbacks, encode_route};
use crate::subscription::Subscribed;
use crate::tail::{Tail, Ties, decode_attempt, decode_tail, encode_attempt, encode_tail};
use crate::terms::{decode_settings, encode_settings};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use antiphon_protocol::{CallId, Callback, Epoch, IncarnationId, Key, LeaseTag, Name, Route, Settings, State, Tag};

/// A fact.
#[derive(Clone, Debug, PartialEq)]
pub enum Record<'a> {
    /// The broker started.
    Started {
        /// Its number.
        epoch: Epoch,
        /// When.
        wall_ms: u64,
    },
    /// A call was accepted, or (on compaction) stands as it stands now. A base; the body is the arguments.
    Submitted(Cow<'a, Submitted>),
    /// A worker was given the right to run an attempt.
    Leased {
        /// The call.
        id: CallId,
        /// Where the lease stands, and its fence.
        lease: LeaseTag,
        /// To whom.
        incarnation: IncarnationId,
        /// Its name, for people.
        worker: Name,
        /// Which attempt.
        attempt: u16,
        /// When.
        wall_ms: u64,
    },
    /// An attempt ended and the call goes on: retried, released, or its lease was lost.
    Returned {
        /// The call.
        id: CallId,
        /// When it may start again, wall; 0 is at once.
        due_ms: u64,
        /// Its counts from now on.
        progress: Progress,
        /// How the attempt ended, unless it was given back unharmed.
        ended: Option<Cow<'a, Attempt>>,
    },
    /// A call reached its terminal state. A base; the body is the outcome, if it is not a reason.
    Settled(Cow<'a, Settled>),
    /// The call's inbox needs its outcome no more.
    Acknowledged {
        /// The call.
        id: CallId,
    },
    /// A named inbox exists. A base.
    InboxOpened {
        /// Its name.
        name: Name,
    },
    /// A settled call was forgotten before its time, or a dead letter purged.
    Forgotten {
        /// The call.
        id: CallId,
    },
    /// Calls with ids up to these times may have been forgotten. A base. Milliseconds since 1970.
    Horizon {
        /// Any call.
        ms: u64,
        /// A call whose caller may send it again: its outcome was not acknowledged.
        resend_ms: u64,
    },
    /// A settled call was forgotten while older records of it may still stand in the cold log. A base, needed until
    /// those are gone: without it, replay would find the call unsettled again.
    Entombed {
        /// The call.
        id: CallId,
        /// The records that it covers have lower numbers than this.
        until: u64,
    },
    /// A call that was there got a callback. If it had settled, the callback was made with this record.
    CallbackAdded {
        /// The call.
        id: CallId,
        /// The callback.
        callback: Cow<'a, Callback>,
    },
    /// A call that was there became a child of a group.
    Joined {
        /// The call.
        id: CallId,
        /// The group, and the child's place in it.
        group: (CallId, u32),
    },
    /// A group gets no more children.
    Sealed {
        /// The group.
        id: CallId,
    },
    /// A delayed call with an ordering key became ready for the first time, and joined its lane.
    LaneJoined {
        /// The call.
        id: CallId,
        /// Its number there.
        turn: u64,
    },
    /// The attempt of a settled call with an ordering or concurrency key has stopped, or its lease ended.
    Stopped {
        /// The call.
        id: CallId,
    },
    /// A named inbox and what it held is gone.
    InboxRemoved {
        /// Its name.
        name: Name,
    },
    /// An event was accepted, or (on compaction) stands as it stands now. A base; the body is its payload.
    Emitted(Cow<'a, Emitted>),
    /// An event made its calls for all subscriptions up to this number.
    Distributed {
        /// The event.
        id: CallId,
        /// The number; the highest there is when it is done.
        cursor: u64,
    },
    /// A schedule exists, or (on compaction) stands as it stands now. A base; the body is its arguments.
    Scheduled(Cow<'a, Scheduled>),
    /// A schedule has come so far.
    Ticked {
        /// The schedule.
        id: CallId,
        /// How far.
        ticked: Ticked,
    },
    /// A subscription exists. A base.
    Subscribed(Cow<'a, Subscribed>),
    /// A subscription matches nothing that comes after this number.
    Unsubscribed {
        /// The subscription.
        id: CallId,
        /// The number.
        at: u64,
    },
    /// This, and nothing else, is set for a procedure. A base.
    Configured {
        /// The procedure.
        procedure: Name,
        /// What is set.
        settings: Cow<'a, Settings>,
    },
}

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Progress {
    /// Attempts started and not given back.
    pub started: u16,
    /// Attempts failed.
    pub failed: u16,
    /// Leases lost as the only suspect.
    pub lost: u8,
    /// Whether it lost a lease to a dying worker.
    pub suspect: bool,
}

/// A call that is not settled.
#[derive(Clone, Debug, PartialEq)]
pub struct Submitted {
    /// The call.
    pub id: CallId,
    /// Where it goes.
    pub route: Arc<Route>,
    /// When it was accepted, wall.
    pub submitted_ms: u64,
    /// When its deadline passes, wall; 0 is none.
    pub deadline_ms: u64,
    /// When it may start, wall; 0 is at once.
    pub due_ms: u64,
    /// Where its outcome goes, and under which tag.
    pub inbox: Option<(InboxKey, Tag)>,
    /// Bytes of its arguments.
    pub bytes: u32,
    /// Its idempotency key, and the hash of its arguments.
    pub key: Option<(Key, u64)>,
    /// The dead letter it revives.
    pub revives: Option<CallId>,
    /// How far it has come.
    pub progress: Progress,
    /// How its attempts ended.
    pub history: Vec<Attempt>,
    /// What it hangs together with.
    pub ties: Option<Box<Ties>>,
}

/// A call that is settled.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    /// The call.
    pub id: CallId,
    /// Where it went.
    pub route: Arc<Route>,
    /// Its terminal state.
    pub state: State,
    /// Why the engine settled it; 0 when the body is the outcome.
    pub reason: u8,
    /// When it was accepted, wall.
    pub submitted_ms: u64,
    /// When it settled, wall.
    pub settled_ms: u64,
    /// The inbox that has not acknowledged it, and under which tag.
    pub inbox: Option<(InboxKey, Tag)>,
    /// Bytes of its outcome.
    pub bytes: u32,
    /// Its idempotency key, and the hash of its arguments.
    pub key: Option<(Key, u64)>,
    /// How far it had come.
    pub progress: Progress,
    /// How its attempts ended.
    pub history: Vec<Attempt>,
    /// What it hangs together with.
    pub ties: Option<Box<Ties>>,
}

impl Record<'_> {
    /// The number of its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Started { .. } => Kind::Started,
            Self::Submitted(_) => Kind::Submitted,
            Self::Leased { .. } => Kind::Leased,
            Self::Returned { .. } => Kind::Returned,
            Self::Settled(_) => Kind::Settled,
            Self::Acknowledged { .. } => Kind::Acknowledged,
            Self::InboxOpened { .. } => Kind::InboxOpened,
            Self::Forgotten { .. } => Kind::Forgotten,
            Self::InboxRemoved { .. } => Kind::InboxRemoved,
            Self::Horizon { .. } => Kind::Horizon,
            Self::Entombed { .. } => Kind::Entombed,
            Self::CallbackAdded { .. } => Kind::CallbackAdded,
            Self::Joined { .. } => Kind::Joined,
            Self::Sealed { .. } => Kind::Sealed,
            Self::Emitted(_) => Kind::Emitted,
            Self::Distributed { .. } => Kind::Distributed,
            Self::Subscribed(_) => Kind::Subscribed,
            Self::Unsubscribed { .. } => Kind::Unsubscribed,
            Self::Scheduled(_) => Kind::Scheduled,
            Self::Ticked { .. } => Kind::Ticked,
            Self::Configured { .. } => Kind::Configured,
            Self::LaneJoined { .. } => Kind::LaneJoined,
            Self::Stopped { .. } => Kind::Stopped,
        }
    }

    /// What the record is about: a call's id, or zeros.
    #[must_use]
    pub fn key(&self) -> [u8; 16] {
        match self {
            Self::Submitted(record) => record.id.to_bytes(),
            Self::Settled(record) => record.id.to_bytes(),
            Self::Emitted(record) => record.id.to_bytes(),
            Self::Subscribed(record) => record.id.to_bytes(),
            Self::Scheduled(record) => record.id.to_bytes(),
            Self::Leased { id, .. }
            | Self::Returned { id, .. }
            | Self::Acknowledged { id }
            | Self::Entombed { id, .. }
            | Self::CallbackAdded { id, .. }
            | Self::Joined { id, .. }
            | Self::Sealed { id }
            | Self::Distributed { id, .. }
            | Self::Unsubscribed { id, .. }
            | Self::Ticked { id, .. }
            | Self::LaneJoined { id, .. }
            | Self::Stopped { id }
            | Self::Forgotten { id } => id.to_bytes(),
            Self::Started { .. }
            | Self::InboxOpened { .. }
            | Self::InboxRemoved { .. }
            | Self::Configured { .. }
            | Self::Horizon { .. } => [0; 16],
        }
    }

    /// Appends the head (everything but kind, key and body) to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut to = Writer(out);
        match self {
            Self::Started { epoch, wall_ms } => {
                to.u32(epoch.0);
                to.u64(*wall_ms);
            }
            Self::Submitted(record) => record.encode(&mut to),
            Self::Leased { lease, incarnation, worker, attempt, wall_ms, .. } => {
                to.u32(lease.slot);
                to.u64(lease.token);
                to.bytes(&incarnation.0);
                to.u16(*attempt);
                to.u64(*wall_ms);
                to.text(worker);
            }
            Self::Returned { due_ms, progress, ended, .. } => {
                to.u64(*due_ms);
                progress.encode(&mut to);
                to.u8(u8::from(ended.is_some()));
                if let Some(attempt) = ended {
                    encode_attempt(attempt, &mut to);
                }
            }
            Self::Settled(record) => record.encode(&mut to),
            Self::InboxOpened { name } | Self::InboxRemoved { name } => to.text(name),
            Self::Horizon { ms, resend_ms } => {
                to.u64(*ms);
                to.u64(*resend_ms);
            }
            Self::Entombed { until: number, .. }
            | Self::Distributed { cursor: number, .. }
            | Self::Unsubscribed { at: number, .. } => to.u64(*number),
            Self::Emitted(record) => record.encode(&mut to),
            Self::Subscribed(record) => record.encode(&mut to),
            Self::Scheduled(record) => record.encode(&mut to),
            Self::Ticked { ticked, .. } => ticked.encode(&mut to),
            Self::Configured { procedure, settings } => {
                to.text(procedure);
                encode_settings(settings, &mut to);
            }
            Self::CallbackAdded { callback, .. } => encode_callbacks(core::slice::from_ref(callback), &mut to),
            Self::Joined { group: (group, place), .. } => {
                to.bytes(&group.to_bytes());
                to.u32(*place);
            }
            Self::LaneJoined { turn, .. } => to.u64(*turn),
            Self::Acknowledged { .. } | Self::Forgotten { .. } | Self::Sealed { .. } | Self::Stopped { .. } => {}
        }
    }

    /// Reads a record back.
    ///
    /// # Errors
    /// [`Malformed`] when the head is not what its kind says.
    pub fn decode(kind: u8, key: [u8; 16], head: &[u8]) -> Result<Record<'static>, Malformed> {
        Self::decode_after(&mut LastRoute::default(), kind, key, head)
    }

    /// The same, when others were read before.
    pub(crate) fn decode_after(
        last: &mut LastRoute,
        kind: u8,
        key: [u8; 16],
        head: &[u8],
    ) -> Result<Record<'static>, Malformed> {
        let mut from = Reader(head);
        let id = CallId::from_bytes(key);
        Ok(match Kind::from_number(kind).ok_or(Malformed)? {
            Kind::Started => Record::Started { epoch: Epoch(from.u32()?), wall_ms: from.u64()? },
            Kind::Submitted => Record::Submitted(Cow::Owned(Submitted::decode(id, last, &mut from)?)),
            Kind::Leased => Record::Leased {
                id,
                lease: LeaseTag { slot: from.u32()?, token: from.u64()? },
                incarnation: IncarnationId(from.array()?),
                attempt: from.u16()?,
                wall_ms: from.u64()?,
                worker: name(&mut from)?,
            },
            Kind::Returned => Record::Returned {
                id,
                due_ms: from.u64()?,
                progress: Progress::decode(&mut from)?,
                ended: match from.u8()? {
                    0 => None,
                    _ => Some(Cow::Owned(decode_attempt(&mut from)?)),
                },
            },
            Kind::Settled => Record::Settled(Cow::Owned(Settled::decode(id, last, &mut from)?)),
            Kind::Acknowledged => Record::Acknowledged { id },
            Kind::InboxOpened => Record::InboxOpened { name: name(&mut from)? },
            Kind::Forgotten => Record::Forgotten { id },
            Kind::Entombed => Record::Entombed { id, until: from.u64()? },
            Kind::LaneJoined => Record::LaneJoined { id, turn: from.u64()? },
            Kind::Stopped => Record::Stopped { id },
            Kind::Horizon => Record::Horizon { ms: from.u64()?, resend_ms: from.u64()? },
            Kind::InboxRemoved => Record::InboxRemoved { name: name(&mut from)? },
            Kind::CallbackAdded => {
                let callback = decode_callbacks(&mut from)?.pop().ok_or(Malformed)?;
                Record::CallbackAdded { id, callback: Cow::Owned(callback) }
            }
            Kind::Joined => Record::Joined { id, group: (CallId::from_bytes(from.array()?), from.u32()?) },
            Kind::Sealed => Record::Sealed { id },
            Kind::Emitted => Record::Emitted(Cow::Owned(Emitted::decode(id, &mut from)?)),
            Kind::Distributed => Record::Distributed { id, cursor: from.u64()? },
            Kind::Subscribed => Record::Subscribed(Cow::Owned(Subscribed::decode(id, &mut from)?)),
            Kind::Unsubscribed => Record::Unsubscribed { id, at: from.u64()? },
            Kind::Scheduled => Record::Scheduled(Cow::Owned(Scheduled::decode(id, &mut from)?)),
            Kind::Ticked => Record::Ticked { id, ticked: Ticked::decode(&mut from)? },
            Kind::Configured => {
                Record::Configured { procedure: name(&mut from)?, settings: Cow::Owned(decode_settings(&mut from)?) }
            }
        })
    }
}

impl Submitted {
    fn encode(&self, to: &mut Writer<'_>) {
        encode_route(&self.route, to);
        to.u64(self.submitted_ms);
        to.u64(self.deadline_ms);
        to.u64(self.due_ms);
        to.u32(self.bytes);
        self.progress.encode(to);
        encode_tail(self.inbox.as_ref(), self.key.as_ref(), self.revives, &self.history, self.ties.as_deref(), to);
    }

    fn decode(id: CallId, last: &mut LastRoute, from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let route = last.decode(from)?;
        let (submitted_ms, deadline_ms, due_ms) = (from.u64()?, from.u64()?, from.u64()?);
        let bytes = from.u32()?;
        let progress = Progress::decode(from)?;
        let Tail { inbox, key, revives, history, ties } = decode_tail(from)?;
        Ok(Self { id, route, submitted_ms, deadline_ms, due_ms, inbox, bytes, key, revives, progress, history, ties })
    }
}

impl Settled {
    fn encode(&self, to: &mut Writer<'_>) {
        encode_route(&self.route, to);
        to.u8(self.state as u8);
        to.u8(self.reason);
        to.u64(self.submitted_ms);
        to.u64(self.settled_ms);
        to.u32(self.bytes);
        self.progress.encode(to);
        encode_tail(self.inbox.as_ref(), self.key.as_ref(), None, &self.history, self.ties.as_deref(), to);
    }

    fn decode(id: CallId, last: &mut LastRoute, from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let route = last.decode(from)?;
        let state = State::from_number(from.u8()?).filter(|state| state.is_settled()).ok_or(Malformed)?;
        let reason = from.u8()?;
        let (submitted_ms, settled_ms) = (from.u64()?, from.u64()?);
        let bytes = from.u32()?;
        let progress = Progress::decode(from)?;
        let Tail { inbox, key, history, ties, .. } = decode_tail(from)?;
        Ok(Self { id, route, state, reason, submitted_ms, settled_ms, inbox, bytes, key, progress, history, ties })
    }
}

impl Progress {
    fn encode(self, to: &mut Writer<'_>) {
        to.u16(self.started);
        to.u16(self.failed);
        to.u8(self.lost);
        to.u8(u8::from(self.suspect));
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { started: from.u16()?, failed: from.u16()?, lost: from.u8()?, suspect: from.u8()? != 0 })
    }
}

pub(crate) fn name(from: &mut Reader<'_>) -> Result<Name, Malformed> {
    Name::new(from.text()?).map_err(|_| Malformed)
}
