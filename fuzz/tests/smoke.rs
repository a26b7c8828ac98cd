//! Every target with the committed corpus, and with some ten thousand changes of it from a fixed seed, so that a plain test
//! run finds the coarse mistakes. `ANTIPHON_PROVE_EXECUTIONS` sets how many, over all targets.

use antiphon_fuzz::{Corpus, Random, Target, target};

fn executions() -> u64 {
    let number = std::env::var("ANTIPHON_PROVE_EXECUTIONS");
    number.map_or(200_000, |number| number.parse().expect("a number of executions"))
}

fn run(name: &str) {
    let target: &Target = target(name).expect("a target of that name");
    let corpus = Corpus::load(target).expect("its corpus is committed");
    corpus.inputs.iter().for_each(|input| (target.run)(input));
    let mut random = Random(2_026);
    for _ in 0..executions() * u64::from(target.share) / 1_000 {
        (target.run)(&corpus.draw(&mut random));
    }
}

#[test]
fn any_bytes_are_frames_or_an_error() {
    run("frames");
}

#[test]
fn any_bytes_are_a_record_or_an_error() {
    run("record");
}

#[test]
fn any_bytes_are_control_data_or_an_error() {
    run("control");
}

#[test]
fn any_text_is_an_address_or_an_error() {
    run("address");
}

#[test]
fn a_damaged_journal_opens_or_is_refused() {
    run("journal");
}

#[test]
fn a_server_serves_on_whatever_its_clients_say() {
    run("session");
}

#[test]
fn a_client_ends_whatever_its_broker_says() {
    run("client");
}
