//! `antiphon call`: one call, awaited or detached.

use crate::callback::Callbacks;
use crate::connection::{Connection, new_call_id, now_ms};
use crate::ending::{Ending, INTERRUPTED, REFUSED, UNREACHABLE};
use crate::output::{Format, Output};
use crate::result::{self, Settled};
use crate::stop::Stops;
use crate::{input, ls, nearest};
use antiphon_broker::{Caller, Event, Submission, Wants};
use antiphon_protocol::{CallId, Durability, Key, Keys, Name, Payload, Priority, Route, Start, defaults};
use clap::Args;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep, sleep_until};

/// An expected wait that is worth a remark.
const REMARKABLE_MS: u64 = 1_000;
/// After this long without a worker the caller is told: a mistyped name would wait for ever.
const NO_WORKER_AFTER: Duration = Duration::from_secs(1);
/// How long a broker that went away may take to come back.
const DOWN_MAX: Duration = Duration::from_secs(30);
/// How long a cancellation may take to be answered before the program ends anyway.
const CANCEL_ANSWER: Duration = Duration::from_secs(1);

/// Call a procedure and print its value
#[derive(Debug, Args)]
pub struct Call {
    /// The procedure, as service.procedure
    #[arg(value_parser = input::name)]
    procedure: Name,
    /// The argument as JSON; @FILE reads a file, - reads stdin [default: null]
    #[arg(value_name = "JSON|-|@FILE", allow_hyphen_values = true)]
    argument: Option<String>,
    /// Print the call's id and do not wait for its outcome
    #[arg(long)]
    detach: bool,
    /// How long the whole call may take (5s), or until when [default: 30s from its start; none with --detach]
    #[arg(long, value_parser = input::deadline, value_name = "DURATION|TIME", allow_hyphen_values = true)]
    deadline: Option<u64>,
    /// How long one attempt may take
    #[arg(long, value_parser = input::attempt_timeout, value_name = "DURATION", allow_hyphen_values = true)]
    attempt_timeout: Option<u32>,
    /// Calls of one procedure with the same key are one call
    #[arg(long, value_parser = input::key, value_name = "KEY")]
    idempotency_key: Option<Key>,
    /// Calls with one ordering key run one after the other, in the order in which they became ready
    #[arg(long, visible_alias = "key", value_parser = input::key, value_name = "KEY")]
    ordering_key: Option<Key>,
    /// The lane of that key, which several procedures may share [default: the procedure]
    #[arg(long, value_parser = input::name, requires = "ordering_key")]
    lane: Option<Name>,
    /// Of calls with one concurrency key only so many run at a time
    #[arg(long, value_parser = input::key, value_name = "KEY")]
    concurrency_key: Option<Key>,
    /// How many of those
    #[arg(long, value_name = "N", default_value_t = defaults::CONCURRENCY, value_parser = clap::value_parser!(u32).range(1..), requires = "concurrency_key")]
    concurrency: u32,
    /// Run it only on a worker with this label; may be repeated
    #[arg(long, value_parser = input::name, value_name = "LABEL")]
    label: Vec<Name>,
    /// How many slots of its worker it takes
    #[arg(long, value_name = "N", default_value_t = defaults::CALL_SLOTS, value_parser = clap::value_parser!(u8).range(1..=i64::from(defaults::CALL_SLOTS_MAX)))]
    slots: u8,
    /// 0 to 9, 9 goes first
    #[arg(long, value_parser = input::priority, default_value = "4", allow_hyphen_values = true)]
    priority: Priority,
    /// The tenant it counts for
    #[arg(long, value_parser = input::name)]
    tenant: Option<Name>,
    /// Start after this long
    #[arg(long, value_parser = input::duration, value_name = "DURATION", conflicts_with = "not_before", allow_hyphen_values = true)]
    delay: Option<Duration>,
    /// Start not before this time, such as 2026-01-31T18:00
    #[arg(long, value_parser = input::instant, value_name = "TIME")]
    not_before: Option<u64>,
    /// How often it is tried, the first time included
    #[arg(long, value_name = "N", default_value_t = defaults::ATTEMPTS, value_parser = clap::value_parser!(u16).range(1..))]
    attempts: u16,
    /// Never start it twice: a lost lease makes it dead, and it may have run
    #[arg(long)]
    at_most_once: bool,
    /// Keep it in memory only: it dies with the broker
    #[arg(long)]
    volatile: bool,
    #[command(flatten)]
    callbacks: Callbacks,
    /// Make it a child of this group
    #[arg(long, value_parser = input::call_id, value_name = "GROUP")]
    group: Option<CallId>,
    /// Refuse it when no worker serves the procedure now
    #[arg(long)]
    require_worker: bool,
    /// Print what the procedure tells of itself to stderr, a JSON value a line
    #[arg(long, conflicts_with = "detach")]
    progress: bool,
    /// The argument is JSON (the default)
    #[arg(long, conflicts_with = "raw")]
    json: bool,
    /// The argument is bytes, sent as they are
    #[arg(long)]
    raw: bool,
}

