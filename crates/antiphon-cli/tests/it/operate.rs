//! The commands of operators: lists, dead letters, cancellation by filter, completions.

use crate::stage::{Broker, PATIENCE, Process, antiphon, until};
use antiphon_broker::{Broker as _, Event, Inbox, Sink, Submission, Wants};
use antiphon_protocol::{Call, CallId, CallerId, Durability, Name, Payload, Route};
use antiphon_wire::{Remote, RemoteOptions};
use std::io::Read;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::timeout;

#[test]
fn a_status_is_a_timeline() {
    let broker = Broker::start();
    let _worker = broker.worker(&["--exec", "fail.once=test $ANTIPHON_ATTEMPT = 1 && exit 75; echo 1", "--name", "w"]);
    let json = broker.run(["call", "fail.once", "-o", "json"]).json();
    let status = broker.run(["status", json["id"].as_str().unwrap()]);
    let text = status.ok();
    for part in ["submitted", "attempt 1 failed on w: UNAVAILABLE", "succeeded"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn lists_are_filtered() {
    let broker = Broker::start();
    for tenant in ["red", "blue"] {
        broker.run(["call", "a.b", "--detach", "--tenant", tenant]).ok();
    }
    broker.run(["call", "c.d", "--detach", "--delay", "1h", "--priority", "9"]).ok();
    let count =
        |arguments: &[&str]| broker.run(["ls", "-o", "json"].iter().chain(arguments)).json().as_array().unwrap().len();
    assert_eq!(count(&[]), 3);
    assert_eq!(count(&["--tenant", "red"]), 1);
    assert_eq!(count(&["--procedure", "a.b"]), 2);
    assert_eq!(count(&["--state", "scheduled"]), 1);
    assert_eq!(count(&["--since", "1h"]), 3);
    assert_eq!(count(&["--since", "2199-01-01T00:00:00Z"]), 0);
    assert_eq!(count(&["--limit", "2"]), 2);
    let queues = broker.run(["queue", "ls", "-o", "json"]).json();
    assert_eq!((&queues[0]["procedure"], &queues[0]["calls"]["ready"]), (&"a.b".into(), &2.into()));
    assert!(broker.run(["queue", "show", "c.d"]).ok().contains("scheduled"));
    let lines = broker.run(["ls", "-o", "jsonl"]);
    assert_eq!(lines.ok().lines().count(), 3);
}

#[test]
fn calls_are_cancelled_by_filter() {
    let broker = Broker::start();
    for _ in 0..3 {
        broker.run(["call", "a.b", "--detach"]).ok();
    }
    let kept = broker.run(["call", "c.d", "--detach"]).ok().to_owned();
    broker.run(["cancel", "--procedure", "a.b"]).fails(2, "--yes");
    assert!(broker.run(["cancel", "--procedure", "a.b", "--dry-run"]).stderr.contains("would cancel 3 calls"));
    assert_eq!(broker.run(["cancel", "--procedure", "a.b", "--yes", "-o", "jsonl"]).ok().lines().count(), 3);
    assert_eq!(broker.state(&kept), "ready");
    assert_eq!(broker.run(["ls", "--state", "cancelled", "-o", "json"]).json().as_array().unwrap().len(), 3);
    assert!(broker.run(["cancel", &kept]).ok().contains("it never ran"));
    assert_eq!(broker.run(["cancel", &kept]).code, Some(1));
}

#[test]
fn bulk_changes_take_every_filter_and_go_on_over_many_questions() {
    let broker = Broker::start();
    let call = |tenant: &str| broker.run(["call", "a.b", "--detach", "--tenant", tenant]).ok().to_owned();
    let (old, new) = (call("red"), call("blue"));
    let submitted_ms = |id: &str| broker.run(["status", id, "-o", "json"]).json()["submitted_ms"].as_i64().unwrap();
    let between = jiff::Timestamp::from_millisecond(submitted_ms(&new)).unwrap().to_string();
    assert!(submitted_ms(&old) < submitted_ms(&new), "a command takes longer than a millisecond");
    let would = |filters: &[&str]| {
        let ran = broker.run(["cancel", "--dry-run"].iter().chain(filters));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        match ran.stderr.split_once("would cancel ") {
            Some((_, "one call\n")) => 1,
            Some((_, rest)) => rest.split(' ').next().unwrap().parse::<u32>().unwrap(),
            None => {
                assert_eq!(ran.stderr, "no call matches: nothing to cancel\n");
                0
            }
        }
    };
    assert_eq!(would(&["--tenant", "red"]), 1);
    assert_eq!(would(&["--until", &between]), 1);
    assert_eq!(would(&["--since", &between]), 1);
    assert_eq!(would(&["--until", "2199-01-01T00:00:00Z"]), 2);
    assert_eq!(would(&["--procedure", "c.d"]), 0);
    assert_eq!(would(&["--label", "gpu"]), 0);
    assert_eq!(would(&["--state", "ready", "--limit", "1"]), 1);
    broker.run(["cancel", "--state", "dead", "--yes"]).fails(2, "have settled");
    broker.run(["cancel", "--until", &between, "--yes"]).ok();
    assert_eq!((broker.state(&old), broker.state(&new)), ("cancelled".to_owned(), "ready".to_owned()));
}

#[test]
fn dead_letters_are_revived_and_purged() {
    let broker = Broker::start();
    let fixed = broker.directory.path().join("fixed");
    let serve = format!("fail.until=test -e {} || exit 75; echo 1", fixed.display());
    let _worker = broker.worker(&["--exec", &serve]);
    let call = ["call", "fail.until", "--attempts", "1", "-o", "json"];
    let [first, second] = [(); 2].map(|()| broker.run(call).json()["id"].as_str().unwrap().to_owned());
    let dead = || broker.run(["dead", "ls", "-o", "json"]).json().as_array().unwrap().len();
    assert_eq!(dead(), 2);
    assert!(broker.run(["dead", "show", &first]).ok().contains("dead"));
    broker.run(["dead", "revive"]).fails(2, "which?");
    broker.run(["dead", "revive", "--procedure", "fail.until"]).fails(2, "--yes");
    assert!(broker.run(["dead", "purge", "--procedure", "fail.until", "--dry-run"]).stderr.contains("would purge 2"));
    std::fs::write(&fixed, "").unwrap();
    let revived = broker.run(["dead", "revive", &first, "-o", "json"]).json();
    let id = revived[0]["id"].as_str().unwrap();
    assert_eq!(broker.run(["result", id, "--wait", "20s"]).ok(), "1");
    broker.run(["dead", "purge", &second]).ok();
    broker.run(["dead", "purge", "--since", "1h", "--yes"]).ok();
    assert_eq!(dead(), 0);
}

#[test]
fn ping_tells_the_broker_and_what_it_counted() {
    let broker = Broker::start();
    broker.run(["call", "a.b", "--detach"]).ok();
    assert!(broker.run(["ping"]).ok().contains("answers in"));
    let json = broker.run(["ping", "-o", "json"]).json();
    assert_eq!((&json["broker"]["accepted"], &json["broker"]["durable"]), (&1.into(), &true.into()));
}

#[test]
fn the_journal_of_a_broker_that_ended_is_verified_and_dumped() {
    let mut broker = Broker::start();
    let id = broker.run(["call", "a.b", "--detach"]).ok().to_owned();
    let data = broker.data().to_str().unwrap().to_owned();
    antiphon(&["journal", "verify", &data]).fails(1, "in use by process");
    broker.stop();
    assert!(antiphon(&["journal", "verify", &data]).ok().contains("intact"));
    assert!(antiphon(&["status", &id, "--url", &format!("file:{data}")]).ok().contains("is ready"));
    let dumped = antiphon(&["journal", "dump", &data, "-o", "json"]).json();
    let submitted = dumped.as_array().unwrap().iter().find(|entry| entry["kind"] == "Submitted").unwrap();
    assert_eq!((&submitted["call"], &submitted["fields"]["procedure"]), (&id.as_str().into(), &"a.b".into()));
    assert!(antiphon(&["journal", "dump", &data]).ok().contains("procedure=\"a.b\""));
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = antiphon(&["completions", shell]);
        assert!(script.ok().contains("require-worker"), "{shell}");
    }
}

#[test]
fn colours_are_used_as_asked() {
    let broker = Broker::start();
    assert!(broker.run(["ls", "--color", "always"]).ok().contains("\u{1b}["));
    assert!(!broker.run(["ls", "--color", "auto"]).ok().contains("\u{1b}["));
    assert!(!broker.run(["ls", "--color", "never"]).ok().contains("\u{1b}["));
}

#[test]
fn a_dry_run_cancels_nothing_that_was_named_either() {
    let broker = Broker::start();
    let id = broker.run(["call", "a.b", "--detach"]).ok().to_owned();
    let ran = broker.run(["cancel", &id, "--dry-run"]);
    ran.ok();
    assert!(ran.stderr.contains("would cancel one call"), "{ran:?}");
    assert_eq!(broker.state(&id), "ready");
    broker.run(["cancel", &id]).ok();
    let unknown = "0190a5c2-7b1e-7c3d-8e4f-001122334455";
    let ran = broker.run(["cancel", &id, unknown, "--dry-run"]);
    let said = [format!("call {id} settled before: cancelled"), format!("does not know call {unknown}")];
    assert!(said.iter().all(|said| ran.stderr.contains(said)), "{ran:?}");
    assert!(ran.stderr.ends_with("would cancel 0 calls\n"), "{ran:?}");
}

#[test]
fn a_limit_counts_calls_of_all_states_together() {
    let broker = Broker::start();
    for _ in 0..3 {
        broker.run(["call", "a.b", "--detach"]).ok();
        broker.run(["call", "a.b", "--detach", "--delay", "1h"]).ok();
    }
    let cancelled = broker.run(["cancel", "--procedure", "a.b", "--limit", "4", "--yes", "-o", "jsonl"]);
    assert_eq!(cancelled.ok().lines().count(), 4);
    assert!(!cancelled.stderr.contains("more calls match"), "{cancelled:?}");
    assert_eq!(broker.run(["ls", "--state", "cancelled", "-o", "json"]).json().as_array().unwrap().len(), 4);
}

#[test]
fn more_calls_than_one_question_changes_are_changed_over_several() {
    let broker = Broker::start();
    submit(&broker.url, 2_500);
    let all = ["cancel", "--procedure", "many.calls"];
    assert!(broker.run(all.iter().chain(&["--dry-run"])).stderr.contains("would cancel 2500 calls"));
    let some = broker.run(all.iter().chain(&["--limit", "1200", "--yes", "-o", "jsonl"]));
    assert_eq!(some.ok().lines().count(), 1_200);
    assert_eq!(broker.run(all.iter().chain(&["--yes", "-o", "jsonl"])).ok().lines().count(), 1_300);
    assert!(broker.run(all.iter().chain(&["--dry-run"])).stderr.contains("no call matches"));
}

struct Count(UnboundedSender<usize>);

impl Sink for Count {
    fn events(&self, events: &mut Vec<Event>) {
        let accepted = events.drain(..).filter(|event| matches!(event, Event::Accepted { .. })).count();
        self.0.send(accepted).unwrap_or_default();
    }
}

/// So many volatile calls that nobody serves.
fn submit(url: &str, count: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let remote = Remote::connect(url.parse().unwrap(), RemoteOptions::default()).await.unwrap();
        let (sender, mut accepted) = unbounded_channel();
        let caller = remote.open_caller(Inbox::Anonymous(CallerId([7; 16])), Arc::new(Count(sender))).await.unwrap();
        let mut route = Route::new(Name::from_static("many.calls"));
        route.durability = Some(Durability::Volatile);
        let route = Arc::new(route);
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap();
        let submission = |number: u64| {
            let mut random = [0; 10];
            // The first bytes of these share theirs with the id's version.
            random[3..].copy_from_slice(&number.to_le_bytes()[..7]);
            let call = Call::new(CallId::new(now_ms, random), Arc::clone(&route), Payload::json("1"));
            Submission { call, tag: number, wants: Wants::Acceptance, resent: false }
        };
        let mut sum = 0;
        for from in (0..count).step_by(500) {
            let until = count.min(from + 500);
            caller.submit(&mut (from..until).map(submission).collect());
            while sum < usize::try_from(until).unwrap() {
                sum += timeout(PATIENCE, accepted.recv()).await.unwrap().unwrap();
            }
        }
        remote.close().await;
    });
}

