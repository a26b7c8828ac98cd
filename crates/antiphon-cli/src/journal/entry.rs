//! One record of the journal, for people and as JSON.

use crate::status::local_time;
use antiphon_engine::{InboxKey, Progress, Record, Settled, Submitted};
use antiphon_journal::Recovered;
use antiphon_protocol::CallId;
use serde_json::{Value, json};

/// `lsn segment:offset log kind call fields`.
pub fn line(entry: &Recovered<'_>) -> String {
    let position = format!("{}:{}", entry.position.segment(), entry.position.offset());
    let log = format!("{:?}", entry.generation).to_lowercase();
    let (kind, fields) = fields(entry);
    let call = match entry.key {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] => String::new(),
        key => format!(" {}", CallId::from_bytes(key)),
    };
    let shown = fields.as_object().into_iter().flatten().map(|(name, value)| {
        match (name.strip_suffix("_ms"), value.as_u64()) {
            (Some(name), Some(ms)) if ms > 0 => format!(" {name}={}", local_time(ms).replace(' ', "T")),
            _ => format!(" {name}={value}"),
        }
    });
    format!("{:>8} {position:<14} {log:<5} {kind:<12}{call}{}", entry.lsn.as_u64(), shown.collect::<String>())
}

/// The same as JSON.
pub fn to_value(entry: &Recovered<'_>) -> Value {
    let (kind, fields) = fields(entry);
    json!({
        "lsn": entry.lsn.as_u64(),
        "segment": entry.position.segment(),
        "offset": entry.position.offset(),
        "log": format!("{:?}", entry.generation).to_lowercase(),
        "role": format!("{:?}", entry.role).to_lowercase(),
        "kind": kind,
        "call": (entry.key != [0; 16]).then(|| CallId::from_bytes(entry.key)),
        "body_bytes": entry.body_len,
        "fields": fields,
    })
}

fn fields(entry: &Recovered<'_>) -> (String, Value) {
    let Ok(record) = Record::decode(entry.kind, entry.key, entry.head) else {
        return (format!("kind {}", entry.kind), json!({ "unreadable_head_bytes": entry.head.len() }));
    };
    let fields = match &record {
        Record::Started { epoch, wall_ms } => json!({ "epoch": epoch, "at_ms": wall_ms }),
        Record::Submitted(submitted) => submitted_fields(submitted),
        Record::Leased { lease, worker, attempt, wall_ms, .. } => {
            json!({ "attempt": attempt, "worker": worker, "token": lease.token, "at_ms": wall_ms })
        }
        Record::Returned { due_ms, progress, ended, .. } => {
            let mut fields = json!({ "due_ms": due_ms, "progress": progress_text(*progress) });
            if let (Some(ended), Some(fields)) = (ended, fields.as_object_mut()) {
                fields.insert("attempt".to_owned(), ended.attempt.into());
                fields.insert("code".to_owned(), ended.code.name().into());
                fields.insert("text".to_owned(), ended.text.as_str().into());
                fields.insert("lost".to_owned(), ended.lost.into());
            }
            fields
        }
        Record::Settled(settled) => settled_fields(settled),
        Record::InboxOpened { name } | Record::InboxRemoved { name } => json!({ "inbox": name }),
        Record::Horizon { ms, resend_ms } => json!({ "through_ms": ms, "resend_through_ms": resend_ms }),
        Record::Configured { procedure, settings } => json!({ "procedure": procedure, "settings": settings }),
        Record::Acknowledged { .. } | Record::Forgotten { .. } => json!({}),
        // A kind that is newer than this list still shows.
        other => json!({ "record": format!("{other:?}") }),
    };
    (format!("{:?}", record.kind()), fields)
}

fn submitted_fields(submitted: &Submitted) -> Value {
    json!({
        "procedure": submitted.route.procedure,
        "at_ms": submitted.submitted_ms,
        "due_ms": submitted.due_ms,
        "deadline_ms": submitted.deadline_ms,
        "bytes": submitted.bytes,
        "inbox": submitted.inbox.as_ref().map(|(inbox, _)| inbox_text(inbox)),
        "idempotency_key": submitted.key.as_ref().map(|(key, _)| key.as_str()),
        "revives": submitted.revives,
        "progress": progress_text(submitted.progress),
    })
}

fn settled_fields(settled: &Settled) -> Value {
    json!({
        "procedure": settled.route.procedure,
        "state": settled.state.name(),
        "at_ms": settled.settled_ms,
        "bytes": settled.bytes,
        "inbox": settled.inbox.as_ref().map(|(inbox, _)| inbox_text(inbox)),
        "progress": progress_text(settled.progress),
    })
}

fn inbox_text(inbox: &InboxKey) -> String {
    match inbox {
        InboxKey::Anonymous(_) => "anonymous".to_owned(),
        InboxKey::Named(name) => name.to_string(),
    }
}

fn progress_text(progress: Progress) -> String {
    let Progress { started, failed, lost, suspect } = progress;
    let suspect = if suspect { " suspect" } else { "" };
    format!("{started} started {failed} failed {lost} lost{suspect}")
}
