//! Closed formulas against `tests/reference/values.json`, which `tests/reference/reference.py` makes from exact
//! fractions, 80 digits, or Markov chains solved state by state.

use antiphon_queueing::{
    Bounded, Closed, GroupCommit, Markov, PollaczekKhinchine, Priorities, PriorityClass, erlang_b, erlang_c,
};
use serde_json::Value;

pub fn values(section: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("../reference/values.json")).unwrap();
    let rows = all[section].as_array().unwrap().clone();
    assert!(!rows.is_empty());
    rows
}

pub fn number(row: &Value, name: &str) -> f64 {
    row[name].as_f64().unwrap_or_else(|| panic!("{name} of {row}"))
}

pub fn count(row: &Value, name: &str) -> u32 {
    u32::try_from(row[name].as_u64().unwrap()).unwrap()
}

pub fn close(ours: f64, theirs: f64, tolerance: f64, what: &str) {
    let error = (ours - theirs).abs();
    assert!(error <= tolerance * theirs.abs(), "{what}: {ours} is not {theirs}, by {:e}", error / theirs.abs());
}

#[test]
fn m_m_c_is_exact_up_to_five_thousand_servers() {
    for row in values("erlang") {
        let (servers, load) = (count(&row, "servers"), number(&row, "load"));
        let what = format!("{servers} servers, load {load}");
        close(erlang_b(servers, load).unwrap(), number(&row, "erlang_b"), 1e-9, &what);
        close(erlang_c(servers, load).unwrap(), number(&row, "erlang_c"), 1e-9, &what);
        let queue = Markov::new(number(&row, "arrival_per_s"), number(&row, "service_s"), servers).unwrap();
        close(queue.probability_of_waiting(), number(&row, "erlang_c"), 1e-9, &what);
        close(queue.mean_wait_s(), number(&row, "mean_wait_s"), 1e-9, &what);
        close(queue.mean_queue_length(), number(&row, "mean_queue_length"), 1e-9, &what);
        for (t, tail) in row["response_tail"].as_object().unwrap() {
            let t: f64 = t.parse().unwrap();
            let tail = tail.as_f64().unwrap();
            close(queue.response_tail(t), tail, 1e-9, &what);
            if tail < 0.999_999 {
                close(queue.response_quantile_s(1.0 - tail), t, 1e-9, &what);
            }
        }
    }
}

#[test]
fn m_m_c_k_is_exact() {
    for row in values("bounded") {
        let (servers, room) = (count(&row, "servers"), count(&row, "room"));
        let what = format!("{servers} servers, room {room}");
        let (arrival, service) = (number(&row, "arrival_per_s"), number(&row, "service_s"));
        let queue = Bounded::new(arrival, service, servers, room).unwrap();
        close(queue.probability_of_refusal(), number(&row, "probability_of_refusal"), 1e-9, &what);
        close(queue.throughput_per_s(), number(&row, "throughput_per_s"), 1e-9, &what);
        close(queue.mean_queue_length(), number(&row, "mean_queue_length"), 1e-9, &what);
        close(queue.mean_wait_s(), number(&row, "mean_wait_s"), 1e-9, &what);
        close(queue.probability_of_waiting(), number(&row, "probability_of_waiting"), 1e-9, &what);
        if room == servers {
            close(queue.probability_of_refusal(), erlang_b(servers, arrival * service).unwrap(), 1e-12, &what);
        }
    }
}

#[test]
fn the_closed_system_is_exact() {
    for row in values("closed") {
        let (callers, servers) = (count(&row, "callers"), count(&row, "servers"));
        let what = format!("{callers} callers, {servers} servers");
        let system = Closed::new(callers, number(&row, "think_s"), number(&row, "service_s"), servers).unwrap();
        close(system.throughput_per_s(), number(&row, "throughput_per_s"), 1e-9, &what);
        close(system.mean_queue_length(), number(&row, "mean_queue_length"), 1e-9, &what);
        close(system.mean_response_s(), number(&row, "mean_response_s"), 1e-9, &what);
        // Little's law over the whole circle: whoever does not think is in the system.
        let circle_s = system.mean_response_s() + number(&row, "think_s");
        close(system.throughput_per_s() * circle_s, f64::from(callers), 1e-9, &what);
    }
}

#[test]
fn priorities_on_one_server_are_exact() {
    for row in values("priorities") {
        let class = |one: &Value| PriorityClass {
            arrival_per_s: one[0].as_f64().unwrap(),
            service_s: one[1].as_f64().unwrap(),
            service_cv: one[2].as_f64().unwrap(),
        };
        let classes: Vec<PriorityClass> = row["classes"].as_array().unwrap().iter().map(class).collect();
        let waits = Priorities::new(&classes, 1).unwrap();
        let expected = row["mean_waits_s"].as_array().unwrap();
        assert_eq!(waits.mean_waits_s().len(), expected.len());
        for (ours, theirs) in waits.mean_waits_s().iter().zip(expected) {
            close(*ours, theirs.as_f64().unwrap(), 1e-9, "a class");
        }
    }
}

#[test]
fn pollaczek_and_khinchine_agree_with_the_chains_of_one_server() {
    let rows = values("general").into_iter().filter(|row| count(row, "servers") == 1);
    let mut seen = 0;
    for row in rows {
        let cv = number(&row, "service_cv_squared").sqrt();
        let queue = PollaczekKhinchine::new(number(&row, "utilisation"), 1.0, cv).unwrap();
        // The chains are cut off where their tail is below 1e-9.
        close(queue.mean_wait_s(), number(&row, "mean_wait_in_services"), 1e-6, &row.to_string());
        seen += 1;
    }
    assert_eq!(seen, 25);
}

#[test]
fn group_commit_is_exact() {
    for row in values("group_commit") {
        let largest = row["batch_max"].as_u64().map(|calls| u32::try_from(calls).unwrap());
        let (arrival, batch, call) =
            (number(&row, "arrival_per_s"), number(&row, "per_batch_s"), number(&row, "per_call_s"));
        let commit = GroupCommit::new(arrival, batch, call, largest).unwrap();
        let what = row.to_string();
        close(commit.mean_response_s(), number(&row, "mean_response_s"), 1e-9, &what);
        close(commit.mean_batch(), number(&row, "mean_batch"), 1e-9, &what);
        close(commit.utilisation(), number(&row, "utilisation"), 1e-9, &what);
    }
}