#[test]
fn what_was_revived_and_purged_is_told_although_the_rest_failed() {
    let broker = Broker::start();
    let _worker = broker.worker(&["--exec", "fail.always=exit 75"]);
    let call = ["call", "fail.always", "--attempts", "1", "-o", "json"];
    let [first, second] = [(); 2].map(|()| broker.run(call).json()["id"].as_str().unwrap().to_owned());
    let waiting = broker.run(["call", "a.b", "--detach"]).ok().to_owned();
    let revived = broker.run(["dead", "revive", &first, &waiting, "-o", "json"]);
    revived.fails(6, "not dead");
    assert_eq!(revived.json()[0]["dead"], first.as_str());
    let purged = broker.run(["dead", "purge", &second, &waiting, "-o", "json"]);
    purged.fails(6, "not dead");
    assert_eq!(purged.json()["purged"], 1);
}

#[test]
fn a_call_that_waits_is_not_started() {
    let broker = Broker::start();
    let id = broker.run(["call", "a.b", "--detach"]).ok().to_owned();
    let status = broker.run(["status", &id]);
    assert!(status.ok().contains("not started"), "{status:?}");
    assert!(!status.ok().contains("attempt 0"), "{status:?}");
    assert!(antiphon(&["--help"]).ok().contains("130 interrupted"));
}

