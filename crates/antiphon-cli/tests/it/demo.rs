//! `demo`: on a small directory, with its kills.

use crate::stage::{Process, antiphon, program, run_with, until};
use std::fs;
use std::path::Path;
use std::process::Stdio;

fn texts(directory: &Path, count: usize) {
    fs::create_dir_all(directory.join("more/target")).unwrap();
    fs::create_dir_all(directory.join(".hidden")).unwrap();
    for number in 0..count {
        let name = if number % 2 == 0 { format!("{number}.txt") } else { format!("more/{number}.txt") };
        fs::write(directory.join(name), "a call and the outcome of a call\n".repeat(number + 1)).unwrap();
    }
    fs::write(directory.join("binary"), [0, 159, 146, 150]).unwrap();
    fs::write(directory.join(".hidden/a.txt"), "hidden").unwrap();
    fs::write(directory.join("more/target/a.txt"), "target").unwrap();
}

#[test]
fn every_call_has_one_outcome_although_a_worker_and_the_broker_are_killed() {
    let directory = tempfile::tempdir().unwrap();
    texts(directory.path(), 60);
    let ran = antiphon(&["demo", directory.path().to_str().unwrap(), "-o", "json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let json = ran.json();
    for (field, value) in [
        ("calls", 60),
        ("killed_workers", 1),
        ("killed_brokers", 1),
        ("outcomes_seen_twice", 0),
        ("outcomes_recorded_twice", 0),
        ("outcomes_missing", 0),
        ("failed_attempts", 0),
    ] {
        assert_eq!(json[field], value, "{field} in {json}");
    }
    assert!(json["attempts"].as_u64().unwrap() >= 60);
    let words = (1..=60).sum::<u64>();
    assert_eq!(json["top_words"][0], serde_json::json!({ "word": "a", "count": 2 * words }));
    assert!(ran.stderr.contains("equal a plain count"), "{ran:?}");
}

#[test]
fn few_files_are_counted_often_enough_to_kill_somebody() {
    let directory = tempfile::tempdir().unwrap();
    texts(directory.path(), 3);
    let path = directory.path().to_str().unwrap();
    let ran = antiphon(&["demo", path, "-o", "json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let json = ran.json();
    assert!(json["calls"].as_u64().unwrap() >= 40, "{json}");
    assert_eq!((&json["killed_workers"], &json["killed_brokers"]), (&1.into(), &1.into()), "{ran:?}");
    assert!(ran.stderr.contains("These are few"), "{ran:?}");
    let ran = antiphon(&["demo", path, "--no-kill", "-o", "json"]);
    assert_eq!(ran.json()["calls"], 3, "{ran:?}");
}

#[test]
fn why_its_broker_does_not_start_is_told() {
    let directory = tempfile::tempdir().unwrap();
    texts(directory.path(), 3);
    let mut command = program();
    command.arg("demo").arg(directory.path()).env("ANTIPHON_LOG", "a=b=c");
    run_with(command, b"").fails(1, "ANTIPHON_LOG=a=b=c");
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let (input, scratch) = (directory.path().join("in"), directory.path().join("scratch"));
    fs::create_dir(&scratch).unwrap();
    texts(&input, 60);
    let mut command = program();
    command.arg("demo").arg(&input).env("TMPDIR", &scratch).stdout(Stdio::null()).stderr(Stdio::null());
    let mut demo = Process::spawn(command);
    until("the demo runs", || fs::read_dir(&scratch).unwrap().count() == 1);
    demo.terminate();
    assert_eq!(demo.ended(), Some(130));
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
    until("its processes are gone", || !somebody_has(&scratch));
}

/// Whether any process was started with this path on its command line.
fn somebody_has(path: &Path) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let has = |entry: fs::DirEntry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(path.to_str().unwrap())
    };
    processes.into_iter().any(has)
}
