//! Drives the target `client` with coverage; start it with `../corpus/client` as its corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (antiphon_fuzz::target("client").expect("it is a target").run)(data));
