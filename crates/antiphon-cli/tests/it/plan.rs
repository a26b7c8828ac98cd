//! `antiphon plan` as its users run it.

use crate::stage::antiphon;
use std::fs;

#[test]
fn a_plan_has_every_field_that_is_promised() {
    let plan = antiphon(&[
        "plan",
        "--arrival",
        "80/s",
        "--service",
        "10ms",
        "--workers",
        "1",
        "--service-cv",
        "1.5",
        "--deadline",
        "50ms",
        "--target",
        "p99=200ms",
        "-o",
        "json",
    ]);
    plan.ok();
    let plan = plan.json();
    // M/G/1 by Pollaczek and Khinchine: 0.8 · 10 ms · (1 + 1.5²)/2 / 0.2.
    assert!((plan["mean_wait_s"].as_f64().unwrap() - 0.065).abs() < 1e-12, "{plan}");
    assert!((plan["mean_response_s"].as_f64().unwrap() - 0.075).abs() < 1e-12, "{plan}");
    assert!((plan["utilisation"].as_f64().unwrap() - 0.8).abs() < 1e-12, "{plan}");
    assert!((plan["mean_queue_length"].as_f64().unwrap() - 5.2).abs() < 1e-9, "{plan}");
    for field in ["probability_of_waiting", "probability_of_missing_deadline", "workers_needed"] {
        assert!(plan[field].is_number(), "{field}: {plan}");
    }
    for quantile in ["p50", "p90", "p99"] {
        assert!(plan["response_s"][quantile].is_number(), "{quantile}: {plan}");
    }
    assert_eq!(plan["outlook"].as_array().unwrap().len(), 4);
}

#[test]
fn a_load_above_the_capacity_is_told_with_both() {
    let ran = antiphon(&["plan", "--arrival", "500/s", "--service", "10ms", "--workers", "4"]);
    ran.fails(1, "the load is 5 workers' whole time and there are 4 workers: the capacity is 400/s, 500/s come");
    ran.fails(1, "6 workers carry it");
    assert_eq!(ran.stdout, "");
    let json = antiphon(&["plan", "--arrival", "100/s", "--service", "10ms", "--workers", "1", "-o", "json"]);
    json.fails(1, "there is 1 worker: the capacity is 100/s, 100/s come");
}

#[test]
fn a_table_says_what_would_change_and_what_would_help() {
    let ran = antiphon(&[
        "plan",
        "--arrival",
        "300/s",
        "--service",
        "10ms",
        "--workers",
        "4",
        "--deadline",
        "50ms",
        "--target",
        "p99=20ms",
    ]);
    let text = ran.ok();
    for part in ["-20 %, 240/s", "now, 300/s", "+20 %, 360/s", "×2, 600/s", "later than the deadline", "75 %"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(text.contains("600/s is above the capacity of 400/s"), "{text}");
    assert!(text.contains("no number of workers keeps p99 ≤ 20 ms: the p99 of the service alone is 46.1 ms"), "{text}");
}

#[test]
fn a_chart_is_written_where_it_was_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plan.svg");
    let path = path.to_str().unwrap();
    let ran = antiphon(&["plan", "--arrival", "300/s", "--service", "10ms", "--workers", "4", "--svg", path]);
    ran.ok();
    let svg = fs::read_to_string(path).unwrap();
    assert!(svg.starts_with("<svg ") && svg.contains("p99") && svg.contains("now"));
    let nowhere = ["plan", "--arrival", "1/s", "--service", "10ms", "--workers", "4", "--svg", "/nowhere/plan.svg"];
    antiphon(&nowhere).fails(1, "cannot write the chart to /nowhere/plan.svg");
}

#[test]
fn a_batch_lies_between_its_bounds() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("times");
    fs::write(&path, "# Graham's worst case\n5s\n5s\n4s\n4s\n3s\n\n3s\n3s # the last\n").unwrap();
    let path = path.to_str().unwrap();
    let plan = antiphon(&["plan", "--batch", path, "--workers", "3", "--budget", "9s", "-o", "json"]).json();
    assert_eq!(plan["calls"], 7);
    assert_eq!(plan["total_work_s"], 27.0);
    assert_eq!(plan["lower_bound_s"], 9.0);
    assert_eq!(plan["longest_first_s"], 11.0);
    assert_eq!(plan["workers_needed"], 4);
    let sampled = antiphon(&["plan", "--batch", "200", "--service", "1s", "--workers", "10", "-o", "json"]).json();
    let (low, mean, high) = (&sampled["lower_bound_s"], &sampled["makespan_s"], &sampled["graham_bound_s"]);
    assert!(low.as_f64() < mean.as_f64() && mean.as_f64() < high.as_f64(), "{sampled}");
    antiphon(&["plan", "--batch", "/nowhere", "--workers", "3"]).fails(2, "neither a number of calls nor a file");
}

#[test]
fn what_is_missing_or_wrong_is_told_with_an_example() {
    antiphon(&["plan", "--arrival", "80/s", "--workers", "4"]).fails(2, "--service 10ms is missing");
    antiphon(&["plan", "--arrival", "80", "--service", "1s", "--workers", "4"]).fails(2, "write it like 80/s");
    antiphon(&["plan", "--arrival", "80/s", "--service", "1s", "--workers", "4", "--target", "99"])
        .fails(2, "p99=100ms");
    let negative = ["plan", "--arrival", "80/s", "--service", "1s", "--workers", "400", "--service-cv=-1"];
    antiphon(&negative).fails(2, "-1 is not within 0 and 1000");
}
