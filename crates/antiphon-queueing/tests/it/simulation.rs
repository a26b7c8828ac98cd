//! The simulated engine against theory, and against recursions that know nothing of it.

use crate::reference::close;
use antiphon_queueing::experiment::{Results, Scenario, Traces};
use antiphon_queueing::{Markov, Priorities, PriorityClass};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Exp1};
use serde_json::{Value, json};

pub fn scenario(fields: Value) -> Scenario {
    let mut all = json!({ "title": "a test", "seed": 1, "warm_up": 0.0 });
    for (name, value) in fields.as_object().unwrap() {
        all[name] = value.clone();
    }
    serde_json::from_value(all).unwrap()
}

/// Runs every policy at the scenario's own load.
pub fn run(scenario: &Scenario, traces: &Traces) -> Vec<Results> {
    let load = scenario.utilisation(traces).unwrap();
    scenario.policy.iter().map(|policy| scenario.run(policy, load, traces, &mut |_| true).unwrap()).collect()
}

/// Waits in M/M/c by the recursion of J. Kiefer and J. Wolfowitz (1955): each call goes to the server that is free first.
fn kiefer_wolfowitz(come_s: &[f64], take_s: &[f64], servers: usize) -> Vec<f64> {
    let mut free_at = vec![0.0_f64; servers];
    let wait = |(come, take): (&f64, &f64)| {
        let first = free_at.iter_mut().min_by(|a, b| a.total_cmp(b)).unwrap();
        let start = first.max(*come);
        *first = start + take;
        start - come
    };
    come_s.iter().zip(take_s).map(wait).collect()
}

/// Arrival times and service times of M/M/c, services of 10 ms on average.
fn paths(calls: usize, servers: usize, utilisation: f64, seed: u64) -> (Vec<f64>, Vec<f64>) {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut draw = || -> f64 { Exp1.sample(&mut random) };
    let mut now = 0.0;
    let mut come = Vec::with_capacity(calls);
    let mut take = Vec::with_capacity(calls);
    for _ in 0..calls {
        now += draw() * 0.01 / (utilisation * servers as f64);
        come.push(now);
        take.push(draw() * 0.01);
    }
    (come, take)
}

const GRID: [(usize, f64); 7] = [(2, 0.1), (4, 0.3), (4, 0.5), (4, 0.7), (4, 0.8), (4, 0.9), (4, 0.95)];

#[test]
fn the_engine_waits_as_long_as_a_central_queue_must() {
    for (servers, utilisation) in GRID {
        let calls = 20_000;
        let (come, take) = paths(calls, servers, utilisation, 3);
        let mut traces = Traces::default();
        traces.insert("come", come.clone()).unwrap();
        traces.insert("take", take.clone()).unwrap();
        let scenario = scenario(json!({
            "calls": calls,
            "source": [{ "name": "all", "arrival": { "kind": "trace", "file": "come" },
                         "service": { "kind": "trace", "file": "take" } }],
            "workers": [{ "count": servers }],
        }));
        let measured = run(&scenario, &traces).remove(0);
        assert_eq!(measured.all.counts.succeeded, calls as u64);
        assert_eq!(measured.lost, 0);
        let waits = kiefer_wolfowitz(&come, &take, servers);
        let mean = waits.iter().sum::<f64>() / calls as f64;
        // The world counts nanoseconds.
        close(measured.all.mean_wait_s, mean, 1e-5, "the mean wait");
        let mut responses: Vec<f64> = waits.iter().zip(&take).map(|(wait, take)| wait + take).collect();
        responses.sort_by(f64::total_cmp);
        for (part, response_s) in measured.distribution {
            let exact = responses[((part * calls as f64).ceil() as usize - 1).min(calls - 1)];
            close(response_s, exact, 2e-3, "a percentile, to three digits");
        }
    }
}

