//! Takes down what the engine records, keeps and says.

use antiphon_engine::{Body, Effect, Effects, Ending, Gate, Handle, Kind, Record, Role, Told, Urgency};
use antiphon_protocol::{CallId, CallbackOn};
use std::collections::BTreeMap;

/// A journaled record: its bytes, as the journal would give them back.
#[derive(Clone)]
pub struct Kept {
    pub kind: u8,
    pub key: [u8; 16],
    pub head: Vec<u8>,
    pub handle: Handle,
}

/// Takes effects down.
#[derive(Default)]
pub struct Scribe {
    /// Whether what was released may come back by a restart, to be released again.
    pub forgets: bool,
    pub records: Vec<Kept>,
    pub released: Vec<Handle>,
    pub handles: u64,
    pub effects: Vec<(Gate, Effect)>,
    pub said: Vec<String>,
    /// How often a record of this kind was written of whom, but for copies.
    pub written: BTreeMap<([u8; 16], u8), u32>,
    /// Compaction runs: what is written now is copies.
    pub copies: bool,
    gathered: Vec<String>,
}

impl Scribe {
    /// Whatever is read back is there still.
    fn hold_body(&self, body: &Body) {
        let from = match body {
            Body::Stored(handle) => *handle,
            Body::Told { told, .. } => match told.ending {
                Some(Ending::Stored(handle)) => handle,
                Some(Ending::Decided(_)) | None => return,
            },
            Body::Gathered { .. } | Body::None | Body::Command => return,
        };
        assert!(!self.released.contains(&from), "a body is read before it is released");
    }
}

impl Scribe {
    /// Where the call's first record of this kind stands.
    pub fn position_of(&self, id: CallId, kind: u8) -> Option<usize> {
        self.records.iter().position(|kept| kept.key == id.to_bytes() && kept.kind == kind)
    }

    /// The power went: nothing behind this record was written.
    pub fn cut_behind(&mut self, position: usize) {
        self.records.truncate(position + 1);
        // What was to be released was not: releases are not written.
        let kept: Vec<Handle> = self.records.iter().map(|kept| kept.handle).collect();
        self.released.retain(|handle| !kept.contains(handle));
    }

    /// The young log was recycled, with all records of these kinds that are of this one.
    pub fn recycle(&mut self, id: CallId, kinds: &[Kind]) {
        let gone = |kept: &Kept| kept.key == id.to_bytes() && kinds.iter().any(|kind| kept.kind == *kind as u8);
        self.records.retain(|kept| !gone(kept));
    }

    /// Every record of this call is gone.
    pub fn forget(&mut self, id: CallId) {
        self.records.retain(|kept| kept.key != id.to_bytes());
    }

    /// The newest record, as compaction comes across it.
    pub fn newest(&self) -> (u8, [u8; 16], Handle) {
        let kept = self.records.last().expect("something was recorded");
        (kept.kind, kept.key, kept.handle)
    }
}

impl Effects for Scribe {
    fn record(&mut self, record: &Record<'_>, body: Body, _: Role, urgency: Urgency) -> Handle {
        self.hold_body(&body);
        self.handles += 1;
        let mut head = Vec::new();
        record.encode(&mut head);
        let decoded = Record::decode(record.kind() as u8, record.key(), &head);
        assert_eq!(decoded.as_ref(), Ok(record), "a record is read back as it was written");
        let handle = Handle(self.handles);
        if !self.copies {
            *self.written.entry((record.key(), record.kind() as u8)).or_default() += 1;
        }
        self.records.push(Kept { kind: record.kind() as u8, key: record.key(), head, handle });
        self.said.push(format!("record {:?} {urgency:?}", record.kind()));
        if let Body::Gathered { .. } = body {
            let gathered = std::mem::take(&mut self.gathered);
            let gathered = if gathered.is_empty() { "nothing".to_owned() } else { gathered.join(", ") };
            self.said.push(format!("gathered: {gathered}"));
        }
        handle
    }

    fn store(&mut self, body: Body) -> Handle {
        self.hold_body(&body);
        self.handles += 1;
        Handle(self.handles | 1 << 63)
    }

    fn release(&mut self, handle: Handle) {
        assert!(!self.released.contains(&handle), "a body is released once");
        self.released.push(handle);
    }

    fn begin_gathering(&mut self) {
        self.gathered.clear();
    }

    fn gather(&mut self, told: Told) {
        let text = format!("{} {}", told.id, told.state);
        self.hold_body(&Body::Told { on: CallbackOn::Outcome, told });
        self.gathered.push(text);
    }

    fn entomb(&mut self, id: CallId) {
        self.handles += 1;
        let record = Record::Entombed { id, until: self.handles };
        let mut head = Vec::new();
        record.encode(&mut head);
        let (kind, key) = (record.kind() as u8, record.key());
        self.records.push(Kept { kind, key, head, handle: Handle(self.handles) });
    }

    fn emit(&mut self, gate: Gate, effect: Effect) {
        self.effects.push((gate, effect));
    }
}
