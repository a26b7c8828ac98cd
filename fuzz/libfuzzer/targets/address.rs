//! Drives the target `address` with coverage; start it with `../corpus/address` as its corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (antiphon_fuzz::target("address").expect("it is a target").run)(data));