/// One server that is as fast as all has nearly the same queue under load, and its mean is known: what it is off by tells
/// what the others are off by (a control variate). The weight is the regression of batches.
fn controlled_mean_wait(servers: usize, utilisation: f64, seed: u64) -> f64 {
    let calls = 1_000_000;
    let (come, take) = paths(calls, servers, utilisation, seed);
    let waits = kiefer_wolfowitz(&come, &take, servers);
    let fast: Vec<f64> = take.iter().map(|take| take / servers as f64).collect();
    let known = Markov::new(utilisation * servers as f64 / 0.01, 0.01 / servers as f64, 1).unwrap().mean_wait_s();
    let control = kiefer_wolfowitz(&come, &fast, 1);
    let batches = |values: &[f64]| -> Vec<f64> {
        values.chunks(calls / 50).map(|batch| batch.iter().sum::<f64>() / batch.len() as f64).collect()
    };
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (ours, theirs) = (batches(&waits), batches(&control));
    let (our_mean, their_mean) = (mean(&ours), mean(&theirs));
    let covariance: f64 = ours.iter().zip(&theirs).map(|(a, b)| (a - our_mean) * (b - their_mean)).sum();
    let variance: f64 = theirs.iter().map(|b| (b - their_mean).powi(2)).sum();
    our_mean - covariance / variance * (their_mean - known)
}

/// The recursion alone, which the engine follows to five digits above: so that many calls take little time.
#[test]
fn a_simulated_central_queue_waits_within_1_percent_of_erlang_c() {
    for (servers, utilisation) in GRID {
        let load = utilisation * servers as f64;
        let exact = Markov::new(load / 0.01, 0.01, u32::try_from(servers).unwrap()).unwrap().mean_wait_s();
        // At light loads few calls wait, so it takes more of them.
        let seeds = if utilisation < 0.4 { 12 } else { 2 };
        let sum: f64 = (0..seeds).map(|seed| controlled_mean_wait(servers, utilisation, seed)).sum();
        let simulated = sum / seeds as f64;
        println!("{servers} servers at {utilisation}: {:+.2} %", (simulated / exact - 1.0) * 100.0);
        close(simulated, exact, 0.01, &format!("{servers} servers at {utilisation}"));
    }
}

fn poisson(name: &str, rate: &str) -> Value {
    json!({ "name": name, "arrival": { "kind": "poisson", "rate": rate },
            "service": { "kind": "exponential", "mean": "10ms" } })
}

#[test]
fn strict_classes_wait_as_priorities_without_preemption_do() {
    let mut urgent = poisson("urgent", "120/s");
    urgent["priority"] = json!(5);
    let mut rest = poisson("rest", "200/s");
    rest["priority"] = json!(4);
    let scenario = scenario(json!({
        "calls": 150_000, "warm_up": 0.05, "source": [urgent, rest], "workers": [{ "count": 4 }],
        "policy": [{ "name": "strict", "classes": "strict" }, { "name": "weighted" }],
    }));
    let [strict, weighted] = run(&scenario, &Traces::default()).try_into().unwrap();
    let class = |arrival_per_s| PriorityClass { arrival_per_s, service_s: 0.01, service_cv: 1.0 };
    let theory = Priorities::new(&[class(120.0), class(200.0)], 4).unwrap();
    let measured = |results: &Results| results.sources.iter().map(|it| it.measured.mean_wait_s).collect::<Vec<_>>();
    for (simulated, exact) in measured(&strict).iter().zip(theory.mean_waits_s()) {
        close(*simulated, *exact, 0.08, "a class");
    }
    // Weights are kinder to the rest and dearer to the urgent.
    assert!(measured(&weighted)[0] > measured(&strict)[0] && measured(&weighted)[1] < measured(&strict)[1]);
}