#[test]
fn a_long_delay_is_kept_and_a_long_attempt_timeout_refused() {
    let broker = Broker::start();
    let id = broker.run(["call", "a.b", "--detach", "--delay", "1440h"]).ok().to_owned();
    let json = broker.run(["status", &id, "-o", "json"]).json();
    let delay = json["since_ms"].as_u64().unwrap() - json["submitted_ms"].as_u64().unwrap();
    assert!(delay.abs_diff(1440 * 3_600_000) < 60_000, "{json}");
    broker.run(["call", "a.b", "--detach", "--attempt-timeout", "1440h"]).fails(2, "too long");
}

#[test]
fn the_default_deadline_of_a_later_call_counts_from_its_start() {
    let broker = Broker::start();
    let at_ms = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap() + 3_600_000;
    let text = jiff::Timestamp::from_millisecond(at_ms.try_into().unwrap()).unwrap().to_string();
    let mut command = broker.command(["call", "a.b", "--not-before", &text]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let _call = Process::spawn(command);
    let calls = || broker.run(["ls", "-o", "json"]).json();
    until("the call is there", || calls()[0].is_object());
    let deadline_ms = calls()[0]["deadline_ms"].as_u64().unwrap();
    assert!(deadline_ms.abs_diff(at_ms + 30_000) < 10_000, "{deadline_ms} is not 30 s after {at_ms}");
}

#[test]
fn a_volatile_call_that_a_restart_ended_may_have_run() {
    let mut broker = Broker::start();
    let mut command = broker.command(["call", "a.b", "--volatile"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut call = Process::spawn(command);
    until("the call is there", || broker.run(["ls", "-o", "json"]).json()[0].is_object());
    broker.kill_and_restart();
    assert_eq!(call.ended(), Some(3));
    let mut text = String::new();
    call.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(text.contains("may have run") && !text.contains("refused"), "{text}");
}