pub async fn run(arguments: Call, url: Option<&str>, output: &Output) -> Result<(), Ending> {
    let payload = payload(&arguments)?;
    let connection = Connection::open(url).await?;
    let limit = connection.payload_bytes_max();
    if payload.bytes.len() > limit {
        let bytes = payload.bytes.len();
        let text = format!(
            "the argument has {bytes} bytes and the broker takes at most {limit}: store it elsewhere and send where"
        );
        return Err(Ending::new(REFUSED, text));
    }
    if arguments.require_worker
        && let Some(remark) = no_worker(&connection, &arguments.procedure).await?
    {
        return Err(Ending::new(REFUSED, format!("{remark}; start one, or leave out --require-worker")));
    }
    if arguments.progress {
        connection.passes_progress_on()?;
    }
    let (caller, events) = connection.caller().await?;
    let wants = match (arguments.detach, arguments.progress) {
        (true, _) => Wants::Acceptance,
        // Only an accepted call can be followed: a key may have found an earlier one.
        (false, true) => Wants::AcceptanceAndOutcome,
        (false, false) => Wants::Outcome,
    };
    let call = call(&arguments, payload);
    let id = call.id;
    let patience = match call.deadline_ms {
        0 => None,
        // The broker records the end of the deadline itself; only a broker that is away needs this.
        ms => (Instant::now() + DOWN_MAX).checked_add(Duration::from_millis(ms)),
    };
    caller.submit(&mut vec![Submission { call, tag: 1, wants, resent: false }]);
    let mut waiting = Waiting { connection, caller, events, id, output, patience, seen: 0, settled: None };
    let ended = waiting.run(&arguments).await;
    waiting.connection.close().await;
    ended
}

fn payload(arguments: &Call) -> Result<Payload, Ending> {
    let Some(text) = &arguments.argument else {
        return Ok(if arguments.raw { Payload::raw(Vec::new()) } else { Payload::json(&b"null"[..]) });
    };
    let bytes = input::argument(text)?;
    Ok(if arguments.raw { Payload::raw(bytes) } else { Payload::json(input::json(bytes)?) })
}

fn call(arguments: &Call, payload: Payload) -> antiphon_protocol::Call {
    let mut route = Route::new(arguments.procedure.clone());
    route.tenant.clone_from(&arguments.tenant);
    route.callbacks = arguments.callbacks.planned();
    route.priority = arguments.priority;
    route.durability = arguments.volatile.then_some(Durability::Volatile);
    route.attempts = if arguments.at_most_once { 1 } else { arguments.attempts };
    route.attempt_timeout_ms = arguments.attempt_timeout.unwrap_or(0);
    route.at_most_once = arguments.at_most_once;
    route.lane.clone_from(&arguments.lane);
    route.concurrency = arguments.concurrency;
    route.labels.clone_from(&arguments.label);
    route.slots = arguments.slots;
    let mut call = antiphon_protocol::Call::new(new_call_id(), Arc::new(route), payload);
    let (start, wait_ms) = match (arguments.delay, arguments.not_before) {
        (Some(delay), _) => (Start::In(millis(delay)), millis(delay)),
        (None, Some(at)) => (Start::At(at), at.saturating_sub(now_ms())),
        (None, None) => (Start::Now, 0),
    };
    call.start = start;
    // A call that starts later gets its time on top.
    let default = if arguments.detach { 0 } else { defaults::AWAITED_DEADLINE_MS.saturating_add(wait_ms) };
    call.deadline_ms = arguments.deadline.unwrap_or(default);
    let keys = Keys {
        idempotency: arguments.idempotency_key.clone(),
        ordering: arguments.ordering_key.clone(),
        concurrency: arguments.concurrency_key.clone(),
        group: arguments.group,
        ..Keys::default()
    };
    call.keys = (keys != Keys::default()).then(|| Box::new(keys));
    call
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A call that was handed over, and what is heard of it.
struct Waiting<'a> {
    connection: Connection,
    caller: Box<dyn Caller>,
    events: UnboundedReceiver<Event>,
    id: CallId,
    output: &'a Output,
    patience: Option<Instant>,
    /// The newest progress that was printed.
    seen: u64,
    /// Its outcome, until all its progress is here.
    settled: Option<Settled>,
}

