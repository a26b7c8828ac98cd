//! Drives `antiphon_fuzz::record` with coverage.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| antiphon_fuzz::record(data));
