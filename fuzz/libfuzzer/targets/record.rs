//! Drives the target `record` with coverage; start it with `../corpus/record` as its corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (antiphon_fuzz::target("record").expect("it is a target").run)(data));
