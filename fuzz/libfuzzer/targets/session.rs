//! Drives the target `session` with coverage; start it with `../corpus/session` as its corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (antiphon_fuzz::target("session").expect("it is a target").run)(data));
