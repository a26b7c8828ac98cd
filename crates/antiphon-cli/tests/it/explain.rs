//! `explain`: for each cause its sentence, from the command line.

use crate::stage::{Broker, until};
use antiphon_broker::{Broker as _, Event, Inbox, Lease, Report, Sink, Submission, Wants, Worker};
use antiphon_protocol::{
    Call, CallId, CallerId, IncarnationId, Name, Offer, OfferedProcedure, Payload, Route, Schema, SchemaParameter,
    Settlement, Shape,
};
use antiphon_wire::{Remote, RemoteOptions};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
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

/// A worker in this process, which does only what the test does.
struct Hand {
    runtime: tokio::runtime::Runtime,
    worker: Option<Box<dyn Worker>>,
    remote: Remote,
    heard: Receiver<Event>,
}

impl Hand {
    fn serving(broker: &Broker, procedure: &'static str, schema: Option<Schema>) -> Self {
        let offer = Offer {
            incarnation: IncarnationId([3; 16]),
            name: Name::from_static("hand"),
            procedures: vec![OfferedProcedure { name: Name::from_static(procedure), idempotent: false, schema }],
            slots: 1,
            labels: Vec::new(),
            held: Vec::new(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (sender, heard) = channel();
        let remote = runtime.block_on(Remote::connect(broker.url.parse().unwrap(), RemoteOptions::default())).unwrap();
        let worker = Some(runtime.block_on(remote.open_worker(offer, Arc::new(Heard(sender)))).unwrap());
        Self { runtime, worker, remote, heard }
    }

    /// The next lease.
    fn lease(&self) -> Lease {
        let mut lease = None;
        until("there is a lease", || {
            lease = self.heard.try_iter().find_map(|event| match event {
                Event::Lease(lease) => Some(lease),
                _ => None,
            });
            lease.is_some()
        });
        lease.unwrap()
    }

    /// Submits a call whose arguments have these names, and answers its id.
    fn submit(&self, procedure: &'static str, parameters: &[(&str, bool)]) -> CallId {
        let mut route = Route::new(Name::from_static(procedure));
        route.shape = Shape::of(parameters.iter().copied());
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap();
        let id = CallId::new(now_ms, [5; 10]);
        let call = Call::new(id, Arc::new(route), Payload::raw(Vec::new()));
        let (sender, heard) = channel();
        let inbox = Inbox::Anonymous(CallerId([4; 16]));
        let opened = self.remote.open_caller(inbox, Arc::new(Heard(sender)));
        let caller = self.runtime.block_on(opened).unwrap();
        caller.submit(&mut vec![Submission { call, tag: 1, wants: Wants::Acceptance, resent: false }]);
        until("it is accepted", || heard.try_iter().any(|event| matches!(event, Event::Accepted { .. })));
        id
    }
}

#[test]
fn a_call_whose_arguments_no_worker_takes_says_so() {
    let broker = Broker::start();
    let parameter =
        |name: &str| SchemaParameter { name: name.to_owned(), optional: false, type_name: "u32".to_owned() };
    let schema = Schema { parameters: vec![parameter("n")], returns: "u64".to_owned() };
    let hand = Hand::serving(&broker, "math.fib", Some(schema));
    let id = hand.submit("math.fib", &[("n", false), ("max", false)]).to_string();
    says(&broker, &id, "one worker serves its procedure, but with a schema that does not take its arguments");
}

#[test]
fn a_call_whose_procedure_waits_for_a_sub_call_says_for_which() {
    let broker = Broker::start();
    let hand = Hand::serving(&broker, "deep.outer", None);
    let outer = broker.run(["call", "deep.outer", "--detach"]).ok().to_owned();
    let inner = broker.run(["call", "deep.inner", "--detach"]).ok().to_owned();
    let lease = hand.lease();
    hand.worker.as_ref().unwrap().park(lease.lease, Some(inner.parse().unwrap()));
    until("it is parked", || explain(&broker, &outer).contains("is parked in its attempt 1 on hand since"));
    says(&broker, &outer, &format!("it waits for its sub-call {inner}"));
}

#[test]
fn a_cancelled_call_whose_attempt_goes_on_says_where_it_is_to_stop() {
    let broker = Broker::start();
    let hand = Hand::serving(&broker, "slow.stop", None);
    let id = broker.run(["call", "slow.stop", "--detach"]).ok().to_owned();
    let lease = hand.lease();
    broker.run(["cancel", &id]).ok();
    says(&broker, &id, "is cancelled; its attempt on hand was asked to stop and has not yet, since");
    let stopped = Report { lease: lease.lease, call: lease.call, settlement: Settlement::Stop };
    hand.worker.as_ref().unwrap().report(&mut vec![stopped]);
    until("it has stopped", || explain(&broker, &id).contains("is cancelled since"));
}

#[test]
fn a_call_on_a_worker_that_went_says_that_it_may_come_back() {
    let broker = Broker::start();
    let mut hand = Hand::serving(&broker, "slow.away", None);
    let id = broker.run(["call", "slow.away", "--detach"]).ok().to_owned();
    hand.lease();
    drop(hand.worker.take());
    let away = "runs its attempt 1 on hand since";
    until("its worker is seen to be gone", || explain(&broker, &id).contains("which is not connected"));
    says(&broker, &id, away);
}

#[test]
fn a_call_whose_worker_drains_says_so() {
    let broker = Broker::start();
    let (serve, file) = held(&broker, "slow.drain");
    let _worker = broker.worker(&["--exec", &serve, "--name", "w", "--slots", "1"]);
    let first = broker.run(["call", "slow.drain", "--detach"]).ok().to_owned();
    until("it runs", || broker.state(&first) == "leased");
    let second = broker.run(["call", "slow.drain", "--detach"]).ok().to_owned();
    broker.run(["worker", "drain", "w"]).ok();
    until("it says so", || explain(&broker, &second).contains("the only worker that could run it is draining"));
    std::fs::write(file, "").unwrap();
}

#[test]
fn a_call_that_lost_its_lease_with_another_runs_alone_and_the_other_says_so() {
    let broker = Broker::start_with("[limits]\nlease_ms = 400\n");
    let (serve, file) = held(&broker, "slow.die");
    let two = ["--exec", &serve, "--name", "w", "--slots", "2"];
    let mut worker = broker.worker(&two);
    let call = || broker.run(["call", "slow.die", "--detach"]).ok().to_owned();
    let ids = [call(), call()];
    until("both run", || ids.iter().all(|id| broker.state(id) == "leased"));
    worker.kill();
    until("both have lost their leases", || ids.iter().all(|id| broker.state(id) == "ready"));
    let _again = broker.worker(&two);
    let suspect = "it lost a lease to a dying worker, and each worker runs one such call at a time; about 1st of them";
    until("one of them waits for the other", || ids.iter().any(|id| explain(&broker, id).contains(suspect)));
    std::fs::write(file, "").unwrap();
    until("both succeed, one after the other", || ids.iter().all(|id| broker.state(id) == "succeeded"));
}

#[test]
fn a_group_says_how_many_of_its_children_it_waits_for() {
    let broker = Broker::start();
    let group = broker.run(["group", "open"]).ok().to_owned();
    let child = broker.run(["call", "a.b", "--detach", "--group", &group]).ok().to_owned();
    says(&broker, &group, "it is a group, one child of 1 not settled; to be sealed before");
    broker.run(["group", "seal", &group]).ok();
    says(&broker, &group, "it is a sealed group, one child of 1 not settled");
    says(&broker, &child, "no worker serves its procedure");
}

#[test]
fn a_callback_is_no_call_before_its_cause_has_ended_and_one_like_any_other_then() {
    let broker = Broker::start();
    let id = broker.run(["call", "a.b", "--detach", "--callback", "after.wards"]).ok().to_owned();
    let status = broker.run(["status", &id, "-o", "json"]).json();
    let callback = status["callbacks"][0]["id"].as_str().unwrap().to_owned();
    let before = broker.run(["explain", &callback]);
    assert_eq!(before.code, Some(5), "{before:?}");
    broker.run(["cancel", &id]).ok();
    says(&broker, &callback, &format!("after.wards {callback} waits: no worker serves its procedure"));
}

#[test]
fn a_predicted_start_is_told_with_how_good_such_predictions_were() {
    let broker = Broker::start();
    let worker = broker.worker(&["--exec", "slow.bit=sleep 0.05; echo 1", "--name", "w", "--slots", "1"]);
    let ids: Vec<String> = (0..12).map(|_| broker.run(["call", "slow.bit", "--detach"]).ok().to_owned()).collect();
    for id in &ids {
        until("all settle", || broker.state(id) == "succeeded");
    }
    // Long ones now, so that what is said of those behind stands for a while.
    let (serve, file) = held(&broker, "slow.bit");
    drop(worker);
    let _longer = broker.worker(&["--exec", &serve, "--name", "l", "--slots", "1"]);
    let more: Vec<String> = (0..3).map(|_| broker.run(["call", "slow.bit", "--detach"]).ok().to_owned()).collect();
    let last = more.last().unwrap();
    until("it says when it should start", || explain(&broker, last).contains("; should start at about"));
    says(&broker, last, "; predicted waits of its procedure were off by");
    std::fs::write(file, "").unwrap();
}
