//! Drives the target `frames` with coverage; start it with `../corpus/frames` as its corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (antiphon_fuzz::target("frames").expect("it is a target").run)(data));
