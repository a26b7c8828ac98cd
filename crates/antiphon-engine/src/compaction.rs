//! Writing again what a segment about to be recycled still says: the owner of the journal asks, entry by entry.

use crate::Engine;
use crate::call::{COLD, DURABLE, NONE};
use crate::effect::{Body, Effects, Handle, Role, Urgency};
use crate::inbox::InboxKey;
use crate::kind::Kind;
use crate::planted::planted;
use crate::record::Record;
use alloc::borrow::Cow;
use antiphon_protocol::{CallId, State};

impl Engine {
    /// An entry stands in a segment that is to be emptied. Whatever it still says is recorded again, self-contained;
    /// `at` is released then. Says whether anything was recorded.
    pub fn survive(&mut self, kind: u8, key: [u8; 16], at: Handle, effects: &mut impl Effects) -> bool {
        if kind == Kind::Started as u8 {
            return at == self.started && self.restart_record(effects);
        }
        if kind == Kind::Horizon as u8 {
            let mine = at == self.horizon_record.0;
            if mine {
                self.record_horizon(effects);
            }
            return mine;
        }
        if kind == Kind::InboxOpened as u8 {
            return self.inbox_record(at, effects);
        }
        if kind == Kind::Configured as u8 {
            return self.settings_record(at, effects);
        }
        let (id, of_base) = (CallId::from_bytes(key), Some(at));
        match Kind::from_number(kind) {
            Some(Kind::Emitted) => return self.move_event(id, of_base, effects),
            Some(Kind::Distributed) => return self.move_event(id, None, effects),
            Some(Kind::Subscribed) => return self.move_subscription(id, of_base, effects),
            Some(Kind::Scheduled) => return self.move_schedule(id, of_base, effects),
            Some(Kind::Ticked) => return self.move_schedule(id, None, effects),
            Some(Kind::Unsubscribed) => return self.move_subscription(id, None, effects),
            _ => {}
        }
        let Some(index) = self.calls.find(CallId::from_bytes(key)) else { return false };
        let call = self.calls.get(index);
        if !call.has(DURABLE) {
            return false;
        }
        let settled = call.state.is_settled();
        let base = kind == Kind::Submitted as u8 || kind == Kind::Settled as u8;
        if self.arguments_of(index) == at && settled {
            // A dead letter's arguments: the record stays what it was, a submission; the settlement comes after it.
            return self.move_arguments(index, at, effects);
        }
        if base && call.handle != at {
            return false;
        }
        self.move_call(index, effects);
        true
    }

    fn restart_record(&mut self, effects: &mut impl Effects) -> bool {
        let old = self.started;
        let record = Record::Started { epoch: self.epoch, wall_ms: self.now.wall_ms };
        self.started = effects.record(&record, Body::None, Role::Base, Urgency::Now);
        effects.release(old);
        true
    }

    fn inbox_record(&mut self, at: Handle, effects: &mut impl Effects) -> bool {
        let Some(inbox) = self.inboxes.with_handle(at) else { return false };
        let InboxKey::Named(name) = inbox.key.clone() else { return false };
        inbox.handle = effects.record(&Record::InboxOpened { name }, Body::None, Role::Base, Urgency::Now);
        effects.release(at);
        true
    }

    fn move_call(&mut self, index: u32, effects: &mut impl Effects) {
        let call = self.calls.get(index);
        let (old, settled, reason) = (call.handle, call.state.is_settled(), call.reason);
        let handle = if settled {
            let body = if reason == 0 { Body::Stored(old) } else { Body::None };
            effects.record(&Record::Settled(Cow::Owned(self.settled(index))), body, Role::Base, Urgency::Now)
        } else {
            let record = Record::Submitted(Cow::Owned(self.submitted(index)));
            let body = if self.event_of(index).is_some() { Body::None } else { Body::Stored(old) };
            effects.record(&record, body, Role::Base, Urgency::Now)
        };
        effects.release(old);
        self.calls.get_mut(index).handle = handle;
        self.calls.get_mut(index).set(COLD, true);
        let call = self.calls.get(index);
        // Also a lease that stood in no record: the copy counts its attempt.
        let holds = settled && call.lease != NONE && self.serial(index).is_some();
        let leased = call.state == State::Leased && !planted!("lease lost in compaction");
        if leased || (holds && self.leases.get(call.lease).recorded) {
            self.record_lease(call.lease, Urgency::Now, effects);
        }
    }

    /// Both records of a dead letter are written again, arguments first, so that replay finds them in that order.
    fn move_arguments(&mut self, index: u32, at: Handle, effects: &mut impl Effects) -> bool {
        let record = Record::Submitted(Cow::Owned(self.submitted(index)));
        let body = if self.event_of(index).is_some() { Body::None } else { Body::Stored(at) };
        let arguments = effects.record(&record, body, Role::Base, Urgency::Now);
        effects.release(at);
        self.calls.extra_mut(index).arguments = arguments;
        self.move_call(index, effects);
        true
    }
}
