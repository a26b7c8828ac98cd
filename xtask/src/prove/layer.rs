//! The layers: what each runs, how much of it, and what it needs from the machine.

use super::Scale;
use std::path::Path;
use std::process::Command;

/// One way to try to break the claims.
pub struct Layer {
    pub name: &'static str,
    /// Arguments of cargo.
    cargo: &'static str,
    /// Arguments and environment that set how much runs: short, full.
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

/// The layers that have other seeds in each round of the long form. Those of real processes draw theirs.
const SIMULATOR: &str = "simulator";
const FUZZING: &str = "fuzzing";
const SEEDS_A_ROUND: u64 = 20_000;

/// In the order in which they run. An amount is what is set before the command, or, if it begins with `--`, what is
/// appended to it.
pub const LAYERS: &[Layer] = &[
    Layer {
        name: SIMULATOR,
        cargo: "run --profile prove -p antiphon-sim -- seeds",
        amount: ["--count 2000", "--count 20000"],
        needs: &[],
    },
    Layer {
        name: "planted bugs",
        cargo: "run --profile prove -p antiphon-sim -- planted",
        amount: ["RUSTFLAGS=--cfg planting", "RUSTFLAGS=--cfg planting"],
        needs: &[],
    },
    Layer {
        name: "planted bugs of order",
        cargo: "test --profile prove -p antiphon-engine --test it planted -- --nocapture",
        amount: ["RUSTFLAGS=--cfg planting", "RUSTFLAGS=--cfg planting"],
        needs: &[],
    },
    Layer {
        name: "random combinations",
        cargo: "test --profile prove -p antiphon-engine --test it combinations -- --nocapture",
        amount: ["ANTIPHON_PROVE_WORLDS=500", "ANTIPHON_PROVE_WORLDS=20000"],
        needs: &[],
    },
    Layer {
        name: "model check",
        cargo: "run --profile prove -p antiphon-sim -- model",
        amount: ["--states 20000", "--states 300000"],
        needs: &[],
    },
    Layer {
        name: "planted, model check",
        cargo: "run --profile prove -p antiphon-sim -- planted-model",
        amount: ["RUSTFLAGS=--cfg planting", "RUSTFLAGS=--cfg planting"],
        needs: &[],
    },
    Layer {
        name: "journal: every crash",
        cargo: "test --release -p antiphon-journal --test it exhaustive -- --nocapture",
        amount: ["ANTIPHON_PROVE_OPERATIONS=1", "ANTIPHON_PROVE_OPERATIONS=3"],
        needs: &[],
    },
    Layer {
        name: "journal: bit rot",
        cargo: "test --release -p antiphon-journal --test it damage -- --nocapture",
        amount: ["", ""],
        needs: &[],
    },
    Layer {
        name: "orders of threads",
        cargo: "test -p antiphon-journal -p antiphon-embedded --test it orders -- --nocapture",
        amount: [
            "RUSTFLAGS=--cfg shuttle ANTIPHON_PROVE_SCHEDULES=2000",
            "RUSTFLAGS=--cfg shuttle ANTIPHON_PROVE_SCHEDULES=6000",
        ],
        needs: &[],
    },
    Layer {
        name: FUZZING,
        cargo: "run --release -p antiphon-fuzz --",
        amount: ["--executions 200000", "--executions 50000000"],
        needs: &[],
    },
    Layer {
        name: "processes killed",
        cargo: "test --release -p antiphon-cli --test it kill:: -- --nocapture",
        amount: ["ANTIPHON_PROVE_FAULTS=100", "ANTIPHON_PROVE_FAULTS=1000"],
        needs: &[],
    },
    Layer {
        name: "processes stopped",
        cargo: "test --release -p antiphon-cli --test it pause:: -- --nocapture",
        amount: ["ANTIPHON_PROVE_FAULTS=5", "ANTIPHON_PROVE_FAULTS=40"],
        needs: &["kill"],
    },
    Layer {
        name: "network",
        cargo: "test --release -p antiphon-cli --test it proxy:: -- --nocapture",
        amount: ["ANTIPHON_PROVE_FAULTS=30", "ANTIPHON_PROVE_FAULTS=300"],
        needs: &[],
    },
    Layer {
        name: "power cuts",
        cargo: "test --release -p antiphon-cli --test it disk::every -- --ignored --nocapture",
        amount: ["ANTIPHON_PROVE_FAULTS=20", "ANTIPHON_PROVE_FAULTS=200"],
        needs: MOUNTS,
    },
    Layer {
        name: "full disk",
        cargo: "test --release -p antiphon-cli --test it disk::a_full -- --ignored --nocapture",
        amount: ["", ""],
        needs: MOUNTS,
    },
    Layer {
        name: "failing system calls",
        cargo: "test --release -p antiphon-cli --test it disk::a_call -- --ignored --nocapture",
        amount: ["ANTIPHON_PROVE_FAULTS=10", "ANTIPHON_PROVE_FAULTS=60"],
        needs: &["strace"],
    },
];

impl Layer {
    pub fn run(&self, root: &Path, scale: Scale, round: u64) -> Verdict {
        if let Some(reason) = self.needs.iter().find_map(|program| missing(program)) {
            return Verdict::Impossible(reason);
        }
        let mut command = self.command(root, scale, round);
        match command.output() {
            Err(error) => Verdict::Failed(format!("cargo does not run: {error}")),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                if output.status.success() && ran_something(&said) {
                    return Verdict::Passed(remarks(&said));
                }
                let complained = String::from_utf8_lossy(&output.stderr).into_owned();
                Verdict::Failed(format!("{said}{complained}\n`{command:?}` failed"))
            }
        }
    }

    fn command(&self, root: &Path, scale: Scale, round: u64) -> Command {
        let [short, full] = self.amount;
        let amount = if scale == Scale::Short { short } else { full };
        let mut command = Command::new("cargo");
        command.current_dir(root).args(self.cargo.split(' '));
        if amount.starts_with("--") {
            command.args(amount.split(' '));
            match self.name {
                SIMULATOR => command.args(["--from", &(round * SEEDS_A_ROUND).to_string()]),
                FUZZING => command.args(["--seed", &(round + 1).to_string()]),
                _ => &mut command,
            };
            return command;
        }
        // `RUSTFLAGS=--cfg shuttle` is one setting of two words.
        let mut settings: Vec<(String, String)> = Vec::new();
        for word in amount.split(' ').filter(|word| !word.is_empty()) {
            match (word.split_once('='), settings.last_mut()) {
                (Some((name, value)), _) => settings.push((name.to_owned(), value.to_owned())),
                (None, Some((_, value))) => *value = format!("{value} {word}"),
                (None, None) => (),
            }
        }
        let flags =
            settings.iter().find(|(name, _)| name == "RUSTFLAGS").and_then(|(_, flags)| flags.rsplit(' ').next());
        if let Some(flag) = flags {
            // Other flags are another build: they must not throw away the ordinary one.
            command.env("CARGO_TARGET_DIR", super::layer::target(root).join(flag));
        }
        command.envs(settings);
        command
    }
}

/// Where cargo builds.
pub fn target(root: &Path) -> std::path::PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into)
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
