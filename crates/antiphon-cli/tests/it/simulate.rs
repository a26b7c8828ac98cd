//! `antiphon simulate` as its users run it, on scenarios of its own and on those of the guide.

use crate::stage::{Ran, antiphon};
use std::fs;
use std::path::{Path, PathBuf};

/// Writes a scenario with two policies, and runs it.
fn simulate(more: &str, arguments: &[&str]) -> Ran {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("scenario.toml");
    let scenario = format!(
        r#"
        title = "a test"
        calls = 20000
        [[source]]
        name = "all"
        arrival = {{ kind = "poisson", rate = "280/s" }}
        service = {{ kind = "exponential", mean = "10ms" }}
        deadline = "200ms"
        [[workers]]
        count = 4
        [[policy]]
        name = "central"
        [[policy]]
        name = "at random"
        placement = "random"
        {more}
        "#
    );
    fs::write(&path, scenario).unwrap();
    fs::write(directory.path().join("times"), "10ms\n0.02\n5ms\n").unwrap();
    let charts = directory.path().join("charts");
    let fixed = ["simulate", path.to_str().unwrap()];
    let drawn = arguments.iter().map(|it| if *it == "CHARTS" { charts.to_str().unwrap() } else { *it });
    let mut ran = antiphon(&fixed.into_iter().chain(drawn).collect::<Vec<_>>());
    if let Ok(svg) = fs::read_to_string(charts.join("load.svg")) {
        ran.stderr.push_str(&svg);
    }
    ran
}

#[test]
fn policies_stand_side_by_side() {
    let ran = simulate("", &[]);
    let text = ran.ok();
    for part in ["a test", "POLICY", "IN TIME", "RESPONSE", "central", "at random", "70 %"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(ran.stderr.contains("40000 calls in "), "{}", ran.stderr);
    let json = simulate("", &["-o", "json", "--calls", "5000", "--seed", "3"]).json();
    assert_eq!(json["calls"], 5_000);
    let results = json["results"].as_array().unwrap();
    let response = |place: usize| results[place]["all"]["mean_response_s"].as_f64().unwrap();
    assert!(response(0) < response(1), "one queue is better than four");
    assert_eq!(results[0]["over_time"].as_array().unwrap().len(), 149);
    assert_eq!(simulate("", &["-o", "jsonl"]).ok().lines().count(), 2);
}

#[test]
fn charts_are_drawn_where_they_are_wanted() {
    let chart =
        "[[chart]]\nfile = \"load.svg\"\ntitle = \"T\"\nover = \"load\"\nmeasure = \"p99\"\nlogarithmic = true\n";
    let ran = simulate(&format!("{chart}\n"), &["--svg", "CHARTS", "--calls", "2000"]);
    ran.ok();
    assert!(ran.stderr.contains("the chart is in ") && ran.stderr.contains("<svg "), "{}", ran.stderr);
    simulate("", &["--svg", "CHARTS"]).fails(2, "the scenario has no [[chart]]");
    let unknown = chart.replace("over", "sources = [\"nobody\"]\nover");
    simulate(&unknown, &["--svg", "CHARTS", "--calls", "100"]).fails(2, "there is no source \"nobody\"");
}

#[test]
fn a_wrong_scenario_is_told_with_its_place() {
    antiphon(&["simulate", "/nowhere.toml"]).fails(2, "/nowhere.toml");
    simulate("colour = 1\n", &[]).fails(2, "unknown field `colour`");
    simulate("placemen = \"central\"\n", &[]).fails(2, "unknown field `placemen`");
    simulate("[crashes]\nevery = \"1s\"\nback_after = \"1s\"\n", &[]).fails(2, "only the central queue has crashes");
    let trace = |file: &str| {
        format!(
            "[[source]]\nname = \"b\"\narrival = {{ kind = \"poisson\", rate = \"1/s\" }}\nservice = {{ kind = \"trace\", file = \"{file}\" }}\n"
        )
    };
    simulate(&trace("nowhere"), &[]).fails(2, "cannot read the trace");
    assert!(simulate(&trace("times"), &["--calls", "1000"]).ok().contains("POLICY"));
}

/// Where the guide's scenarios and charts are.
fn guide() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/src/policies")
}

#[test]
fn every_chart_of_the_guide_has_a_scenario_that_draws_it() {
    let page = fs::read_to_string(guide().join("../policies.md")).unwrap();
    let scenarios = fs::read_dir(guide()).unwrap().map(|entry| entry.unwrap().path());
    let scenarios: Vec<PathBuf> = scenarios.filter(|path| path.extension().is_some_and(|it| it == "toml")).collect();
    assert!(scenarios.len() >= 6, "{scenarios:?}");
    let mut drawn = Vec::new();
    for scenario in scenarios {
        let directory = tempfile::tempdir().unwrap();
        let to = directory.path().to_str().unwrap();
        let scenario_text = fs::read_to_string(&scenario).unwrap();
        let mut arguments = vec!["simulate", scenario.to_str().unwrap(), "--calls", "3000"];
        if scenario_text.contains("[[chart]]") {
            arguments.extend(["--svg", to]);
        }
        antiphon(&arguments).ok();
        let name = scenario.file_name().unwrap().to_str().unwrap();
        assert!(page.contains(&format!("policies/{name}")), "the page does not name {name}");
        for chart in fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()) {
            let chart = chart.to_str().unwrap();
            assert!(guide().join(chart).exists(), "{name} draws {chart}, which is not in the guide");
            assert!(page.contains(&format!("policies/{chart}")), "the page does not show {chart}");
            drawn.push(chart.to_owned());
        }
    }
    for file in fs::read_dir(guide()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
        assert!(!file.ends_with(".svg") || drawn.contains(&file), "no scenario draws {file}");
    }
}
