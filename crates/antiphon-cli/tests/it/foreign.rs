//! Brokers that are not ours: spoken when the program was built with them, and named when not.

use crate::stage::antiphon;

#[test]
fn a_broker_it_was_not_built_with_is_an_error_that_names_the_feature() {
    antiphon(&["--url", "nats://localhost", "ping"]).fails(2, "nats");
    #[cfg(not(feature = "kafka"))]
    antiphon(&["--url", "kafka://localhost", "ping"]).fails(2, "--features kafka");
    #[cfg(not(feature = "rabbitmq"))]
    antiphon(&["--url", "amqp://localhost", "ping"]).fails(2, "--features rabbitmq");
}

/// A call that dies, its dead letter listed, shown and revived, and a call that is answered.
#[cfg(any(feature = "kafka", feature = "rabbitmq"))]
fn calls_run_and_dead_letters_are_revived(url: &str) {
    use crate::stage::{Process, program, run_with};
    use std::process::{Command, Stdio};

    let command = |arguments: &[&str]| -> Command {
        let mut command = program();
        command.args(arguments).env("ANTIPHON_URL", url);
        command
    };
    let run = |arguments: &[&str]| run_with(command(arguments), b"");
    let worker = |exec: &str| {
        let mut worker = command(&["worker", "--exec", exec]);
        worker.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Process::spawn(worker)
    };
    let broken = worker("some.call=exit 75");
    let died = run(&["call", "some.call", "7", "--attempts", "1", "-o", "json"]);
    assert_eq!(died.code, Some(1), "{died:?}");
    let dead = died.json()["id"].as_str().unwrap().to_owned();
    drop(broken);

    let listed = run(&["dead", "ls", "-o", "json"]).json();
    assert_eq!((&listed[0]["id"], &listed[0]["procedure"]), (&dead.as_str().into(), &"some.call".into()));
    assert!(run(&["dead", "show", &dead]).ok().contains("UNAVAILABLE"));
    assert!(run(&["dead", "revive", &dead]).ok().contains(&dead));
    assert_eq!(run(&["dead", "ls", "-o", "json"]).json().as_array().unwrap().len(), 0);
    let _working = worker("some.call=cat");
    assert_eq!(run(&["call", "some.call", "8"]).ok(), "8");
    // What cannot be asked is refused, and said so.
    run(&["queue", "ls"]).fails(6, "dead letters only");
}

#[cfg(feature = "rabbitmq")]
#[test]
fn calls_run_on_rabbitmq_and_its_dead_letters_are_listed_shown_and_revived() {
    let node = xtask::services::rabbitmq::Node::shared().unwrap();
    calls_run_and_dead_letters_are_revived(&format!("{}?prefix=cli-{}.", node.url(), std::process::id()));
}

#[cfg(feature = "kafka")]
#[test]
fn calls_run_on_kafka_and_its_dead_letters_are_listed_shown_and_revived() {
    use crate::stage::{program, run_with};

    let node = xtask::services::kafka::Node::shared().unwrap();
    let url = format!("{}?partitions=1&fetch_wait=10&prefix=cli-{}.", node.url(), std::process::id());
    calls_run_and_dead_letters_are_revived(&url);
    let mut call = program();
    call.args(["call", "some.call", "8", "--priority", "9"]).env("ANTIPHON_URL", &url);
    run_with(call, b"").fails(6, "Kafka has no priorities");
}
