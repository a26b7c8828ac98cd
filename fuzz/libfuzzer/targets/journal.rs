//! Drives the target `journal` with coverage; start it with `../corpus/journal` as its corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (antiphon_fuzz::target("journal").expect("it is a target").run)(data));
