//! The layers: what each runs, how much of it, and what it needs from the machine.

use super::Scale;
use super::build::{Build, Programs};
use std::path::Path;
use std::process::Command;

/// One way to try to break the claims.
pub struct Layer {
    pub name: &'static str,
    pub build: Build,
    /// Folders of packages, and programs or tests of them; one after the other.
    programs: &'static [(&'static str, &'static str)],
    arguments: &'static str,
    /// What sets how much runs, short and full: a variable, or arguments.
    amount: [&'static str; 2],
    /// Programs it needs, besides being root where `mount` is among them.
    needs: &'static [&'static str],
}

/// What came of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was found; what it says of itself.
    Passed(Vec<String>),
    /// Something was found, or it did not run as it should.
    Failed(String),
    /// This machine does not allow it, and why.
    Impossible(String),
}

const MOUNTS: &[&str] = &["mount", "umount", "losetup", "mkfs.ext4", "python3"];

const SIM: &[(&str, &str)] = &[("crates/antiphon-sim", "antiphon-sim")];
const ENGINE: &[(&str, &str)] = &[("crates/antiphon-engine", "it")];
const JOURNAL: &[(&str, &str)] = &[("crates/antiphon-journal", "it")];
const PROCESSES: &[(&str, &str)] = &[("crates/antiphon-cli", "it")];
const THREADS: &[(&str, &str)] = &[("crates/antiphon-journal", "it"), ("crates/antiphon-embedded", "it")];
const FUZZ: &[(&str, &str)] = &[("fuzz", "antiphon-fuzz")];

/// The layers that have other seeds in each round of the long form. Those of real processes draw theirs.
const SIMULATOR: &str = "simulator";
const WIRE: &str = "clients on connections";
const FUZZING: &str = "fuzzing";
const SEEDS_A_ROUND: u64 = 20_000;

/// In the order in which they run.
pub const LAYERS: &[Layer] = &[
    Layer {
        name: SIMULATOR,
        build: Build::Plain,
        programs: SIM,
        arguments: "seeds",
        amount: ["--count 2000", "--count 20000"],
        needs: &[],
    },
    Layer {
        name: WIRE,
        build: Build::Plain,
        programs: SIM,
        arguments: "wire",
        amount: ["--count 150", "--count 3000"],
        needs: &[],
    },
    Layer {
        name: "planted bugs",
        build: Build::Planting,
        programs: SIM,
        arguments: "planted",
        amount: ["", ""],
        needs: &[],
    },
    Layer {
        name: "planted bugs of order",
        build: Build::Planting,
        programs: ENGINE,
        arguments: "planted --nocapture",
        amount: ["", ""],
        needs: &[],
    },
    Layer {
        name: "random combinations",
        build: Build::Plain,
        programs: ENGINE,
        arguments: "combinations --nocapture",
        amount: ["ANTIPHON_PROVE_WORLDS=500", "ANTIPHON_PROVE_WORLDS=20000"],
        needs: &[],
    },
    Layer {
        name: "model check",
        build: Build::Plain,
        programs: SIM,
        arguments: "model",
        amount: ["--states 20000", "--states 300000"],
        needs: &[],
    },
    Layer {
        name: "planted, model check",
        build: Build::Planting,
        programs: SIM,
        arguments: "planted-model",
        amount: ["", ""],
        needs: &[],
    },
    Layer {
        name: "journal: every crash",
        build: Build::Plain,
        programs: JOURNAL,
        arguments: "exhaustive --nocapture",
        amount: ["ANTIPHON_PROVE_OPERATIONS=1", "ANTIPHON_PROVE_OPERATIONS=3"],
        needs: &[],
    },
    Layer {
        name: "journal: bit rot",
        build: Build::Plain,
        programs: JOURNAL,
        arguments: "damage --nocapture",
        amount: ["", ""],
        needs: &[],
    },
    Layer {
        name: "orders of threads",
        build: Build::Shuttle,
        programs: THREADS,
        arguments: "orders --nocapture",
        amount: ["ANTIPHON_PROVE_SCHEDULES=2000", "ANTIPHON_PROVE_SCHEDULES=6000"],
        needs: &[],
    },
    Layer {
        name: FUZZING,
        build: Build::Plain,
        programs: FUZZ,
        arguments: "",
        amount: ["--executions 200000", "--executions 50000000"],
        needs: &[],
    },
    Layer {
        name: "processes killed",
        build: Build::Plain,
        programs: PROCESSES,
        arguments: "kill:: --nocapture",
        amount: ["ANTIPHON_PROVE_FAULTS=100", "ANTIPHON_PROVE_FAULTS=1000"],
        needs: &[],
    },
    Layer {
        name: "processes stopped",
        build: Build::Plain,
        programs: PROCESSES,
        arguments: "pause:: --nocapture",
        amount: ["ANTIPHON_PROVE_FAULTS=5", "ANTIPHON_PROVE_FAULTS=40"],
        needs: &["kill"],
    },
    Layer {
        name: "network",
        build: Build::Plain,
        programs: PROCESSES,
        arguments: "proxy:: --nocapture",
        amount: ["ANTIPHON_PROVE_FAULTS=30", "ANTIPHON_PROVE_FAULTS=300"],
        needs: &[],
    },
    Layer {
        name: "power cuts",
        build: Build::Plain,
        programs: PROCESSES,
        arguments: "disk::every --ignored --nocapture",
        amount: ["ANTIPHON_PROVE_FAULTS=20", "ANTIPHON_PROVE_FAULTS=200"],
        needs: MOUNTS,
    },
    Layer {
        name: "full disk",
        build: Build::Plain,
        programs: PROCESSES,
        arguments: "disk::a_full --ignored --nocapture",
        amount: ["", ""],
        needs: MOUNTS,
    },
    Layer {
        name: "failing system calls",
        build: Build::Plain,
        programs: PROCESSES,
        arguments: "disk::a_call --ignored --nocapture",
        amount: ["ANTIPHON_PROVE_FAULTS=10", "ANTIPHON_PROVE_FAULTS=60"],
        needs: &["strace"],
    },
];