#[test]
fn calls_sent_to_workers_at_random_wait_as_in_as_many_queues_of_one() {
    let scenario = scenario(json!({
        "calls": 400_000, "warm_up": 0.05, "source": [poisson("all", "560/s")], "workers": [{ "count": 8 }],
        "policy": [{ "name": "random", "placement": "random" }, { "name": "turn", "placement": "round_robin" },
                   { "name": "two", "placement": "two_choices" }, { "name": "shortest", "placement": "shortest_queue" },
                   { "name": "central" }],
    }));
    let results = run(&scenario, &Traces::default());
    let responses: Vec<f64> = results.iter().map(|it| it.all.mean_response_s).collect();
    let alone = Markov::new(70.0, 0.01, 1).unwrap();
    close(responses[0], alone.mean_response_s(), 0.04, "M/M/1 each");
    let together = Markov::new(560.0, 0.01, 8).unwrap();
    close(responses[4], together.mean_response_s(), 0.02, "M/M/8");
    assert!(responses.is_sorted_by(|worse, better| worse > better), "{responses:?}");
    for result in &results {
        close(result.utilisation, 0.7, 0.02, "utilisation");
        let queue = result.all.mean_response_error_s;
        assert!(queue > 0.0 && queue < result.all.mean_response_s, "{queue}");
    }
}

#[test]
fn tenants_that_take_turns_are_safe_from_a_greedy_one() {
    let mut modest = poisson("modest", "100/s");
    modest["tenant"] = json!("modest");
    let greedy = json!({ "name": "greedy", "tenant": "greedy", "service": { "kind": "exponential", "mean": "10ms" },
        "arrival": { "kind": "bursty", "rate": "200/s", "burst": 10.0, "every": "10s", "lasting": "1s" } });
    let scenario = scenario(json!({
        "calls": 60_000, "source": [modest, greedy], "workers": [{ "count": 4 }],
        "policy": [{ "name": "line", "fair": false }, { "name": "turns" }],
    }));
    let results = run(&scenario, &Traces::default());
    let modest = |place: usize| results[place].sources[0].measured.response_s.p99;
    assert!(modest(0) > 1.0, "in one line it waits behind the bursts: {}", modest(0));
    assert!(modest(1) < 0.1, "taking turns it hardly notices them: {}", modest(1));
}

#[test]
fn nearer_deadlines_go_first_by_due_time() {
    let mut soon = poisson("soon", "205/s");
    soon["deadline"] = json!("60ms");
    let mut later = poisson("later", "205/s");
    later["deadline"] = json!("5s");
    let scenario = scenario(json!({
        "calls": 60_000, "source": [soon, later], "workers": [{ "count": 4 }],
        "policy": [{ "name": "submitted", "order": "submitted" }, { "name": "due", "order": "due" }],
    }));
    let results = run(&scenario, &Traces::default());
    for result in &results {
        let counts = result.all.counts;
        assert_eq!(counts.succeeded + counts.expired + counts.failed + counts.refused, counts.submitted);
        assert!(counts.in_time <= counts.succeeded && result.lost == 0);
        assert!(result.utilisation <= 1.0, "attempts that are stopped keep no worker busy: {}", result.utilisation);
    }
    let in_time = |place: usize| results[place].sources[0].measured.in_time_share;
    assert!(in_time(1) > in_time(0) + 0.02, "{} {}", in_time(0), in_time(1));
}

#[test]
fn failing_attempts_are_tried_again_and_calls_end_once() {
    let mut source = poisson("all", "200/s");
    source["failing"] = json!(0.2);
    source["attempts"] = json!(3);
    let calls = 40_000;
    let once = scenario(json!({ "calls": calls, "source": [source], "workers": [{ "count": 4 }] }));
    let counts = run(&once, &Traces::default()).remove(0).all.counts;
    assert_eq!(counts.submitted, calls);
    assert_eq!(counts.succeeded + counts.failed, calls);
    // Three of three attempts fail for 0.8 % of calls; attempts are 1 + 0.2 + 0.04 a call, unless a budget says no.
    assert!(counts.failed as f64 / calls as f64 > 0.006, "{counts:?}");
    assert!(counts.attempts > calls * 110 / 100 && counts.attempts < calls * 125 / 100, "{counts:?}");
}

#[test]
fn crashed_workers_lose_no_call() {
    let crashing = scenario(json!({
        "calls": 30_000, "source": [poisson("all", "200/s")], "workers": [{ "count": 3, "slots": 2, "speed": 0.5 }],
        "crashes": { "every": "2s", "back_after": "200ms" },
    }));
    let result = run(&crashing, &Traces::default()).remove(0);
    assert_eq!(result.lost, 0);
    assert_eq!(result.all.counts.succeeded + result.all.counts.failed, 30_000);
    assert!(result.all.counts.attempts > 30_000, "some ran twice");
}

