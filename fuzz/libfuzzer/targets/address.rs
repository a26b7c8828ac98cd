//! Drives `antiphon_fuzz::address` with coverage.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| antiphon_fuzz::address(data));