impl Layer {
    pub fn run(&self, root: &Path, programs: &Programs, scale: Scale, round: u64) -> Verdict {
        if let Some(reason) = self.needs.iter().find_map(|program| missing(program)) {
            return Verdict::Impossible(reason);
        }
        let mut all = String::new();
        for (package, name) in self.programs {
            let mut command = match programs.command(root, package, name) {
                Ok(command) => command,
                Err(error) => return Verdict::Failed(format!("{error:#}")),
            };
            self.complete(&mut command, scale, round);
            match command.output() {
                Err(error) => return Verdict::Failed(format!("`{command:?}` does not run: {error}")),
                Ok(output) => {
                    let said = String::from_utf8_lossy(&output.stdout);
                    if !output.status.success() || !ran_something(&said) {
                        let complained = String::from_utf8_lossy(&output.stderr);
                        return Verdict::Failed(format!("{said}{complained}\n`{command:?}` failed"));
                    }
                    all.push_str(&said);
                }
            }
        }
        Verdict::Passed(remarks(&all))
    }

    /// Arguments, and how much.
    fn complete(&self, command: &mut Command, scale: Scale, round: u64) {
        let [short, full] = self.amount;
        let amount = if scale == Scale::Short { short } else { full };
        command.args(self.arguments.split(' ').filter(|word| !word.is_empty()));
        match amount.split_once('=') {
            Some((name, value)) => {
                command.env(name, value);
            }
            None => {
                command.args(amount.split(' ').filter(|word| !word.is_empty()));
            }
        }
        match self.name {
            SIMULATOR | WIRE => command.args(["--from", &(round * SEEDS_A_ROUND).to_string()]),
            FUZZING => command.args(["--seed", &(round + 1).to_string()]),
            _ => command,
        };
    }
}

/// Why a program cannot be used here, if it cannot.
fn missing(program: &str) -> Option<String> {
    let is_root = || Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.starts_with(b"0\n"));
    if program == "mount" && !is_root() {
        return Some("mounting needs root".to_owned());
    }
    if program == "losetup" && Command::new("losetup").arg("--find").output().is_ok_and(|found| !found.status.success())
    {
        return Some("there is no free loop device".to_owned());
    }
    let found =
        std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|at| at.join(program).is_file()));
    let in_sbin = ["/sbin", "/usr/sbin"].iter().any(|at| Path::new(at).join(program).is_file());
    (!found && !in_sbin).then(|| format!("there is no {program}"))
}

/// A filter that matches no test passes, and proves nothing.
fn ran_something(said: &str) -> bool {
    !said.contains("running 0 tests")
        || said.lines().any(|line| line.starts_with("running ") && !line.starts_with("running 0"))
}

/// What a layer says of itself: the lines that are not the test harness's own. `test NAME ... 12 images` is one of both.
fn remarks(said: &str) -> Vec<String> {
    let harness = ["running ", "test ", "ANTIPHON_SEED", "successes:", "test result"];
    let own =
        |line: &&str| !line.trim().is_empty() && *line != "." && !harness.iter().any(|start| line.starts_with(start));
    said.lines().filter(own).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_that_ran_no_test_has_not_passed() {
        assert!(!ran_something("running 0 tests\ntest result: ok."));
        assert!(ran_something("running 0 tests\n\nrunning 3 tests\n"));
        assert!(ran_something("frames 100 executions"));
    }

    #[test]
    fn remarks_are_what_the_harness_does_not_say() {
        let said = "\nrunning 1 test\nANTIPHON_SEED=3\n20 power cuts\ntest a::b ... ok\n\ntest result: ok. 1 passed\n";
        assert_eq!(remarks(said), ["20 power cuts"]);
    }

    #[test]
    fn a_missing_program_is_named() {
        assert_eq!(missing("no-such-program").as_deref(), Some("there is no no-such-program"));
        assert_eq!(missing("sh"), None);
    }
}