#[test]
fn the_same_scenario_gives_the_same_results() {
    let fields = json!({
        "calls": 5_000, "source": [poisson("all", "300/s")], "workers": [{ "count": 4 }],
        "network": { "caller": "1ms", "worker": "2ms" },
        "crashes": { "every": "2s", "back_after": "200ms" },
    });
    let text = |seed: u64| {
        let mut fields = fields.clone();
        fields["seed"] = json!(seed);
        serde_json::to_string(&run(&scenario(fields), &Traces::default())).unwrap()
    };
    assert_eq!(text(1), text(1));
    assert_ne!(text(1), text(2));
}

#[test]
fn every_process_comes_at_its_rate_and_every_demand_has_its_mean() {
    let rates = [
        json!({ "kind": "poisson", "rate": "100/s" }),
        json!({ "kind": "bursty", "rate": "100/s", "burst": 3.0, "every": "1s", "lasting": "200ms" }),
        json!({ "kind": "diurnal", "rate": "100/s", "swing": 0.9, "period": "10s" }),
    ];
    let demands = [
        json!({ "kind": "constant", "mean": "10ms" }),
        json!({ "kind": "log_normal", "mean": "10ms", "cv": 1.5 }),
        json!({ "kind": "pareto", "mean": "10ms", "shape": 3.0 }),
    ];
    for (arrival, service) in rates.iter().zip(&demands) {
        let scenario = scenario(json!({
            "calls": 60_000, "source": [{ "name": "all", "arrival": arrival, "service": service }],
            "workers": [{ "count": 40 }],
        }));
        let result = run(&scenario, &Traces::default()).remove(0);
        close(60_000.0 / result.simulated_s, 100.0, 0.06, &arrival.to_string());
        close(result.all.mean_response_s - result.all.mean_wait_s, 0.01, 0.05, &service.to_string());
        close(result.utilisation, 100.0 * 0.01 / 40.0, 0.08, "utilisation");
    }
}

#[test]
fn what_cannot_be_run_is_told() {
    let told = |fields: Value| {
        let scenario = scenario(fields);
        let run = scenario.run(&scenario.policy[0], 0.5, &Traces::default(), &mut |_| true);
        run.unwrap_err().to_string()
    };
    let all = poisson("all", "1/s");
    assert!(told(json!({ "source": [], "workers": [{ "count": 1 }] })).contains("nobody calls"));
    assert!(told(json!({ "source": [all], "workers": [] })).contains("[[workers]]"));
    let failing = json!({ "source": [all], "workers": [{ "count": 1 }], "outage": [{ "from": "1s", "to": "2s", "failing": 2.0 }] });
    assert!(told(failing).contains("`failing` is a part of attempts"));
    let crashes = json!({ "source": [all], "workers": [{ "count": 1 }], "crashes": { "every": "1s", "back_after": "1s" },
        "policy": [{ "name": "two", "placement": "two_choices" }] });
    assert!(told(crashes).contains("two: only the central queue has crashes"));
    let outage = json!({ "source": [all], "workers": [{ "count": 1 }], "outage": [{ "from": "2s", "to": "1s" }] });
    assert!(told(outage).contains("not from 2 s to 1 s"));
    let twins = json!({ "source": [all], "workers": [{ "count": 1 }], "policy": [{ "name": "a" }, { "name": "a" }] });
    assert!(told(twins).contains("two policies are called \"a\""));
    let mut odd = all.clone();
    odd["service"] = json!({ "kind": "log_normal", "mean": "1s", "cv": -1.0 });
    assert!(told(json!({ "source": [odd], "workers": [{ "count": 1 }] })).contains("0 to 1000, not -1"));
    let mut urgent = all.clone();
    urgent["priority"] = json!(10);
    assert!(told(json!({ "source": [urgent], "workers": [{ "count": 1 }] })).contains("0 to 9"));
    let stopped = scenario(json!({ "calls": 100_000, "source": [all], "workers": [{ "count": 1 }] }));
    let run = stopped.run(&stopped.policy[0], 0.5, &Traces::default(), &mut |_| false);
    assert_eq!(run.unwrap_err().to_string(), "stopped");
}

