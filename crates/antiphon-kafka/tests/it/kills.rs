//! A small storm of kills; the large one is the example itself.

use std::path::Path;
use std::process::Command;

#[test]
fn every_accepted_call_has_one_outcome_though_worker_caller_and_server_are_killed() {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    // With the features of the whole workspace, as in CI, where nothing but the example itself is then left to build.
    let features = "antiphon-cli/rabbitmq,antiphon-cli/kafka";
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--workspace", "--features", features, "--example", "kafka_kills"]);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "the example is built");
    let output = Command::new(profile.join("examples/kafka_kills")).args(["3000", "6", "11"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.ends_with("every accepted call has exactly one outcome\n"), "{told}");
    assert!(told.contains("(0 kills were left)"), "all of them fell into the storm: {told}");
}
