//! `explain`: for each cause its sentence, from the command line.

use crate::stage::{Broker, until};
use antiphon_broker::{Broker as _, Event, Inbox, Sink, Submission, Wants};
use antiphon_protocol::{
    Call, CallId, CallerId, IncarnationId, Name, Offer, OfferedProcedure, Payload, Route, Schema, SchemaParameter,
    Shape,
};
use antiphon_wire::{Remote, RemoteOptions};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{SystemTime, UNIX_EPOCH};

/// A worker that runs until the file is there.
fn held(broker: &Broker, procedure: &str) -> (String, std::path::PathBuf) {
    let file = broker.directory.path().join(procedure);
    (format!("{procedure}=while ! test -e {}; do sleep 0.02; done; echo 1", file.display()), file)
}

/// What is said of a call.
fn explain(broker: &Broker, id: &str) -> String {
    broker.run(["explain", id]).ok().to_owned()
}

#[track_caller]
fn says(broker: &Broker, id: &str, part: &str) {
    let text = explain(broker, id);
    assert!(text.contains(part), "{part:?} is not in {text:?}");
}

#[test]
fn a_call_without_a_worker_says_so() {
    let broker = Broker::start();
    let id = broker.run(["call", "a.b", "--detach"]).ok().to_owned();
    says(&broker, &id, "no worker serves its procedure");
    let json = broker.run(["explain", &id, "-o", "json"]).json();
    assert_eq!(json["standing"]["waiting"]["cause"], "no_worker");
}

#[test]
fn a_delayed_call_says_when_it_is_due() {
    let broker = Broker::start();
    let id = broker.run(["call", "a.b", "--detach", "--delay", "1h"]).ok().to_owned();
    says(&broker, &id, "not before");
}

#[test]
fn a_failed_call_says_with_what_and_when_it_tries_again() {
    let broker = Broker::start();
    let failure = "{\\\"failure\\\":{\\\"code\\\":\\\"UNAVAILABLE\\\",\\\"message\\\":\\\"no table\\\",\\\"retry_after_ms\\\":3600000}}";
    let serve = format!("fail.always=while read -r line; do echo \"{failure}\"; done");
    let _worker = broker.worker(&["--lines", &serve, "--name", "w"]);
    let id = broker.run(["call", "fail.always", "--detach"]).ok().to_owned();
    until("the first attempt has failed", || broker.state(&id) == "scheduled");
    says(&broker, &id, "attempt 1 failed with UNAVAILABLE (no table); tries again at");
}

#[test]
fn a_call_behind_busy_slots_says_its_place_and_then_runs_and_settles() {
    let broker = Broker::start();
    let (serve, file) = held(&broker, "slow.one");
    let _worker = broker.worker(&["--exec", &serve, "--name", "w", "--slots", "1"]);
    let call = || broker.run(["call", "slow.one", "--detach"]).ok().to_owned();
    let (first, second, third) = (call(), call(), call());
    says(&broker, &first, "runs its attempt 1 on w since");
    says(&broker, &second, "all slots are busy (one slot on one worker); about 1st in line");
    says(&broker, &third, "about 2nd in line");
    broker.run(["cancel", &first]).ok();
    until("the cancelled attempt stops", || explain(&broker, &first).contains("is cancelled since"));
    std::fs::write(file, "").unwrap();
    broker.run(["result", &third, "--wait", "20s"]).ok();
    says(&broker, &third, "is succeeded since");
}

#[test]
fn a_call_that_was_never_seen_and_one_that_is_forgotten_are_told_apart() {
    let broker = Broker::start();
    let never = broker.run(["explain", "0190a5c2-7b1e-7c3d-8e4f-001122334455"]);
    assert_eq!((never.code, never.stdout.contains("was never seen")), (Some(5), true), "{never:?}");
    let _worker = broker.worker(&["--exec", "fail.always=exit 75"]);
    let json = broker.run(["call", "fail.always", "--attempts", "1", "-o", "json"]).json();
    let id = json["id"].as_str().unwrap();
    broker.run(["dead", "purge", id]).ok();
    let purged = broker.run(["explain", id]);
    assert_eq!((purged.code, purged.stdout.contains("is forgotten")), (Some(5), true), "{purged:?}");
    let older = broker.run(["explain", "0190a5c2-7b1e-7c3d-8e4f-001122334455"]);
    assert_eq!((older.code, older.stdout.contains("is older than")), (Some(5), true), "{older:?}");
}

#[test]
fn a_call_over_the_budget_of_retries_says_so() {
    let broker = Broker::start_with("[limits]\nretry_percent = 0\nretries_min = 0\n");
    let _worker = broker.worker(&["--exec", "fail.always=exit 75", "--name", "w"]);
    let id = broker.run(["call", "fail.always", "--detach"]).ok().to_owned();
    until("its retry is held", || explain(&broker, &id).contains("the procedure's budget of retries is used up until"));
    says(&broker, &id, "attempt 1 failed with UNAVAILABLE");
    broker.run(["queue", "limit", "fail.always", "--retry-percent", "off"]).ok();
    until("it goes on", || broker.state(&id) == "dead");
    let volatile = broker.run(["queue", "limit", "fail.always", "--retry-percent", "default"]);
    volatile.ok();
    broker.run(["call", "fail.always", "--volatile"]).fails(1, "has used up its budget of retries");
}

/// Passes events on.
struct Heard(Sender<Event>);

impl Sink for Heard {
    fn events(&self, events: &mut Vec<Event>) {
        for event in events.drain(..) {
            // The test may have ended.
            self.0.send(event).unwrap_or_default();
        }
    }
}

#[test]
fn a_call_whose_arguments_no_worker_takes_says_so() {
    let broker = Broker::start();
    let parameter =
        |name: &str| SchemaParameter { name: name.to_owned(), optional: false, type_name: "u32".to_owned() };
    let schema = Schema { parameters: vec![parameter("n")], returns: "u64".to_owned() };
    let name = Name::from_static("math.fib");
    let offer = Offer {
        incarnation: IncarnationId([3; 16]),
        name: Name::from_static("old"),
        procedures: vec![OfferedProcedure { name: name.clone(), idempotent: true, schema: Some(schema) }],
        slots: 1,
        labels: Vec::new(),
        held: Vec::new(),
    };
    let mut route = Route::new(name);
    route.shape = Shape::of([("n", false), ("max", false)]);
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap();
    let id = CallId::new(now_ms, [5; 10]);
    let call = Call::new(id, Arc::new(route), Payload::raw(Vec::new()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (sender, heard) = channel();
    let remote = runtime.block_on(Remote::connect(broker.url.parse().unwrap(), RemoteOptions::default())).unwrap();
    let _worker = runtime.block_on(remote.open_worker(offer, Arc::new(Heard(sender.clone())))).unwrap();
    let inbox = Inbox::Anonymous(CallerId([4; 16]));
    let caller = runtime.block_on(remote.open_caller(inbox, Arc::new(Heard(sender)))).unwrap();
    caller.submit(&mut vec![Submission { call, tag: 1, wants: Wants::Acceptance, resent: false }]);
    until("it is accepted", || heard.try_iter().any(|event| matches!(event, Event::Accepted { .. })));
    says(
        &broker,
        &id.to_string(),
        "one worker serves its procedure, but with a schema that does not take its arguments",
    );
}
