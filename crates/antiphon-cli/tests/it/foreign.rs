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

#[cfg(feature = "rabbitmq")]
mod rabbitmq {
    use crate::stage::{Process, program, run_with};
    use std::process::{Command, Stdio};
    use xtask::services::rabbitmq::Node;

    #[test]
    fn calls_run_on_rabbitmq_and_its_dead_letters_are_listed_shown_and_revived() {
        let node = Node::shared().unwrap();
        let url = format!("{}?prefix=cli-{}.", node.url(), std::process::id());
        let command = |arguments: &[&str]| -> Command {
            let mut command = program();
            command.args(arguments).env("ANTIPHON_URL", &url);
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
}

#[cfg(feature = "kafka")]
mod kafka {
    use crate::stage::{Process, program, run_with};
    use std::process::{Command, Stdio};
    use xtask::services::kafka::Node;

    #[test]
    fn calls_run_on_kafka_and_what_it_cannot_answer_is_refused() {
        let node = Node::shared().unwrap();
        let url = format!("{}?partitions=1&prefix=cli-{}.", node.url(), std::process::id());
        let command = |arguments: &[&str]| -> Command {
            let mut command = program();
            command.args(arguments).env("ANTIPHON_URL", &url);
            command
        };
        let mut worker = command(&["worker", "--exec", "some.call=cat"]);
        worker.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let _working = Process::spawn(worker);
        assert_eq!(run_with(command(&["call", "some.call", "8"]), b"").ok(), "8");
        run_with(command(&["queue", "ls"]), b"").fails(6, "answers no questions");
        run_with(command(&["call", "some.call", "8", "--priority", "9"]), b"").fails(6, "Kafka has no priorities");
    }
}