#[test]
fn calls_are_waited_for_however_they_come() {
    let mut traces = Traces::default();
    traces.insert("at once", vec![0.0; 5_000]).unwrap();
    let service = json!({ "kind": "exponential", "mean": "10ms" });
    let at_once = json!({ "name": "all", "arrival": { "kind": "trace", "file": "at once" }, "service": service });
    let slow = json!({ "name": "all", "arrival": { "kind": "poisson", "rate": "1/s" },
                       "service": { "kind": "constant", "mean": "30d" } });
    let ages = json!({ "name": "all", "arrival": { "kind": "poisson", "rate": "0.000000001/s" }, "service": service });
    for (calls, source) in [(5_000, at_once), (1, poisson("all", "500/s")), (30, slow), (1_000, ages)] {
        let scenario = scenario(json!({ "calls": calls, "source": [source], "workers": [{ "count": 4 }] }));
        let measured = run(&scenario, &traces).remove(0);
        assert_eq!((measured.lost, measured.all.counts.succeeded), (0, calls), "{:?}", scenario.source);
        assert!(measured.utilisation > 0.0);
    }
}

/// The engine knows no theory: it measures how fast calls start while some wait. Theory says that whoever waits has
/// ρ/(1 − ρ) others ahead on average, and waits 1/(cμ − λ); so the one measured and the other computed must agree.
#[test]
fn the_waits_that_the_engine_predicts_are_those_of_theory() {
    for (rate, utilisation) in [("280/s", 0.7), ("360/s", 0.9)] {
        let scenario =
            scenario(json!({ "calls": 40_000, "source": [poisson("all", rate)], "workers": [{ "count": 4 }] }));
        let measured = run(&scenario, &Traces::default()).remove(0);
        let broker = measured.broker.unwrap();
        // What callers were told when their calls were accepted, whether they had to wait or not.
        close(broker.promised_wait_s.unwrap(), measured.all.mean_wait_s, 0.1, "the waits told and those that came");
        let ahead = utilisation / (1.0 - utilisation);
        let predicted = broker.start_interval_s.unwrap() * (ahead + 1.0);
        let theory = Markov::new(utilisation * 400.0, 0.01, 4).unwrap();
        close(broker.promised_wait_s.unwrap(), theory.mean_wait_s(), 0.15, "the waits told and those of theory");
        // The engine goes by its newest 256 starts at most, whose mean is off by a sixteenth.
        close(predicted, theory.mean_wait_s() / theory.probability_of_waiting(), 0.2, rate);
        close(broker.service_s, 0.01, 0.2, "the service time");
        close(broker.service_cv, 1.0, 0.3, "its coefficient of variation");
        // Exponential calls are as hard to foresee as can be: who has n ahead waits (n + 1) ± √(n + 1) starts.
        assert!(broker.prediction_error.is_some_and(|error| error < 0.6), "{broker:?}");
    }
}

#[test]
fn what_would_be_late_is_refused_at_once_with_admission_only() {
    let mut source = poisson("all", "500/s");
    source["deadline"] = json!("200ms");
    let scenario = scenario(json!({
        "calls": 40_000, "source": [source], "workers": [{ "count": 4 }],
        "policy": [{ "name": "without", "admission": false }, { "name": "with" }],
    }));
    let [without, with] = run(&scenario, &Traces::default()).try_into().unwrap();
    assert_eq!(without.all.counts.refused, 0);
    assert!(without.all.counts.expired > 4_000, "{:?}", without.all.counts);
    // What would start in time is taken, also when it then cannot end in time.
    assert!(with.all.counts.refused > 400, "{:?}", with.all.counts);
    assert!(with.all.mean_answer_s < without.all.mean_answer_s, "who is refused knows at once");
}