impl Waiting<'_> {
    async fn run(&mut self, arguments: &Call) -> Result<(), Ending> {
        let mut stops = Stops::new()?;
        let mut warn_at = (Instant::now() + NO_WORKER_AFTER).checked_add(arguments.delay.unwrap_or_default());
        if arguments.not_before.is_some() || arguments.detach {
            warn_at = None;
        }
        let mut give_up_at = self.patience;
        loop {
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(Event::Down { last: false, .. }) => {
                        give_up_at = Some(Instant::now() + DOWN_MAX);
                    }
                    Some(Event::Up { .. }) => give_up_at = self.patience,
                    Some(event) => if let Some(ended) = self.take(event, arguments) { return ended },
                    None => return Err(self.lost("the connection ended")),
                },
                () = at(warn_at) => {
                    warn_at = None;
                    // Only a remark: a question that fails is not worth more than the call.
                    if let Ok(Some(remark)) = no_worker(&self.connection, &arguments.procedure).await {
                        self.output.remark(&format!("{remark}; call {} waits for one", self.id));
                    }
                },
                () = at(give_up_at) => return Err(self.lost("the broker did not come back")),
                () = stops.next() => return Err(self.interrupted(arguments.detach).await),
            }
        }
    }

    fn take(&mut self, event: Event, arguments: &Call) -> Option<Result<(), Ending>> {
        match event {
            Event::Accepted { id, duplicate, wait_ms, .. } if arguments.detach => {
                Some(self.accepted(id, duplicate, wait_ms))
            }
            Event::Accepted { id, .. } if arguments.progress => {
                self.caller.follow(&[(id, 1, 0)]);
                None
            }
            Event::Progress { id, progress, .. } => {
                self.seen = progress.sequence;
                result::print_progress(id, &progress, self.output);
                None
            }
            Event::ProgressEnded { .. } => self.settled.take().map(|settled| result::print(&settled, self.output)),
            Event::Outcome { id, state, attempts, outcome, .. } => {
                self.caller.acknowledge(&[id]);
                let settled = Settled { id, state, attempts, outcome };
                if arguments.progress {
                    // It may have told something before it was followed.
                    self.settled = Some(settled);
                    self.caller.follow(&[(id, 1, self.seen)]);
                    return None;
                }
                Some(result::print(&settled, self.output))
            }
            Event::Refused { failure, .. } if failure.may_have_run => {
                Some(Err(Ending::new(UNREACHABLE, format!("{failure}; call {} may have run", self.id))))
            }
            Event::Refused { failure, .. } => Some(Err(Ending::new(REFUSED, format!("refused: {failure}")))),
            Event::Down { reason, .. } => Some(Err(self.lost(&reason))),
            _ => None,
        }
    }

    fn accepted(&self, id: CallId, duplicate: bool, wait_ms: Option<u64>) -> Result<(), Ending> {
        if self.output.format != Format::Table {
            return self.output.json(&json!({ "id": id, "duplicate": duplicate, "wait_ms": wait_ms }));
        }
        if let Some(ms) = wait_ms.filter(|ms| *ms >= REMARKABLE_MS) {
            self.output.remark(&format!("it should start in about {}", ls::age(ms)));
        }
        self.output.line(id.to_string().as_bytes())
    }

    fn lost(&self, reason: &str) -> Ending {
        let id = self.id;
        Ending::new(UNREACHABLE, format!("{reason}; the call may have run: `antiphon result {id}` tells later"))
    }

    /// Who waits and goes asks to cancel.
    async fn interrupted(&mut self, detached: bool) -> Ending {
        if detached {
            return Ending::silent(INTERRUPTED);
        }
        self.caller.cancel(&[self.id]);
        let answered = async {
            while let Some(event) = self.events.recv().await {
                if matches!(event, Event::CancelAnswered { .. } | Event::Outcome { .. }) {
                    return;
                }
            }
        };
        tokio::select! {
            () = answered => (),
            () = sleep(CANCEL_ANSWER) => (),
        }
        Ending::new(INTERRUPTED, format!("interrupted: call {} was asked to be cancelled", self.id))
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// If no worker serves the procedure: that, with the name that was probably meant.
async fn no_worker(connection: &Connection, procedure: &Name) -> Result<Option<String>, Ending> {
    if !connection.lists_procedures() {
        return Ok(None);
    }
    let procedures = connection.procedures().await?;
    if procedures.iter().any(|known| known.procedure == *procedure && known.workers > 0) {
        return Ok(None);
    }
    let served = procedures.iter().filter(|known| known.workers > 0).map(|known| known.procedure.as_str());
    Ok(Some(match nearest::nearest(procedure, served) {
        Some(name) => format!("no worker serves {procedure}: did you mean {name}?"),
        None => format!("no worker serves {procedure}"),
    }))
}
