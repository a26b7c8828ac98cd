//! The simulator itself: that it is the same twice, that its judges are silent on a sound broker, that its lists are true.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that goes wrong should stop at once")]

use antiphon_sim::{BUGS, Coverage, PROTOCOL_BUGS, Setup, Swarm, explore, replay, run};
use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn a_seed_is_the_same_run_twice() {
    for seed in 0..4 {
        let (first, second) = (run(seed, 400), run(seed, 400));
        assert_eq!(first.fingerprint, second.fingerprint, "seed {seed}");
        assert_eq!(replay(seed, &first.trace).fingerprint, first.fingerprint, "seed {seed}, replayed");
        assert_ne!(first.fingerprint, run(seed + 100, 400).fingerprint);
    }
}

#[test]
fn the_judges_find_nothing_wrong_with_a_sound_broker() {
    for seed in 0..20 {
        let ran = run(seed, 500);
        assert_eq!(ran.wrong, Vec::<String>::new(), "seed {seed}");
    }
}

#[test]
fn a_batch_that_reached_nothing_has_gaps() {
    assert!(Coverage::default().gaps().len() > 40);
}

#[test]
fn a_quarter_of_all_seeds_has_no_faults() {
    let quiet = (0..1_000).filter(|seed| Swarm::new(*seed).faults.is_empty()).count();
    assert!((200..350).contains(&quiet), "{quiet}");
}

#[test]
fn every_order_of_a_few_events_of_the_small_world_is_right() {
    let all = Setup { at_most_once: true, crashes: 1, drops: 1, duplicates: 1, reconnects: 1, passes: 1 };
    let explored = explore(all, 4, usize::MAX, 1);
    assert_eq!(explored.wrong, None);
    assert!(explored.states > 300 && !explored.complete, "{explored:?}");
    // The same states again, on two threads.
    assert_eq!(explore(all, 4, usize::MAX, 2).states, explored.states);
}

#[test]
fn a_small_world_without_faults_is_looked_at_to_its_ends() {
    let none = Setup { at_most_once: true, crashes: 0, drops: 0, duplicates: 0, reconnects: 0, passes: 0 };
    let explored = explore(none, u32::MAX, usize::MAX, 1);
    assert_eq!(explored.wrong, None);
    assert!(explored.complete && explored.ends > 0, "{explored:?}");
}

/// Every name at a site, with how often it stands there.
fn sites(directory: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sites(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.split("planted!(\"").skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(names.filter(|name| *name != "name").map(str::to_owned));
        }
    }
}

#[test]
fn every_planted_bug_is_listed_and_stands_once() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    for of in ["antiphon-engine", "antiphon-journal", "antiphon-embedded"] {
        sites(&crates.join(of).join("src"), &mut found);
    }
    let once: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(once.len(), found.len(), "a name stands at two sites: {found:?}");
    // What is planted in order and admission is for the engine's own tests to catch, which list it themselves.
    let own = std::fs::read_to_string(crates.join("antiphon-engine/tests/it/planted.rs")).unwrap();
    let listed =
        own.lines().filter_map(|line| line.trim().strip_prefix("(\"").or_else(|| line.trim().strip_prefix('"')));
    let own: BTreeSet<&str> = listed.filter_map(|rest| rest.split('"').next()).collect();
    assert!(own.len() >= 40 && own.iter().all(|name| !BUGS.contains(name)), "{own:?}");
    assert_eq!(once, BUGS.iter().copied().chain(own).collect::<BTreeSet<_>>());
    assert!(BUGS.len() >= 40);
    assert!(PROTOCOL_BUGS.iter().all(|bug| BUGS.contains(bug)));
}
