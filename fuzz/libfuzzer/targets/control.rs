//! Drives the target `control` with coverage; start it with `../corpus/control` as its corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (antiphon_fuzz::target("control").expect("it is a target").run)(data));
