//! The kinds of records, by number. Numbers never change their meaning; 16 and 23 were never written.

/// The number of a record's kind, as the journal keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// [`Record::Started`](crate::Record::Started)
    Started = 1,
    /// [`Record::Submitted`](crate::Record::Submitted)
    Submitted = 2,
    /// [`Record::Leased`](crate::Record::Leased)
    Leased = 3,
    /// [`Record::Returned`](crate::Record::Returned)
    Returned = 4,
    /// [`Record::Settled`](crate::Record::Settled)
    Settled = 5,
    /// [`Record::Acknowledged`](crate::Record::Acknowledged)
    Acknowledged = 6,
    /// [`Record::InboxOpened`](crate::Record::InboxOpened)
    InboxOpened = 7,
    /// [`Record::Forgotten`](crate::Record::Forgotten)
    Forgotten = 8,
    /// [`Record::InboxRemoved`](crate::Record::InboxRemoved)
    InboxRemoved = 9,
    /// [`Record::Horizon`](crate::Record::Horizon)
    Horizon = 10,
    /// [`Record::Entombed`](crate::Record::Entombed)
    Entombed = 11,
    /// [`Record::CallbackAdded`](crate::Record::CallbackAdded)
    CallbackAdded = 12,
    /// [`Record::Joined`](crate::Record::Joined)
    Joined = 13,
    /// [`Record::Sealed`](crate::Record::Sealed)
    Sealed = 14,
    /// [`Record::Configured`](crate::Record::Configured)
    Configured = 15,
    /// [`Record::Emitted`](crate::Record::Emitted)
    Emitted = 17,
    /// [`Record::Distributed`](crate::Record::Distributed)
    Distributed = 18,
    /// [`Record::Subscribed`](crate::Record::Subscribed)
    Subscribed = 19,
    /// [`Record::Unsubscribed`](crate::Record::Unsubscribed)
    Unsubscribed = 20,
    /// [`Record::Scheduled`](crate::Record::Scheduled)
    Scheduled = 21,
    /// [`Record::Ticked`](crate::Record::Ticked)
    Ticked = 22,
    /// [`Record::LaneJoined`](crate::Record::LaneJoined)
    LaneJoined = 24,
    /// [`Record::Stopped`](crate::Record::Stopped)
    Stopped = 25,
}

impl Kind {
    pub(crate) const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Started,
            2 => Self::Submitted,
            3 => Self::Leased,
            4 => Self::Returned,
            5 => Self::Settled,
            6 => Self::Acknowledged,
            7 => Self::InboxOpened,
            8 => Self::Forgotten,
            9 => Self::InboxRemoved,
            10 => Self::Horizon,
            11 => Self::Entombed,
            12 => Self::CallbackAdded,
            13 => Self::Joined,
            14 => Self::Sealed,
            15 => Self::Configured,
            17 => Self::Emitted,
            18 => Self::Distributed,
            19 => Self::Subscribed,
            20 => Self::Unsubscribed,
            21 => Self::Scheduled,
            22 => Self::Ticked,
            24 => Self::LaneJoined,
            25 => Self::Stopped,
            _ => return None,
        })
    }
}
